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
//! its leader has ended by itself, those of the group that hold its pipes have
//! [`Command::pipe_grace`] to go on; when it was asked to end, they have what is left of its
//! [grace](Command::grace). When that is over or the pipes are free, what is left of the group is
//! killed: nothing stays behind. A program that wants to stay (a daemon) must leave the group,
//! by `setsid`; then nothing here ends it. Nor does the system let us signal what runs as another
//! user (`sudo`): that ends when it pleases, and is waited for.
//!
//! A group is signalled only while its leader is not reaped: until then the system gives its
//! number to nobody else, so a signal never hits a stranger. That needs this process to leave
//! its children alone: where somebody waits for any child, or SIGCHLD is ignored, a child's end
//! is [lost](ProcessErrorKind::Lost), and what is left of its group is not signalled any more.
//! When this process is killed itself, its children go on.
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
mod reading;
mod reaper;
mod running;
mod shared;
mod split;
mod supervise;
#[cfg(test)]
mod tests;

pub use command::Command;
pub use error::{ProcessError, ProcessErrorKind};
pub use handle::{ProcessHandle, ProcessId, State};
pub use output::{Captured, Chunk, End, Line, Output, Source};
pub use pool::{CloseReport, ProcessPool, ProcessPoolBuilder};
pub use reading::Lines;
pub use running::Process;
