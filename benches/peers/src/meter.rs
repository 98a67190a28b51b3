//! What one call costs on one thread.
//!
//! A body runs in rounds of about [`Effort::round`] inside of a task of a current-thread runtime,
//! and the thread's CPU time is taken around each round: whoever takes the processor away from us
//! does not count. What noise is left (cold caches, interrupts, a slower clock) only adds, so the
//! figure to judge by is in the lower tail: [`Sample::p10`].
//!
//! ```ignore
//! let sample = meter::time(Effort::FULL, async || ok().timeout(LONG).await);
//! println!("{} ns, {} allocations", sample.p10, sample.allocations);
//! ```

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::allocations::counted;
use crate::calls::LONG;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    /// How long one round is to take.
    pub(crate) round: Duration,
    /// Rounds of two threads at once.
    pub(crate) contended: usize,
    /// How long to go on when too few of these overlapped.
    pub(crate) patience: Duration,
}

impl Effort {
    pub(crate) const FULL: Self = Self {
        rounds: 41,
        round: Duration::from_millis(1),
        contended: 101,
        patience: Duration::from_secs(3),
    };
    pub(crate) const QUICK: Self = Self {
        rounds: 15,
        round: Duration::from_micros(400),
        contended: 41,
        patience: Duration::from_millis(500),
    };
}

/// What one call costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    /// Nanoseconds.
    pub(crate) median: f64,
    pub(crate) p10: f64,
    pub(crate) min: f64,
    /// Not a number where they were not counted.
    pub(crate) allocations: f64,
    pub(crate) bytes: f64,
    pub(crate) rounds: usize,
}

impl Sample {
    /// The statistics of these rounds, each in nanoseconds for one call.
    pub(crate) fn of(mut rounds: Vec<f64>) -> Self {
        rounds.sort_by(f64::total_cmp);
        let at = |nth: usize| rounds.get(nth).copied().unwrap_or(f64::NAN);
        Self {
            median: at(rounds.len() / 2),
            p10: at(rounds.len() / 10),
            min: at(0),
            rounds: rounds.len(),
            allocations: f64::NAN,
            bytes: f64::NAN,
        }
    }

    /// One run of the body was so many calls.
    pub(crate) fn per(self, calls: u64) -> Self {
        let calls = calls as f64;
        Self {
            median: self.median / calls,
            p10: self.p10 / calls,
            min: self.min / calls,
            allocations: self.allocations / calls,
            bytes: self.bytes / calls,
            rounds: self.rounds,
        }
    }

    /// The lower of both, figure by figure: noise only adds.
    pub(crate) fn or_better(self, other: Self) -> Self {
        Self {
            median: self.median.min(other.median),
            p10: self.p10.min(other.p10),
            min: self.min.min(other.min),
            allocations: self.allocations.min(other.allocations),
            bytes: self.bytes.min(other.bytes),
            rounds: self.rounds + other.rounds,
        }
    }
}

/// Times an asynchronous body, in a task outside of tokio's cooperative budget.
pub(crate) fn time<T>(effort: Effort, body: impl AsyncFnMut() -> T + Send + 'static) -> Sample {
    let (mut work, runtime) = (Looped::new(body, false), runtime());
    let mut ready = Calibrated::new(effort, &mut work, &runtime, Clock::Thread, u64::MAX);
    let rounds = (0..effort.rounds).map(|_| ready.round()).collect();
    ready.sample(rounds)
}

/// Times a synchronous body, inside of a runtime's context.
pub(crate) fn time_sync<T>(effort: Effort, mut body: impl FnMut() -> T + Send + 'static) -> Sample {
    time(effort, async move || body())
}

/// A body that can be run so many times.
pub(crate) trait Work: Send {
    fn run(&mut self, runtime: &Runtime, times: u64) -> Span;
}

/// What a round's time is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The thread's CPU time.
    Thread,
    Wall,
}

/// How long something took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) start: Instant,
    pub(crate) end: Instant,
    /// Nanoseconds of this thread's CPU time.
    pub(crate) cpu: u64,
}

impl Span {
    pub(crate) fn nanos(&self, clock: Clock) -> u64 {
        match clock {
            Clock::Thread => self.cpu,
            Clock::Wall => (self.end - self.start).as_nanos() as u64,
        }
    }
}

/// A body that is ready to be timed: how many calls make a round, and what one allocates.
pub(crate) struct Calibrated<'a> {
    work: &'a mut dyn Work,
    runtime: &'a Runtime,
    clock: Clock,
    times: u64,
    allocations: f64,
    bytes: f64,
}

impl<'a> Calibrated<'a> {
    /// Rounds have at most so many calls.
    pub(crate) fn new(
        effort: Effort,
        work: &'a mut dyn Work,
        runtime: &'a Runtime,
        clock: Clock,
        at_most: u64,
    ) -> Self {
        let run = |times| work.run(runtime, times).nanos(clock);
        let times = calibrate(effort.round, at_most, run);
        let (_, count) = counted(|| work.run(runtime, times));
        Self {
            work,
            runtime,
            clock,
            times,
            allocations: count.allocations as f64 / times as f64,
            bytes: count.bytes as f64 / times as f64,
        }
    }

    /// Nanoseconds for one call.
    pub(crate) fn round(&mut self) -> f64 {
        let span = self.work.run(self.runtime, self.times);
        span.nanos(self.clock) as f64 / self.times as f64
    }

    pub(crate) fn sample(&self, rounds: Vec<f64>) -> Sample {
        Sample {
            allocations: self.allocations,
            bytes: self.bytes,
            ..Sample::of(rounds)
        }
    }
}

/// How many calls take about so long.
pub(crate) fn calibrate(round: Duration, at_most: u64, mut run: impl FnMut(u64) -> u64) -> u64 {
    let wanted = round.as_nanos() as u64;
    let mut times = 1;
    loop {
        let took = run(times).max(1);
        if took * 2 >= wanted || times >= at_most {
            let scaled = times as f64 * wanted as f64 / took as f64;
            return (scaled as u64).clamp(1, at_most);
        }
        times = (times * 3).min(at_most);
    }
}

/// An async closure, called in a loop within one task.
///
/// Each type of closure has a loop of its own, so no body shares registers or inlining with
/// another.
pub(crate) struct Looped<F> {
    /// Lent to the task for a round.
    body: Option<F>,
    /// Under tokio's cooperative budget, as a user's task is?
    budgeted: bool,
}

impl<F> Looped<F> {
    pub(crate) fn new(body: F, budgeted: bool) -> Self {
        Self {
            body: Some(body),
            budgeted,
        }
    }
}

impl<F, T> Work for Looped<F>
where
    F: AsyncFnMut() -> T + Send + 'static,
{
    fn run(&mut self, runtime: &Runtime, times: u64) -> Span {
        let mut body = self.body.take().expect("no round panicked");
        let rounds = async move {
            let span = looped(&mut body, times).await;
            (body, span)
        };
        let (body, span) = if self.budgeted {
            in_task(runtime, rounds)
        } else {
            in_task(runtime, tokio::task::unconstrained(rounds))
        };
        self.body = Some(body);
        span
    }
}

async fn looped<T>(body: &mut impl AsyncFnMut() -> T, times: u64) -> Span {
    let (start, cpu) = (Instant::now(), thread_time());
    for _ in 0..times {
        black_box(body().await);
    }
    let cpu = thread_time() - cpu;
    Span {
        start,
        end: Instant::now(),
        cpu,
    }
}

pub(crate) fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

/// Leaves a timer in the runtime that is earlier than any of a row, and lets the runtime notice: an
/// earliest timer wakes the driver, which costs more than all the rest.
pub(crate) async fn keep_a_timer() {
    tokio::spawn(tokio::time::sleep(LONG / 2));
    tokio::time::sleep(Duration::from_millis(2)).await;
}

/// Runs the future in a task: a waker of a task is cheaper than the one of `block_on`.
fn in_task<F>(runtime: &Runtime, future: F) -> F::Output
where
    F: Future + 'static,
    F::Output: Send + 'static,
{
    let task = runtime.spawn(OneThread(Box::pin(future)));
    runtime.block_on(task).expect("the body does not panic")
}

/// A future that never leaves the thread of its current-thread runtime.
struct OneThread<F>(Pin<Box<F>>);

// SAFETY: whoever makes one spawns it on a current-thread runtime, and waits for it on the same
// thread, which is the only one that polls and drops it.
#[allow(
    unsafe_code,
    reason = "async closures cannot say that their future is `Send`"
)]
unsafe impl<F> Send for OneThread<F> {}

impl<F: Future> Future for OneThread<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.0.as_mut().poll(cx)
    }
}

/// CPU time of this thread, in nanoseconds.
#[allow(unsafe_code, reason = "a call of the C library")]
pub(crate) fn thread_time() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is good for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_rounds() {
        let sample = Sample::of((1..=100).rev().map(f64::from).collect());
        assert_eq!((sample.min, sample.p10, sample.median), (1.0, 11.0, 51.0));
        assert_eq!(sample.per(2).median, 25.5);
        assert!(Sample::of(Vec::new()).median.is_nan());
    }

    #[test]
    fn the_better_of_two_is_taken_figure_by_figure() {
        let one = Sample::of(vec![1.0, 9.0, 9.0]);
        let other = Sample::of(vec![2.0, 3.0, 4.0]);
        let best = one.or_better(other);
        assert_eq!((best.min, best.median, best.rounds), (1.0, 3.0, 6));
    }

    #[test]
    fn calibration_comes_near() {
        let times = calibrate(Duration::from_millis(1), u64::MAX, |times| times * 50);
        assert_eq!(times, 20_000);
        assert_eq!(
            calibrate(Duration::from_millis(1), u64::MAX, |_| 5_000_000),
            1
        );
        assert_eq!(calibrate(Duration::from_millis(1), 7, |times| times), 7);
    }

    #[test]
    fn allocations_of_a_call_are_counted() {
        let sample = time_sync(Effort::QUICK, || Box::new(black_box([1_u64; 8])));
        // Tests of other threads may allocate at the same time.
        assert!(sample.allocations >= 1.0 && sample.bytes >= 64.0);
        assert!(sample.min > 0.0);
    }
}
