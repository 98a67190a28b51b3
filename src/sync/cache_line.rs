//! A value on cache lines of its own.

use std::ops::Deref;

/// Keeps apart what many threads write from what they only read: without it each write takes
/// the neighbours' line away from every other processor. Two lines of 64 bytes, since
/// processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct CacheLine<T>(T);

impl<T> CacheLine<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(value)
    }
}

impl<T> Deref for CacheLine<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}
