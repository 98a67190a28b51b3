//! Why a provider did not do what it was told.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why a provider did not do what it was told, and whether it may have happened all the same.
///
/// As text it is one line for a log:
///
/// ```text
/// throttled: too many requests (Throttling.User, status 429, request 7F3A; try again in 2s)
/// ```
///
/// It never holds an API key.
#[derive(Clone, Debug)]
pub struct SessionError {
    kind: SessionErrorKind,
    effect: Effect,
    message: Box<str>,
    code: Option<Box<str>>,
    status: Option<u16>,
    request_id: Option<Box<str>>,
    retry_after: Option<Duration>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// The kinds of failure, by what a caller can do about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionErrorKind {
    /// There is no such session, or file.
    NotFound,
    /// The provider wants fewer calls; [`SessionError::retry_after`] may say when.
    Throttled,
    /// The provider is not able to at the moment (a status of 5xx, no room).
    Unavailable,
    /// The key is missing, wrong, or not allowed to.
    Denied,
    /// The request makes no sense: it will not get better by being repeated.
    Invalid,
    /// This provider cannot do that, such as run a language whose interpreter is missing.
    Unsupported,
    /// The tool inside of the session failed.
    Tool,
    /// There was no connection, or it broke.
    Connection,
    /// The answer could not be understood: not JSON, of a wrong shape, too long.
    Protocol,
    /// The machine that this runs on failed: a file, a process.
    Local,
}

/// Whether what was asked for may have happened although there is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It has not happened: it may be asked for again.
    None,
    /// Nobody knows: the reply was lost.
    Unknown,
    /// A part of it has happened.
    Partial,
}

impl SessionError {
    /// A failure of this kind, in a few words. Its effect is [`Effect::Unknown`] for
    /// [`Unavailable`](SessionErrorKind::Unavailable), [`Tool`](SessionErrorKind::Tool),
    /// [`Connection`](SessionErrorKind::Connection), [`Protocol`](SessionErrorKind::Protocol) and
    /// [`Local`](SessionErrorKind::Local), else [`Effect::None`].
    pub fn new(kind: SessionErrorKind, message: impl Into<Box<str>>) -> Self {
        Self {
            kind,
            effect: kind.usual_effect(),
            message: message.into(),
            code: None,
            status: None,
            request_id: None,
            retry_after: None,
            source: None,
        }
    }

    /// Says whether it may have happened.
    #[must_use]
    pub fn with_effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    /// Adds the provider's code, such as `InvalidMcpSession.NotFound`.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<Box<str>>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Adds the status of the HTTP reply.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Adds the provider's name for the request.
    #[must_use]
    pub fn with_request_id(mut self, id: impl Into<Box<str>>) -> Self {
        self.request_id = Some(id.into());
        self
    }

    /// Adds when to come back.
    #[must_use]
    pub fn with_retry_after(mut self, span: Duration) -> Self {
        self.retry_after = Some(span);
        self
    }

    /// Adds what lies below. Its text must hold no secret.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// What kind of failure it is.
    #[must_use]
    pub const fn kind(&self) -> SessionErrorKind {
        self.kind
    }

    /// Whether what was asked for may have happened.
    #[must_use]
    pub const fn effect(&self) -> Effect {
        self.effect
    }

    /// What happened, in the provider's words.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The provider's code.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The status of the HTTP reply.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        self.status
    }

    /// The provider's name for the request: what its operators ask for.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// When to come back, if the provider says so.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl SessionErrorKind {
    const fn usual_effect(self) -> Effect {
        match self {
            Self::Unavailable | Self::Tool | Self::Connection | Self::Protocol | Self::Local => {
                Effect::Unknown
            }
            _ => Effect::None,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::NotFound => "not found",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Denied => "denied",
            Self::Invalid => "invalid request",
            Self::Unsupported => "not supported",
            Self::Tool => "the tool failed",
            Self::Connection => "connection failed",
            Self::Protocol => "unreadable answer",
            Self::Local => "this machine failed",
        }
    }
}

impl fmt::Display for SessionErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)?;
        let facts = [
            self.code.as_deref().map(str::to_owned),
            self.status.map(|status| format!("status {status}")),
            self.request_id.as_deref().map(|id| format!("request {id}")),
        ];
        let facts: Vec<String> = facts.into_iter().flatten().collect();
        let facts = facts.join(", ");
        match (facts.is_empty(), self.retry_after) {
            (true, None) => Ok(()),
            (true, Some(span)) => write!(f, " (try again in {span:?})"),
            (false, None) => write!(f, " ({facts})"),
            (false, Some(span)) => write!(f, " ({facts}; try again in {span:?})"),
        }
    }
}

impl StdError for SessionError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_text_it_is_one_line_with_all_that_is_known() {
        let error = SessionError::new(SessionErrorKind::Throttled, "too many requests");
        assert_eq!(error.to_string(), "throttled: too many requests");
        let error = error
            .with_code("Throttling.User")
            .with_status(429)
            .with_request_id("7F3A")
            .with_retry_after(Duration::from_secs(2));
        assert_eq!(
            error.to_string(),
            "throttled: too many requests (Throttling.User, status 429, request 7F3A; try again in 2s)"
        );
    }

    #[test]
    fn every_kind_has_words_of_its_own_and_says_when_to_come_back() {
        use SessionErrorKind as Kind;
        let all = [
            (Kind::NotFound, "not found"),
            (Kind::Throttled, "throttled"),
            (Kind::Unavailable, "unavailable"),
            (Kind::Denied, "denied"),
            (Kind::Invalid, "invalid request"),
            (Kind::Unsupported, "not supported"),
            (Kind::Tool, "the tool failed"),
            (Kind::Connection, "connection failed"),
            (Kind::Protocol, "unreadable answer"),
            (Kind::Local, "this machine failed"),
        ];
        for (kind, words) in all {
            let error = SessionError::new(kind, "so");
            assert_eq!(error.to_string(), format!("{words}: so"));
            let later = error.with_retry_after(Duration::from_secs(2));
            assert_eq!(later.to_string(), format!("{words}: so (try again in 2s)"));
        }
    }

    #[test]
    fn it_holds_what_it_was_given() {
        let error = SessionError::new(SessionErrorKind::Denied, "no such key");
        assert_eq!(error.kind(), SessionErrorKind::Denied);
        assert_eq!((error.message(), error.code()), ("no such key", None));
        assert_eq!((error.status(), error.request_id()), (None, None));
        assert!(error.retry_after().is_none() && error.source().is_none());
        let error = error
            .with_code("Forbidden")
            .with_status(403)
            .with_request_id("7F3A")
            .with_retry_after(Duration::from_secs(2))
            .with_effect(Effect::Partial)
            .with_source(fmt::Error);
        assert_eq!(
            (error.code(), error.status()),
            (Some("Forbidden"), Some(403))
        );
        assert_eq!(error.request_id(), Some("7F3A"));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
        assert_eq!(error.effect(), Effect::Partial);
        let below = error.source().map(ToString::to_string);
        assert_eq!(below, Some(fmt::Error.to_string()));
    }

    #[test]
    fn what_was_refused_has_not_happened_and_of_the_rest_nobody_knows() {
        use SessionErrorKind as Kind;
        let effect = |kind| SessionError::new(kind, "").effect();
        for kind in [
            Kind::Unavailable,
            Kind::Tool,
            Kind::Connection,
            Kind::Protocol,
            Kind::Local,
        ] {
            assert_eq!(effect(kind), Effect::Unknown, "{kind}");
        }
        for kind in [
            Kind::NotFound,
            Kind::Throttled,
            Kind::Denied,
            Kind::Invalid,
            Kind::Unsupported,
        ] {
            assert_eq!(effect(kind), Effect::None, "{kind}");
        }
    }
}
