//! One connection's life, turn by turn: read, look, write, wait.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{Sink, Stream};
use tokio_tungstenite::tungstenite::{Bytes, Error as WireError, Message};

use super::error::{RpcError, RpcErrorKind};
use super::life::Health;
use super::message;
use super::owner::{Socket, what_broke};
use super::shared::{Body, Shared, Slot};
use super::table::Outgoing;
use crate::time::{Instant, Timer};

/// How a connection ended.
pub(super) enum Ended {
    Lost(RpcError),
    /// The client is being closed.
    Closing,
}

/// Frames read or written in one turn, so that neither side starves the other, nor the task
/// its neighbours.
const AT_ONCE: usize = 64;

/// As much text is looked at in one turn: about a millisecond's work.
const BYTES_AT_ONCE: usize = 256 * 1024;

pub(super) async fn serve(shared: &Shared, socket: &mut Socket) -> Ended {
    let mut link = Link {
        shared,
        socket,
        timer: Timer::new(),
        is_ping_due: false,
        is_full: false,
    };
    poll_fn(|cx| link.turn(cx)).await
}

struct Link<'a> {
    shared: &'a Shared,
    socket: &'a mut Socket,
    timer: Timer,
    is_ping_due: bool,
    /// Whether the socket took no more when it was last asked.
    is_full: bool,
}

type Turn<T> = Result<T, Ended>;

impl Link<'_> {
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.shared.owner.register(cx.waker());
        match self.try_turn(cx) {
            Ok(()) => Poll::Pending,
            Err(ended) => Poll::Ready(ended),
        }
    }

    /// Reads first: what has come in already is a sign of life, and makes room.
    fn try_turn(&mut self, cx: &mut Context<'_>) -> Turn<()> {
        let is_all_read = self.read(cx)?;
        self.look()?;
        let is_all_sent = self.write(cx)?;
        if !(is_all_read && is_all_sent) {
            cx.waker().wake_by_ref();
        }
        self.wait(cx)
    }

    /// Whether everything was read.
    fn read(&mut self, cx: &mut Context<'_>) -> Turn<bool> {
        let mut bytes = 0;
        for _ in 0..AT_ONCE {
            let Poll::Ready(frame) = Pin::new(&mut *self.socket).poll_next(cx) else {
                return Ok(true);
            };
            let frame = frame.ok_or_else(|| lost("closed by the peer"))?;
            let frame = frame.map_err(|error| broken(&error))?;
            bytes += frame.len();
            self.receive(frame, cx)?;
            if bytes > BYTES_AT_ONCE {
                break;
            }
        }
        Ok(false)
    }

    fn receive(&mut self, frame: Message, cx: &mut Context<'_>) -> Turn<()> {
        self.shared.heard();
        match frame {
            Message::Text(text) => message::read(&text, |one| self.shared.receive(one)),
            Message::Binary(_) => self.shared.count_malformed(),
            Message::Close(frame) => {
                // The answer is on its way if the socket takes it; nothing is to be waited for.
                let _ = Pin::new(&mut *self.socket).poll_flush(cx);
                let why = frame.map(|frame| format!("closed by the peer: {frame}"));
                return Err(lost(why.as_deref().unwrap_or("closed by the peer")));
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
        Ok(())
    }

    /// When to look again; `None` when a ping has come due.
    fn look(&mut self) -> Turn<Option<Instant>> {
        match self.shared.check() {
            Health::Fine(until) => Ok(Some(until)),
            Health::Ping => {
                self.is_ping_due = true;
                Ok(None)
            }
            Health::Silent => Err(lost("the peer answers no ping")),
            Health::Stalled => Err(lost("the peer reads nothing")),
            Health::Closing => Err(Ended::Closing),
        }
    }

    /// Hands over what the socket takes: whether that was all. The queue stays where it is,
    /// and bounded, while the peer reads nothing.
    fn write(&mut self, cx: &mut Context<'_>) -> Turn<bool> {
        for _ in 0..AT_ONCE {
            if !self.is_ready(cx)? {
                self.shared.wrote(false);
                return Ok(true); // the socket wakes the task
            }
            let Some(frame) = self.next_frame() else {
                let flushed = Pin::new(&mut *self.socket).poll_flush(cx);
                let flushed = flushed.map_err(|error| broken(&error))?;
                self.shared.wrote(flushed.is_ready());
                return Ok(true);
            };
            let sent = Pin::new(&mut *self.socket).start_send(frame);
            sent.map_err(|error| broken(&error))?;
        }
        Ok(false)
    }

    /// Whether the socket takes another frame.
    fn is_ready(&mut self, cx: &mut Context<'_>) -> Turn<bool> {
        let ready = Pin::new(&mut *self.socket).poll_ready(cx);
        let is_ready = ready.map_err(|error| broken(&error))?.is_ready();
        if is_ready && self.is_full {
            self.shared.advanced(); // what filled it has gone out
        }
        self.is_full = !is_ready;
        Ok(is_ready)
    }

    fn next_frame(&mut self) -> Option<Message> {
        if std::mem::take(&mut self.is_ping_due) {
            return Some(Message::Ping(Bytes::new()));
        }
        let out = self.shared.take()?;
        Some(Message::text(encode(out)))
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Turn<()> {
        while let Some(until) = self.look()? {
            if self.timer.poll_until(until, cx).is_pending() {
                return Ok(());
            }
        }
        cx.waker().wake_by_ref(); // a ping has come due meanwhile
        Ok(())
    }
}

/// The frame's text; whoever waits for no more than this is told.
fn encode(out: Outgoing<Body, Slot>) -> String {
    let text = match out.id {
        Some(id) => format!("{},\"id\":{id}}}", out.body),
        None => format!("{}}}", out.body),
    };
    if let Some(done) = out.done {
        let _ = done.send(Ok(serde_json::Value::Null));
    }
    text
}

fn broken(error: &WireError) -> Ended {
    lost(&what_broke(error))
}

fn lost(why: &str) -> Ended {
    Ended::Lost(RpcError::new(RpcErrorKind::Lost, why))
}
