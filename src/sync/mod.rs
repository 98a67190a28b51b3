//! The only place that knows a lock.

mod wait_list;

use std::sync::{Mutex, MutexGuard, PoisonError};

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
