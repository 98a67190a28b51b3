//! A call of one pipeline that goes through another.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::CallContext;
use crate::error::Progress;
use crate::observe::Source;
use crate::operation::{Operation, Outcome, Repeatable};

pin_project! {
    /// An operation whose policies belong to another pipeline than those around it: what
    /// they do is told to that one's observer, under that one's name.
    #[must_use = "an operation does nothing unless polled"]
    pub struct Part<'p, O> {
        #[pin]
        inner: O,
        source: Option<&'p Source>,
    }
}

impl<'p, O> Part<'p, O> {
    #[inline]
    pub(super) const fn new(inner: O, source: Option<&'p Source>) -> Self {
        Self { inner, source }
    }
}

impl<O: Operation> Operation for Part<'_, O> {
    type Output = O::Output;
    type Error = O::Error;

    #[inline(always)]
    fn poll(
        self: Pin<&mut Self>,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Outcome<Self>> {
        let this = self.project();
        this.inner.poll(&call.told_to(*this.source), cx)
    }

    fn cancel(self: Pin<&mut Self>) -> Progress<O::Error> {
        self.project().inner.cancel()
    }
}

impl<O: Repeatable> Repeatable for Part<'_, O> {
    fn can_repeat(&self) -> bool {
        self.inner.can_repeat()
    }
}

impl<O> fmt::Debug for Part<'_, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}
