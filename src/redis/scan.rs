//! A walk through many keys, within one deadline.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::redis::cmd;
use futures_core::Stream;

use super::RedisError;
use super::client::RedisClient;
use super::table::CommandKind;
use crate::Error;
use crate::error::Progress;
use crate::time::{Instant, now};

/// The keys that match a pattern, as a stream; see [`RedisClient::scan`].
///
/// Pages are asked for one by one, as the reader comes to their end. A key that is there all
/// the time comes at least once; any key may come more than once: that is how `SCAN` is.
///
/// Defaults: pages of about 1000 keys, and for the whole walk the time limit of
/// [`CommandKind::Scan`], which runs from the first poll.
///
/// # Errors
///
/// The stream ends with the first one. By its time limit it is [`Error::TimedOut`].
///
/// # Cancel safety
///
/// It can be dropped at any point, and so can a wait for its next key.
#[must_use = "a stream does nothing unless polled"]
pub struct Scan {
    client: RedisClient,
    pattern: String,
    page: u32,
    limit: Duration,
    deadline: Option<Instant>,
    state: State,
}

type Page = Result<(u64, Vec<Vec<u8>>), Error<RedisError>>;

enum State {
    /// Keys of a page, and where the next one begins; 0 is the end.
    Keys(std::vec::IntoIter<Vec<u8>>, u64),
    Asking(Pin<Box<dyn Future<Output = Page> + Send>>),
    /// Before the first page.
    Idle,
    Over,
}

impl Scan {
    pub(super) fn new(client: RedisClient, pattern: String) -> Self {
        let limit = client.shared().limits[CommandKind::Scan as usize];
        Self {
            client,
            pattern,
            page: 1000,
            limit,
            deadline: None,
            state: State::Idle,
        }
    }

    /// About how many keys the server looks at for one page. At least 1.
    pub fn page(mut self, keys: u32) -> Self {
        self.page = keys.max(1);
        self
    }

    /// Limits the time of the whole walk, the time included that its reader takes.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    fn ask(&mut self, cursor: u64) -> State {
        let begun = now();
        let deadline = *self
            .deadline
            .get_or_insert_with(|| begun.saturating_add(self.limit));
        let (client, limit) = (self.client.clone(), self.limit);
        let command = cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(&self.pattern)
            .arg("COUNT")
            .arg(self.page)
            .take();
        State::Asking(Box::pin(async move {
            let left = deadline.since(begun);
            if left.is_zero() {
                return Err(Error::timed_out(limit));
            }
            let page = client.command(command).within(left).fetch().await;
            page.map_err(|error| of_the_whole(error, limit))
        }))
    }
}

/// What passed was the limit of the whole walk, and not what was left for its last page.
fn of_the_whole(error: Error<RedisError>, limit: Duration) -> Error<RedisError> {
    if !error.is_timed_out() {
        return error;
    }
    let attempts = error.attempts();
    Error::timed_out(limit).after(Progress::new(attempts, error.into_last()))
}

impl Stream for Scan {
    type Item = Result<Vec<u8>, Error<RedisError>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let next = match &mut self.state {
                State::Over => return Poll::Ready(None),
                State::Idle => self.ask(0),
                State::Keys(keys, next) => match (keys.next(), *next) {
                    (Some(key), _) => return Poll::Ready(Some(Ok(key))),
                    (None, 0) => State::Over,
                    (None, next) => self.ask(next),
                },
                State::Asking(page) => match ready!(page.as_mut().poll(cx)) {
                    Ok((next, keys)) => State::Keys(keys.into_iter(), next),
                    Err(error) => {
                        self.state = State::Over;
                        return Poll::Ready(Some(Err(error)));
                    }
                },
            };
            self.state = next;
        }
    }
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan")
            .field("pattern", &self.pattern)
            .field("page", &self.page)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
