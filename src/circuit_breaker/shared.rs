//! The driver of the state: it reads the clock, takes the lock, publishes, and tells the hook.

#[cfg(all(test, mainstay_loom))]
mod loom;
#[cfg(test)]
mod tests;

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::classify::Measure;
use super::events::{CircuitState, Outbox, StateChange};
use super::inbox::Inbox;
use super::published::{Published, Word};
use super::snapshot::CircuitSnapshot;
use super::state::{State, wait};
use super::window::Outcome;
use crate::error::Refusal;
use crate::observe;
use crate::policy::End;
use crate::sync::{CacheLine, Lock, MutexGuard};
use crate::time::{self, Instant};

pub(super) type Hook = Arc<dyn Fn(&StateChange) + Send + Sync>;

/// What all handles of a breaker share: what calls only read, and on lines of their own the
/// word that results are counted in, and the state.
pub(super) struct Shared {
    name: Arc<str>,
    pub(super) published: Published,
    measure: Measure,
    hook: Option<Hook>,
    inbox: Inbox,
    pub(super) core: CacheLine<Lock<Core>>,
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
            hook,
            inbox: Inbox::new(state.terms()),
            core: CacheLine::new(Lock::new(Core {
                state,
                outbox: Outbox::default(),
            })),
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
        self.change(|state| state.look(now)).into()
    }

    #[inline]
    pub(super) fn admit(&self) -> Result<CircuitTicket, Refusal> {
        let word = self.published.word();
        if !word.lets_pass() {
            return self.admit_by_time(word);
        }
        let times_calls = self.measure.times_calls();
        Ok(CircuitTicket {
            generation: word.generation(),
            started: if times_calls { time::now() } else { UNREAD },
        })
    }

    /// Asks the state, unless it is open for a while yet.
    fn admit_by_time(&self, word: Word) -> Result<CircuitTicket, Refusal> {
        if word.is(CircuitState::HalfOpen) {
            return self.ask(time::now());
        }
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
        let Some(word) = self.word_of(ticket.generation) else {
            return;
        };
        match end {
            End::Success => self.settle_as(End::Success, word, ticket),
            _ => self.settle_otherwise(end, word, ticket),
        }
    }

    #[inline(never)]
    fn settle_otherwise(&self, end: End, word: Word, ticket: &CircuitTicket) {
        self.settle_as(end, word, ticket);
    }

    #[expect(
        clippy::inline_always,
        reason = "with a success as a constant, no table of ends is looked up"
    )]
    #[inline(always)]
    fn settle_as(&self, end: End, word: Word, ticket: &CircuitTicket) {
        let needs_time = self.measure.needs_time(end);
        let now = if needs_time { time::now() } else { UNREAD };
        // Zero where the start was not measured.
        let ran = now.as_nanos().saturating_sub(ticket.started.as_nanos());
        let outcome = self.measure.outcome(end, ran);
        // A probe that does not count gives its place back.
        if outcome.is_some() || word.is(CircuitState::HalfOpen) {
            self.record(ticket.generation, outcome, now);
        }
    }

    /// The state of this generation; `None` if it counts nothing, or no more.
    #[inline]
    pub(super) fn word_of(&self, generation: u64) -> Option<Word> {
        let word = self.published.word();
        // Generations only grow: a late result stays late.
        let counts = word.generation() == generation && !word.is(CircuitState::Disabled);
        counts.then_some(word)
    }

    #[inline]
    pub(super) fn record(&self, generation: u64, outcome: Option<Outcome>, now: Instant) {
        if !self.count(generation, outcome, now) {
            self.decide(generation, outcome, now);
        }
    }

    /// Counts what decides nothing; `false` if the state has to be told.
    #[inline]
    pub(super) fn count(&self, generation: u64, outcome: Option<Outcome>, now: Instant) -> bool {
        let over = self.measure.timed_window && self.inbox.is_over(now);
        outcome.is_some_and(|outcome| !over && self.inbox.put(generation, outcome))
    }

    #[cold]
    pub(super) fn decide(&self, generation: u64, outcome: Option<Outcome>, mut now: Instant) {
        // A plain success opens nothing.
        if now == UNREAD && !outcome.is_some_and(Outcome::is_plain_success) {
            now = time::now();
        }
        let mut core = self.core.lock();
        let counts = || self.count(generation, outcome, now);
        // Others may have made room by now. Else we do, while they go on: what they count
        // meanwhile need not wait for the lock.
        if counts() || (self.makes_room(&mut core.state) && counts()) {
            return;
        }
        self.work(core, |state| state.settle(generation, outcome, now));
    }

    /// Tells the state what was counted; `false` where nothing can be.
    fn makes_room(&self, state: &mut State) -> bool {
        let Some(batch) = self.inbox.take() else {
            return false;
        };
        state.catch_up(batch);
        self.inbox.renew(state.terms());
        true
    }

    /// Works on the state under its lock.
    pub(super) fn change<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        self.work(self.core.lock(), work)
    }

    /// Works on the state when it has been told what was counted; publishes the result, then
    /// tells the hook.
    fn work<R>(&self, mut core: MutexGuard<'_, Core>, work: impl FnOnce(&mut State) -> R) -> R {
        core.state.catch_up(self.inbox.shut());
        let result = work(&mut core.state);
        // Every change of state begins a generation, and so changes the word.
        let delivers = self.published.update(&core.state) && self.queue(&mut core);
        self.inbox.open(core.state.terms());
        drop(core);
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
