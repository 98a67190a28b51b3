//! The pipes between a child and its owner.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{ioctl_fionread, read, retry_on_intr};
use tokio::net::unix::pipe::{Receiver, Sender};

use super::capture::Capture;
use super::command::Limits;
use super::split::Splitter;

/// What is read at once: as much as a pipe holds on Linux.
pub(super) const CHUNK: usize = 64 << 10;

thread_local! {
    /// One buffer for all children of a thread. It is taken out while it is used.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends the thread's buffer.
pub(super) fn with_buffer<R>(work: impl FnOnce(&mut [u8]) -> R) -> R {
    let mut buffer = BUFFER.take();
    buffer.resize(CHUNK, 0);
    let result = work(&mut buffer);
    BUFFER.set(buffer);
    result
}

/// The reading end of one of a child's streams, with what was read and not handed out.
#[derive(Debug)]
pub(super) struct Pipe {
    /// None when it is closed.
    fd: Option<Arc<Receiver>>,
    /// Once the child has ended: how much was in the pipe then.
    left: Option<u64>,
    pub(super) kept: Capture,
    pub(super) lines: Splitter,
}

impl Pipe {
    pub(super) fn closed(limits: &Limits) -> Self {
        Self {
            fd: None,
            left: None,
            kept: Capture::new(limits.output),
            lines: Splitter::new(limits.line),
        }
    }

    pub(super) fn open(&mut self, fd: OwnedFd) -> io::Result<()> {
        self.fd = Some(Arc::new(Receiver::from_owned_fd(fd)?));
        Ok(())
    }

    /// Sees it from outside.
    pub(super) fn watch(&self) -> Watch {
        Watch(self.fd.as_ref().map(Arc::downgrade).unwrap_or_default())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.fd.is_none()
    }

    /// Reads some bytes; 0 when it is closed.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<usize> {
        let read = match &self.fd {
            Some(fd) => ready!(poll_read(fd, cx, buffer)),
            None => 0,
        };
        if read == 0 {
            self.fd = None;
        }
        Poll::Ready(read)
    }

    /// Reads some of what was in the pipe when the child had ended; 0 when that is all. Others
    /// may hold it and write on: that is not the child's.
    pub(super) fn read_left(&mut self, buffer: &mut [u8]) -> usize {
        let Some(fd) = &self.fd else {
            return 0;
        };
        // Not by readiness: the runtime may not have heard yet of what is there, or be gone.
        let left = self
            .left
            .get_or_insert_with(|| ioctl_fionread(fd).unwrap_or(0));
        let most = usize::try_from(*left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = retry_on_intr(|| read(fd, &mut buffer[..most])).unwrap_or(0);
        *left -= read as u64;
        if read == 0 {
            self.fd = None;
        }
        read
    }
}

fn poll_read(fd: &Receiver, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<usize> {
    loop {
        // An error is a runtime that goes: the child's end is what comes next.
        if ready!(fd.poll_read_ready(cx)).is_err() {
            return Poll::Pending;
        }
        match fd.try_read(buffer) {
            Err(error) if is_passing(&error) => {}
            read => return Poll::Ready(read.unwrap_or(0)),
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, WouldBlock};
    matches!(error.kind(), Interrupted | WouldBlock)
}

/// Sees whether a pipe is free, and takes nothing out of it.
#[derive(Debug)]
pub(super) struct Watch(Weak<Receiver>);

impl Watch {
    /// Whether nobody can write to it any more, or nobody will read it.
    pub(super) fn is_free(&self) -> bool {
        self.0.upgrade().is_none_or(|fd| is_hung_up(&fd))
    }
}

fn is_hung_up(fd: &Receiver) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::empty())];
    let polled = retry_on_intr(|| poll(&mut fds, Some(&Timespec::default())));
    polled.is_ok() && fds[0].revents().contains(PollFlags::HUP)
}

/// What a child is given to read.
#[derive(Debug)]
pub(super) struct Feed {
    fd: Sender,
    bytes: Arc<[u8]>,
    written: usize,
}

impl Feed {
    pub(super) fn new(fd: OwnedFd, bytes: Arc<[u8]>) -> io::Result<Self> {
        Ok(Self {
            fd: Sender::from_owned_fd(fd)?,
            bytes,
            written: 0,
        })
    }

    /// Ready when all is written, or the child reads no more. Dropping it is the end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.written < self.bytes.len() {
            if ready!(self.fd.poll_write_ready(cx)).is_err() {
                break;
            }
            match self.fd.try_write(&self.bytes[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if is_passing(&error) => {}
                Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}
