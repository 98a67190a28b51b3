//! Closed, open, half-open, and what an operator may order: a pure state, told the time.
//!
//! Invariants:
//! - A result counts only in the generation that admitted its call; every change of state
//!   begins a new one, and so does the replacement of lost probes.
//! - Half-open: `out + ended.calls <= probes`, and `ended.calls < probes`.
//! - Nothing opens on a plain success: it only dilutes the rates.
//! - Each operation changes the state at most once.
//! - What is counted by its [`Terms`] behind its back, and told to it by `catch_up` before
//!   anything else, would have changed nothing but the counts.

use std::time::Duration;

use super::batch::Batch;
use super::events::{Cause, CircuitState, StateChange};
use super::inbox::{MOST_ROOM, Terms};
use super::open_times::OpenTimes;
use super::window::{Counts, Outcome, Records};
use crate::time::Instant;

/// When to open and when to close.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) failure_rate: Option<f64>,
    pub(super) slow_rate: Option<f64>,
    pub(super) consecutive_failures: Option<u32>,
    pub(super) minimum_calls: u32,
    pub(super) probes: u32,
    pub(super) half_open_limit: Duration,
}

impl Rules {
    fn broken_by(&self, counts: Counts, of: u64, in_a_row: u32, row: u32) -> Option<Cause> {
        let row = self.consecutive_failures.map(|limit| limit.min(row));
        if row.is_some_and(|limit| in_a_row >= limit) {
            return Some(Cause::ConsecutiveFailures);
        }
        if self
            .failure_rate
            .is_some_and(|r| rate(counts.failures, of) >= r)
        {
            return Some(Cause::FailureRate);
        }
        let slow = self.slow_rate.is_some_and(|r| rate(counts.slow, of) >= r);
        slow.then_some(Cause::SlowCallRate)
    }
}

/// A quotient, because it is what a user writes: 55 of 100 is the very number 0.55, while
/// 0.55 times 100 is a little more than 55.
#[expect(
    clippy::cast_precision_loss,
    reason = "a window of 2^53 calls is not seen in a lifetime"
)]
pub(super) fn rate(part: u64, of: u64) -> f64 {
    part as f64 / of as f64
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed,
    Open { until: Instant, span: Duration },
    HalfOpen(Probes),
    ForcedOpen,
    Disabled,
    MetricsOnly,
}

/// The calls of a half-open breaker.
#[derive(Clone, Copy, Debug)]
struct Probes {
    /// Admitted and not settled.
    out: u32,
    /// Those that have counted.
    ended: Counts,
    /// Since when there has been one that was not settled.
    since: Instant,
    /// How long the breaker was open before.
    span: Duration,
}

/// The state; see the module's text.
#[derive(Debug)]
pub(super) struct State {
    rules: Rules,
    records: Records,
    in_a_row: u32,
    open_times: OpenTimes,
    phase: Phase,
    generation: u64,
    openings: u64,
    changes: u64,
    change: Option<StateChange>,
}

/// What is in the window: the calls of the phase, or those that led to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) state: CircuitState,
    pub(super) counts: Counts,
    pub(super) consecutive_failures: u32,
    pub(super) until_half_open: Option<Duration>,
    pub(super) generation: u64,
    pub(super) openings: u64,
}

impl State {
    pub(super) fn new(rules: Rules, records: Records, open_times: OpenTimes) -> Self {
        Self {
            rules,
            records,
            in_a_row: 0,
            open_times,
            phase: Phase::Closed,
            generation: 0,
            openings: 0,
            changes: 0,
            change: None,
        }
    }

    pub(super) fn state(&self) -> CircuitState {
        match self.phase {
            Phase::Closed => CircuitState::Closed,
            Phase::Open { .. } => CircuitState::Open,
            Phase::HalfOpen(_) => CircuitState::HalfOpen,
            Phase::ForcedOpen => CircuitState::ForcedOpen,
            Phase::Disabled => CircuitState::Disabled,
            Phase::MetricsOnly => CircuitState::MetricsOnly,
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// When it may become half-open.
    pub(super) fn open_until(&self) -> Instant {
        match self.phase {
            Phase::Open { until, .. } => until,
            _ => Instant::NEVER,
        }
    }

    /// What may be counted without asking; `None` if nothing.
    pub(super) fn terms(&self) -> Option<Terms> {
        let room = match self.phase {
            Phase::Closed => self.room(),
            Phase::MetricsOnly => MOST_ROOM,
            _ => return None,
        };
        Some(Terms {
            generation: self.generation,
            quiet: self.records.is_full_of_plain_successes(),
            room,
            until: self.records.until(),
        })
    }

    /// How many more failures or slow calls certainly do not open it, however many plain
    /// successes end among them. Far from a limit it need not be exact; near one, each is
    /// asked about.
    fn room(&self) -> u32 {
        let certain = |calls: &u32| self.worst_case(*calls).is_none();
        let room = [MOST_ROOM, MOST_ROOM / 2, 1].into_iter().find(certain);
        room.unwrap_or(0)
    }

    /// What so many more calls could break, if each failed, was slow, and came next. Plain
    /// successes only dilute that; but they may be what makes up the minimum.
    fn worst_case(&self, more: u32) -> Option<Cause> {
        let now = self.records.latest_counts();
        let more_calls = u64::from(more);
        let of = (now.calls + more_calls).min(self.records.capacity());
        let of = of.max(self.rules.minimum_calls.into());
        let counts = Counts {
            calls: of,
            failures: now.failures + more_calls,
            slow: now.slow + more_calls,
        };
        let in_a_row = self.in_a_row.saturating_add(more);
        self.rules.broken_by(counts, of, in_a_row, u32::MAX)
    }

    /// Records what was counted by the latest terms.
    pub(super) fn catch_up(&mut self, batch: Batch) {
        if !batch.is_empty() {
            self.records.extend(batch);
            self.in_a_row = batch.failed_in_a_row(self.in_a_row);
        }
    }

    /// What the latest operation changed, to be told exactly once.
    pub(super) fn take_change(&mut self) -> Option<StateChange> {
        self.change.take()
    }

    pub(super) fn look(&mut self, now: Instant) -> Look {
        let counts = match self.phase {
            Phase::HalfOpen(probes) => probes.ended,
            _ => self.records.counts(now),
        };
        Look {
            state: self.state(),
            counts,
            consecutive_failures: self.in_a_row,
            until_half_open: wait(self.open_until(), now),
            generation: self.generation,
            openings: self.openings,
        }
    }

    /// Admits a call into the generation returned, or says when to come back.
    pub(super) fn admit(&mut self, now: Instant) -> Result<u64, Option<Duration>> {
        match self.phase {
            Phase::Closed | Phase::Disabled | Phase::MetricsOnly => Ok(self.generation),
            Phase::ForcedOpen => Err(None),
            Phase::Open { until, .. } if now < until || until == Instant::NEVER => {
                Err(wait(until, now))
            }
            Phase::Open { span, .. } => {
                let probes = Probes {
                    out: 0,
                    ended: Counts::default(),
                    since: now,
                    span,
                };
                self.change_to(Phase::HalfOpen(probes), Cause::OpenTimeElapsed);
                self.admit_probe(probes, now)
            }
            Phase::HalfOpen(probes) => self.admit_probe(probes, now),
        }
    }

    fn admit_probe(&mut self, mut probes: Probes, now: Instant) -> Result<u64, Option<Duration>> {
        let lost_at = probes.since.saturating_add(self.rules.half_open_limit);
        if u64::from(probes.out) + probes.ended.calls >= u64::from(self.rules.probes) {
            if now < lost_at || lost_at == Instant::NEVER {
                let lost_in = wait(lost_at, now).unwrap_or(Duration::MAX);
                return Err(Some(probes.span.min(lost_in)));
            }
            // Those that are out are written off; what has ended still counts.
            self.generation += 1;
            probes.out = 0;
        }
        if probes.out == 0 {
            probes.since = now;
        }
        probes.out += 1;
        self.phase = Phase::HalfOpen(probes);
        Ok(self.generation)
    }

    /// Takes a call back; `None` if it does not count. `now` is not looked at when a window
    /// of calls meets a plain success.
    pub(super) fn settle(&mut self, generation: u64, outcome: Option<Outcome>, now: Instant) {
        if generation != self.generation {
            return;
        }
        match (self.phase, outcome) {
            (Phase::Closed, Some(outcome)) => {
                self.record(outcome, now);
                if !outcome.is_plain_success() {
                    self.open_if_broken(now);
                }
            }
            (Phase::MetricsOnly, Some(outcome)) => self.record(outcome, now),
            (Phase::HalfOpen(probes), outcome) => self.settle_probe(probes, outcome, now),
            (Phase::Closed | Phase::MetricsOnly, None)
            | (Phase::Open { .. } | Phase::ForcedOpen | Phase::Disabled, _) => {}
        }
    }

    fn record(&mut self, outcome: Outcome, now: Instant) {
        self.records.record(outcome, now);
        self.count_row(outcome);
    }

    fn count_row(&mut self, outcome: Outcome) {
        self.in_a_row = if outcome.failed {
            self.in_a_row.saturating_add(1)
        } else {
            0
        };
    }

    fn open_if_broken(&mut self, now: Instant) {
        let counts = self.records.counts(now);
        let rules = Rules {
            failure_rate: self.rules.failure_rate.filter(|_| self.has_enough(counts)),
            slow_rate: self.rules.slow_rate.filter(|_| self.has_enough(counts)),
            ..self.rules
        };
        if let Some(cause) = rules.broken_by(counts, counts.calls, self.in_a_row, u32::MAX) {
            self.open(cause, now);
        }
    }

    fn has_enough(&self, counts: Counts) -> bool {
        counts.calls >= u64::from(self.rules.minimum_calls)
    }

    /// Opens as soon as the probes still out could not save it, closes when all have ended.
    fn settle_probe(&mut self, mut probes: Probes, outcome: Option<Outcome>, now: Instant) {
        // Saturating: nothing keeps a gate's driver from settling another breaker's ticket.
        probes.out = probes.out.saturating_sub(1);
        if let Some(outcome) = outcome {
            probes.ended.add(outcome);
            self.count_row(outcome);
        }
        self.phase = Phase::HalfOpen(probes);
        let all = self.rules.probes;
        let rules = self.rules;
        let broken = rules.broken_by(probes.ended, all.into(), self.in_a_row, all);
        if let Some(cause) = broken {
            self.open(cause, now);
        } else if probes.ended.calls >= u64::from(all) {
            self.change_to(Phase::Closed, Cause::ProbesSucceeded);
        }
    }

    fn open(&mut self, cause: Cause, now: Instant) {
        let span = self.open_times.next();
        let until = now.saturating_add(span);
        self.openings += 1;
        self.change_to(Phase::Open { until, span }, cause);
    }

    /// Open until told otherwise.
    pub(super) fn force_open(&mut self) {
        self.order(Phase::ForcedOpen);
    }

    /// Lets everything pass and counts nothing until told otherwise.
    pub(super) fn disable(&mut self) {
        self.order(Phase::Disabled);
    }

    /// Lets everything pass and counts until told otherwise.
    pub(super) fn metrics_only(&mut self) {
        self.order(Phase::MetricsOnly);
    }

    /// Back to closed, with an empty window.
    pub(super) fn reset(&mut self) {
        self.change_to(Phase::Closed, Cause::Operator);
    }

    /// An order given twice is given once.
    fn order(&mut self, phase: Phase) {
        if std::mem::discriminant(&self.phase) != std::mem::discriminant(&phase) {
            self.change_to(phase, Cause::Operator);
        }
    }

    fn change_to(&mut self, phase: Phase, cause: Cause) {
        let from = self.state();
        self.phase = phase;
        self.generation += 1;
        let to = self.state();
        match phase {
            Phase::Closed => {
                self.records.clear();
                self.open_times.restart();
                self.in_a_row = 0;
            }
            Phase::MetricsOnly => {
                self.records.clear();
                self.in_a_row = 0;
            }
            Phase::HalfOpen(_) => self.in_a_row = 0,
            Phase::Open { .. } | Phase::ForcedOpen | Phase::Disabled => {}
        }
        if from != to {
            self.changes += 1;
            self.change = Some(StateChange {
                number: self.changes,
                from,
                to,
                cause,
                open_for: match phase {
                    Phase::Open { span, .. } => Some(span),
                    _ => None,
                },
            });
        }
    }
}

/// The time left; `None` where it never comes.
pub(super) fn wait(until: Instant, now: Instant) -> Option<Duration> {
    (until != Instant::NEVER).then(|| until.since(now))
}
