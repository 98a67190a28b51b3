//! The policies' common ground: how one wraps an operation, how they stack, what goes down
//! with a call, and the one driver for everything that admits or refuses.

mod call;
mod context;
mod erased;
mod gate;
mod gated;
mod part;
mod permit;
mod pipeline;
mod stack;

use crate::config::ConfigError;
use crate::operation::Operation;

pub use call::Call;
pub use context::{Attempt, CallContext};
pub use erased::{DynPipeline, ErasablePolicy, Leaf};
pub use gate::{Admission, End, Gate, Judge};
pub use gated::Gated;
pub use part::Part;
pub use permit::{Acquire, Permit};
pub use pipeline::{Pipeline, PipelineBuilder};
pub use stack::{Identity, Stack};

/// Maps an operation to an operation: the one thing that every pattern is.
///
/// The result borrows the policy for as long as the call lives, so that a stack of any
/// height costs no allocation and no reference count.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be put around this operation",
    note = "a policy that repeats (such as `Retry`) needs an operation that can be started again: give `call`, or the items of a `gather`, as closures instead of futures",
    note = "a policy with a classifier or a fallback value needs that one's result and error types"
)]
pub trait Policy<'a, O: Operation> {
    /// The operation with this policy around it.
    type Operation: Operation<Output = O::Output, Error = O::Error>;

    /// Puts this policy around `inner`. Starts nothing.
    fn wrap(&'a self, inner: O) -> Self::Operation;
}

/// A policy, or a builder of one: what a pipeline's builder takes.
pub trait IntoPolicy {
    /// The policy.
    type Policy;

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] names the first setting that is out of range.
    fn into_policy(self) -> Result<Self::Policy, ConfigError>;
}
