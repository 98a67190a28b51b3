//! The only place that knows a lock.

mod wait_list;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

pub(crate) use wait_list::{Key, WaitList};

/// A lock around a pure state.
///
/// No user's code ever runs under it, so a poisoned lock can only come from a bug of our
/// own; its state is still the last consistent one, and going on beats failing every call.
#[derive(Debug, Default)]
pub(crate) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub(crate) const fn new(state: T) -> Self {
        Self(Mutex::new(state))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes everyone, also those behind a waker that panics: they have been handed something
/// and would never learn of it. To be called without a lock.
#[inline]
pub(crate) fn wake_all(wakers: Vec<Waker>) {
    // Mostly there is nobody: then the call pays for nothing that it does not need.
    if !wakers.is_empty() {
        wake_each(wakers);
    }
}

#[cold]
fn wake_each(wakers: Vec<Waker>) {
    struct Rest(std::vec::IntoIter<Waker>);

    impl Drop for Rest {
        fn drop(&mut self) {
            self.0.by_ref().for_each(Waker::wake);
        }
    }

    Rest(wakers.into_iter()).0.by_ref().for_each(Waker::wake);
}
