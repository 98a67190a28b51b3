//! Models: see `sync::model`. Who makes the value, and who is told, is all under one lock; the
//! value itself is in a cell of std's, which loom does not see.

use std::future::poll_fn;
use std::task::Poll;

use super::*;
use crate::sync::atomic::AtomicU32;
use crate::sync::model::{block_on, exhaustive, give_up, spawn};

#[derive(Default)]
struct Count {
    runs: AtomicU32,
    made: AtomicU32,
}

struct Run(Arc<Count>);

impl Run {
    fn new(count: &Arc<Count>) -> Self {
        assert_eq!(count.runs.fetch_add(1, Ordering::SeqCst), 0, "two at once");
        Self(Arc::clone(count))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.0.runs.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A value that takes two polls to make; the first so many times it fails.
fn lazy(failures: u32) -> (Arc<Lazy<u32, ()>>, Arc<Count>) {
    let count = Arc::new(Count::default());
    let counted = Arc::clone(&count);
    let lazy = Lazy::new(move || {
        let count = Arc::clone(&counted);
        async move {
            let _run = Run::new(&count);
            let mut polled = false;
            poll_fn(|cx| {
                if polled {
                    return Poll::Ready(());
                }
                polled = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
            let number = count.made.fetch_add(1, Ordering::SeqCst);
            if number < failures {
                Err(())
            } else {
                Ok(number)
            }
        }
    });
    (Arc::new(lazy), count)
}

/// Two callers, one initialiser at a time, one value. Fails where `put_back` forgets who asked
/// while it was polled.
#[test]
fn a_value_is_made_once() {
    exhaustive(|| {
        let (lazy, count) = lazy(0);
        let other = spawn(&lazy, |lazy| *block_on(lazy.get()).unwrap());
        assert_eq!(*block_on(lazy.get()).unwrap(), 0);
        assert_eq!(other.join().unwrap(), 0);
        assert_eq!(count.made.load(Ordering::SeqCst), 1);
        assert_eq!(count.runs.load(Ordering::SeqCst), 0);
    });
}

/// A caller that gives up in the middle leaves the initialiser to the other. Fails where only
/// one of those who wait is called.
#[test]
fn the_baton_passes_by_who_gives_up() {
    exhaustive(|| {
        let (lazy, count) = lazy(0);
        let other = spawn(&lazy, |lazy| drop(give_up(lazy.get())));
        assert_eq!(*block_on(lazy.get()).unwrap(), 0);
        other.join().unwrap();
        assert_eq!(count.made.load(Ordering::SeqCst), 1);
    });
}

/// A failure is told to everyone who has waited for it. Fails where `end` tells those who wait
/// and does not wake them.
#[test]
fn a_failure_is_told_to_all_who_waited() {
    exhaustive(|| {
        let (lazy, count) = lazy(1);
        let other = spawn(&lazy, |lazy| block_on(lazy.get()).is_err());
        let mine = block_on(lazy.get()).is_err();
        let others = other.join().unwrap();
        assert!(mine || others);
        let made = count.made.load(Ordering::SeqCst);
        assert_eq!(made, if mine && others { 1 } else { 2 });
    });
}
