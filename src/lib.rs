//! Resilience patterns for async code.

mod bulkhead;
pub mod circuit_breaker;
mod config;
mod error;
mod ext;
pub mod fallback;
pub mod observe;
pub mod operation;
pub mod policy;
pub mod rate_limit;
pub mod retry;
mod sync;
#[cfg(test)]
mod testing;
pub mod time;
mod timeout;
#[cfg(feature = "tower")]
pub mod tower;

pub use bulkhead::{Acquire, Bulkhead, BulkheadBuilder, BulkheadSnapshot};
pub use circuit_breaker::CircuitBreaker;
pub use config::{ConfigError, Value};
pub use error::{BoxError, BoxedError, Error, Progress, Refusal};
pub use ext::Resilient;
pub use fallback::Fallback;
pub use operation::infallible;
pub use policy::{Attempt, Call, DynPipeline, Pipeline, PipelineBuilder};
pub use rate_limit::RateLimiter;
pub use retry::Retry;
pub use timeout::Timeout;

/// What most users need.
pub mod prelude {
    pub use crate::ext::Resilient;
    pub use crate::retry::Backoff;
    pub use crate::{
        Bulkhead, CircuitBreaker, DynPipeline, Fallback, Pipeline, RateLimiter, Retry, Timeout,
    };
}
