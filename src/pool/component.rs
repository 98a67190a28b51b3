//! A pool as something that a shutdown closes.

use std::future::Future;
use std::pin::Pin;

use super::{Manage, Pool};
use crate::shutdown::{Component, Counts};

/// The pool closes, and has drained when every object has ended. Those lent out are not the
/// pool's to end: declare it after the components that use it.
impl<M: Manage> Component for Pool<M> {
    fn stop(&self) {
        self.close();
    }

    fn drained(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(Pool::drained(self))
    }

    fn cancel(&self) {}

    fn abort(&self) {}

    /// Objects: those there are, those that have ended, and creations that failed.
    fn counts(&self) -> Counts {
        let now = self.snapshot();
        let mut counts = Counts::new(now.size as u64);
        counts.completed = now.closed.total();
        counts.failed = now.create_failures;
        counts
    }
}
