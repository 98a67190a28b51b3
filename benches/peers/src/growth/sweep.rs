//! One measurement for each size.

use std::future::Future;

use tokio::runtime::Runtime;

use super::series::{Point, Series};
use crate::meter::{Calibrated, Clock, Effort, Looped, Sample, runtime};

/// How far, and how thoroughly.
pub(crate) struct Sweep {
    effort: Effort,
    /// The sizes stop here, by the largest of them.
    part: u64,
}

impl Sweep {
    pub(crate) fn new(quick: bool) -> Self {
        let full = Effort {
            rounds: 31,
            ..Effort::FULL
        };
        Self {
            effort: if quick { Effort::QUICK } else { full },
            part: if quick { 100 } else { 1 },
        }
    }

    /// The powers of ten from one to the other.
    pub(crate) fn sizes(&self, from: u64, to: u64) -> Vec<u64> {
        let most = (to / self.part).max(from * 10);
        let powers = std::iter::successors(Some(from), |size| Some(size * 10));
        powers.take_while(|size| *size <= most).collect()
    }

    /// A series of what `cost` says for each size, in nanoseconds.
    pub(crate) fn series(
        &self,
        name: &str,
        sizes: &[u64],
        cost: impl Fn(&Self, u64) -> Sample,
    ) -> Series {
        let mut series = Series::new(name);
        for &size in sizes {
            let cost = cost(self, size).p10;
            series.points.push(Point { size, cost });
        }
        series
    }

    /// Times a body.
    pub(crate) fn time<T>(&self, body: impl FnMut() -> T + Send + 'static) -> Sample {
        self.time_in(&runtime(), body)
    }

    /// Times a body in a runtime in which something is going on.
    pub(crate) fn time_in<T>(
        &self,
        runtime: &Runtime,
        mut body: impl FnMut() -> T + Send + 'static,
    ) -> Sample {
        self.await_in(runtime, async move || body())
    }

    /// Times an async body.
    pub(crate) fn await_in<T>(
        &self,
        runtime: &Runtime,
        body: impl AsyncFnMut() -> T + Send + 'static,
    ) -> Sample {
        let mut work = Looped::new(body, false);
        let mut ready = Calibrated::new(self.effort, &mut work, runtime, Clock::Thread, u64::MAX);
        let rounds = (0..self.effort.rounds).map(|_| ready.round()).collect();
        ready.sample(rounds)
    }
}

/// Runs what was spawned before, until each has been polled.
pub(crate) fn settle(runtime: &Runtime) {
    runtime.block_on(async {
        let last = tokio::spawn(std::future::ready(()));
        last.await.expect("it does not panic");
    });
}

/// Runs a future to its end.
pub(crate) fn block_on<F: Future>(runtime: &Runtime, future: F) -> F::Output {
    runtime.block_on(tokio::task::unconstrained(future))
}

/// Numbers without an order, the same in each run (a linear congruential generator).
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// One below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let high = u128::from(self.0) * u128::from(bound);
        (high >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_and_quick_ones_stop_early() {
        assert_eq!(Sweep::new(false).sizes(1, 1000), [1, 10, 100, 1000]);
        assert_eq!(Sweep::new(true).sizes(1, 10_000), [1, 10, 100]);
        assert_eq!(Sweep::new(true).sizes(10, 100), [10, 100]);
    }

    #[test]
    fn numbers_reach_everywhere_below_the_bound() {
        let mut numbers = Numbers::new();
        let mut seen = [0; 10];
        (0..1000).for_each(|_| seen[numbers.below(10) as usize] += 1);
        assert!(seen.iter().all(|times| *times > 50), "{seen:?}");
    }
}
