//! What a breaker remembers.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use mainstay::circuit_breaker::Window;
use mainstay::policy::End;
use mainstay::prelude::*;

use super::series::{Figure, Law, Series, Unit};
use super::sweep::Sweep;
use crate::meter::Sample;

const HOUR: Duration = Duration::from_hours(1);

fn breaker(window: Window) -> CircuitBreaker {
    let breaker = CircuitBreaker::builder().window(window);
    breaker.build().expect("the settings are in range")
}

/// One call; every fourth fails where `failing`, which does not open it.
fn call(breaker: &CircuitBreaker, nth: u64, failing: bool) {
    let permit = breaker.try_acquire().expect("it is closed");
    permit.settle(if failing && nth.is_multiple_of(4) {
        End::Failure
    } else {
        End::Success
    });
}

/// Its cost after so many calls.
fn after(sweep: &Sweep, breaker: CircuitBreaker, calls: u64, failing: bool) -> Sample {
    // A success first: one failure of one call would be all.
    let mut nth = 0;
    let mut next = move || {
        nth += 1;
        call(&breaker, nth, failing);
    };
    (0..calls).for_each(|_| next());
    sweep.time(next)
}

pub(crate) fn calls(sweep: &Sweep) -> Figure {
    let sizes = sweep.sizes(10, 100_000);
    let series = |name: &str, failing| {
        sweep.series(name, &sizes, |sweep, size| {
            let window = Window::calls(size as u32);
            after(sweep, breaker(window), size * 2, failing)
        })
    };
    Figure {
        file: "",
        title: "Breaker: a window of calls",
        axis: "calls in the window",
        about: "One call admitted and settled, the window full. The yardstick takes an entry out \
                of a mutexed `VecDeque` and puts another one in.",
        unit: Unit::Nanoseconds,
        ours: vec![
            series("successes only", false),
            series("every fourth fails", true),
        ],
        yardsticks: vec![ring(sweep, &sizes)],
        law: Law::Logarithmic,
    }
}

pub(crate) fn records(sweep: &Sweep) -> Figure {
    let sizes = sweep.sizes(100, 1_000_000);
    let series = |name: &str, span, failing| {
        sweep.series(name, &sizes, |sweep, size| {
            after(sweep, breaker(Window::time(span)), size, failing)
        })
    };
    Figure {
        file: "",
        title: "Breaker: a window of time, by its records",
        axis: "calls recorded before",
        about: "One call admitted and settled, after so many others in the same window. The \
                yardstick is a mutexed `VecDeque` with one entry for each record.",
        unit: Unit::Nanoseconds,
        ours: vec![
            series("an hour, successes only", HOUR, false),
            series("an hour, every fourth fails", HOUR, true),
            series("10 ms, every fourth fails", Duration::from_millis(10), true),
        ],
        yardsticks: vec![ring(sweep, &sizes)],
        law: Law::Logarithmic,
    }
}

pub(crate) fn spans(sweep: &Sweep) -> Figure {
    let sizes = sweep.sizes(1, 100_000_000);
    let series = |name: &str, failing| {
        sweep.series(name, &sizes, |sweep, millis| {
            let span = Duration::from_millis(millis);
            after(sweep, breaker(Window::time(span)), 100_000, failing)
        })
    };
    Figure {
        file: "",
        title: "Breaker: a window of time, by its span",
        axis: "milliseconds",
        about: "One call admitted and settled, after 100 000 others. The yardstick is a mutexed \
                `VecDeque` of 1000 entries, whatever the span.",
        unit: Unit::Nanoseconds,
        ours: vec![
            series("successes only", false),
            series("every fourth fails", true),
        ],
        yardsticks: vec![
            sweep.series("a mutexed VecDeque of 1000", &sizes, |sweep, _| {
                turned(sweep, 1000)
            }),
        ],
        law: Law::Logarithmic,
    }
}

fn ring(sweep: &Sweep, sizes: &[u64]) -> Series {
    sweep.series("a mutexed VecDeque", sizes, turned)
}

/// One out, one in.
pub(super) fn turned(sweep: &Sweep, size: u64) -> Sample {
    let ring = Mutex::new((0..size).collect::<VecDeque<_>>());
    sweep.time(move || {
        let mut ring = ring.lock().expect("no panic");
        let oldest = ring.pop_front();
        ring.extend(oldest);
    })
}
