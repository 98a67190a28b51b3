//! Errors in a box.

use std::error::Error as StdError;
use std::fmt;

/// A boxed error, as tower and its friends use it.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A boxed error as an error type of its own, for stacks around operations whose error is
/// a [`BoxError`].
#[derive(Debug)]
pub struct BoxedError(pub BoxError);

impl fmt::Display for BoxedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for BoxedError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}
