//! Resilience patterns for async code: they keep calls standing when what they depend on
//! fails.
//!
//! Each pattern wraps any future; a stack of them is one static type that allocates nothing
//! and is a tower middleware as well. Everything is safe to cancel at every point.
//!
//! # Three front doors
//!
//! A method on a future, or on a closure that makes one ([`Resilient`]):
//!
//! ```
//! use mainstay::prelude::*;
//! use std::time::Duration;
//!
//! # async fn fetch(url: &str) -> std::io::Result<usize> { Ok(url.len()) }
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let page = fetch("/a").timeout(Duration::from_secs(2)).await?;
//! let page = (|| fetch("/a")).retry(Retry::exponential(Duration::from_millis(100))).await?;
//! # assert_eq!(page, 2);
//! # Ok(())
//! # }
//! ```
//!
//! A [`Pipeline`], outermost policy first, to be shared and called:
//!
//! ```
//! use mainstay::prelude::*;
//! use std::time::Duration;
//!
//! # async fn fetch(url: &str) -> std::io::Result<usize> { Ok(url.len()) }
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pages = Pipeline::builder("pages")
//!     .timeout(Duration::from_secs(10))
//!     .retry(Retry::builder().max_attempts(4))
//!     .circuit_breaker(CircuitBreaker::builder())
//!     .bulkhead(64)
//!     .timeout(Duration::from_secs(1))
//!     .build()?;
//! let page = pages.call(|| fetch("/a")).await?;
//! # assert_eq!(page, 2);
//! # Ok(())
//! # }
//! ```
//!
//! And the same pipeline as a tower layer ([`Pipeline::layer`], feature `tower`), or each
//! policy as one ([`tower::IntoLayer`]).
//!
//! # The patterns
//!
//! | type | what it does |
//! |---|---|
//! | [`Timeout`] | cuts short what takes too long |
//! | [`Retry`] | starts again what failed, with back-off, on a budget |
//! | [`CircuitBreaker`] | stops calling what fails |
//! | [`RateLimiter`], [`KeyedRateLimiter`] | limit how many calls start in a time |
//! | [`Bulkhead`] | limits how many calls run at once |
//! | [`Fallback`] | answers in place of a failure |
//!
//! And for many things at once, all of which work with a pipeline:
//!
//! | type | what it does |
//! |---|---|
//! | [`gather`](gather()) | drives many operations, so many at a time: all outcomes, the first error, or a stream of them |
//! | [`Queue`] | does work from a bounded line with so many workers; each item has exactly one outcome |
//! | [`Pool`] | keeps costly objects and lends them out |
//! | [`Scope`] | owns tasks: they end before it does |
//! | [`Shutdown`] | ends a program in order, within one deadline |
//! | [`Lazy`] | makes a value once, for many callers |
//! | [`Offload`] | runs blocking work on a bounded number of threads |
//! | [`ResilientStream`], [`stream::resume`] | limit, pace and resume streams |
//! | [`blocking`] | all of it for code that is not async |
//!
//! The text of each type has the table of its defaults.
//!
//! # Errors
//!
//! Every stack yields [`Error<E>`](Error), which does not nest: your own error, a time limit, or
//! a [`Refusal`]; with the number of attempts and your last real error in each case.
//!
//! # Cancel safety
//!
//! A call can be dropped at any point. Whatever it holds (a permit, a place in a queue, a
//! probe of a breaker) is a value that gives itself back; a result that comes too late
//! changes nothing. When a call returns, nothing that it started is under way any more.
//! What goes on in tasks of its own (a pool's creations, a queue's workers) says so, and is
//! owned: it ends with its owner, and is counted.
//!
//! # Time
//!
//! Waiting needs a tokio runtime with its timer enabled; what need not wait needs none. With
//! the feature `test-util` every pattern follows tokio's clock, which can be paused.
//!
//! # Features
//!
//! `tower` (default): layers and services. `signal`: SIGINT and SIGTERM for a [`Shutdown`].
//! `tracing`: the events of [`observe`] as `tracing` events. `test-util`: tokio's clock instead
//! of the processor's, and a laboratory (`testing`) that cancels futures of yours at every point.
//! The adapters: on Unix `process` (child processes), `session` (sessions
//! with commands, code and files; on this machine without more) and `agentbay` (the same at
//! AgentBay); `websocket` (JSON-RPC that reconnects), `redis` (a client, and limits for many
//! machines).

#![warn(clippy::disallowed_methods)]
#![cfg_attr(
    all(test, mainstay_loom),
    expect(
        clippy::unwrap_used,
        reason = "models are tests, which clippy does not see"
    )
)]

pub mod blocking;
pub mod bulkhead;
pub mod circuit_breaker;
pub mod classify;
pub mod config;
pub mod error;
mod ext;
pub mod fallback;
pub mod gather;
pub mod lazy;
#[cfg(test)]
#[path = "../tests/support/models.rs"]
mod models;
pub mod observe;
pub mod offload;
pub mod operation;
mod panics;
pub mod policy;
pub mod pool;
#[cfg(all(feature = "process", unix))]
pub mod process;
#[cfg(test)]
#[path = "../tests/support/proof.rs"]
mod proof;
pub mod queue;
mod rare;
pub mod rate_limit;
#[cfg(feature = "redis")]
pub mod redis;
pub mod retry;
pub mod scope;
#[cfg(feature = "session")]
pub mod session;
pub mod shutdown;
mod span;
pub mod stream;
mod sync;
#[cfg(any(test, feature = "test-util"))]
pub mod testing;
pub mod time;
pub mod timeout;
#[cfg(feature = "tower")]
pub mod tower;
#[cfg(feature = "websocket")]
pub mod websocket;

pub use bulkhead::Bulkhead;
pub use circuit_breaker::CircuitBreaker;
pub use config::ConfigError;
pub use error::{BoxError, BoxedError, Error, Progress, Refusal};
pub use ext::Resilient;
pub use fallback::Fallback;
pub use gather::{Gather, Gathered, gather};
pub use lazy::Lazy;
pub use offload::Offload;
pub use operation::infallible;
pub use policy::{Acquire, Attempt, Call, DynPipeline, Pipeline, PipelineBuilder};
pub use pool::Pool;
pub use queue::Queue;
pub use rate_limit::{KeyedRateLimiter, RateLimiter};
pub use retry::Retry;
pub use scope::Scope;
pub use shutdown::Shutdown;
pub use stream::ResilientStream;
pub use timeout::Timeout;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

#[cfg(doctest)]
#[doc = include_str!("../tests/compile_fail.md")]
mod compile_fail {}

/// What most users need.
pub mod prelude {
    pub use crate::ext::Resilient;
    pub use crate::retry::Backoff;
    pub use crate::stream::ResilientStream;
    pub use crate::{
        Bulkhead, CircuitBreaker, DynPipeline, Fallback, KeyedRateLimiter, Lazy, Offload, Pipeline,
        Pool, Queue, RateLimiter, Retry, Scope, Shutdown, Timeout, gather,
    };
}
