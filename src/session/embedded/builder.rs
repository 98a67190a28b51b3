//! Settings of the embedded provider, and their checks.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::EmbeddedProvider;
use crate::{Bulkhead, ConfigError, Offload};

/// What `PATH` is unless it is set.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Threads that make and remove directories. More would only wait for the same disk.
const HOUSEKEEPERS: u32 = 4;

/// Builds an [`EmbeddedProvider`]; its text has the table of defaults.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct EmbeddedBuilder {
    settings: Settings,
    file_threads: u32,
    file_queue: usize,
}

/// What a provider is told.
#[derive(Clone)]
pub(super) struct Settings {
    /// `None`: where the system has its temporary files.
    pub(super) root: Option<PathBuf>,
    pub(super) max_sessions: usize,
    pub(super) commands: u32,
    pub(super) command_queue: usize,
    pub(super) time_limit: Duration,
    pub(super) grace: Duration,
    pub(super) output_limit: usize,
    pub(super) file_limit: u64,
    pub(super) max_entries: usize,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) path: String,
    pub(super) environment: BTreeMap<String, String>,
}

impl EmbeddedBuilder {
    pub(super) fn new() -> Self {
        Self {
            settings: Settings {
                root: None,
                max_sessions: 100,
                commands: 8,
                command_queue: 64,
                time_limit: Duration::from_secs(60),
                grace: Duration::from_secs(1),
                output_limit: 1 << 20,
                file_limit: 16 << 20,
                max_entries: 10_000,
                idle_timeout: None,
                path: PATH.to_owned(),
                environment: BTreeMap::new(),
            },
            file_threads: 4,
            file_queue: 1024,
        }
    }

    /// The directory in which the provider makes its own. It must exist when the first session
    /// is made. Default: the system's for temporary files.
    pub fn root(mut self, directory: impl Into<PathBuf>) -> Self {
        self.settings.root = Some(directory.into());
        self
    }

    /// How many sessions there may be at once, with those being made and deleted. Default 100,
    /// at least 1.
    pub fn max_sessions(mut self, sessions: usize) -> Self {
        self.settings.max_sessions = sessions;
        self
    }

    /// How many commands and pieces of code run in one session at once; more wait. Default 8,
    /// at least 1.
    pub fn max_commands(mut self, commands: u32) -> Self {
        self.settings.commands = commands;
        self
    }

    /// How many commands of one session may wait; more are refused as
    /// [`Throttled`](super::super::SessionErrorKind::Throttled). Default 64.
    pub fn command_queue(mut self, commands: usize) -> Self {
        self.settings.command_queue = commands;
        self
    }

    /// The longest that a command or a piece of code may run; a longer limit of its own is cut
    /// to it. Default 60 s, more than zero.
    pub fn time_limit(mut self, span: Duration) -> Self {
        self.settings.time_limit = span;
        self
    }

    /// How long a command whose time is over has to end by itself (SIGTERM) before it is
    /// killed. Default 1 s; zero kills at once.
    pub fn grace(mut self, span: Duration) -> Self {
        self.settings.grace = span;
        self
    }

    /// How many bytes of each of its two streams a command's result keeps. Default 1 MiB.
    pub fn output_limit(mut self, bytes: usize) -> Self {
        self.settings.output_limit = bytes;
        self
    }

    /// How many bytes one call reads from a file or writes to it. Default 16 MiB, at least 1.
    pub fn file_limit(mut self, bytes: u64) -> Self {
        self.settings.file_limit = bytes;
        self
    }

    /// How many entries of directories one call lists, or looks at in a search. Default
    /// 10 000, at least 1.
    pub fn max_entries(mut self, entries: usize) -> Self {
        self.settings.max_entries = entries;
        self
    }

    /// How many threads work with files. Default 4, at least 1.
    pub fn file_threads(mut self, threads: u32) -> Self {
        self.file_threads = threads;
        self
    }

    /// How many calls may wait for such a thread; more are refused as
    /// [`Unavailable`](super::super::SessionErrorKind::Unavailable). Default 1024.
    pub fn file_queue(mut self, calls: usize) -> Self {
        self.file_queue = calls;
        self
    }

    /// Deletes a session that nobody has used for so long: no call has begun, ended or gone
    /// on in it. Default: never. More than zero.
    pub fn idle_timeout(mut self, span: Duration) -> Self {
        self.settings.idle_timeout = Some(span);
        self
    }

    /// What `PATH` is in a session, and where interpreters are looked for.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.settings.path = path.into();
        self
    }

    /// Adds to the environment of all commands. A command's own goes before it.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let environment = &mut self.settings.environment;
        environment.insert(name.into(), value.into());
        self
    }

    /// Checks every setting. Nothing is made before the first session is.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for a limit of zero where that makes no sense: see each setting.
    pub fn build(self) -> Result<EmbeddedProvider, ConfigError> {
        let settings = self.settings;
        at_least_one("max_sessions", settings.max_sessions as u64)?;
        at_least_one("max_commands", settings.commands.into())?;
        at_least_one("file_limit", settings.file_limit)?;
        at_least_one("max_entries", settings.max_entries as u64)?;
        at_least_one("file_threads", self.file_threads.into())?;
        more_than_zero("time_limit", settings.time_limit)?;
        more_than_zero(
            "idle_timeout",
            settings.idle_timeout.unwrap_or(Duration::MAX),
        )?;
        let files = Offload::builder()
            .threads(self.file_threads)
            .queue(self.file_queue)
            .build()?;
        // Whoever makes or deletes a session has a seat: none finds the queue full.
        let housekeeping = Offload::builder()
            .threads(HOUSEKEEPERS)
            .queue(settings.max_sessions.saturating_add(1))
            .build()?;
        settings.bulkhead()?;
        Ok(EmbeddedProvider::new(settings, files, housekeeping))
    }
}

/// Without the values of the environment, which may be secret.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("root", &self.root)
            .field("max_sessions", &self.max_sessions)
            .field("commands", &self.commands)
            .field("command_queue", &self.command_queue)
            .field("time_limit", &self.time_limit)
            .field("grace", &self.grace)
            .field("output_limit", &self.output_limit)
            .field("file_limit", &self.file_limit)
            .field("max_entries", &self.max_entries)
            .field("idle_timeout", &self.idle_timeout)
            .field("path", &self.path)
            .field("environment", &self.environment.keys())
            .finish()
    }
}

impl Settings {
    /// A session's own limit of commands.
    pub(super) fn bulkhead(&self) -> Result<Bulkhead, ConfigError> {
        Bulkhead::builder()
            .max_concurrent(self.commands)
            .max_queue(self.command_queue)
            .build()
    }
}

fn at_least_one(field: &'static str, value: u64) -> Result<(), ConfigError> {
    match value {
        0 => Err(ConfigError::new(field, value, "at least 1")),
        _ => Ok(()),
    }
}

fn more_than_zero(field: &'static str, value: Duration) -> Result<(), ConfigError> {
    match value {
        Duration::ZERO => Err(ConfigError::new(field, value, "more than zero")),
        _ => Ok(()),
    }
}
