//! The life of the connection, as a pure state that is told the time: when to connect, when to
//! ping, when the peer is dead, and when the back-off begins anew.

use std::time::Duration;

use crate::retry::{Backoff, BackoffDelays, Delays};
use crate::time::Instant;

use super::snapshot::LinkState;

/// The spans that decide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spans {
    pub(super) ping_interval: Duration,
    pub(super) pong_timeout: Duration,
    pub(super) write_timeout: Duration,
    pub(super) stable_after: Duration,
    pub(super) backoff: Backoff,
}

/// A closed port answers in microseconds: without a delay, that is a loop.
const SHORTEST_DELAY: Duration = Duration::from_millis(10);

/// A server cannot send its clients away for longer than this.
const LONGEST_HINT: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(super) struct Life {
    spans: Spans,
    phase: Phase,
    /// Go on over short-lived connections: see [`Life::lost`].
    delays: BackoffDelays,
    seed: u64,
    totals: Totals,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nobody has asked for anything yet.
    Idle,
    Connecting,
    Up(Up),
    Down {
        until: Instant,
    },
    Closing,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Up {
    since: Instant,
    heard: Instant,
    /// Whether a ping is on its way, or out.
    is_asked: bool,
    /// When it had gone out, unless it is answered.
    pinged: Option<Instant>,
    /// The socket has taken nothing since.
    blocked: Option<Instant>,
}

/// What has happened over the client's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) connects: u64,
    pub(super) failed_connects: u64,
    pub(super) lost: u64,
}

/// What the owner of the socket is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Connect,
    WaitUntil(Instant),
    /// Nothing more.
    End,
}

/// What is to be done about the connection that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// Look again then.
    Fine(Instant),
    Ping,
    /// It has answered no ping in time.
    Silent,
    /// It has read nothing for too long.
    Stalled,
    /// It is to be closed.
    Closing,
}

impl Life {
    pub(super) fn new(spans: Spans, seed: u64) -> Self {
        Self {
            delays: spans.backoff.delays(|| seed),
            spans,
            phase: Phase::Idle,
            seed,
            totals: Totals::default(),
        }
    }

    /// What to do while there is no connection. To connect is said once, and to be answered by
    /// [`connected`](Self::connected) or [`failed`](Self::failed).
    pub(super) fn step(&mut self, now: Instant) -> Step {
        match self.phase {
            Phase::Down { until } if now < until => Step::WaitUntil(until),
            Phase::Idle | Phase::Down { .. } => {
                self.phase = Phase::Connecting;
                Step::Connect
            }
            Phase::Connecting | Phase::Up(_) | Phase::Closing | Phase::Closed => Step::End,
        }
    }

    /// The connection is there; `false` when nobody wants it any more.
    pub(super) fn connected(&mut self, now: Instant) -> bool {
        if self.phase != Phase::Connecting {
            return false;
        }
        self.totals.connects += 1;
        self.phase = Phase::Up(Up {
            since: now,
            heard: now,
            is_asked: false,
            pinged: None,
            blocked: None,
        });
        true
    }

    /// There is none to be had. Where the server has said when to come back, the back-off
    /// begins then: all clients have been told the same, and its jitter spreads them.
    pub(super) fn failed(&mut self, now: Instant, hint: Duration) {
        if self.phase == Phase::Connecting {
            self.totals.failed_connects += 1;
            self.back_off(now.saturating_add(hint.min(LONGEST_HINT)));
        }
    }

    /// It is gone. The back-off begins anew only after a connection that was stable: one that
    /// is made, and dies at once, is no sign of health.
    pub(super) fn lost(&mut self, now: Instant) {
        match self.phase {
            Phase::Up(up) => {
                self.totals.lost += 1;
                if now.since(up.since) >= self.spans.stable_after {
                    self.begin_anew();
                }
                self.back_off(now);
            }
            Phase::Closing => self.phase = Phase::Closed,
            Phase::Idle | Phase::Connecting | Phase::Down { .. } | Phase::Closed => {}
        }
    }

    /// Whoever owned the connection has ended, and with it the connection.
    pub(super) fn orphaned(&mut self) {
        self.phase = match self.phase {
            Phase::Closing | Phase::Closed => Phase::Closed,
            Phase::Up(_) => {
                self.totals.lost += 1;
                Phase::Idle
            }
            Phase::Idle | Phase::Connecting | Phase::Down { .. } => Phase::Idle,
        };
    }

    /// No connection is wanted any more. Said twice, it changes nothing.
    pub(super) fn close(&mut self) {
        self.phase = match self.phase {
            Phase::Up(_) | Phase::Closing => Phase::Closing,
            Phase::Idle | Phase::Connecting | Phase::Down { .. } | Phase::Closed => Phase::Closed,
        };
    }

    /// A frame has come in, of whatever kind.
    pub(super) fn heard(&mut self, now: Instant) {
        if let Phase::Up(up) = &mut self.phase {
            up.heard = now;
            (up.is_asked, up.pinged) = (false, None);
        }
    }

    /// The socket has taken everything so far, a ping included.
    pub(super) fn wrote(&mut self, now: Instant) {
        if let Phase::Up(up) = &mut self.phase {
            up.blocked = None;
            if up.is_asked {
                up.pinged = up.pinged.or(Some(now));
            }
        }
    }

    /// The socket takes no more. It is said again and again; after some progress,
    /// [`wrote`](Self::wrote) or [`advanced`](Self::advanced) comes in between.
    pub(super) fn blocked(&mut self, now: Instant) {
        if let Phase::Up(up) = &mut self.phase {
            up.blocked = up.blocked.or(Some(now));
        }
    }

    /// The socket has taken something again.
    pub(super) fn advanced(&mut self) {
        if let Phase::Up(up) = &mut self.phase {
            up.blocked = None;
        }
    }

    /// How the connection is. To ping is said once in a silence, and the answer is waited for
    /// from the moment when the ping has gone out: until then the limit for writing holds. So a
    /// silence that was only ours (the machine slept) begins with that ping.
    pub(super) fn check(&mut self, now: Instant) -> Health {
        let Phase::Up(up) = &mut self.phase else {
            return Health::Closing;
        };
        let spans = &self.spans;
        let stalls = after(up.blocked, spans.write_timeout);
        if stalls <= now {
            return Health::Stalled;
        }
        let silent = after(up.pinged, spans.pong_timeout);
        if silent <= now {
            return Health::Silent;
        }
        let ping = up.heard.saturating_add(spans.ping_interval);
        if up.is_asked {
            return Health::Fine(silent.min(stalls));
        }
        if now < ping {
            return Health::Fine(ping.min(stalls));
        }
        up.is_asked = true;
        Health::Ping
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up(_))
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closing | Phase::Closed)
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    pub(super) fn state(&self, now: Instant) -> LinkState {
        match self.phase {
            Phase::Idle => LinkState::Idle,
            Phase::Connecting => LinkState::Connecting,
            Phase::Up(up) => LinkState::Up {
                age: now.since(up.since),
            },
            Phase::Down { until } => LinkState::Down {
                retry_after: until.since(now),
            },
            Phase::Closing | Phase::Closed => LinkState::Closed,
        }
    }

    fn back_off(&mut self, from: Instant) {
        let delay = self.delays.next().unwrap_or_default().max(SHORTEST_DELAY);
        let until = from.saturating_add(delay);
        self.phase = Phase::Down { until };
    }

    /// The odd constant is the golden ratio's: it leads through all seeds.
    fn begin_anew(&mut self) {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.delays = self.spans.backoff.delays(|| self.seed);
    }
}

fn after(since: Option<Instant>, span: Duration) -> Instant {
    since.map_or(Instant::NEVER, |since| since.saturating_add(span))
}

#[cfg(test)]
mod tests;
