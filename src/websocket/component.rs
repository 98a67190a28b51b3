//! A client as something that a shutdown closes.

use std::future::Future;
use std::pin::Pin;

use super::Client;
use crate::shutdown::{Component, Counts};

/// It takes no new calls, lets those under way end, and closes the connection then. Declare it
/// after the components that call.
impl Component for Client {
    fn stop(&self) {
        self.handle.calls.close();
    }

    fn drained(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            self.handle.calls.drained().await;
            self.close().await;
        })
    }

    fn cancel(&self) {
        self.handle.shared.close();
    }

    fn abort(&self) {
        self.handle.shared.close();
    }

    fn counts(&self) -> Counts {
        Counts::new(self.handle.calls.in_flight() as u64)
    }
}
