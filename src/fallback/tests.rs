//! The fallback, on a paused clock.
use std::cell::{Cell, RefCell};
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::error::Progress;
use crate::observe::{Event, EventKind};
use crate::operation::{Operation, Repeatable};
use crate::policy::CallContext;
use crate::prelude::*;
use crate::testing::{catch_panic, drop_at_every_poll, sleep, spin};
use crate::{Call, Error, Refusal};

use std::pin::Pin;
use std::task::{Context, Poll};

const SECOND: Duration = Duration::from_secs(1);

/// An operation of another crate, which has made as many attempts as can be counted.
struct Tireless;

impl Operation for Tireless {
    type Output = ();
    type Error = &'static str;

    fn poll(
        self: Pin<&mut Self>,
        _: &CallContext<'_>,
        _: &mut Context<'_>,
    ) -> Poll<Result<(), Error<&'static str>>> {
        let earlier = Progress::started(u32::MAX);
        Poll::Ready(Err(Error::operation("no").after(earlier)))
    }

    fn cancel(self: Pin<&mut Self>) -> Progress<&'static str> {
        Progress::none()
    }
}

impl Repeatable for Tireless {}

#[tokio::test(start_paused = true)]
async fn the_number_of_attempts_saturates() {
    let fallback = Fallback::call(|_: Error<&str>| pending());
    let call = Call::new(Tireless, CallContext::root());
    let error = call.fallback(&fallback).timeout(SECOND).await.unwrap_err();
    assert_eq!(error.attempts(), u32::MAX);
}
