//! The lazy value: one initialiser at a time, and the baton passes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mainstay::Lazy;

use crate::stage::{Crowd, Failed, Stage, abort_one, check, cut, once_in, runtime_turns, turns};

async fn shared(stage: Stage) {
    let (runs, values) = (Arc::new(Crowd::default()), Arc::new(AtomicUsize::new(0)));
    let (crowd, made) = (Arc::clone(&runs), Arc::clone(&values));
    let fails = once_in(2);
    let lazy = Arc::new(Lazy::new(move || {
        let (crowd, made) = (Arc::clone(&crowd), Arc::clone(&made));
        async move {
            let _run = crowd.enter();
            // Woken while it is polled, and from the runtime.
            tokio::task::yield_now().await;
            tokio::spawn(runtime_turns()).await.expect("no panic");
            if fails && once_in(3) {
                return Err(Failed);
            }
            Ok(made.fetch_add(1, Ordering::SeqCst))
        }
    }));
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let lazy = Arc::clone(&lazy);
            stage.actor(async move {
                turns().await;
                match cut(lazy.get()).await {
                    Some(Ok(value)) => assert_eq!(*value, 0),
                    Some(Err(error)) => assert!(fails, "{error}"),
                    None => {}
                }
            })
        })
        .collect();
    abort_one(&callers).await.expect("not aborted");
    for one in callers {
        let _ = one.await;
    }
    while lazy.get().await.is_err() {}
    assert_eq!(lazy.try_get(), Some(&0), "made twice");
    assert!(runs.most() <= 1, "{} initialisers at once", runs.most());
    assert_eq!(runs.here(), 0);
}

/// Callers that give up, or are aborted, leave the initialiser to the others. Fails where what
/// asked while it was polled is forgotten.
#[test]
fn a_lazy_value_is_made_by_one_at_a_time() {
    check(shared);
}
