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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use SessionErrorKind as Kind;

    #[test]
    fn each_error_of_the_system_has_its_kind_and_names_what_it_was_about() {
        let all = [
            (Errno::NOENT, Kind::NotFound),
            (Errno::ACCESS, Kind::Denied),
            (Errno::ROFS, Kind::Denied),
            (Errno::ISDIR, Kind::Invalid),
            (Errno::NAMETOOLONG, Kind::Invalid),
            (Errno::NOSPC, Kind::Unavailable),
            (Errno::MFILE, Kind::Unavailable),
            (Errno::IO, Kind::Local),
        ];
        for (errno, kind) in all {
            let error = io("a/b", errno.into());
            assert_eq!((error.kind(), error.effect()), (kind, Effect::None));
            assert!(error.to_string().contains("\"a/b\": "), "{error}");
        }
    }

    #[test]
    fn work_that_was_not_done_says_why_and_what_to_set() {
        let own = SessionError::new(Kind::Denied, "no");
        assert_eq!(offload(Error::operation(own)).kind(), Kind::Denied);
        let nowhere = offload(Error::refused(Refusal::NoRuntime));
        assert_eq!(
            (nowhere.kind(), nowhere.effect()),
            (Kind::Local, Effect::None)
        );
        let full = offload(Error::refused(Refusal::bulkhead_full(Duration::ZERO)));
        assert_eq!(
            (full.kind(), full.effect()),
            (Kind::Unavailable, Effect::None)
        );
        assert!(full.to_string().contains("`file_queue`"), "{full}");
        let panicked = offload(Error::panicked("the disk is on fire"));
        assert_eq!(
            (panicked.kind(), panicked.effect()),
            (Kind::Local, Effect::Unknown)
        );
        assert!(panicked.to_string().contains("on fire"), "{panicked}");
    }
}
