//! Why a call gave no result.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

/// Why a call over the link gave no result: what happened, how long it took, and whether the
/// request had gone out.
///
/// Time limits and a full bulkhead are not among them: those are
/// [`Error::TimedOut`](crate::Error::TimedOut) and
/// [`Error::Refused`](crate::Error::Refused), around this one.
///
/// As text it is a line for a log that says what to do next:
///
/// ```text
/// the server answered -32601: no such method
/// connection lost after 1.2s (closed by the peer): it may have been carried out
/// not connected (HTTP 200 in place of an upgrade): nothing was sent
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RpcError {
    kind: RpcErrorKind,
    sent: bool,
    elapsed: Duration,
    detail: Box<Detail>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Detail {
    message: Box<str>,
    data: Option<Value>,
}

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RpcErrorKind {
    /// The server answered with an error, of this code.
    Server {
        /// -32700 to -32600 are the protocol's own, such as -32601 for an unknown method.
        code: i64,
    },
    /// The connection was lost with the request under way: it may have been carried out. It
    /// was not sent again.
    Lost,
    /// There is no connection: the attempt to make one failed, or calls do not wait for it.
    NotConnected,
    /// The client was closed.
    Closed,
    /// The reply with this call's id was none by the protocol, or not of the wanted type.
    BadReply,
    /// The parameters cannot be a request's: not JSON, or neither a list nor an object.
    BadRequest,
    /// The request is larger than the limit for messages.
    TooLarge,
}

/// Text of others is cut here: it stands in logs.
const LONGEST_MESSAGE: usize = 1024;

impl RpcError {
    /// An error of this kind; `message` says what happened, and is cut at 1 KiB.
    #[must_use]
    pub fn new(kind: RpcErrorKind, message: &str) -> Self {
        Self {
            kind,
            sent: matches!(
                kind,
                RpcErrorKind::Server { .. } | RpcErrorKind::Lost | RpcErrorKind::BadReply
            ),
            elapsed: Duration::ZERO,
            detail: Box::new(Detail {
                message: cut(message).into(),
                data: None,
            }),
        }
    }

    pub(super) fn with_data(mut self, data: Option<Value>) -> Self {
        self.detail.data = data;
        self
    }

    pub(super) fn took(mut self, elapsed: Duration) -> Self {
        self.elapsed = elapsed;
        self
    }

    pub(super) fn with_sent(mut self, sent: bool) -> Self {
        self.sent = sent;
        self
    }

    /// What kind of failure it was.
    #[must_use]
    pub fn kind(&self) -> RpcErrorKind {
        self.kind
    }

    /// The code of the server's error.
    #[must_use]
    pub fn code(&self) -> Option<i64> {
        match self.kind {
            RpcErrorKind::Server { code } => Some(code),
            _ => None,
        }
    }

    /// What happened, in words: the server's own, or what was wrong with the link.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.detail.message
    }

    /// What the server said besides: the data of its error, or all of an error of a shape that
    /// the protocol does not know.
    #[must_use]
    pub fn data(&self) -> Option<&Value> {
        self.detail.data.as_ref()
    }

    /// Whether the request had gone out: if not, it had no effect for certain.
    #[must_use]
    pub fn was_sent(&self) -> bool {
        self.sent
    }

    /// How long the last attempt took.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }
}

fn cut(message: &str) -> &str {
    let mut end = message.len().min(LONGEST_MESSAGE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.message();
        match self.kind {
            RpcErrorKind::Server { code } => write!(f, "the server answered {code}: {message}"),
            RpcErrorKind::Lost => write!(
                f,
                "connection lost after {:.1?} ({message}): {}",
                self.elapsed,
                outcome(self.sent)
            ),
            RpcErrorKind::NotConnected => {
                write!(f, "not connected ({message}): {}", outcome(self.sent))
            }
            RpcErrorKind::Closed => write!(f, "the client was closed: {}", outcome(self.sent)),
            RpcErrorKind::BadReply => write!(f, "not a valid reply: {message}"),
            RpcErrorKind::BadRequest => write!(f, "not a valid request: {message}"),
            RpcErrorKind::TooLarge => write!(f, "request too large: {message}"),
        }
    }
}

fn outcome(sent: bool) -> &'static str {
    if sent {
        "it may have been carried out"
    } else {
        "nothing was sent"
    }
}

impl std::error::Error for RpcError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_to_do_next() {
        let lost = RpcError::new(RpcErrorKind::Lost, "closed by the peer")
            .took(Duration::from_millis(1200));
        assert_eq!(
            lost.to_string(),
            "connection lost after 1.2s (closed by the peer): it may have been carried out"
        );
        let not_sent = RpcError::new(RpcErrorKind::NotConnected, "connection refused");
        assert_eq!(
            not_sent.to_string(),
            "not connected (connection refused): nothing was sent"
        );
    }

    #[test]
    fn a_servers_endless_text_is_cut_between_characters() {
        let long = "ä".repeat(LONGEST_MESSAGE);
        let error = RpcError::new(RpcErrorKind::Server { code: 1 }, &format!("x{long}"));
        assert_eq!(error.message().len(), LONGEST_MESSAGE - 1);
    }
}
