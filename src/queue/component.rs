//! A queue as something that a shutdown closes.

use std::future::Future;
use std::pin::Pin;

use super::Queue;
use crate::shutdown::{Component, Counts};

/// The queue closes, works until nothing is left, is cancelled, is aborted.
///
/// What a shutdown's cancelling finds unbegun is dropped. To have it back, ask for it in a
/// component of your own: [`take_waiting`](Queue::take_waiting). The shutdown holds a handle:
/// the queue then lives for as long as it does.
impl<J, T, E> Component for Queue<J, T, E>
where
    J: Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    fn stop(&self) {
        self.close();
    }

    fn drained(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(Queue::drained(self))
    }

    fn cancel(&self) {
        Queue::cancel(self);
    }

    fn abort(&self) {
        Queue::abort(self);
    }

    /// What a policy gave up has failed; what came back to its owner was cancelled.
    fn counts(&self) -> Counts {
        let now = self.snapshot();
        let in_flight = now.waiting as u64 + now.running as u64;
        let mut counts = Counts::new(in_flight);
        counts.completed = now.done;
        counts.failed = now.failed + now.given_up();
        counts.panicked = now.panicked;
        counts.cancelled = now.cancelled + now.returned;
        counts
    }
}
