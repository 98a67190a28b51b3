//! What can go wrong with a command, and whether the server may have acted on it.

use std::fmt;
use std::time::Duration;

use ::redis::{ErrorKind, ServerErrorKind};

use super::job::Extent;
use crate::Error;

/// Why a command gave no value: what happened, whether the server may have done it, how long
/// it took, what to do.
///
/// Time limits and an open breaker are not in here: they are the crate's own
/// [`Error::TimedOut`] and [`Error::Refused`]. Where such a call had sent something, the
/// [`last`](Error::last) error in there is of the kind [`Unanswered`](RedisErrorKind::Unanswered);
/// [`may_have_acted`] looks at either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisError {
    kind: RedisErrorKind,
    effect: Effect,
    code: Option<Box<str>>,
    message: Box<str>,
    took: Duration,
    retry: bool,
    retry_after: Option<Duration>,
}

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RedisErrorKind {
    /// There is no connection, or it was lost.
    Connection,
    /// The server does not know this user or password, or does not let them do this.
    Auth,
    /// The server is there and cannot serve yet: it loads its data, runs a long script, has
    /// lost its master.
    Busy,
    /// The server takes no writes: it is a replica, or cannot save.
    ReadOnly,
    /// The key holds a value of another type than the command is for.
    WrongType,
    /// A script failed, or is not known.
    Script,
    /// Any other error that the server answered with.
    Server,
    /// What was received is not what a Redis server sends.
    Protocol,
    /// The reply is larger than the limit that was set.
    ReplyTooLarge,
    /// The reply does not fit the Rust type that was asked for.
    Conversion,
    /// It was sent, and the call ended before there was an answer.
    Unanswered,
    /// The command cannot be sent like this: it would change the state of a shared connection.
    Usage,
}

impl RedisErrorKind {
    pub(super) const ALL: [Self; 12] = [
        Self::Connection,
        Self::Auth,
        Self::Busy,
        Self::ReadOnly,
        Self::WrongType,
        Self::Script,
        Self::Server,
        Self::Protocol,
        Self::ReplyTooLarge,
        Self::Conversion,
        Self::Unanswered,
        Self::Usage,
    ];

    /// Whether it says that the server is away or unwell, rather than that it has answered.
    #[must_use]
    pub const fn is_outage(self) -> bool {
        matches!(
            self,
            Self::Connection | Self::Busy | Self::Protocol | Self::Unanswered
        )
    }
}

/// Whether the server has done what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Effect {
    /// No: nothing was sent.
    NotSent,
    /// No: the server has refused it.
    Refused,
    /// Yes, all of it: only the answer could not be used.
    Done,
    /// Nobody knows: it was sent and the answer was lost, or a part of it may have been done.
    Unknown,
}

/// Whether the server may have done what this call was for.
///
/// `false` is certain; `true` may also be that it has not.
///
/// # Examples
///
/// ```
/// use mainstay::redis::{RedisError, may_have_acted};
/// use mainstay::Error;
/// use std::time::Duration;
///
/// // It ended while it waited for a connection.
/// let error: Error<RedisError> = Error::timed_out(Duration::from_secs(2));
/// assert!(!may_have_acted(&error));
/// ```
#[must_use]
pub fn may_have_acted(error: &Error<RedisError>) -> bool {
    error.last().is_some_and(RedisError::may_have_acted)
}

impl RedisError {
    pub(super) fn new(kind: RedisErrorKind, effect: Effect, message: impl Into<Box<str>>) -> Self {
        Self {
            kind,
            effect,
            code: None,
            message: message.into(),
            took: Duration::ZERO,
            retry: false,
            retry_after: None,
        }
    }

    /// What the library reports for something that was sent.
    pub(super) fn answered(error: &::redis::RedisError, extent: Extent) -> Self {
        let (kind, effect) = classify(error, extent);
        Self {
            code: error.code().map(Into::into),
            ..Self::new(kind, effect, error.to_string())
        }
    }

    /// What the connection's set-up met: nothing of the caller's was sent.
    pub(super) fn unconnected(error: &::redis::RedisError, password: Option<&str>) -> Self {
        let answered = Self::answered(error, Extent::Command);
        // A server that does not know how to log in quotes the words, cut short.
        let told = answered.message.split(", with args beginning").next();
        let told = told.unwrap_or_default();
        let message = match password.filter(|password| !password.is_empty()) {
            Some(password) => told.replace(password, "***").into(),
            None => told.into(),
        };
        Self {
            effect: Effect::NotSent,
            message,
            ..answered
        }
    }

    pub(super) fn unanswered() -> Self {
        let message = "it was sent, and no answer came in time";
        Self::new(RedisErrorKind::Unanswered, Effect::Unknown, message)
    }

    pub(super) fn conversion(error: &impl fmt::Display) -> Self {
        Self::new(RedisErrorKind::Conversion, Effect::Done, error.to_string())
    }

    pub(super) fn usage(message: &'static str) -> Self {
        Self::new(RedisErrorKind::Usage, Effect::NotSent, message)
    }

    pub(super) fn with_effect(self, effect: Effect) -> Self {
        Self { effect, ..self }
    }

    pub(super) fn after(self, took: Duration) -> Self {
        Self { took, ..self }
    }

    pub(super) fn again_in(self, wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..self
        }
    }

    /// Decides whether this attempt may be repeated: what has certainly not been done always,
    /// anything else only where twice is as good as once.
    pub(super) fn judged(self, repeatable: bool) -> Self {
        let passing = matches!(self.kind, RedisErrorKind::Connection | RedisErrorKind::Busy);
        let safe = repeatable || matches!(self.effect, Effect::NotSent | Effect::Refused);
        Self {
            retry: passing && safe,
            ..self
        }
    }

    pub(super) fn is_to_be_retried(&self) -> bool {
        self.retry
    }

    /// What kind of failure it was.
    #[must_use]
    pub fn kind(&self) -> RedisErrorKind {
        self.kind
    }

    /// Whether the server has done what it was asked for.
    #[must_use]
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// Whether the server may have done it, or a part of it: `false` is certain.
    #[must_use]
    pub fn may_have_acted(&self) -> bool {
        matches!(self.effect, Effect::Done | Effect::Unknown)
    }

    /// The code that the server's answer began with, such as `WRONGTYPE`.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// What happened, in words. It never holds the password.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// How long the attempt took that ended so.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.took
    }

    /// When the next attempt to connect is due, where that is why nothing was sent.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match (self.kind, self.effect) {
            (_, Effect::Unknown) => {
                "look whether it was done before it is sent again, or make it repeatable"
            }
            (RedisErrorKind::Connection | RedisErrorKind::Unanswered, _) => {
                "try again later: the client reconnects by itself"
            }
            (RedisErrorKind::Auth, _) => "check user, password and access rules",
            (RedisErrorKind::Busy, _) => "try again later",
            (RedisErrorKind::ReadOnly, _) => "write to the master",
            (RedisErrorKind::WrongType, _) => "check which type the key holds",
            (RedisErrorKind::Script, _) => "check the script",
            (RedisErrorKind::Server, _) => "check the command and its arguments",
            (RedisErrorKind::Protocol, _) => "check that host and port are those of a Redis server",
            (RedisErrorKind::ReplyTooLarge, _) => "ask for less, or raise `max_reply`",
            (RedisErrorKind::Conversion, _) => "ask for the type that the command replies with",
            (RedisErrorKind::Usage, _) => "use a connection of its own: `exclusive`",
        }
    }
}

fn classify(error: &::redis::RedisError, extent: Extent) -> (RedisErrorKind, Effect) {
    use RedisErrorKind as K;
    let refused = match extent {
        Extent::Command => Effect::Refused,
        Extent::Script | Extent::Batch => Effect::Unknown,
    };
    match error.kind() {
        ErrorKind::AuthenticationFailed => (K::Auth, Effect::Refused),
        ErrorKind::Io => (K::Connection, Effect::Unknown),
        ErrorKind::Parse => (K::Protocol, Effect::Unknown),
        ErrorKind::UnexpectedReturnType => (K::Conversion, Effect::Done),
        ErrorKind::Client | ErrorKind::InvalidClientConfig => (K::Usage, Effect::NotSent),
        ErrorKind::Server(kind) => match kind {
            ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::TryAgain => (K::Busy, refused),
            ServerErrorKind::ReadOnly => (K::ReadOnly, refused),
            ServerErrorKind::NoPerm => (K::Auth, refused),
            ServerErrorKind::NoScript if extent == Extent::Script => (K::Script, Effect::Refused),
            ServerErrorKind::NoScript => (K::Script, refused),
            _ if is_of_a_script(error) => (K::Script, Effect::Unknown),
            _ => (K::Server, refused),
        },
        _ => match error.code() {
            Some("WRONGTYPE") => (K::WrongType, refused),
            Some("NOAUTH" | "WRONGPASS" | "DENIED") => (K::Auth, Effect::Refused),
            // A script may say so of its own accord, after it has done something.
            Some("BUSY") if extent == Extent::Script && is_of_the_server(error) => {
                (K::Busy, Effect::Refused)
            }
            Some("BUSY") => (K::Busy, refused),
            Some("MISCONF" | "NOREPLICAS") => (K::ReadOnly, refused),
            Some("UNKILLABLE" | "NOTBUSY") => (K::Script, refused),
            _ => (K::Server, refused),
        },
    }
}

fn is_of_the_server(error: &::redis::RedisError) -> bool {
    let detail = error.detail().unwrap_or_default();
    detail.starts_with("Redis is busy running a script")
}

fn is_of_a_script(error: &::redis::RedisError) -> bool {
    let detail = error.detail().unwrap_or_default();
    detail.contains("user_script") || detail.contains("compiling script")
}

impl fmt::Display for RedisError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.effect == Effect::Unknown {
            f.write_str("; it may have been done")?;
        }
        Ok(())
    }
}

impl std::error::Error for RedisError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &str) -> ::redis::RedisError {
        let (code, detail) = line.split_once(' ').unwrap();
        ::redis::make_extension_error(code.to_owned(), Some(detail.to_owned()))
    }

    #[test]
    fn a_server_that_says_the_password_aloud_is_not_quoted() {
        let echoed = error("DENIED what is 'hunter2'?");
        let error = RedisError::unconnected(&echoed, Some("hunter2"));
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        assert!(error.message().contains("what is '***'?"), "{error}");
        for none in [None, Some("")] {
            let error = RedisError::unconnected(&echoed, none);
            assert!(error.message().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn what_was_not_done_is_retried_and_what_may_have_been_only_where_it_may_be_repeated() {
        let busy = |extent| {
            let error = error("BUSY Redis is busy running a script. Call SCRIPT KILL.");
            RedisError::answered(&error, extent).judged(false)
        };
        assert!(busy(Extent::Command).is_to_be_retried());
        assert!(busy(Extent::Script).is_to_be_retried());
        assert!(!busy(Extent::Batch).is_to_be_retried());
        let lost = RedisError::new(RedisErrorKind::Connection, Effect::Unknown, "lost");
        assert!(!lost.clone().judged(false).is_to_be_retried());
        assert!(lost.judged(true).is_to_be_retried());
        // What a script says itself may come after what it did.
        let own = RedisError::answered(&error("BUSY somebody has it"), Extent::Script);
        assert!(!own.judged(false).is_to_be_retried());
        // An answer stays the same however often it is asked for.
        let wrong = RedisError::answered(&error("WRONGTYPE no"), Extent::Command);
        assert!(!wrong.judged(true).is_to_be_retried());
    }

    #[test]
    fn a_server_that_cuts_the_password_short_is_not_quoted_either() {
        let password = "hunter2".repeat(30);
        let echoed = error(&format!(
            "ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' '{}'",
            &password[..100]
        ));
        let error = RedisError::unconnected(&echoed, Some(&password));
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        assert!(error.message().contains("unknown command 'HELLO'"));
    }

    #[test]
    fn each_code_has_its_kind() {
        let kind = |line: &str| {
            let error = RedisError::answered(&error(line), Extent::Command);
            (error.kind(), error.may_have_acted())
        };
        assert_eq!(kind("WRONGTYPE x"), (RedisErrorKind::WrongType, false));
        assert_eq!(kind("NOAUTH x"), (RedisErrorKind::Auth, false));
        assert_eq!(kind("MISCONF x"), (RedisErrorKind::ReadOnly, false));
        assert_eq!(kind("BUSYKEY x"), (RedisErrorKind::Server, false));
        assert_eq!(kind("OOM x"), (RedisErrorKind::Server, false));
    }

    /// By the library's own kinds: what it is, and whether the server may have done it.
    #[test]
    fn each_kind_of_the_library_has_its_kind_and_effect() {
        use RedisErrorKind as K;
        use ServerErrorKind as S;
        let all = [
            (ErrorKind::AuthenticationFailed, K::Auth, Effect::Refused),
            (ErrorKind::Io, K::Connection, Effect::Unknown),
            (ErrorKind::Parse, K::Protocol, Effect::Unknown),
            (ErrorKind::UnexpectedReturnType, K::Conversion, Effect::Done),
            (ErrorKind::Client, K::Usage, Effect::NotSent),
            (ErrorKind::InvalidClientConfig, K::Usage, Effect::NotSent),
            (ErrorKind::Server(S::BusyLoading), K::Busy, Effect::Refused),
            (ErrorKind::Server(S::MasterDown), K::Busy, Effect::Refused),
            (ErrorKind::Server(S::ClusterDown), K::Busy, Effect::Refused),
            (ErrorKind::Server(S::TryAgain), K::Busy, Effect::Refused),
            (ErrorKind::Server(S::ReadOnly), K::ReadOnly, Effect::Refused),
            (ErrorKind::Server(S::NoPerm), K::Auth, Effect::Refused),
            (ErrorKind::Server(S::NoScript), K::Script, Effect::Refused),
            (ErrorKind::Server(S::ExecAbort), K::Server, Effect::Refused),
        ];
        for (library, kind, effect) in all {
            let error = ::redis::RedisError::from((library, "as told"));
            let own = RedisError::answered(&error, Extent::Command);
            assert_eq!((own.kind(), own.effect()), (kind, effect), "{library:?}");
        }
        // A script that is not known has not run; one in a batch says nothing of the others.
        let unknown = (ErrorKind::Server(S::NoScript), "as told");
        let effect = |extent| RedisError::answered(&unknown.into(), extent).effect();
        assert_eq!(effect(Extent::Script), Effect::Refused);
        assert_eq!(effect(Extent::Batch), Effect::Unknown);
    }

    #[test]
    fn every_error_says_what_to_do_and_whether_it_may_have_been_done() {
        let mut advices = std::collections::HashSet::new();
        for kind in RedisErrorKind::ALL {
            let error = RedisError::new(kind, Effect::Refused, "no");
            assert_eq!(error.to_string(), "no");
            advices.insert(error.advice());
            let lost = error.with_effect(Effect::Unknown);
            assert_eq!(lost.to_string(), "no; it may have been done");
            assert!(lost.advice().starts_with("look whether it was done"));
        }
        // What was not sent and what had no answer are both tried again later.
        assert_eq!(advices.len(), RedisErrorKind::ALL.len() - 1);
    }
}
