//! What the types must not allow, on every compiler: the bounds themselves.
//!
//! `tests/compile_fail.md` shows the same as a user meets it.

use std::future::{Future, Ready};

use mainstay::circuit_breaker::CountAs;
use mainstay::classify::{Classify, If};
use mainstay::fallback::{Alternative, Value};
use mainstay::operation::{Closure, Once, Plain, Repeatable};
use mainstay::policy::{Identity, Policy, Stack};
use mainstay::prelude::*;
use mainstay::retry::Verdict;
use static_assertions::{assert_impl_all, assert_not_impl_any};

use crate::support::Oops;

type Answer = Ready<Result<u32, Oops>>;
type Bare = Once<Answer>;
type Again = Closure<Plain<fn() -> Answer>, Answer>;

type Repeating = Stack<Stack<Identity, Retry>, Bulkhead>;
type Single = Stack<Stack<Identity, Timeout>, Bulkhead>;

// A bare future goes where nothing repeats, and only there.
assert_not_impl_any!(Bare: Repeatable);
assert_impl_all!(Again: Repeatable);
assert_not_impl_any!(Repeating: Policy<'static, Bare>);
assert_impl_all!(Repeating: Policy<'static, Again>);
assert_impl_all!(Single: Policy<'static, Bare>, Policy<'static, Again>);

// A policy around it does not make it repeatable.
assert_not_impl_any!(<Single as Policy<'static, Bare>>::Operation: Repeatable);
assert_impl_all!(<Single as Policy<'static, Again>>::Operation: Repeatable);

// A fallback's value is of the operation's type.
assert_impl_all!(Value<u32>: Alternative<u32, Oops>);
assert_not_impl_any!(Value<&'static str>: Alternative<u32, Oops>);
assert_not_impl_any!(Stack<Identity, Fallback<Value<&'static str>>>: Policy<'static, Again>);

// A classifier is for the operation's error.
assert_impl_all!(If<fn(&Oops) -> bool>: Classify<u32, Oops, Verdict>, Classify<u32, Oops, CountAs>);
assert_not_impl_any!(If<fn(&std::fmt::Error) -> bool>: Classify<u32, Oops, Verdict>);

// An operation is driven by a call, and is no future by itself.
assert_not_impl_any!(Bare: Future);
assert_not_impl_any!(Again: Future);

#[cfg(feature = "tower")]
mod layers {
    use super::*;
    use mainstay::tower::{Cloned, PipelineService, UsedUp};
    use tower::Service;

    struct Unique;

    #[derive(Clone)]
    struct Echo;

    impl<Req> Service<Req> for Echo {
        type Response = u32;
        type Error = Oops;
        type Future = Answer;

        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Oops>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Req) -> Answer {
            std::future::ready(Ok(7))
        }
    }

    // What repeats needs a request that can be sent again.
    assert_impl_all!(PipelineService<Repeating, Echo, Cloned>: Service<u32>);
    assert_not_impl_any!(PipelineService<Repeating, Echo, Cloned>: Service<Unique>);
    assert_not_impl_any!(PipelineService<Repeating, Echo, UsedUp>: Service<Unique>, Service<u32>);
    assert_impl_all!(PipelineService<Single, Echo, UsedUp>: Service<Unique>, Service<u32>);
}
