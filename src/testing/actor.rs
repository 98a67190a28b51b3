//! The neighbour of the future on trial.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Notify;

use super::watch::Flag;

/// The neighbour, until it has come to its end.
pub(super) struct Actor<Fut> {
    future: Option<Pin<Box<Fut>>>,
    flag: Arc<Flag>,
    has_begun: bool,
}

impl<Fut: Future<Output = ()>> Actor<Fut> {
    /// A neighbour that has ended already, if there is none.
    pub(super) fn new(future: Option<Fut>, bell: &Arc<Notify>) -> Self {
        Self {
            future: future.map(Box::pin),
            flag: Flag::new(bell),
            has_begun: false,
        }
    }

    /// Whether a step of it would lead anywhere.
    pub(super) fn can_step(&self) -> bool {
        self.future.is_some() && (!self.has_begun || self.flag.is_up())
    }

    /// Takes a step: to where it waits, or to its end.
    pub(super) fn step(&mut self) {
        self.has_begun = true;
        let Some(future) = &mut self.future else {
            return;
        };
        if self.flag.poll(|cx| future.as_mut().poll(cx)).is_ready() {
            self.future = None;
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.future.is_none()
    }
}
