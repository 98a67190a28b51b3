//! Very many time limits at once, none of them over yet: what each of them weighs, and what it
//! costs to arm it, to finish early, and to expire.
//!
//! The futures lie in one slice and are polled by hand within one task of a runtime, so neither
//! tasks nor a scheduler are measured, only limits and timers. The memory of a limit is its future
//! in the slice and what it allocates.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mainstay::prelude::*;
use mainstay::timeout::Timeout;

use crate::allocations::counted;
use crate::calls::{Answer, HOUR};
use crate::goals::Goal;
use crate::meter::{self, Sample, thread_time};
use crate::outcome::{Figure, Outcome, Unit};
use crate::report::short;
use crate::row::{Role, Who};

const STEPS: [&str; 4] = ["armed", "done early", "expired", "memory"];

/// What is waited for: until somebody opens it.
#[derive(Clone, Default)]
struct Gate(Rc<Cell<bool>>);

impl Future for Gate {
    type Output = Answer;

    #[inline]
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Answer> {
        if self.0.get() {
            Poll::Ready(Ok(1))
        } else {
            Poll::Pending
        }
    }
}

/// One row for each step.
pub(crate) fn measure(count: usize, times: usize) -> Vec<Outcome> {
    let ours = Timeout::new(HOUR);
    let soon = soon(count);
    let expiring = Timeout::new(soon);
    let rounds = (0..times).map(|_| {
        [
            steps(
                count,
                |gate| tokio::time::timeout(HOUR, gate),
                |gate| tokio::time::timeout(soon, gate),
            ),
            steps(
                count,
                |gate| gate.policy(&ours),
                |gate| gate.policy(&expiring),
            ),
        ]
    });
    let rounds: Vec<_> = rounds.collect();
    let rows = STEPS.iter().enumerate();
    rows.map(|(step, name)| {
        let of = |who: usize| rounds.iter().map(|round| round[who][step]).collect();
        row(count, name, of(0), of(1))
    })
    .collect()
}

/// Long enough to arm them all.
fn soon(count: usize) -> Duration {
    Duration::from_micros(count as u64 * 2) + Duration::from_millis(50)
}

fn row(count: usize, step: &str, tokio: Vec<f64>, ours: Vec<f64>) -> Outcome {
    let figure = |role, by, how: &str, rounds| Figure {
        who: Who {
            role,
            by,
            how: how.into(),
            anchor: None,
            note: None,
        },
        sample: Sample::of(rounds),
    };
    Outcome {
        name: format!("{} pending time limits: {step}", short(count as f64)),
        threads: 1,
        unit: if step == "memory" {
            Unit::Bytes
        } else {
            Unit::Nanos
        },
        figures: vec![
            figure(Role::Peer, "tokio", "time::timeout", tokio),
            figure(Role::Ours, "mainstay", "timeout policy", ours),
        ],
        goals: vec![Goal::Share {
            of: "tokio",
            share: 1.0,
        }],
        notes: Vec::new(),
        times: 1,
    }
}

/// The figures of all steps, each for one limit.
fn steps<F, G>(count: usize, far: impl Fn(Gate) -> F, near: impl Fn(Gate) -> G) -> [f64; 4]
where
    F: Future,
    G: Future,
{
    let each = |nanos: u64| nanos as f64 / count as f64;
    let (_, memory) = in_runtime(async { counted(|| Armed::new(count, &far).slots.len()) });
    let (armed, done) = in_runtime(async {
        let start = thread_time();
        let mut all = Armed::new(count, &far);
        let armed = thread_time() - start;
        all.gate.0.set(true);
        let start = thread_time();
        all.finish();
        (armed, thread_time() - start)
    });
    let expired = in_runtime(async {
        let mut all = Armed::new(count, &near);
        let start = thread_time();
        tokio::time::sleep(soon(count) + Duration::from_millis(20)).await;
        all.finish();
        thread_time() - start
    });
    [
        each(armed),
        each(done),
        each(expired),
        memory.peak as f64 / count as f64,
    ]
}

fn in_runtime<T>(future: impl Future<Output = T>) -> T {
    let runtime = meter::runtime();
    runtime.block_on(meter::keep_a_timer());
    runtime.block_on(tokio::task::unconstrained(future))
}

/// Limits that were polled once.
struct Armed<F> {
    slots: Box<[Option<F>]>,
    gate: Gate,
}

impl<F: Future> Armed<F> {
    fn new(count: usize, make: impl Fn(Gate) -> F) -> Self {
        let mut armed = Self {
            slots: (0..count).map(|_| None).collect(),
            gate: Gate::default(),
        };
        for nth in 0..count {
            armed.slots[nth] = Some(make(armed.gate.clone()));
            armed.poll(nth);
        }
        armed
    }

    /// Polls each again, which ends it.
    fn finish(&mut self) {
        (0..self.slots.len()).for_each(|nth| self.poll(nth));
        assert!(self.slots.iter().all(Option::is_none), "all are over");
    }

    #[inline]
    #[allow(
        unsafe_code,
        reason = "pinned where it lies, as in the frame of a task"
    )]
    fn poll(&mut self, nth: usize) {
        let cx = &mut Context::from_waker(Waker::noop());
        // On a machine so busy that it expired while the others were armed, it is over.
        let Some(future) = &mut self.slots[nth] else {
            return;
        };
        // SAFETY: the slice never moves its elements, and they are dropped in place.
        if unsafe { Pin::new_unchecked(future) }.poll(cx).is_ready() {
            self.slots[nth] = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_has_a_figure() {
        let rows = measure(100, 1);
        assert_eq!(rows.len(), STEPS.len());
        for row in &rows {
            assert!(
                row.ratio_to(Role::Peer).is_some_and(|ratio| ratio > 0.0),
                "{}",
                row.name
            );
        }
        assert_eq!(rows[3].unit, Unit::Bytes);
    }
}
