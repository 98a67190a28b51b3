//! Child processes that cannot hang, leak or outlive their owner.
//!
//! A [`Command`] says what to run and within which limits. [`Command::run`] waits for its end
//! and yields an [`Output`]; [`Command::spawn`] yields a [`Process`], whose output can be read
//! while it runs, and which can be paused, resumed and cancelled, also from elsewhere by its
//! [`ProcessHandle`]. A [`ProcessPool`] limits how many there are, and ends them together.
//!
//! # Groups
//!
//! Each child leads a process group of its own, and every signal goes to the whole group. When
//! its leader has ended and the pipes are free (or [`Command::pipe_grace`] is over), what is
//! left of the group is killed, whatever way the leader ended: nothing stays behind. A program
//! that wants to stay (a daemon) must leave the group, by `setsid`.
//!
//! A group is signalled only while its leader is not reaped: until then the system gives its
//! number to nobody else, so a signal never hits a stranger.
//!
//! # Runtime
//!
//! It needs a tokio runtime with I/O and time enabled. Dropping a [`Process`] needs none.
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//! use mainstay::process::{Command, End};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let output = Command::shell("echo one; sleep 60")
//!     .time_limit(Duration::from_millis(200))
//!     .run()
//!     .await?;
//! assert!(matches!(output.end, End::TimedOut { .. }));
//! assert_eq!(output.stdout.text(), "one\n");
//! # Ok(())
//! # }
//! ```

mod capture;
mod command;
mod error;
mod group;
mod handle;
mod output;
mod pipe;
mod plan;
mod pool;
mod reaper;
mod running;
mod shared;
mod split;
mod supervise;

pub use command::Command;
pub use error::{ProcessError, ProcessErrorKind};
pub use handle::{ProcessHandle, ProcessId, State};
pub use output::{Captured, Chunk, End, Line, Output, Source};
pub use pool::{CloseReport, ProcessPool, ProcessPoolBuilder};
pub use running::{Lines, Process};
