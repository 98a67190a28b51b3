//! The pure state: what it does case by case, and against a slow obvious model.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;

use super::events::{Cause, CircuitState, StateChange};
use super::inbox::MOST_ROOM;
use super::open_times::OpenTimes;
use super::state::{Look, Rules, State, rate};
use super::window::{Counts, Outcome, Window};
use crate::models::{Move, moves};
use crate::retry::{Backoff, Delays, Jitter};
use crate::time::Instant;

pub(super) const START: Instant = Instant::from_nanos(1 << 60);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const OK: Option<Outcome> = Some(outcome(false, false));
pub(super) const FAILED: Option<Outcome> = Some(outcome(true, false));
pub(super) const SLOW: Option<Outcome> = Some(outcome(false, true));
const RULES: Rules = Rules {
    failure_rate: Some(0.5),
    slow_rate: Some(0.8),
    consecutive_failures: None,
    minimum_calls: 4,
    probes: 3,
    half_open_limit: Duration::from_secs(60),
};

const fn outcome(failed: bool, slow: bool) -> Outcome {
    Outcome { failed, slow }
}

fn at(seconds: u64) -> Instant {
    START.saturating_add(Duration::from_secs(seconds))
}

fn constant(span: Duration) -> Backoff {
    Backoff::constant(span).max_delay(span).jitter(Jitter::None)
}

pub(super) fn state_with(rules: Rules, window: Window, backoff: Backoff) -> State {
    State::new(rules, window.records(), OpenTimes::new(backoff, 7))
}

fn state(rules: Rules) -> State {
    state_with(rules, Window::calls(10), constant(10 * SECOND))
}

/// Admits and settles at once.
fn run(state: &mut State, outcome: Option<Outcome>, now: Instant) {
    let generation = state.admit(now).unwrap();
    state.settle(generation, outcome, now);
}

fn open(state: &mut State, now: Instant) {
    (0..4).for_each(|_| run(state, FAILED, now));
    assert_eq!(state.state(), CircuitState::Open);
}

#[test]
fn opens_at_the_rate_and_not_below_the_minimum() {
    let mut state = state(RULES);
    for _ in 0..3 {
        run(&mut state, FAILED, START);
    }
    assert_eq!(state.state(), CircuitState::Closed);
    run(&mut state, FAILED, START);
    assert_eq!(state.state(), CircuitState::Open);
    assert_eq!(state.admit(at(3)), Err(Some(7 * SECOND)));
}

#[test]
fn nothing_opens_on_a_plain_success() {
    let mut state = state(RULES);
    for outcome in [FAILED, FAILED, FAILED, OK] {
        run(&mut state, outcome, START);
    }
    assert_eq!(state.look(START).counts.failures, 3);
    assert_eq!(state.state(), CircuitState::Closed);
    run(&mut state, FAILED, START);
    assert_eq!(state.state(), CircuitState::Open);
}

#[test]
fn a_share_that_equals_the_setting_is_reached() {
    for percent in 1..=100u32 {
        let rules = Rules {
            failure_rate: Some(f64::from(percent) / 100.0),
            minimum_calls: 100,
            ..RULES
        };
        let mut state = state_with(rules, Window::calls(100), constant(SECOND));
        (percent..=100).for_each(|_| run(&mut state, OK, START));
        (1..percent).for_each(|_| run(&mut state, FAILED, START));
        assert_eq!(state.state(), CircuitState::Closed, "{percent} %");
        run(&mut state, FAILED, START);
        assert_eq!(state.state(), CircuitState::Open, "{percent} %");
    }
}

#[test]
fn slow_successes_open_at_their_own_rate() {
    let mut state = state(RULES);
    run(&mut state, OK, START);
    (0..3).for_each(|_| run(&mut state, SLOW, START));
    assert_eq!(state.state(), CircuitState::Closed);
    run(&mut state, SLOW, START);
    let change = state.take_change().unwrap();
    assert_eq!(
        (change.to, change.cause),
        (CircuitState::Open, Cause::SlowCallRate)
    );
}

#[test]
fn failures_in_a_row_open_whatever_the_window_holds() {
    let mut state = state(Rules {
        consecutive_failures: Some(2),
        failure_rate: None,
        ..RULES
    });
    for outcome in [FAILED, OK, FAILED, None, FAILED] {
        assert_eq!(state.state(), CircuitState::Closed);
        run(&mut state, outcome, START);
    }
    let change = state.take_change().unwrap();
    assert_eq!(change.cause, Cause::ConsecutiveFailures);
}

#[test]
fn all_probes_failing_opens_where_only_a_longer_row_would() {
    let mut state = state(Rules {
        consecutive_failures: Some(4),
        failure_rate: None,
        slow_rate: None,
        ..RULES
    });
    open(&mut state, START);
    (0..2).for_each(|_| run(&mut state, FAILED, at(10)));
    assert_eq!(state.state(), CircuitState::HalfOpen);
    run(&mut state, FAILED, at(10));
    assert_eq!(state.state(), CircuitState::Open);
}

/// Trap 7.
#[test]
fn half_open_decides_by_its_probes_alone_whatever_the_minimum() {
    let rules = Rules {
        minimum_calls: 4,
        probes: 1,
        ..RULES
    };
    let mut closes = state(rules);
    open(&mut closes, START);
    run(&mut closes, OK, at(10));
    assert_eq!(closes.state(), CircuitState::Closed);
    let mut opens = state(rules);
    open(&mut opens, START);
    run(&mut opens, FAILED, at(10));
    assert_eq!(opens.state(), CircuitState::Open);
}

#[test]
fn half_open_opens_as_soon_as_the_rest_could_not_save_it() {
    let mut state = state(RULES);
    open(&mut state, START);
    let generation = state.admit(at(10)).unwrap();
    state.admit(at(10)).unwrap();
    state.admit(at(10)).unwrap();
    state.settle(generation, FAILED, at(11));
    assert_eq!(state.state(), CircuitState::HalfOpen);
    state.settle(generation, FAILED, at(11));
    assert_eq!(state.state(), CircuitState::Open);
    state.settle(generation, FAILED, at(11));
    assert_eq!(state.look(at(11)).openings, 2);
}

/// Trap 2.
#[test]
fn admissions_and_not_completions_limit_the_probes() {
    let mut state = state(RULES);
    open(&mut state, START);
    for _ in 0..3 {
        assert!(state.admit(at(10)).is_ok());
    }
    assert_eq!(state.admit(at(10)), Err(Some(10 * SECOND)));
}

/// Trap 3, and 1 without the driver.
#[test]
fn a_probe_that_does_not_count_gives_its_place_back() {
    let mut state = state(Rules { probes: 1, ..RULES });
    open(&mut state, START);
    for _ in 0..100 {
        run(&mut state, None, at(10));
        assert_eq!(state.state(), CircuitState::HalfOpen);
    }
    run(&mut state, OK, at(10));
    assert_eq!(state.state(), CircuitState::Closed);
}

/// Trap 4.
#[test]
fn a_lost_probe_makes_room_and_its_late_result_is_ignored() {
    let mut state = state(RULES);
    open(&mut state, START);
    run(&mut state, OK, at(10));
    let lost = state.admit(at(11)).unwrap();
    state.admit(at(12)).unwrap();
    assert_eq!(state.admit(at(13)), Err(Some(10 * SECOND)));
    assert_eq!(state.admit(at(70)), Err(Some(SECOND)));
    let new = state.admit(at(71)).unwrap();
    assert_eq!(new, state.admit(at(72)).unwrap());
    assert!(state.admit(at(72)).is_err());
    state.settle(lost, FAILED, at(73));
    state.settle(lost, FAILED, at(73));
    assert_eq!(state.look(at(73)).counts.failures, 0);
    state.settle(new, OK, at(74));
    state.settle(new, OK, at(74));
    assert_eq!(state.state(), CircuitState::Closed);
}

/// Trap 4: the probes that come and go beside it do not make it younger.
#[test]
fn a_lost_probe_blocks_no_longer_than_the_limit_however_many_come_and_go() {
    let mut state = state(RULES);
    open(&mut state, START);
    state.admit(at(10)).unwrap();
    for second in 11..70 {
        run(&mut state, None, at(second));
    }
    let beside = [state.admit(at(70)).unwrap(), state.admit(at(70)).unwrap()];
    let new = state.admit(at(70)).unwrap();
    assert!(beside.iter().all(|generation| *generation < new));
}

#[test]
fn slow_traffic_closes_a_half_open_breaker_however_long_it_takes() {
    let mut state = state(RULES);
    open(&mut state, START);
    run(&mut state, OK, at(10));
    run(&mut state, OK, at(1_000));
    run(&mut state, OK, at(9_000));
    assert_eq!(state.state(), CircuitState::Closed);
}

/// Trap 5.
#[test]
fn a_call_admitted_before_the_breaker_opened_decides_nothing_later() {
    let mut state = state(RULES);
    let early = state.admit(START).unwrap();
    open(&mut state, START);
    state.settle(early, OK, at(1));
    state.admit(at(10)).unwrap();
    state.settle(early, OK, at(11));
    let look = state.look(at(11));
    assert_eq!((look.state, look.counts.calls), (CircuitState::HalfOpen, 0));
}

/// Trap 9.
#[test]
fn a_zero_open_time_is_a_probe_at_a_time_for_ever() {
    let rules = Rules { probes: 1, ..RULES };
    let mut state = state_with(rules, Window::calls(10), constant(Duration::ZERO));
    open(&mut state, START);
    for _ in 0..1_000_000 {
        run(&mut state, FAILED, START);
    }
    assert_eq!(state.look(START).openings, 1_000_001);
}

#[test]
fn the_longest_open_time_ends_by_reset_only() {
    let mut state = state_with(RULES, Window::calls(10), constant(Duration::MAX));
    open(&mut state, START);
    let late = Instant::from_nanos(u64::MAX - 1);
    assert_eq!(state.admit(late), Err(None));
    assert_eq!(state.admit(Instant::NEVER), Err(None));
    state.reset();
    assert!(state.admit(late).is_ok());
}

#[test]
fn open_times_grow_until_the_breaker_closes() {
    let backoff = Backoff::exponential(SECOND).jitter(Jitter::None);
    let mut state = state_with(Rules { probes: 1, ..RULES }, Window::calls(10), backoff);
    let mut now = START;
    let mut span = |state: &mut State| {
        let span = state.take_change().unwrap().open_for.unwrap();
        now = now.saturating_add(span);
        (span.as_secs(), now)
    };
    open(&mut state, START);
    for expected in [1, 2, 4, 8] {
        let (seconds, now) = span(&mut state);
        assert_eq!(seconds, expected);
        run(&mut state, FAILED, now);
    }
    let (_, now) = span(&mut state);
    run(&mut state, OK, now);
    assert_eq!(state.state(), CircuitState::Closed);
    open(&mut state, now);
    assert_eq!(span(&mut state).0, 1);
}

#[test]
fn the_jitter_of_open_times_is_its_seeds_and_does_not_repeat() {
    let spans = |seed| {
        let backoff = Backoff::constant(SECOND).jitter(Jitter::Equal);
        let times = OpenTimes::new(backoff, seed);
        let mut state = State::new(RULES, Window::calls(10).records(), times);
        let mut spans = Vec::new();
        for _ in 0..20 {
            open(&mut state, START);
            spans.push(state.take_change().unwrap().open_for.unwrap());
            state.reset();
        }
        spans
    };
    assert_eq!(spans(1), spans(1));
    assert_ne!(spans(1), spans(2));
    let distinct: HashSet<_> = spans(1).into_iter().collect();
    assert!(distinct.len() > 10, "{distinct:?}");
    assert!(distinct.iter().all(|d| (SECOND / 2..=SECOND).contains(d)));
}

/// Without terms every result would have to ask.
#[test]
fn only_where_results_count_is_there_something_to_count_without_asking() {
    let mut state = state(RULES);
    let of = |state: &State| state.terms().map(|terms| (terms.generation, terms.room));
    assert_eq!(
        of(&state),
        Some((0, 1)),
        "three failures of four would open it"
    );
    (0..10).for_each(|_| run(&mut state, OK, START));
    assert_eq!(of(&state), Some((0, 3)), "seven of ten would");
    state.metrics_only();
    assert_eq!(of(&state), Some((1, MOST_ROOM)));
    state.disable();
    assert!(of(&state).is_none());
    state.force_open();
    assert!(of(&state).is_none());
    state.reset();
    open(&mut state, START);
    assert!(of(&state).is_none());
    state.admit(at(10)).unwrap();
    assert!(of(&state).is_none());
}

#[test]
fn far_from_the_end_of_the_window_each_call_more_is_one_more_of_them() {
    let mut state = state_with(RULES, Window::calls(1_000), constant(SECOND));
    (0..6).for_each(|_| run(&mut state, OK, START));
    (0..4).for_each(|_| run(&mut state, FAILED, START));
    let room = state.terms().map(|terms| terms.room);
    assert_eq!(room, Some(1), "seven of thirteen would open it");
}

/// Trap 14.
#[test]
fn an_operators_order_holds_until_the_next() {
    let mut state = state(RULES);
    state.force_open();
    assert_eq!(state.admit(at(1_000_000)), Err(None));
    state.disable();
    (0..100).for_each(|_| run(&mut state, FAILED, START));
    assert_eq!(state.look(START).counts, Counts::default());
    state.metrics_only();
    (0..100).for_each(|_| run(&mut state, FAILED, START));
    assert_eq!(state.look(START).counts.failures, 10);
    assert_eq!(state.state(), CircuitState::MetricsOnly);
    state.reset();
    assert_eq!(state.look(START).counts.calls, 0);
    open(&mut state, START);
}

#[test]
fn an_order_given_twice_is_one_change() {
    let mut state = state(RULES);
    for order in [State::force_open, State::disable, State::metrics_only] {
        order(&mut state);
        assert!(state.take_change().is_some());
        order(&mut state);
        assert_eq!(state.take_change(), None);
    }
    state.reset();
    let generation = state.generation();
    assert!(state.take_change().is_some());
    state.reset();
    assert_eq!(state.take_change(), None);
    assert!(state.generation() > generation, "late results stay late");
}

#[test]
fn a_ticket_settled_twice_does_no_harm() {
    let mut state = state(RULES);
    open(&mut state, START);
    let generation = state.admit(at(10)).unwrap();
    (0..3).for_each(|_| state.settle(generation, None, at(10)));
    (0..3).for_each(|_| assert!(state.admit(at(10)).is_ok()));
    assert!(state.admit(at(10)).is_err());
}

/// The slow, obvious reference: it keeps every call, every probe and every ticket.
pub(super) struct Model {
    rules: Rules,
    window: ModelWindow,
    spans: Vec<Duration>,
    pub(super) state: CircuitState,
    log: Vec<(u64, Outcome)>,
    /// The latest time that the window was told: a clock that goes back leaves it there.
    latest: u64,
    row: u32,
    /// Openings since it was closed.
    opened: usize,
    openings: u64,
    until: Instant,
    span: Duration,
    out: Vec<usize>,
    ended: Vec<Outcome>,
    since: Instant,
    /// The calls whose result still counts.
    live: HashSet<usize>,
    pub(super) events: Vec<(CircuitState, CircuitState, Cause)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum ModelWindow {
    Calls(usize),
    /// In steps of this many nanoseconds.
    Time(u64),
}

impl Model {
    pub(super) fn new(rules: Rules, window: ModelWindow, backoff: Backoff) -> Self {
        Self {
            rules,
            window,
            spans: backoff.delays(|| 0).take(500).collect(),
            state: CircuitState::Closed,
            log: Vec::new(),
            latest: 0,
            row: 0,
            opened: 0,
            openings: 0,
            until: Instant::NEVER,
            span: Duration::ZERO,
            out: Vec::new(),
            ended: Vec::new(),
            since: START,
            live: HashSet::new(),
            events: Vec::new(),
        }
    }

    fn change(&mut self, to: CircuitState, cause: Cause) {
        let from = std::mem::replace(&mut self.state, to);
        if from != to {
            self.events.push((from, to, cause));
        }
        self.live.clear();
        match to {
            CircuitState::Closed | CircuitState::MetricsOnly => {
                self.log.clear();
                self.row = 0;
            }
            CircuitState::HalfOpen => self.row = 0,
            _ => {}
        }
        if to == CircuitState::Closed {
            self.opened = 0;
        }
        self.out.clear();
        self.ended.clear();
    }

    pub(super) fn order(&mut self, to: CircuitState) {
        if self.state != to || to == CircuitState::Closed {
            self.change(to, Cause::Operator);
        }
    }

    pub(super) fn admit(&mut self, call: usize, now: Instant) -> Result<(), Option<Duration>> {
        match self.state {
            CircuitState::ForcedOpen => return Err(None),
            CircuitState::Open if self.until == Instant::NEVER => return Err(None),
            CircuitState::Open if now < self.until => return Err(Some(self.until.since(now))),
            CircuitState::Open => self.change(CircuitState::HalfOpen, Cause::OpenTimeElapsed),
            _ => {}
        }
        if self.state == CircuitState::HalfOpen {
            let taken = self.out.len() + self.ended.len();
            if taken == self.rules.probes as usize {
                let lost = self.since.saturating_add(self.rules.half_open_limit);
                if lost == Instant::NEVER {
                    return Err(Some(self.span));
                }
                if now < lost {
                    return Err(Some(self.span.min(lost.since(now))));
                }
                self.out.clear();
                self.live.clear();
            }
            if self.out.is_empty() {
                self.since = now;
            }
            self.out.push(call);
        }
        self.live.insert(call);
        Ok(())
    }

    pub(super) fn settle(&mut self, call: usize, outcome: Option<Outcome>, now: Instant) {
        if !self.live.remove(&call) {
            return;
        }
        self.out.retain(|out| *out != call);
        let counted = match (self.state, outcome) {
            (CircuitState::Disabled, _) | (_, None) => return,
            (_, Some(outcome)) => outcome,
        };
        self.row = if counted.failed { self.row + 1 } else { 0 };
        if self.state == CircuitState::HalfOpen {
            self.ended.push(counted);
            self.judge_probes(now);
        } else {
            self.latest = self.latest.max(now.as_nanos());
            self.log.push((self.latest, counted));
            if self.state == CircuitState::Closed && (counted.failed || counted.slow) {
                self.judge_window(now);
            }
        }
    }

    fn judge_window(&mut self, now: Instant) {
        let counts = self.counts(now);
        let enough = counts.calls >= u64::from(self.rules.minimum_calls);
        let row = self.rules.consecutive_failures;
        if row.is_some_and(|limit| self.row >= limit) {
            self.open(Cause::ConsecutiveFailures, now);
        } else if enough && reached(self.rules.failure_rate, counts.failures, counts.calls) {
            self.open(Cause::FailureRate, now);
        } else if enough && reached(self.rules.slow_rate, counts.slow, counts.calls) {
            self.open(Cause::SlowCallRate, now);
        }
    }

    fn judge_probes(&mut self, now: Instant) {
        let counts = sums(&self.ended);
        let all = self.rules.probes;
        let row = self.rules.consecutive_failures;
        if row.is_some_and(|limit| self.row >= limit.min(all)) {
            self.open(Cause::ConsecutiveFailures, now);
        } else if reached(self.rules.failure_rate, counts.failures, all.into()) {
            self.open(Cause::FailureRate, now);
        } else if reached(self.rules.slow_rate, counts.slow, all.into()) {
            self.open(Cause::SlowCallRate, now);
        } else if counts.calls == u64::from(all) {
            self.change(CircuitState::Closed, Cause::ProbesSucceeded);
        }
    }

    fn open(&mut self, cause: Cause, now: Instant) {
        self.span = self.spans[self.opened];
        self.until = now.saturating_add(self.span);
        self.opened += 1;
        self.openings += 1;
        self.change(CircuitState::Open, cause);
    }

    fn counts(&mut self, now: Instant) -> Counts {
        self.latest = self.latest.max(now.as_nanos());
        let kept: Vec<Outcome> = match self.window {
            ModelWindow::Calls(size) => {
                let first = self.log.len().saturating_sub(size);
                self.log[first..].iter().map(|entry| entry.1).collect()
            }
            ModelWindow::Time(step) => {
                let now = self.latest / step;
                let kept = self.log.iter().filter(|(at, _)| now - at / step < 32);
                kept.map(|entry| entry.1).collect()
            }
        };
        sums(&kept)
    }

    pub(super) fn look(&mut self, now: Instant, generation: u64) -> Look {
        let open = self.state == CircuitState::Open && self.until != Instant::NEVER;
        Look {
            state: self.state,
            counts: match self.state {
                CircuitState::HalfOpen => sums(&self.ended),
                _ => self.counts(now),
            },
            consecutive_failures: self.row,
            until_half_open: open.then(|| self.until.since(now)),
            generation,
            openings: self.openings,
        }
    }
}

fn reached(limit: Option<f64>, part: u64, of: u64) -> bool {
    limit.is_some_and(|limit| rate(part, of) >= limit)
}

fn sums(outcomes: &[Outcome]) -> Counts {
    let mut counts = Counts::default();
    for outcome in outcomes {
        counts.add(*outcome);
    }
    counts
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Admit,
    Settle(prop::sample::Index, Option<Outcome>),
    Run(Option<Outcome>),
    Pass(Move),
    ForceOpen,
    Disable,
    MetricsOnly,
    Reset,
}

fn op() -> impl Strategy<Value = Op> {
    let outcome = || {
        prop_oneof![
            4 => Just(OK),
            5 => Just(FAILED),
            2 => Just(SLOW),
            1 => Just(Some(outcome(true, true))),
            2 => Just(None),
        ]
    };
    prop_oneof![
        10 => Just(Op::Admit),
        8 => (any::<prop::sample::Index>(), outcome()).prop_map(|(at, o)| Op::Settle(at, o)),
        12 => outcome().prop_map(Op::Run),
        8 => moves(5 * SECOND / 2).prop_map(Op::Pass),
        1 => Just(Op::ForceOpen),
        1 => Just(Op::Disable),
        1 => Just(Op::MetricsOnly),
        2 => Just(Op::Reset),
    ]
}

pub(super) fn rules() -> impl Strategy<Value = Rules> {
    (
        prop::option::weighted(0.7, 0.05..=1.0f64),
        prop::option::of(0.05..=1.0f64),
        prop::option::of(1..5u32),
        1..6u32,
        1..5u32,
        1..8u64,
    )
        .prop_map(
            |(failure_rate, slow_rate, row, minimum, probes, limit)| Rules {
                failure_rate,
                slow_rate,
                consecutive_failures: row,
                minimum_calls: minimum,
                probes,
                half_open_limit: Duration::from_secs(limit),
            },
        )
}

/// Both kinds, with the model's description of each.
fn window() -> impl Strategy<Value = (Window, ModelWindow)> {
    prop_oneof![
        (1..9u32).prop_map(|n| (Window::calls(n), ModelWindow::Calls(n as usize))),
        (1..9u64).prop_map(|seconds| {
            let span = Duration::from_secs(seconds);
            let step = seconds * 1_000_000_000 / 32;
            (Window::time(span), ModelWindow::Time(step))
        }),
    ]
}

/// Whether a plain success need not be counted.
fn is_quiet(state: &State) -> bool {
    state.terms().is_some_and(|terms| terms.quiet)
}

pub(super) fn told(change: &StateChange) -> (CircuitState, CircuitState, Cause) {
    (change.from, change.to, change.cause)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::models::cases("breaker"), ..ProptestConfig::default() })]
    #[test]
    fn behaves_like_the_slow_model(
        rules in rules(),
        (window, model_window) in window(),
        ops in prop::collection::vec(op(), 0..40),
    ) {
        let backoff = Backoff::exponential(SECOND).jitter(Jitter::None).max_delay(4 * SECOND);
        let mut state = state_with(rules, window, backoff);
        let mut model = Model::new(rules, model_window, backoff);
        let mut now = START;
        let mut tickets: Vec<(usize, u64)> = Vec::new();
        let mut changes = 0;
        for (call, op) in ops.into_iter().enumerate() {
            let told_before = model.events.len();
            let generation = state.generation();
            match op {
                Op::Admit | Op::Run(_) => {
                    let admitted = state.admit(now);
                    prop_assert_eq!(admitted.map(|_| ()), model.admit(call, now));
                    tickets.extend(admitted.map(|generation| (call, generation)));
                }
                Op::Pass(by) => now = Instant::from_nanos(by.from(now.as_nanos())),
                Op::ForceOpen => { state.force_open(); model.order(CircuitState::ForcedOpen); }
                Op::Disable => { state.disable(); model.order(CircuitState::Disabled); }
                Op::MetricsOnly => { state.metrics_only(); model.order(CircuitState::MetricsOnly); }
                Op::Reset => { state.reset(); model.order(CircuitState::Closed); }
                Op::Settle(..) => {}
            }
            // One change at most is made by each step.
            let mut made: Vec<_> = state.take_change().into_iter().collect();
            let settled = match op {
                Op::Settle(at, outcome) if !tickets.is_empty() => {
                    Some((tickets.swap_remove(at.index(tickets.len())), outcome))
                }
                Op::Run(outcome) if tickets.last().is_some_and(|ticket| ticket.0 == call) => {
                    tickets.pop().map(|ticket| (ticket, outcome))
                }
                _ => None,
            };
            if let Some(((call, generation), outcome)) = settled {
                let timeless = outcome == OK && matches!(model_window, ModelWindow::Calls(_));
                let quiet = is_quiet(&state).then(|| state.look(now));
                state.settle(generation, outcome, if timeless { Instant::NEVER } else { now });
                model.settle(call, outcome, now);
                if let Some(before) = quiet.filter(|_| outcome == OK) {
                    prop_assert_eq!(state.look(now), before);
                    prop_assert!(is_quiet(&state));
                }
                made.extend(state.take_change());
            }
            let expected = &model.events[told_before..];
            prop_assert_eq!(made.iter().map(told).collect::<Vec<_>>(), expected);
            for change in &made {
                changes += 1;
                prop_assert_eq!(change.number, changes);
                let opened = change.to == CircuitState::Open;
                prop_assert_eq!(change.open_for, opened.then_some(model.span));
            }
            prop_assert!(state.generation() >= generation + made.len() as u64);
            prop_assert_eq!(state.look(now), model.look(now, state.generation()));
        }
    }
}
