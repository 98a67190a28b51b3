//! Where the request of each attempt comes from.

use std::fmt;

/// Hands out the request of each attempt.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot hand out a request of type `{Req}`",
    note = "`layer()` needs a request that is `Clone`; for others there are `layer_with(copy)`, and `layer_once()` where no policy repeats"
)]
pub trait Replay<Req> {
    /// The request of the next attempt, from `kept`; `None` when there can be none. It may
    /// leave `kept` empty, and no attempt follows.
    fn next(&self, kept: &mut Option<Req>) -> Option<Req>;
}

/// Every attempt gets a clone of the request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cloned;

impl<Req: Clone> Replay<Req> for Cloned {
    fn next(&self, kept: &mut Option<Req>) -> Option<Req> {
        kept.clone()
    }
}

/// The request is used up by the first attempt; stacks that repeat do not compile with it.
#[derive(Clone, Copy, Debug, Default)]
pub struct UsedUp;

impl<Req> Replay<Req> for UsedUp {
    fn next(&self, kept: &mut Option<Req>) -> Option<Req> {
        kept.take()
    }
}

/// A function makes the copy, or says that there can be none: the request is then used up.
#[derive(Clone, Copy)]
pub struct CopiedBy<F>(pub(super) F);

impl<Req, F: Fn(&Req) -> Option<Req>> Replay<Req> for CopiedBy<F> {
    fn next(&self, kept: &mut Option<Req>) -> Option<Req> {
        match (self.0)(kept.as_ref()?) {
            Some(copy) => Some(copy),
            None => kept.take(),
        }
    }
}

/// Marks what can hand out a request more than once.
#[diagnostic::on_unimplemented(
    message = "a policy in this stack repeats, but its requests are used up by the first attempt",
    note = "use `layer()` for requests that are `Clone`, or `layer_with(copy)`"
)]
pub trait ReplayAgain {}

impl ReplayAgain for Cloned {}

impl<F> ReplayAgain for CopiedBy<F> {}

impl<F> fmt::Debug for CopiedBy<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CopiedBy")
    }
}
