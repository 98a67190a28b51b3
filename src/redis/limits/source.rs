//! Whoever runs the scripts: the client, or in tests a server that is made up.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::away::Failure;

/// A question that was put, to be awaited.
pub(super) type Asked = Pin<Box<dyn Future<Output = Result<Vec<i64>, Failure>> + Send>>;

/// Runs one script on the keys it was made for. It is never repeated by itself: what a lost
/// answer has taken stays taken.
///
/// # Cancel safety
///
/// A question that is dropped may have been put; its answer is thrown away.
pub(super) trait Source: fmt::Debug + Send + Sync + 'static {
    fn ask(&self, args: Vec<String>, within: Duration) -> Asked;
}
