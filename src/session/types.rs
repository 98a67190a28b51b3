//! What goes to a provider, and what comes back.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Names and values by which sessions are found.
pub type Labels = BTreeMap<String, String>;

/// The provider's name for a session. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// Takes a name as it is.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({})", self.0)
    }
}

/// What a new session shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreateSession {
    /// The image, such as `code_latest`; `None` is the provider's default.
    pub image: Option<String>,
    /// By which it is found.
    pub labels: Labels,
}

impl CreateSession {
    /// A session of the provider's default image, without labels.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for an image.
    #[must_use]
    pub fn image(mut self, image: impl Into<String>) -> Self {
        self.image = Some(image.into());
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }
}

/// What is known of a session.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Its name.
    pub id: SessionId,
    /// Its state.
    pub status: SessionStatus,
    /// Where a person can look at it, if anywhere. Whoever has this address may be let in, so it
    /// does not show in `Debug`.
    pub resource_url: Option<String>,
    /// The provider's name for the request that told it.
    pub request_id: String,
}

impl SessionInfo {
    /// A session without a page to look at.
    pub fn new(id: SessionId, status: SessionStatus, request_id: impl Into<String>) -> Self {
        Self {
            id,
            status,
            resource_url: None,
            request_id: request_id.into(),
        }
    }
}

impl fmt::Debug for SessionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionInfo")
            .field("id", &self.id)
            .field("status", &self.status)
            .field("request_id", &self.request_id)
            .finish_non_exhaustive()
    }
}

/// The state of a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionStatus {
    /// It works.
    Running,
    /// It is about to pause.
    Pausing,
    /// It sleeps.
    Paused,
    /// It is about to run again.
    Resuming,
    /// It is about to end.
    Deleting,
    /// It has ended.
    Deleted,
    /// It has ended by itself, or by its provider.
    Finished,
    /// A state that this crate does not know, as the provider calls it.
    Other(Box<str>),
}

impl SessionStatus {
    /// Whether it has ended for good.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Deleted | Self::Finished)
    }
}

/// Which sessions to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListSessions {
    /// Those that carry all of these. None: all.
    pub labels: Labels,
    /// So many a page; `None` is the provider's default.
    pub page_size: Option<u32>,
    /// From where the page before ended.
    pub next: Option<String>,
}

impl ListSessions {
    /// All sessions, from the first.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Those that carry all of these labels.
    #[must_use]
    pub fn with_labels(labels: Labels) -> Self {
        Self {
            labels,
            ..Self::default()
        }
    }

    /// So many a page.
    #[must_use]
    pub fn page_size(mut self, sessions: u32) -> Self {
        self.page_size = Some(sessions);
        self
    }

    /// From where the page before ended.
    #[must_use]
    pub fn after(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

/// A page of sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<SessionInfo>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<String>,
    /// How many there are, if the provider says so.
    pub total: Option<u64>,
    /// The provider's name for the request.
    pub request_id: String,
}

/// A session that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deleted {
    /// The provider's name for the request.
    pub request_id: String,
    /// Whether it was gone before.
    pub already_gone: bool,
}

impl Deleted {
    /// It is gone now.
    pub fn now(request_id: impl Into<String>) -> Self {
        Self {
            request_id: request_id.into(),
            already_gone: false,
        }
    }

    /// It was gone before.
    pub fn before(request_id: impl Into<String>) -> Self {
        Self {
            request_id: request_id.into(),
            already_gone: true,
        }
    }
}

/// A line for the session's shell.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Command {
    /// The line.
    pub line: String,
    /// How long it may run; `None` is the provider's longest.
    pub time_limit: Option<Duration>,
    /// Where it runs; `None` is the session's directory.
    pub directory: Option<String>,
    /// What is added to its environment.
    pub environment: BTreeMap<String, String>,
    /// Whether it may be run again when nobody knows whether it has run. A provider does not
    /// look at it: it does each thing once.
    pub repeatable: bool,
}

impl Command {
    /// A line that runs in the session's directory.
    pub fn new(line: impl Into<String>) -> Self {
        Self {
            line: line.into(),
            time_limit: None,
            directory: None,
            environment: BTreeMap::new(),
            repeatable: false,
        }
    }

    /// How long it may run.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }

    /// Where it runs.
    #[must_use]
    pub fn directory(mut self, path: impl Into<String>) -> Self {
        self.directory = Some(path.into());
        self
    }

    /// Adds to its environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Says that it does no harm when it runs twice: it may be tried again after a failure that
    /// leaves open whether it has run.
    #[must_use]
    pub fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }
}

/// Without the values of its environment, which may be secret.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("line", &self.line)
            .field("time_limit", &self.time_limit)
            .field("directory", &self.directory)
            .field("environment", &self.environment.keys())
            .field("repeatable", &self.repeatable)
            .finish()
    }
}

impl<T: Into<String>> From<T> for Command {
    fn from(line: T) -> Self {
        Self::new(line)
    }
}

/// What a command answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandResult {
    /// The provider's name for the request.
    pub request_id: String,
    /// Whether it ran and ended well.
    pub success: bool,
    /// Why it did not; empty when it did.
    pub error_message: String,
    /// What it ended with; `None` when it did not end by itself.
    pub exit_code: Option<i32>,
    /// What it wrote: bytes, since nothing keeps a command to UTF-8.
    pub stdout: Vec<u8>,
    /// What it complained about.
    pub stderr: Vec<u8>,
    /// Whether more was written than is kept here.
    pub truncated: bool,
    /// The provider's name for what it did, if it says so.
    pub trace_id: Option<String>,
}

impl CommandResult {
    /// What it wrote as text; bytes that are not UTF-8 become U+FFFD.
    #[must_use]
    pub fn stdout_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }

    /// What it complained about, as text.
    #[must_use]
    pub fn stderr_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stderr)
    }
}

/// A piece of code.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Code {
    /// The code.
    pub source: String,
    /// Its language, such as `python`; the provider says which it knows.
    pub language: String,
    /// How long it may run; `None` is the provider's default.
    pub time_limit: Option<Duration>,
    /// Whether it may be run again when nobody knows whether it has run. A provider does not
    /// look at it: it does each thing once.
    pub repeatable: bool,
}

impl Code {
    /// Code in a language.
    pub fn new(language: impl Into<String>, source: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            language: language.into(),
            time_limit: None,
            repeatable: false,
        }
    }

    /// Code in Python.
    pub fn python(source: impl Into<String>) -> Self {
        Self::new("python", source)
    }

    /// How long it may run.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }

    /// Says that it does no harm when it runs twice: it may be tried again after a failure that
    /// leaves open whether it has run.
    #[must_use]
    pub fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }
}

/// What a piece of code answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodeResult {
    /// The provider's name for the request.
    pub request_id: String,
    /// Whether it ran and ended well.
    pub success: bool,
    /// Why it did not, as by its interpreter; empty when it did.
    pub error_message: String,
    /// What it left as values, as text, in order.
    pub results: Vec<String>,
    /// What it wrote.
    pub stdout: Vec<u8>,
    /// What it complained about.
    pub stderr: Vec<u8>,
    /// Whether more was written than is kept here.
    pub truncated: bool,
    /// The provider's name for what it did, if it says so.
    pub trace_id: Option<String>,
}

impl CodeResult {
    /// What it wrote as text; bytes that are not UTF-8 become U+FFFD.
    #[must_use]
    pub fn stdout_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }

    /// What it complained about, as text.
    #[must_use]
    pub fn stderr_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stderr)
    }
}

/// A part of a file, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileRange {
    /// Where it begins.
    pub offset: u64,
    /// How long it is; `None`: to the end.
    pub length: Option<u64>,
}

impl FileRange {
    /// The whole file.
    #[must_use]
    pub const fn whole() -> Self {
        Self {
            offset: 0,
            length: None,
        }
    }

    /// So many bytes from here.
    #[must_use]
    pub const fn new(offset: u64, length: u64) -> Self {
        Self {
            offset,
            length: Some(length),
        }
    }
}

/// What happens to what is in a file that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WriteMode {
    /// It is replaced. Default.
    #[default]
    Overwrite,
    /// It stays, and what is written follows.
    Append,
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// The provider's name for the (last) request.
    pub request_id: String,
    /// So many bytes.
    pub bytes: u64,
}

impl Written {
    /// So many bytes were written.
    pub fn new(bytes: u64, request_id: impl Into<String>) -> Self {
        Self {
            request_id: request_id.into(),
            bytes,
        }
    }
}

/// One thing in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Entry {
    /// Its name, without the path.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
}

impl Entry {
    /// A thing in a directory.
    pub fn new(name: impl Into<String>, kind: EntryKind) -> Self {
        Self {
            name: name.into(),
            kind,
        }
    }
}

/// What a thing in a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A file, or anything else.
    File,
}
