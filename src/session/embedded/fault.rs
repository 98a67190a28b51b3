//! What an error of the system means to a caller.

use std::io;

use rustix::io::Errno;

use super::super::error::{Effect, SessionError, SessionErrorKind};
use crate::{Error, Refusal};

/// An error of the system while it worked with `what` (a path as the caller gave it).
/// Nothing has happened, unless the caller of this says otherwise.
pub(super) fn io(what: &str, error: io::Error) -> SessionError {
    let kind = kind(&error);
    let text = match kind {
        SessionErrorKind::Invalid if is_escape(&error) => {
            format!("{what:?} leads out of the session's directory")
        }
        _ => format!("{what:?}: {error}"),
    };
    SessionError::new(kind, text)
        .with_effect(Effect::None)
        .with_source(error)
}

/// That is how `cap-std` says it: not allowed, and it was not the system that said so.
fn is_escape(error: &io::Error) -> bool {
    let denied = error.kind() == io::ErrorKind::PermissionDenied;
    denied && error.raw_os_error().is_none()
}

pub(super) fn kind(error: &io::Error) -> SessionErrorKind {
    if is_escape(error) {
        return SessionErrorKind::Invalid;
    }
    match Errno::from_io_error(error) {
        Some(Errno::NOENT) => SessionErrorKind::NotFound,
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => SessionErrorKind::Denied,
        Some(
            Errno::NAMETOOLONG
            | Errno::NOTDIR
            | Errno::ISDIR
            | Errno::LOOP
            | Errno::EXIST
            | Errno::NOTEMPTY
            | Errno::INVAL
            | Errno::NXIO
            | Errno::FBIG,
        ) => SessionErrorKind::Invalid,
        Some(
            Errno::NOSPC | Errno::DQUOT | Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN,
        ) => SessionErrorKind::Unavailable,
        _ => SessionErrorKind::Local,
    }
}

/// There is no such session here, or no more.
pub(super) fn no_session(id: &super::SessionId) -> SessionError {
    SessionError::new(
        SessionErrorKind::NotFound,
        format!("there is no session {id} here"),
    )
}

/// Nothing can be done here: no tokio runtime.
pub(super) fn no_runtime() -> SessionError {
    SessionError::new(SessionErrorKind::Local, "there is no tokio runtime here")
        .with_effect(Effect::None)
}

/// Work on a thread of its own that did not happen, or whose end is not known.
pub(super) fn offload(error: Error<SessionError>) -> SessionError {
    match error {
        Error::Operation { error, .. } => error,
        Error::Refused {
            reason: Refusal::NoRuntime,
            ..
        } => no_runtime(),
        Error::Refused { .. } => SessionError::new(
            SessionErrorKind::Unavailable,
            "too many calls wait for files; `file_queue` sets how many may",
        )
        .with_effect(Effect::None),
        error => SessionError::new(SessionErrorKind::Local, error.to_string()),
    }
}
