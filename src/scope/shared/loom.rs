//! Models of the registry behind its lock: see `sync::model`. What the runtime runs is not in
//! here: threads of the model say what tasks would say.

use super::*;
use crate::scope::Scope;
use crate::sync::model::{block_on, bounded, exhaustive, spawn};

fn shared(limit: usize) -> Arc<Shared> {
    let scope = Scope::builder().limit(limit).build().unwrap();
    let shared = Arc::clone(&scope.shared);
    // Its drop would abort everything.
    std::mem::forget(scope);
    shared
}

fn enter(shared: &Shared) -> Option<(state::Key, bool)> {
    shared.registry.lock().enter("task".into(), time::now())
}

/// Who was let in before the close is waited for; who comes later is refused, and the count adds
/// up. Fails where `end` removes the task without telling those who wait.
#[test]
fn a_drain_waits_for_everyone_who_was_let_in() {
    exhaustive(|| {
        let shared = shared(1);
        let task = spawn(&shared, |shared| {
            let Some((key, _)) = enter(shared) else {
                return false;
            };
            shared.end(key, Ending::Completed);
            true
        });
        shared.close();
        block_on(Drained::new(Arc::clone(&shared)));
        let counts = shared.counts();
        assert!(enter(&shared).is_none(), "let in after the close");
        let came = task.join().unwrap();
        assert_eq!((counts.completed, counts.in_flight), (u64::from(came), 0));
        assert_eq!(shared.counts(), counts);
    });
}

/// The place of one who ends goes to the next, who is woken. Fails where `turn` looks and leaves
/// its waker in two steps.
#[test]
fn a_place_that_comes_free_wakes_the_next() {
    bounded(3, || {
        let shared = shared(1);
        let first = enter(&shared).unwrap();
        let (second, third) = (enter(&shared).unwrap().0, enter(&shared).unwrap().0);
        assert!(first.1);
        let ends = spawn(&shared, move |shared| {
            shared.end(first.0, Ending::Completed);
        });
        let waits = spawn(&shared, move |shared| begin(shared, third));
        begin(&shared, second);
        ends.join().unwrap();
        waits.join().unwrap();
        assert_eq!(shared.counts().completed, 3);
    });
}

/// Waits for its place, and ends.
fn begin(shared: &Shared, key: state::Key) {
    let turn = block_on(poll_fn(|cx| match shared.turn(key, cx) {
        Turn::Wait => Poll::Pending,
        turn => Poll::Ready(turn),
    }));
    assert_eq!(turn, Turn::Begin);
    shared.end(key, Ending::Completed);
}

/// An abort that comes between a spawn and the arrival of its means is not lost. Fails where
/// `attach` does not say that it was demanded meanwhile.
#[test]
fn an_abort_reaches_a_task_that_is_just_being_spawned() {
    exhaustive(|| {
        let shared = shared(1);
        let (key, _) = enter(&shared).unwrap();
        let aborts = spawn(&shared, Shared::abort_all);
        let token = CancellationToken::new();
        let means = Means::Body(token.clone());
        let late = shared.registry.lock().attach(key, means);
        if let Some((by, true)) = late {
            by.abort();
        }
        aborts.join().unwrap();
        assert!(token.is_cancelled(), "nobody aborts it");
    });
}
