//! What looks after a child while nobody waits for it: its time limit, its grace, its end, and
//! its input.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::process::Pid;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::pipe::Feed;
use super::shared::Shared;
use crate::time::{self, Instant, Timer};

/// How soon to look again for a leader whose end was announced and is not there yet.
const NEARLY: Duration = Duration::from_millis(5);

/// Tells of a child's end.
#[derive(Debug)]
pub(super) enum Exit {
    /// A descriptor of the child itself.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "Linux only"))]
    Descriptor { fd: AsyncFd<OwnedFd>, rung: bool },
    /// SIGCHLD, which tells of any child.
    AnyChild(Signal),
}

impl Exit {
    /// By a descriptor where the system has them, else by SIGCHLD. The end may come before:
    /// look once after this.
    pub(super) fn new(pid: Pid) -> io::Result<Self> {
        match descriptor(pid) {
            Some(fd) => Self::by_descriptor(fd),
            None => Self::by_signal(),
        }
    }

    #[expect(
        deprecated,
        reason = "what replaces it is unsafe; an owned descriptor stays open"
    )]
    fn by_descriptor(fd: OwnedFd) -> io::Result<Self> {
        let fd = AsyncFd::with_interest(fd, tokio::io::Interest::READABLE)?;
        Ok(Self::Descriptor { fd, rung: false })
    }

    pub(super) fn by_signal() -> io::Result<Self> {
        signal(SignalKind::child()).map(Self::AnyChild)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Descriptor { rung: true, .. } => Poll::Pending,
            Self::Descriptor { fd, rung } => {
                // An error is a runtime that goes: the task is dropped with it.
                let Ok(_) = ready!(fd.poll_read_ready(cx)) else {
                    return Poll::Pending;
                };
                *rung = true;
                Poll::Ready(())
            }
            Self::AnyChild(signal) => signal.poll_recv(cx).map(|_| ()),
        }
    }

    /// When to look again in any case. A descriptor rings once.
    fn look_at(&self) -> Instant {
        match self {
            Self::Descriptor { rung: true, .. } => time::now().saturating_add(NEARLY),
            _ => Instant::NEVER,
        }
    }
}

/// None without such descriptors: an old kernel, or a sandbox that forbids them.
#[cfg(target_os = "linux")]
fn descriptor(pid: Pid) -> Option<OwnedFd> {
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
fn descriptor(_: Pid) -> Option<OwnedFd> {
    None
}

/// Kills the child when its runtime goes: nobody would enforce its limits any more.
struct Leash(Arc<Shared>);

impl Drop for Leash {
    fn drop(&mut self) {
        if self.0.outcome().is_none() {
            self.0.abandon();
        }
    }
}

/// Runs until the child is reaped, by whomever.
pub(super) async fn supervise(shared: Arc<Shared>, mut exit: Exit, mut stdin: Option<Feed>) {
    let leash = Leash(shared);
    let shared = &*leash.0;
    let mut timer = Timer::new();
    while let Some(due) = shared.tick() {
        let until = due.min(exit.look_at());
        let mut changed = pin!(shared.changed.notified());
        poll_fn(|cx| {
            if stdin.as_mut().is_some_and(|feed| feed.poll(cx).is_ready()) {
                stdin = None;
            }
            let is_woken = changed.as_mut().poll(cx).is_ready()
                || exit.poll(cx).is_ready()
                || timer.poll_until(until, cx).is_ready();
            if is_woken {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}
