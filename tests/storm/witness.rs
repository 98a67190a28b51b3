//! Gates that admit everyone and see who comes: what passes the gate above them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::CircuitBreaker;
use mainstay::circuit_breaker::{Cause, CircuitState, StateChange};
use mainstay::policy::{Admission, CallContext, End, Gate, Judge};

use crate::world::{World, locked};

/// The law of a limiter, over every window at once: permits given out since any moment are at
/// most the burst and what the rate brings since then.
pub(crate) struct LimiterLedger {
    world: Arc<World>,
    permits: u128,
    per: u128,
    burst: u128,
    /// What the worst window ending now has given out above its rate, times the period.
    level: Mutex<(u128, Duration)>,
}

impl LimiterLedger {
    pub(crate) fn new(world: &Arc<World>, permits: u32, per: Duration, burst: u32) -> Self {
        Self {
            world: Arc::clone(world),
            permits: permits.into(),
            per: per.as_nanos(),
            burst: burst.into(),
            level: Mutex::new((0, Duration::ZERO)),
        }
    }

    pub(crate) fn gave(&self, permits: u32) {
        let now = self.world.now();
        let mut level = locked(&self.level);
        let brought = self.permits * now.saturating_sub(level.1).as_nanos();
        let worst = level.0.saturating_sub(brought) + u128::from(permits) * self.per;
        *level = (worst, now);
        drop(level);
        self.world
            .law(worst <= self.burst * self.per, "limiter: window", || {
                format!("{} permits above the rate of a window", worst / self.per)
            });
    }
}

impl Gate for LimiterLedger {
    type Wait = ();
    type Ticket = ();

    fn admit(&self, _: &CallContext<'_>) -> Admission<()> {
        self.gave(1);
        Admission::Admitted(())
    }

    fn settle(&self, (): (), _: End) {}
}

impl<T, E> Judge<T, E> for LimiterLedger {}

/// How many results the breaker's window holds.
pub(crate) const WINDOW: u32 = 50;
pub(crate) const PROBES: u32 = 3;

#[derive(Default)]
struct Book {
    /// Changes told so far, by number.
    changes: Vec<StateChange>,
    /// Calls out, by generation, of a half-open breaker.
    out: BTreeMap<u64, u32>,
    /// Each change or reset begins an epoch; results of older ones do not count.
    epoch: u64,
    /// Results of this epoch, true for a failure: the latest that a window holds.
    window: VecDeque<bool>,
    openings: u64,
}

/// The laws of a breaker: probes, changes, counts.
pub(crate) struct BreakerLedger {
    world: Arc<World>,
    breaker: Mutex<Option<CircuitBreaker>>,
    book: Mutex<Book>,
}

impl BreakerLedger {
    pub(crate) fn new(world: &Arc<World>) -> Arc<Self> {
        Arc::new(Self {
            world: Arc::clone(world),
            breaker: Mutex::new(None),
            book: Mutex::default(),
        })
    }

    pub(crate) fn watch(&self, breaker: &CircuitBreaker) {
        *locked(&self.breaker) = Some(breaker.clone());
    }

    fn breaker(&self) -> CircuitBreaker {
        locked(&self.breaker).clone().expect("it watches one")
    }

    /// The breaker's hook.
    pub(crate) fn changed(&self, change: &StateChange) {
        use CircuitState::{Closed, ForcedOpen, HalfOpen, Open};
        self.world.note("change", change.number);
        let mut book = locked(&self.book);
        let last = book
            .changes
            .last()
            .map_or((0, Closed), |c| (c.number, c.to));
        let in_order = change.number == last.0 + 1 && change.from == last.1;
        let legal = match (change.from, change.to, change.cause) {
            (_, Closed | ForcedOpen, Cause::Operator)
            | (Open, HalfOpen, Cause::OpenTimeElapsed)
            | (HalfOpen, Closed, Cause::ProbesSucceeded) => true,
            (Closed | HalfOpen, Open, Cause::FailureRate | Cause::ConsecutiveFailures) => {
                book.openings += 1;
                true
            }
            _ => false,
        };
        book.changes.push(*change);
        Self::next_epoch(&mut book);
        drop(book);
        self.world.law(in_order && legal, "breaker: change", || {
            format!("{change:?} after {last:?}")
        });
    }

    fn next_epoch(book: &mut Book) {
        book.epoch += 1;
        book.window.clear();
    }

    /// An operator's reset, which is told only where it changes the state.
    pub(crate) fn reset(&self) {
        Self::next_epoch(&mut locked(&self.book));
        self.breaker().reset();
    }

    pub(crate) fn admitted(&self) -> BreakerTicket {
        let breaker = self.breaker();
        let state = breaker.state();
        let mut generation = None;
        match state {
            CircuitState::HalfOpen => {
                let seen = breaker.snapshot();
                let mut book = locked(&self.book);
                let out = book.out.entry(seen.generation).or_default();
                *out += 1;
                let probes = u64::from(*out) + seen.successes + seen.failures;
                drop(book);
                generation = Some(seen.generation);
                self.world
                    .law(probes <= u64::from(PROBES), "breaker: probes", || {
                        format!("{probes} of {PROBES}")
                    });
            }
            CircuitState::Closed => {}
            other => self.world.broke("breaker: admitted", other),
        }
        BreakerTicket {
            generation,
            epoch: locked(&self.book).epoch,
            closed: state == CircuitState::Closed,
        }
    }

    pub(crate) fn ended(&self, ticket: &BreakerTicket, end: End) {
        let mut book = locked(&self.book);
        if let Some(out) = ticket.generation.and_then(|g| book.out.get_mut(&g)) {
            *out -= 1;
        }
        let failed = match end {
            End::Success => false,
            End::Failure | End::Panicked => true,
            _ => return,
        };
        if ticket.epoch == book.epoch && ticket.closed {
            book.window.push_back(failed);
            if book.window.len() > WINDOW as usize {
                book.window.pop_front();
            }
        }
    }

    /// Nothing is under way: what is counted must be what was seen.
    pub(crate) fn at_rest(&self, counts_calls: bool) {
        let seen = self.breaker().snapshot();
        let mut book = locked(&self.book);
        let out: u32 = book.out.values().sum();
        book.out.clear();
        let failures = book.window.iter().filter(|failed| **failed).count() as u64;
        let successes = book.window.len() as u64 - failures;
        let last = book.changes.last().map_or(CircuitState::Closed, |c| c.to);
        let openings = book.openings;
        drop(book);
        let law = |holds, what: &str| {
            self.world.law(holds, "breaker: at rest", || {
                format!("{what}: {seen:?}, {failures} failures, {successes} successes, {out} out")
            });
        };
        law(out == 0, "probes out");
        law(last == seen.state, "the last change told");
        law(openings == seen.openings, "openings");
        if seen.state == CircuitState::Closed && counts_calls {
            law(
                (seen.failures, seen.successes) == (failures, successes),
                "the window",
            );
        }
    }
}

pub(crate) struct BreakerTicket {
    generation: Option<u64>,
    epoch: u64,
    closed: bool,
}

impl Gate for BreakerLedger {
    type Wait = ();
    type Ticket = BreakerTicket;

    fn admit(&self, _: &CallContext<'_>) -> Admission<BreakerTicket> {
        Admission::Admitted(self.admitted())
    }

    fn settle(&self, ticket: BreakerTicket, end: End) {
        self.ended(&ticket, end);
    }
}

impl<T, E> Judge<T, E> for BreakerLedger {}
