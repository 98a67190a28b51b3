//! Models: see `sync::model`.

use std::sync::LazyLock;

use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::sync::atomic::AtomicU32;
use crate::sync::model::{Woken, bounded, exhaustive, spawn};

fn parked() -> Arc<(Arc<Parked>, AtomicU32)> {
    let parked = Arc::new(Parked {
        thread: thread::current(),
        woken: AtomicBool::new(false),
    });
    Arc::new((parked, AtomicU32::new(0)))
}

/// Fails if the thread is unparked before the flag is set: it then sleeps for ever, which loom
/// tells.
#[test]
fn who_is_woken_sees_what_was_done_before() {
    exhaustive(|| {
        let both = parked();
        let other = spawn(&both, |(parked, work)| {
            work.store(1, Ordering::Relaxed);
            parked.wake_by_ref();
        });
        both.0.wait();
        assert_eq!(both.1.load(Ordering::Relaxed), 1);
        other.join().unwrap();
    });
}

/// Fails with Relaxed in `wait` or in `wake`: the thread then sleeps on what it has not seen.
#[test]
fn of_two_who_wake_none_is_missed() {
    bounded(3, || {
        let both = parked();
        for _ in 0..2 {
            spawn(&both, |(parked, work)| {
                work.fetch_add(1, Ordering::Relaxed);
                parked.wake_by_ref();
            });
        }
        // As a future does that looks, and waits where there is nothing yet.
        while both.1.load(Ordering::Relaxed) < 2 {
            both.0.wait();
        }
        // Not joined: loom's join does not bear that the thread is unparked meanwhile.
    });
}

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().build().unwrap());

/// Fails if `let_go` takes those who wait before it says that the thread is dead.
#[test]
fn who_comes_as_the_thread_dies_is_refused_or_woken() {
    exhaustive(|| {
        let background = Arc::new(Background::of(RUNTIME.handle().clone(), 1));
        let death = spawn(&background, Background::let_go);
        let woken = Arc::new(Woken::default());
        let listed = background.enlist(Waker::from(Arc::clone(&woken)));
        death.join().unwrap();
        if let Ok(listed) = listed {
            assert!(listed.is_dead());
            assert_eq!(woken.times(), 1);
        }
    });
}
