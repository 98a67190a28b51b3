//! Limits that many machines share through Redis: a rate limiter and a bulkhead.
//!
//! Each is one Lua script, which is atomic and reads the server's clock: the clocks of the
//! clients do not matter. The front doors are those of the local
//! [`RateLimiter`](crate::RateLimiter) and [`Bulkhead`](crate::Bulkhead), except that to ask
//! takes an `await`; both are gates, for [`PipelineBuilder::policy`](crate::PipelineBuilder::policy)
//! and thereby for tower. A choice, [`WhenAway`], says what holds while Redis is away.
//!
//! In each process one task asks for all callers, one question at a time, for as long as there
//! is something to ask: calls that come while a question is under way share the next one. So a
//! process is fair, a crowd is not a herd, and a caller that goes away takes nothing with it.
//! What is asked and what an answer means is decided in `rate::state` and `slots::state`;
//! whether Redis is there, in `away`.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

mod away;
mod driver;
mod line;
mod quota;
mod rate;
mod scripts;
mod slots;
mod source;

pub use away::WhenAway;
pub use rate::{
    SharedRateLimiter, SharedRateLimiterAcquire, SharedRateLimiterBuilder,
    SharedRateLimiterSnapshot, SharedRateLimiterTicket, SharedRateLimiterWait,
};
pub use slots::{
    SharedBulkhead, SharedBulkheadAcquire, SharedBulkheadBuilder, SharedBulkheadSnapshot,
    SharedBulkheadWait, SharedPermit,
};

/// A name for the claims and leases of one limit in this process. Two of one name would have
/// each other's leases, so the randomness is the system's, which no program has seeded.
fn process_name() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}
