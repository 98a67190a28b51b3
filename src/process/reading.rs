//! The output of a child while it runs.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::output::{Chunk, Line, Source};
use super::pipe::{Pipe, with_buffer};
use super::running::Process;

impl Process {
    /// The next chunk; `None` when the child has ended and all is read.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn chunk(&mut self) -> Option<Chunk> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The output as lines, a [`Stream`]. What is held back of a line stays with the process
    /// when this is dropped.
    pub fn lines(&mut self) -> Lines<'_> {
        Lines { process: self }
    }

    pub(super) fn pipe(&mut self, source: Source) -> &mut Pipe {
        match source {
            Source::Stdout => &mut self.stdout,
            Source::Stderr => &mut self.stderr,
        }
    }

    /// Reads from whichever stream has something; none when the child has ended and all is
    /// read.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Option<(Source, usize)>> {
        if self.ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(self.read_left(buffer));
        }
        for source in [self.first, self.first.other()] {
            let pipe = self.pipe(source);
            if pipe.is_closed() {
                continue;
            }
            match pipe.poll_read(cx, buffer) {
                Poll::Ready(0) => self.note_closed(),
                Poll::Ready(read) => {
                    self.first = source.other();
                    return Poll::Ready(Some((source, read)));
                }
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }

    /// Says so when nobody holds a pipe any more. That may end the child's story at once; then
    /// the end wakes this task, which waits for it.
    fn note_closed(&self) {
        if self.stdout.is_closed() && self.stderr.is_closed() {
            self.shared.pipes_closed();
        }
    }

    fn read_left(&mut self, buffer: &mut [u8]) -> Option<(Source, usize)> {
        [Source::Stdout, Source::Stderr]
            .into_iter()
            .find_map(|source| match self.pipe(source).read_left(buffer) {
                0 => None,
                read => Some((source, read)),
            })
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Chunk>> {
        for source in [Source::Stdout, Source::Stderr] {
            let held_back = self.pipe(source).lines.rest();
            if !held_back.is_empty() {
                let bytes = held_back;
                return Poll::Ready(Some(Chunk { source, bytes }));
            }
        }
        with_buffer(|buffer| {
            self.poll_read(cx, buffer).map(|read| {
                let (source, read) = read?;
                let bytes = buffer[..read].to_vec();
                Some(Chunk { source, bytes })
            })
        })
    }

    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Option<Line>> {
        loop {
            if let Some(line) = self.line() {
                return Poll::Ready(Some(line));
            }
            let read = with_buffer(|buffer| {
                self.poll_read(cx, buffer).map(|read| {
                    let (source, read) = read?;
                    self.pipe(source).lines.push(&buffer[..read]);
                    Some(())
                })
            });
            match read {
                Poll::Ready(Some(())) => {}
                Poll::Ready(None) => return Poll::Ready(self.last_line()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn line(&mut self) -> Option<Line> {
        [Source::Stdout, Source::Stderr]
            .into_iter()
            .find_map(|source| {
                let (bytes, partial) = self.pipe(source).lines.line()?;
                Some(Line {
                    source,
                    bytes,
                    partial,
                })
            })
    }

    /// A line without its end.
    fn last_line(&mut self) -> Option<Line> {
        [Source::Stdout, Source::Stderr]
            .into_iter()
            .find_map(|source| {
                let lines = &mut self.pipe(source).lines;
                (!lines.is_empty()).then(|| Line {
                    source,
                    bytes: lines.rest(),
                    partial: false,
                })
            })
    }
}

impl Stream for Process {
    type Item = Chunk;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Chunk>> {
        self.poll_chunk(cx)
    }
}

/// The output of a [`Process`] as lines: see [`Process::lines`].
///
/// The last line need not have an end. When the child has ended, a line that is not whole comes
/// as it is.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Lines<'a> {
    process: &'a mut Process,
}

impl Lines<'_> {
    /// The next line; `None` when the child has ended and all is read.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn line(&mut self) -> Option<Line> {
        poll_fn(|cx| self.process.poll_line(cx)).await
    }
}

impl Stream for Lines<'_> {
    type Item = Line;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Line>> {
        self.process.poll_line(cx)
    }
}
