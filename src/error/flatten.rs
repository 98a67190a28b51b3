//! One error of two.

use super::{Error, Progress};

impl<E> Error<Error<E>> {
    /// Makes one error of two: that of a call whose operation was a call itself.
    ///
    /// The inner error says what ended it, and its attempts are the ones that count; where the
    /// outer call was cut short, its inner error gives the attempts and the last error.
    #[must_use]
    pub fn flatten(self) -> Error<E> {
        let (error, attempts, last) = match self {
            Self::Operation { error, .. } => return error,
            Self::TimedOut {
                after,
                attempts,
                last,
            } => (Error::timed_out(after), attempts, last),
            Self::Refused {
                reason,
                attempts,
                last,
            } => (Error::refused(reason), attempts, last),
            Self::Panicked {
                message,
                attempts,
                last,
            } => {
                let panicked = Error::Panicked {
                    message,
                    attempts: 0,
                    last: None,
                };
                (panicked, attempts, last)
            }
            Self::Cancelled { attempts, last } => (Error::cancelled(), attempts, last),
        };
        let attempts = last.as_ref().map_or(0, Error::attempts).max(attempts);
        error.after(Progress::new(attempts, last.and_then(Error::into_last)))
    }
}
