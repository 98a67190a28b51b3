//! The only place that knows a lock, and where atomics and locks come from.

mod cache_line;
#[cfg(all(test, mainstay_loom))]
mod loom;
#[cfg(all(test, mainstay_loom))]
pub(crate) mod model;
mod switch;
mod wait_list;

use std::panic::resume_unwind;
use std::sync::{PoisonError, TryLockError};
use std::task::Waker;

use crate::panics::{caught, swallow};

pub(crate) use cache_line::CacheLine;
use switch::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
pub(crate) use switch::{MutexGuard, atomic, constant, global, thread};
pub(crate) use wait_list::{Key, WaitList};

/// How often a thread looks for a busy lock to come free, before it sleeps.
const LOOKS: u32 = 8;

/// A lock around a pure state.
///
/// No user's code ever runs under it, so a poisoned lock can only come from a bug of our
/// own; its state is still the last consistent one, and going on beats failing every call.
#[derive(Debug, Default)]
pub(crate) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    constant! {
        pub(crate) const fn new(state: T) -> Self {
            Self(Mutex::new(state))
        }
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        if cfg!(mainstay_loom) {
            // There each look would only be one more way of coming late.
            return self.wait();
        }
        self.try_lock().unwrap_or_else(|| self.lock_when_free())
    }

    #[inline]
    fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(state)) => Some(state.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Looks again a few times before the thread sleeps: states are held for some ten
    /// nanoseconds, and a sleep costs both sides a system call. Each pause is twice as long as
    /// the one before it, so that the two do not keep taking the line from each other. That
    /// is on top of std's own looks, which are a hundred and end in a sleep too soon: two turns
    /// around a vector cost two threads 37 ns of the processor with it and 42 without, and eight
    /// on two busy processors, where who holds it may not run, 45 and 50.
    #[cold]
    fn lock_when_free(&self) -> MutexGuard<'_, T> {
        for doubled in 0..LOOKS {
            for _ in 0..1_u32 << doubled {
                std::hint::spin_loop();
            }
            if let Some(state) = self.try_lock() {
                return state;
            }
        }
        self.wait()
    }

    #[inline]
    fn wait(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lock that many may read under at once; else as [`Lock`].
#[derive(Debug, Default)]
pub(crate) struct SharedLock<T>(RwLock<T>);

impl<T> SharedLock<T> {
    pub(crate) fn new(state: T) -> Self {
        Self(RwLock::new(state))
    }

    #[inline]
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes everyone, also those behind a waker that panics: they have been handed something
/// and would never learn of it. The first panic then goes on. To be called without a lock.
#[inline]
pub(crate) fn wake_all(wakers: Vec<Waker>) {
    // Mostly there is nobody: then the call pays for nothing that it does not need.
    if !wakers.is_empty() {
        wake_each(wakers);
    }
}

/// Wakes everyone, and keeps their panics to itself: for drops, and for tasks that have nothing
/// to do with those who wait. To be called without a lock.
pub(crate) fn wake_quietly(wakers: Vec<Waker>) {
    swallow(|| wake_all(wakers));
}

#[cold]
fn wake_each(wakers: Vec<Waker>) {
    let mut panic = None;
    for waker in wakers {
        if let Err(payload) = caught(|| waker.wake()) {
            panic = panic.or(Some(payload));
        }
    }
    // Where something unwinds already, a second panic would end the process.
    match panic {
        Some(payload) if !std::thread::panicking() => resume_unwind(payload),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use super::*;

    struct Bad(AtomicU32);

    impl Wake for Bad {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
            panic!("woken");
        }
    }

    /// Trap 77.
    #[test]
    fn wakers_that_panic_keep_nobody_from_being_woken() {
        struct WhileUnwinding<F: FnMut()>(F);
        impl<F: FnMut()> Drop for WhileUnwinding<F> {
            fn drop(&mut self) {
                (self.0)();
            }
        }
        let bad = Arc::new(Bad(AtomicU32::new(0)));
        let crowd = || (0..3).map(|_| Waker::from(Arc::clone(&bad))).collect();
        assert!(caught(|| wake_all(crowd())).is_err());
        assert_eq!(bad.0.load(Ordering::SeqCst), 3);
        let unwound = caught(|| {
            let _drop = WhileUnwinding(|| wake_all(crowd()));
            panic!("first");
        });
        assert_eq!(unwound.unwrap_err().downcast_ref::<&str>(), Some(&"first"));
        assert_eq!(bad.0.load(Ordering::SeqCst), 6);
    }
}
