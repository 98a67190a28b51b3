//! A time limit that begins when it is first asked for.

use std::task::{Context, Poll};
use std::time::Duration;

use crate::time::{self, Instant, Timer};

/// A span, and when it ends once it has begun.
#[derive(Debug)]
pub(super) struct Limit {
    pub(super) span: Duration,
    until: Option<Instant>,
    timer: Timer,
}

impl Limit {
    pub(super) const fn new(span: Duration) -> Self {
        Self {
            span,
            until: None,
            timer: Timer::new(),
        }
    }

    pub(super) const fn none() -> Self {
        Self::new(Duration::MAX)
    }

    /// Begins now, unless it has begun; says when it ends. Reads no clock for no limit.
    pub(super) fn begin(&mut self) -> Instant {
        let span = self.span;
        *self.until.get_or_insert_with(|| match span {
            Duration::MAX => Instant::NEVER,
            _ => time::now().saturating_add(span),
        })
    }

    /// Whether it has begun before and passed meanwhile.
    pub(super) fn has_passed(&self) -> bool {
        self.until
            .is_some_and(|until| until != Instant::NEVER && time::now() >= until)
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = self.begin();
        self.timer.poll_until(until, cx)
    }

    /// Has not begun.
    pub(super) fn clear(&mut self) {
        self.until = None;
        self.timer.disarm();
    }
}
