//! A client as something that a shutdown closes.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::super::provider::SessionProvider;
use super::SessionClient;
use super::pipes::Boxed;
use super::shared::Shared;
use crate::shutdown::{Component, Counts};

/// The wait until a client is drained; see [`SessionClient::drained`].
#[must_use = "a wait does nothing unless awaited"]
pub struct ClientDrained<'c>(Boxed<'c, ()>);

impl<'c> ClientDrained<'c> {
    pub(super) fn new<P: SessionProvider>(shared: &'c Arc<Shared<P>>) -> Self {
        Self(Box::pin(shared.drained()))
    }
}

impl Future for ClientDrained<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ClientDrained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientDrained").finish_non_exhaustive()
    }
}

/// `stop` closes the client; `cancel` ends every session, whoever holds it; `abort` gives up
/// what is left, which is then counted as such. Declare it after the components that use its
/// sessions.
impl<P: SessionProvider> Component for SessionClient<P> {
    fn stop(&self) {
        self.close();
    }

    fn drained(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(SessionClient::drained(self))
    }

    fn cancel(&self) {
        self.end_all();
    }

    fn abort(&self) {
        self.shared.abort();
    }

    /// Sessions: those there are and those being created, those that have ended, and those that
    /// were given up.
    fn counts(&self) -> Counts {
        let now = self.snapshot();
        let mut counts = Counts::new(now.in_flight() + self.creating() as u64);
        counts.completed = now.deleted;
        counts.failed = now.given_up;
        counts
    }

    fn failure(&self) -> Option<Box<str>> {
        let given_up = self.snapshot().given_up;
        (given_up > 0).then(|| format!("{given_up} sessions may be there still").into())
    }
}
