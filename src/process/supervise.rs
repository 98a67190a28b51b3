//! What looks after a child while nobody waits for it: its time limit, its grace, its end, and
//! its input.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rustix::process::Pid;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::pipe::{Feed, Watch};
use super::shared::Shared;
use crate::time::{self, Timer};

/// How soon to look again for what no descriptor tells of: a leader whose end was announced and
/// is not there yet, or pipes that are free and read by nobody.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LONGEST_LOOK: Duration = Duration::from_millis(50);

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

    /// Whether it tells of nothing any more: a descriptor rings once.
    fn is_mute(&self) -> bool {
        matches!(self, Self::Descriptor { rung: true, .. })
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

/// Panics on a runtime without time, where a limit could not be kept, as tokio does: here and
/// not in the supervisor, whose end would end the child.
pub(super) fn must_know_time() {
    let soon = time::now().saturating_add(FIRST_LOOK);
    let mut cx = Context::from_waker(Waker::noop());
    let _ = Timer::new().poll_until(soon, &mut cx);
}

/// Kills the child when its runtime goes: nobody would enforce its limits any more. It is made
/// before the task, which may be dropped before it is polled.
pub(super) struct Leash(pub(super) Arc<Shared>);

impl Drop for Leash {
    fn drop(&mut self) {
        if self.0.outcome().is_none() {
            self.0.abandon();
        }
    }
}

/// Runs until the child is reaped, by whomever.
pub(super) async fn supervise(
    leash: Leash,
    mut exit: Exit,
    pipes: [Watch; 2],
    mut stdin: Option<Feed>,
) {
    let shared = &*leash.0;
    let (mut timer, mut look) = (Timer::new(), FIRST_LOOK);
    while let Some(next) = shared.tick() {
        if next.lingers && pipes.iter().all(Watch::is_free) {
            shared.pipes_closed();
            continue;
        }
        let mut until = next.due;
        if next.lingers || exit.is_mute() {
            until = until.min(time::now().saturating_add(look));
            look = LONGEST_LOOK.min(look * 2);
        }
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
