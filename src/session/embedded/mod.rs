//! Sessions on this machine: a private directory each, and processes in it.
//!
//! Which sessions there are is decided in `table`; `inner` makes and deletes them; `directory`
//! and `leftover` see to it that nothing stays; `files` keeps paths inside; `run` and `code`
//! start processes.

mod builder;
mod code;
mod directory;
mod fault;
mod files;
mod inner;
mod leftover;
mod live;
mod path;
mod run;
mod serve;
mod table;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

pub use builder::EmbeddedBuilder;

use super::error::SessionError;
#[cfg(doc)]
use super::error::SessionErrorKind;
use super::types::{EntryKind, SessionId};
use crate::Offload;
use builder::Settings;
use inner::{Inner, Visit};

/// Has sessions on this machine: nothing to install, and no network.
///
/// A session is a private directory (mode 0700) and processes in it. A clone is the same
/// provider. Sessions belong to one provider: they are not shared between programs, and end
/// with it.
///
/// **This is no sandbox.** A command runs as the user of this program and sees what that user
/// sees: the machine's own files, network and processes. The file calls are kept inside of the
/// session's directory, so that a path which comes from elsewhere (a model, a request) does no
/// harm; a command line is trusted like code of your own.
///
/// Defaults, in one place:
///
/// | setting | default | why |
/// |---|---|---|
/// | `root` | the system's directory for temporary files | what is left after a crash is cleaned there |
/// | `max_sessions` | 100 | with two descriptors each it fits the usual limit of 1024 |
/// | `max_commands` of a session | 8 | a few at once; more would only share the processors |
/// | `command_queue` of a session | 64 | absorbs a burst; a longer queue is only latency |
/// | `time_limit` | 60 s | the longest a command may run, and what it has if it says nothing |
/// | `grace` | 1 s | enough to write a last line |
/// | `output_limit` | 1 MiB of each stream | more is a file, not a message |
/// | `file_limit` | 16 MiB a call | held in memory; longer files are read in parts |
/// | `max_entries` | 10 000 a call | more is no list that anybody reads |
/// | `file_threads` | 4 | a disk does not get faster by more |
/// | `file_queue` | 1024 | a thousand small files at once are no mistake |
/// | `idle_timeout` | none | only you know when a session is forgotten |
/// | `path` | `/usr/local/sbin` to `/bin` | the same wherever the program was started |
/// | `env` | none | |
///
/// # Commands
///
/// They run by `/bin/sh -c` in the session's directory, each in a process group of its own,
/// which ends with it. The environment is made anew, and nothing of this program's is in it:
/// `HOME` (the session's directory), `TMPDIR` (`tmp` in it), `PATH`, `LANG=C.UTF-8`, what
/// [`env`](EmbeddedBuilder::env) and the command add, and `MAINSTAY_SESSION`, a mark. Standard
/// input is empty. A command whose time is over is asked to end, then killed, and its result
/// has what it wrote until then. Of output beyond the limit the beginning and the end are kept,
/// with a line between them, and the result says so.
///
/// A process that has left its group (`setsid`, a daemon) goes on until the session is deleted.
/// It is then found by its mark, on Linux only, and unless it has cleared its environment.
///
/// # Code
///
/// `python` (also `python3`), `shell` (`sh`), `bash` and `javascript` (`js`, `node`), when the
/// interpreter is in `PATH`; else the error is
/// [`Unsupported`](SessionErrorKind::Unsupported) and says what is missing. Each piece is a
/// program of its own; nothing but files stays from one to the next. The value of Python's last
/// line, if it is an expression and not `None`, is the result, as `repr` shows it.
///
/// # Files
///
/// A path begins in the session's directory, also an absolute one: `/tmp/a` is `tmp/a` there,
/// which a command finds as `$HOME/tmp/a` or `$TMPDIR/a`. A path that leads out, by `..` or by a
/// link, is [`Invalid`](SessionErrorKind::Invalid). Only regular files are read and written.
/// Writing makes the directories that are missing. To overwrite is atomic: others see the old
/// file or the new one, a link to a file leads to the new one, and an error has changed nothing.
/// To append is not: after an error whose effect is [`Partial`](super::Effect::Partial) a part
/// may be there.
///
/// # The end
///
/// Deleting a session kills what runs in it and removes its directory, whatever is in there and
/// whatever its permissions are; calls that work with it fail. Dropping the last handle does the
/// same for all, before it returns, on the thread that drops: [`close`](Self::close) does it
/// without blocking. When a program is killed, its directory `mainstay-sessions-*` stays in the
/// root, and so may processes; it is locked as long as its program lives, and
/// [`remove_leftovers`](Self::remove_leftovers) removes those that are not.
///
/// # Cancel safety
///
/// A call can be dropped at any point. A session that was being made is removed again; a
/// deletion that has begun goes on in a task; a command's group is killed and reaped; file work
/// that has begun ends on its thread, and is atomic where it says so.
///
/// # Examples
///
/// ```
/// use mainstay::session::{CreateSession, EmbeddedProvider, FileRange, SessionProvider, WriteMode};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let provider = EmbeddedProvider::builder().build()?;
/// let session = provider.create(&CreateSession::new().label("for", "me")).await?.id;
/// provider.write_file(&session, "/tmp/in.txt", b"hello", WriteMode::Overwrite).await?;
/// let result = provider.run(&session, &"tr a-z A-Z < tmp/in.txt > out.txt; echo done".into()).await?;
/// assert_eq!(result.stdout_text(), "done\n");
/// let out = provider.read_file(&session, "out.txt", FileRange::whole()).await?;
/// assert_eq!(out, b"HELLO");
/// assert!(!provider.delete(&session).await?.already_gone);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct EmbeddedProvider {
    owner: Arc<Owner>,
}

/// What all handles share; calls and tasks under way hold what is in it, but not this.
#[derive(Debug)]
struct Owner(Arc<Inner>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// What is known of a file or a directory in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileInfo {
    /// Its name, without the path; empty for the session's directory.
    pub name: String,
    /// What it is; for a link, what it leads to.
    pub kind: EntryKind,
    /// Whether it is a regular file, which can be read.
    pub is_regular: bool,
    /// Whether it is a link, which leads to what is told here.
    pub is_link: bool,
    /// Its size in bytes.
    pub size: u64,
    /// Its permissions, as Unix has them.
    pub mode: u32,
    /// When it was written last.
    pub modified: Option<SystemTime>,
    /// When it was made, where the system keeps that.
    pub created: Option<SystemTime>,
}

/// What a search has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoundFiles {
    /// The paths, sorted, each with the path of the search in front.
    pub paths: Vec<String>,
    /// Whether it was ended before it had seen all, by
    /// [`max_entries`](EmbeddedBuilder::max_entries).
    pub truncated: bool,
}

impl EmbeddedProvider {
    /// A provider with every default.
    pub fn builder() -> EmbeddedBuilder {
        EmbeddedBuilder::new()
    }

    fn new(settings: Settings, files: Offload, housekeeping: Offload) -> Self {
        let inner = Inner::new(settings, files, housekeeping);
        let owner = Arc::new(Owner(Arc::new(inner)));
        Self { owner }
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.owner.0
    }

    fn visit(&self, id: &SessionId) -> Result<Arc<Visit>, SessionError> {
        Visit::begin(self.inner(), id).map(Arc::new)
    }

    /// How many sessions there are, with those that are being deleted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner().sessions().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The session's directory on this machine, while there is the session.
    #[must_use]
    pub fn directory(&self, id: &SessionId) -> Option<PathBuf> {
        let visit = self.visit(id).ok()?;
        Some(visit.live.home.path.clone())
    }

    /// Tells what a file or a directory is. A link is followed, inside of the session.
    ///
    /// # Errors
    ///
    /// [`NotFound`](SessionErrorKind::NotFound), or as for every file call.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn file_info(&self, id: &SessionId, path: &str) -> Result<FileInfo, SessionError> {
        let path = path.to_owned();
        let visit = self.visit(id)?;
        visit.with_files(move |files| files.info(&path)).await
    }

    /// Makes a directory, and those above it that are missing. One that is there is a success.
    ///
    /// # Errors
    ///
    /// As for every file call.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped the directory may be made all the same.
    pub async fn create_directory(&self, id: &SessionId, path: &str) -> Result<(), SessionError> {
        let path = path.to_owned();
        let visit = self.visit(id)?;
        visit
            .with_files(move |files| files.create_directory(&path))
            .await
    }

    /// Removes a file, a link, or a directory with all in it.
    ///
    /// # Errors
    ///
    /// [`NotFound`](SessionErrorKind::NotFound) when there is none, or as for every file call.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped it may be removed all the same: wholly, or not at all.
    pub async fn remove(&self, id: &SessionId, path: &str) -> Result<(), SessionError> {
        let path = path.to_owned();
        let visit = self.visit(id)?;
        visit.with_files(move |files| files.remove(&path)).await
    }

    /// Moves a file or a directory to another name, and makes the directories above it that are
    /// missing. A file that has the name is replaced.
    ///
    /// # Errors
    ///
    /// [`NotFound`](SessionErrorKind::NotFound) when there is none, or as for every file call.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped it may be moved all the same: wholly, or not at all.
    pub async fn move_file(
        &self,
        id: &SessionId,
        from: &str,
        to: &str,
    ) -> Result<(), SessionError> {
        let (from, to) = (from.to_owned(), to.to_owned());
        let visit = self.visit(id)?;
        visit
            .with_files(move |files| files.move_file(&from, &to))
            .await
    }

    /// Finds what has a name as `pattern` says (`*`: any characters, `?`: one), in a directory
    /// and in those below it. Links are found, and not followed.
    ///
    /// # Errors
    ///
    /// As for every file call. A directory below that cannot be read is left out.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn search_files(
        &self,
        id: &SessionId,
        path: &str,
        pattern: &str,
    ) -> Result<FoundFiles, SessionError> {
        let (path, pattern) = (path.to_owned(), pattern.to_owned());
        let visit = self.visit(id)?;
        visit
            .with_files(move |files| files.search(&path, &pattern))
            .await
    }

    /// Makes no more sessions, deletes all, and removes the provider's directory.
    ///
    /// # Errors
    ///
    /// The first session's that could not be removed. It can be called again.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped the deletions go on; the directory is removed with the last handle.
    pub async fn close(&self) -> Result<(), SessionError> {
        self.inner().close().await
    }

    /// Removes what providers of programs that were killed have left in this provider's
    /// [`root`](EmbeddedBuilder::root): their directories, and processes in them. How many
    /// providers' that were. What belongs to a program that lives, or to another user, stays.
    ///
    /// # Errors
    ///
    /// [`Local`](SessionErrorKind::Local) and the like, for the first that could not be removed;
    /// the others are removed all the same.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped it may go on.
    pub async fn remove_leftovers(&self) -> Result<usize, SessionError> {
        let parent = self.inner().parent();
        let work = move || {
            let removed = directory::remove_leftovers(&parent);
            removed.map_err(|error| fault::io(&parent.to_string_lossy(), error))
        };
        let removed = self.inner().offload.run(work).await;
        removed.map_err(fault::offload)
    }
}
