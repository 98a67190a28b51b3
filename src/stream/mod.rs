//! The patterns on streams.
//!
//! [`ResilientStream`] puts limits around any stream of results; [`resume()`] opens a stream
//! again where it was cut; [`every`] is a beat for loops that look after something.
//!
//! Whatever is put around it, an item is a `Result<T, Error<E>>`, and the stream can be
//! asked by its own `next`, without pinning it: the source is in a box, once for each stream.

mod background;
mod every;
mod guarded;
mod limit;
mod resume;
mod session;
mod source;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures_core::Stream;
use tokio_util::sync::CancellationToken;

pub use background::Background;
pub use every::{Every, Tick, every};
pub use guarded::Guarded;
pub use resume::{Resumed, resume};
pub use session::Session;
pub use source::{Flat, Source};

use crate::rate_limit::RateLimiter;

/// Puts limits around any stream of `Result`s.
///
/// The methods chain, in any order: the first one makes a [`Guarded`], whose own methods of
/// the same names add to it, and the errors do not nest. A stream of plain items becomes one of
/// results by `map(Ok::<_, Infallible>)`.
///
/// # Examples
///
/// ```
/// use mainstay::prelude::*;
/// use mainstay::stream::ResilientStream;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let lines = futures_util::stream::iter(["a", "b"].map(Ok::<_, std::io::Error>));
/// let limiter = RateLimiter::per_second(100).build()?;
/// let mut paced = lines
///     .time_limit_each(Duration::from_secs(5))
///     .time_limit(Duration::from_secs(60))
///     .rate_limit(&limiter);
/// while let Some(line) = paced.next().await {
///     println!("{}", line?);
/// }
/// # Ok(())
/// # }
/// ```
pub trait ResilientStream<T, E>: Stream<Item = Result<T, E>> + Sized {
    /// Limits the time from asking for an item to getting it; see
    /// [`Guarded::time_limit_each`].
    fn time_limit_each(self, limit: Duration) -> Guarded<Flat<Self>> {
        guarded(self).time_limit_each(limit)
    }

    /// Limits the time of the whole stream; see [`Guarded::time_limit`].
    fn time_limit(self, limit: Duration) -> Guarded<Flat<Self>> {
        guarded(self).time_limit(limit)
    }

    /// Takes a permit for each item, before it is asked for; see [`Guarded::rate_limit`].
    fn rate_limit(self, limiter: &RateLimiter) -> Guarded<Flat<Self>> {
        guarded(self).rate_limit(limiter)
    }

    /// Cancels `token` when the stream is dropped or has ended; see
    /// [`Guarded::cancel_on_drop`].
    fn cancel_on_drop(self, token: CancellationToken) -> Guarded<Flat<Self>> {
        guarded(self).cancel_on_drop(token)
    }

    /// Asks for items ahead, in a task of its own; see [`Guarded::in_background`].
    fn in_background(self, buffer: usize) -> Background<T, E>
    where
        Self: Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        guarded(self).in_background(buffer)
    }
}

impl<S, T, E> ResilientStream<T, E> for S where S: Stream<Item = Result<T, E>> {}

fn guarded<S>(stream: S) -> Guarded<Flat<S>> {
    Guarded::new(Flat::new(stream))
}
