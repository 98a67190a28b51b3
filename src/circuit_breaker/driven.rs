//! The state and the words beside it, told the time: with one thread they decide what the slow
//! model decides, and with many nothing is lost or told twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use proptest::prelude::*;

use super::batch::{DEPTH, MOST};
use super::classify::{Cancelled, Measure};
use super::events::{CircuitState, StateChange};
use super::model::{FAILED, Model, ModelWindow, OK, SECOND, SLOW, START, rules, state_with, told};
use super::published::Word;
use super::shared::Shared;
use super::state::{Look, Rules, State};
use super::window::{Outcome, Window};
use crate::models::{Move, moves};
use crate::retry::{Backoff, Jitter};
use crate::testing::rounds;
use crate::time::Instant;

struct Driven {
    shared: Shared,
    changes: Arc<Mutex<Vec<StateChange>>>,
}

impl Driven {
    fn new(state: State, timed_window: bool) -> Self {
        let measure = Measure {
            slower_than: Measure::NEVER_SLOW,
            cancelled: Cancelled::Ignore,
            timed_window,
        };
        let changes: Arc<Mutex<Vec<StateChange>>> = Arc::default();
        let log = Arc::clone(&changes);
        let hook = move |change: &StateChange| log.lock().unwrap().push(*change);
        let shared = Shared::new("".into(), state, measure, Some(Arc::new(hook)));
        Self { shared, changes }
    }

    fn admit(&self, now: Instant) -> Result<u64, Option<Duration>> {
        let word = self.shared.published.word();
        match word.state() {
            CircuitState::Closed | CircuitState::MetricsOnly | CircuitState::Disabled => {
                Ok(word.generation())
            }
            _ => self.shared.change(|state| state.admit(now)),
        }
    }

    fn settle(&self, generation: u64, outcome: Option<Outcome>, now: Instant) {
        let word = self.shared.word_of(generation);
        let counts = |word: Word| outcome.is_some() || word.is(CircuitState::HalfOpen);
        if word.is_some_and(counts) {
            self.shared.record(generation, outcome, now);
        }
    }

    /// Looking tells the state what was counted.
    fn look(&self, now: Instant) -> Look {
        self.shared.change(|state| state.look(now))
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Admit,
    Settle(prop::sample::Index, Option<Outcome>),
    Run(usize, Option<Outcome>),
    Pass(Move),
    Order(CircuitState),
    Look,
}

fn op() -> impl Strategy<Value = Op> {
    let outcome = || {
        prop_oneof![
            12 => Just(OK),
            4 => Just(FAILED),
            2 => Just(SLOW),
            1 => Just(Some(Outcome { failed: true, slow: true })),
            2 => Just(None),
        ]
    };
    let order = prop_oneof![
        Just(CircuitState::ForcedOpen),
        Just(CircuitState::Disabled),
        Just(CircuitState::MetricsOnly),
        Just(CircuitState::Closed),
        Just(CircuitState::Closed),
    ];
    prop_oneof![
        6 => Just(Op::Admit),
        6 => (any::<prop::sample::Index>(), outcome()).prop_map(|(at, o)| Op::Settle(at, o)),
        40 => outcome().prop_map(|o| Op::Run(1, o)),
        4 => (1..300usize).prop_map(|times| Op::Run(times, OK)),
        2 => moves(5 * SECOND / 2).prop_map(Op::Pass),
        1 => order.prop_map(Op::Order),
        1 => Just(Op::Look),
    ]
}

/// Wider than the model's own, so that there is room before a limit.
fn window() -> impl Strategy<Value = (Window, ModelWindow)> {
    prop_oneof![
        (1..90u32).prop_map(|n| (Window::calls(n), ModelWindow::Calls(n as usize))),
        (1..9u64).prop_map(|seconds| {
            let step = seconds * 1_000_000_000 / 32;
            let span = Duration::from_secs(seconds);
            (Window::time(span), ModelWindow::Time(step))
        }),
    ]
}

fn higher_rates() -> impl Strategy<Value = Rules> {
    let row = prop::option::of(3..20u32);
    (rules(), 1..30u32, 0.2..=1.0f64, row).prop_map(|(rules, minimum_calls, rate, row)| Rules {
        failure_rate: rules.failure_rate.map(|_| rate),
        slow_rate: rules.slow_rate.map(|_| rate),
        consecutive_failures: row,
        minimum_calls,
        ..rules
    })
}

fn order(driven: &Driven, model: &mut Model, state: CircuitState) {
    driven.shared.change(match state {
        CircuitState::ForcedOpen => State::force_open,
        CircuitState::Disabled => State::disable,
        CircuitState::MetricsOnly => State::metrics_only,
        _ => State::reset,
    });
    model.order(state);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::models::cases("breaker"), ..ProptestConfig::default() })]
    #[test]
    #[cfg_attr(miri, ignore = "on one thread, and the model is too slow for it")]
    fn with_its_words_it_behaves_like_the_slow_model(
        rules in prop_oneof![rules(), higher_rates()],
        (window, model_window) in window(),
        ops in prop::collection::vec(op(), 0..120),
    ) {
        let backoff = Backoff::exponential(SECOND).jitter(Jitter::None).max_delay(4 * SECOND);
        let timed_window = matches!(model_window, ModelWindow::Time(_));
        let driven = Driven::new(state_with(rules, window, backoff), timed_window);
        let mut model = Model::new(rules, model_window, backoff);
        let mut now = START;
        let mut tickets: Vec<(usize, u64)> = Vec::new();
        let mut calls = 0;
        for op in ops.into_iter().chain([Op::Look]) {
            let mut admit = |model: &mut Model, now| {
                let admitted = driven.admit(now);
                calls += 1;
                prop_assert_eq!(admitted.map(|_| ()), model.admit(calls, now));
                Ok(admitted.ok().map(|generation| (calls, generation)))
            };
            match op {
                Op::Admit => tickets.extend(admit(&mut model, now)?),
                Op::Settle(at, outcome) if !tickets.is_empty() => {
                    let (call, generation) = tickets.swap_remove(at.index(tickets.len()));
                    driven.settle(generation, outcome, now);
                    model.settle(call, outcome, now);
                }
                Op::Run(times, outcome) => for _ in 0..times {
                    if let Some((call, generation)) = admit(&mut model, now)? {
                        driven.settle(generation, outcome, now);
                        model.settle(call, outcome, now);
                    }
                },
                Op::Pass(by) => now = Instant::from_nanos(by.from(now.as_nanos())),
                Op::Order(state) => order(&driven, &mut model, state),
                Op::Look => {
                    let look = driven.look(now);
                    prop_assert_eq!(look, model.look(now, look.generation));
                }
                Op::Settle(..) => {}
            }
            prop_assert_eq!(driven.shared.state(), model.state);
            let changes = driven.changes.lock().unwrap();
            prop_assert_eq!(changes.iter().map(told).collect::<Vec<_>>(), &model.events[..]);
        }
    }
}

const LENIENT: Rules = Rules {
    failure_rate: Some(1.0),
    slow_rate: None,
    consecutive_failures: None,
    minimum_calls: 1_000_000,
    probes: 1,
    half_open_limit: SECOND,
};

fn lenient(window: Window, timed_window: bool) -> Driven {
    let backoff = Backoff::constant(SECOND).jitter(Jitter::None);
    Driven::new(state_with(LENIENT, window, backoff), timed_window)
}

/// How many words there are to fill until the state has to be told.
#[test]
fn a_row_of_plain_successes_asks_the_state_once_in_254_calls_and_then_never() {
    let driven = lenient(Window::calls(300), false);
    let many = if cfg!(miri) { 1_000 } else { 100_000 };
    let asks = |calls: u32, outcome: Option<Outcome>| {
        let count = || driven.shared.count(0, outcome, START);
        (0..calls)
            .filter(|_| !count())
            .map(|_| driven.shared.decide(0, outcome, START))
            .count()
    };
    assert_eq!(asks(MOST, OK), 0);
    assert_eq!(asks(MOST, OK), 1);
    assert_eq!(asks(MOST, OK), 1);
    assert_eq!(asks(many, OK), 0);
    // The failure takes part in the last of them.
    assert_eq!(asks(1, FAILED), 0);
    assert_eq!(asks(DEPTH - 1, OK), 0);
    assert_eq!(asks(1, OK), 1);
    assert_eq!(driven.look(START).counts.failures, 1);
    assert_eq!(asks(many, OK), 2);
    assert_eq!(driven.look(START).counts.failures, 0);
}

#[test]
fn many_threads_lose_no_result_and_count_none_twice() {
    const THREADS: u64 = 4;
    const CALLS: u64 = rounds(100_000) as u64 / 5 * 5;
    for (window, timed) in [
        (Window::calls(1_000_000), false),
        (Window::time(SECOND), true),
    ] {
        let driven = lenient(window, timed);
        std::thread::scope(|scope| {
            let driven = &driven;
            let worker = |thread| {
                scope.spawn(move || {
                    for call in 0..CALLS {
                        let outcome = if (call + thread) % 5 == 0 { FAILED } else { OK };
                        driven.settle(0, outcome, START);
                    }
                })
            };
            let workers: Vec<_> = (0..THREADS).map(worker).collect();
            let mut seen = 0;
            // Not until all are counted: a lost one is to fail the test, not to hang it.
            while !workers.iter().all(ScopedJoinHandle::is_finished) {
                let calls = driven.look(START).counts.calls;
                assert!(calls >= seen);
                seen = calls;
            }
        });
        let counts = driven.look(START).counts;
        assert_eq!(counts.calls, THREADS * CALLS);
        assert_eq!(counts.failures, THREADS * CALLS / 5);
    }
}

/// Trap 5, with threads: nobody counts a call of the generation before.
#[test]
fn a_result_counts_in_its_own_generation_or_not_at_all() {
    let driven = lenient(Window::calls(1_000_000), false);
    let counted = std::thread::scope(|scope| {
        let work = || {
            let mut counted = Vec::new();
            for call in 0..rounds(10_000) {
                let generation = driven.admit(START).unwrap();
                if call % 64 == 0 {
                    std::thread::yield_now();
                }
                driven.settle(generation, OK, START);
                counted.push(generation);
            }
            counted
        };
        let workers = [scope.spawn(work), scope.spawn(work)];
        let mut seen = Vec::new();
        while !workers.iter().all(ScopedJoinHandle::is_finished) {
            driven.shared.change(|state| {
                let look = state.look(START);
                seen.push((look.generation, look.counts.calls));
                state.reset();
            });
        }
        let settled = workers.map(|worker| worker.join().unwrap()).concat();
        (seen, settled)
    });
    let (seen, settled) = counted;
    let mut most: HashMap<u64, u64> = HashMap::new();
    for generation in settled {
        *most.entry(generation).or_default() += 1;
    }
    for (generation, calls) in seen {
        let most = most.get(&generation).copied().unwrap_or(0);
        assert!(
            calls <= most,
            "{calls} of {most} in generation {generation}"
        );
    }
}
