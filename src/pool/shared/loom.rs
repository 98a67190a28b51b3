//! Models of the pool behind its lock: see `sync::model`. Objects are created before the threads
//! of a model begin, by a runtime that stands still afterwards.

use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::Pool;
use crate::pool::Pooled;
use crate::sync::model::{block_on, bounded, exhaustive, give_up, spawn};

type Made = fn() -> std::future::Ready<Result<u32, ()>>;
type Plain = Pool<Made>;

fn make() -> std::future::Ready<Result<u32, ()>> {
    std::future::ready(Ok(7))
}

/// A pool of one, and its object, which is lent out.
fn pool() -> (Runtime, Arc<Plain>, Pooled<'static, Made>) {
    let runtime = Builder::new_current_thread().build().unwrap();
    let pool = Pool::builder(make as Made)
        .max_size(1)
        .runtime(runtime.handle().clone())
        .build()
        .unwrap();
    let object = runtime.block_on(async { Pooled::into_owned(pool.get().await.unwrap()) });
    (runtime, Arc::new(pool), object)
}

fn is_whole(pool: &Plain) {
    let s = pool.snapshot();
    assert_eq!((s.size, s.idle, s.in_use, s.pending), (1, 1, 0, 0), "{s:?}");
    assert_eq!((s.changing_hands, s.created), (0, 1), "{s:?}");
}

/// An object that comes back while someone comes to wait is had by that one. Fails where `enter`
/// does not look for idle ones once more under the lock under which it waits, and where
/// `put_plain` does not see who waits.
#[test]
fn an_object_that_comes_back_wakes_who_waits() {
    exhaustive(|| {
        let (_runtime, pool, object) = pool();
        let returns = crate::sync::thread::spawn(move || drop(object));
        drop(block_on(pool.get()).unwrap());
        returns.join().unwrap();
        is_whole(&pool);
    });
}

/// One object is lent to one. Fails where who takes it is not counted.
#[test]
fn an_object_is_lent_to_one_at_a_time() {
    exhaustive(|| {
        let (_runtime, pool, object) = pool();
        drop(object);
        let other = Arc::clone(&pool);
        let takes =
            crate::sync::thread::spawn(move || other.try_get().ok().map(Pooled::into_owned));
        let mine = pool.try_get().ok();
        let others = takes.join().unwrap();
        assert!(mine.is_some() != others.is_some());
        drop((mine, others));
        is_whole(&pool);
    });
}

/// What one is handed who gives up goes to the next. Fails where `leave` only takes it out.
#[test]
fn an_object_passes_by_who_gives_up() {
    bounded(3, || {
        let (_runtime, pool, object) = pool();
        let returns = crate::sync::thread::spawn(move || drop(object));
        let gives_up = spawn(&pool, |pool| drop(give_up(pool.get())));
        drop(block_on(pool.get()).unwrap());
        returns.join().unwrap();
        gives_up.join().unwrap();
        is_whole(&pool);
    });
}

/// A close reaches who waits. Fails where it does not wake them.
#[test]
fn a_close_reaches_who_waits() {
    exhaustive(|| {
        let (_runtime, pool, object) = pool();
        let closes = spawn(&pool, Pool::close);
        let refused = block_on(pool.get()).err().unwrap();
        assert_eq!(refused.refusal(), Some(Refusal::ShutDown));
        closes.join().unwrap();
        assert!(pool.try_get().is_err());
        drop(object);
        assert_eq!(pool.snapshot().size, 0);
    });
}

/// One keeper, whoever starts it. Fails where the flag is looked at and set in two steps.
#[test]
fn one_keeper_is_started() {
    exhaustive(|| {
        let runtime = Builder::new_current_thread().build().unwrap();
        let built = Pool::builder(make as Made)
            .max_size(1)
            .life_time(Duration::from_secs(1))
            .runtime(runtime.handle().clone())
            .build()
            .unwrap();
        let shared = &built.handle.shared;
        // The first began with the pool: as if it had ended with its runtime.
        shared.keeper_stopped();
        let before = Arc::weak_count(shared);
        let (a, b) = (Arc::clone(shared), Arc::clone(shared));
        let starts = crate::sync::thread::spawn(move || a.keep());
        b.keep();
        starts.join().unwrap();
        assert_eq!(Arc::weak_count(shared), before + 1);
    });
}
