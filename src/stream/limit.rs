//! A time limit that begins when it is first asked for.

use std::task::{Context, Poll};
use std::time::Duration;

use crate::time::{self, Instant, Timer};

/// A span, what is left of it, and when that ends once it has begun.
#[derive(Debug)]
pub(super) struct Limit {
    pub(super) span: Duration,
    left: Duration,
    until: Option<Instant>,
    timer: Timer,
}

impl Limit {
    pub(super) const fn new(span: Duration) -> Self {
        Self {
            span,
            left: span,
            until: None,
            timer: Timer::new(),
        }
    }

    pub(super) const fn none() -> Self {
        Self::new(Duration::MAX)
    }

    /// Begins now, unless it has begun; says when it ends. Reads no clock for no limit.
    pub(super) fn begin(&mut self) -> Instant {
        *self.until.get_or_insert_with(|| match self.left {
            Duration::MAX => Instant::NEVER,
            left => time::now().saturating_add(left),
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

    /// Stands still until it begins again, with what is left.
    pub(super) fn pause(&mut self) {
        match self.until {
            None | Some(Instant::NEVER) => {}
            Some(until) => {
                self.left = until.since(time::now());
                self.until = None;
                self.timer.disarm();
            }
        }
    }

    /// Has not begun.
    pub(super) fn clear(&mut self) {
        self.left = self.span;
        self.until = None;
        self.timer.disarm();
    }
}
