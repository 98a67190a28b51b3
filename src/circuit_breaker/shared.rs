//! The driver of the state: it reads the clock, takes the lock, publishes, and tells the hook.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::classify::Measure;
use super::events::{CircuitState, Outbox, StateChange};
use super::published::Published;
use super::snapshot::CircuitSnapshot;
use super::state::{State, wait};
use crate::error::Refusal;
use crate::observe;
use crate::policy::End;
use crate::sync::Lock;
use crate::time::{self, Instant};

pub(super) type Hook = Arc<dyn Fn(&StateChange) + Send + Sync>;

/// What all handles of a breaker share.
pub(super) struct Shared {
    name: Arc<str>,
    pub(super) published: Published,
    measure: Measure,
    pub(super) core: Lock<Core>,
    hook: Option<Hook>,
}

#[derive(Debug)]
pub(super) struct Core {
    state: State,
    outbox: Outbox,
}

/// An admission: the generation it belongs to, and when, where that is measured.
#[derive(Debug)]
pub struct CircuitTicket {
    generation: u64,
    /// [`Instant::NEVER`] where calls are not timed.
    started: Instant,
}

/// Stands for a time that nobody is going to look at.
const UNREAD: Instant = Instant::NEVER;

impl Shared {
    pub(super) fn new(name: Arc<str>, state: State, measure: Measure, hook: Option<Hook>) -> Self {
        Self {
            name,
            published: Published::new(&state),
            measure,
            core: Lock::new(Core {
                state,
                outbox: Outbox::default(),
            }),
            hook,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn state(&self) -> CircuitState {
        self.published.word().state()
    }

    pub(super) fn snapshot(&self) -> CircuitSnapshot {
        let now = time::now();
        self.core.lock().state.look(now).into()
    }

    #[inline]
    pub(super) fn admit(&self) -> Result<CircuitTicket, Refusal> {
        let word = self.published.word();
        match word.state() {
            CircuitState::Closed | CircuitState::MetricsOnly => {
                let times_calls = self.measure.times_calls();
                let started = if times_calls { time::now() } else { UNREAD };
                Ok(CircuitTicket {
                    generation: word.generation(),
                    started,
                })
            }
            CircuitState::Disabled => Ok(CircuitTicket {
                generation: word.generation(),
                started: UNREAD,
            }),
            CircuitState::Open | CircuitState::ForcedOpen => self.admit_when_over(),
            CircuitState::HalfOpen => self.ask(time::now()),
        }
    }

    fn admit_when_over(&self) -> Result<CircuitTicket, Refusal> {
        let until = self.published.open_until();
        if until == Instant::NEVER {
            return Err(refusal(None));
        }
        let now = time::now();
        if now < until {
            return Err(refusal(wait(until, now)));
        }
        self.ask(now)
    }

    fn ask(&self, now: Instant) -> Result<CircuitTicket, Refusal> {
        let admitted = self.change(|state| state.admit(now));
        let generation = admitted.map_err(refusal)?;
        Ok(CircuitTicket {
            generation,
            started: now,
        })
    }

    #[inline]
    pub(super) fn settle(&self, ticket: &CircuitTicket, end: End) {
        let CircuitTicket {
            generation,
            started,
        } = *ticket;
        let word = self.published.word();
        // Generations only grow: a late result stays late.
        let late = word.generation() != generation;
        if late || word.state() == CircuitState::Disabled {
            return;
        }
        let needs_time = self.measure.needs_time(end);
        let now = if needs_time { time::now() } else { UNREAD };
        let ran = match started {
            UNREAD => Duration::ZERO,
            _ => now.since(started),
        };
        let outcome = self.measure.outcome(end, ran);
        let changes_nothing = match (word.state(), outcome) {
            (CircuitState::HalfOpen, _) => false,
            (_, None) => true,
            // Exact, not a short cut: when the word was read the window was full of plain
            // successes, and one more would have taken the place of its like.
            (_, Some(outcome)) => word.is_quiet() && outcome.is_plain_success(),
        };
        if !changes_nothing {
            self.change(|state| state.settle(generation, outcome, now));
        }
    }

    /// Works on the state under its lock, publishes the result, then tells the hook.
    pub(super) fn change<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let (result, delivers) = {
            let mut core = self.core.lock();
            let result = work(&mut core.state);
            // Every change of state begins a generation, and so changes the word.
            let delivers = self.published.update(&core.state) && self.queue(&mut core);
            (result, delivers)
        };
        if delivers {
            self.deliver();
        }
        result
    }

    /// Queues the change for the hook; `true` if it is now the caller's to deliver.
    fn queue(&self, core: &mut Core) -> bool {
        let told = self.hook.is_some() || observe::TRACES;
        let change = core.state.take_change().filter(|_| told);
        change.is_some_and(|change| core.outbox.push(change))
    }

    fn deliver(&self) {
        loop {
            let next = self.core.lock().outbox.next();
            let Some(change) = next else {
                return;
            };
            // A change may be made in a drop while something else unwinds, where a second
            // panic would abort the process.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.tell(&change))) {
                // Its drop is foreign code as well, and could panic again.
                mem::forget(payload);
            }
        }
    }

    fn tell(&self, change: &StateChange) {
        observe::circuit_changed(&self.name, change);
        if let Some(hook) = &self.hook {
            hook(change);
        }
    }
}

fn refusal(retry_after: Option<Duration>) -> Refusal {
    Refusal::CircuitOpen { retry_after }
}
