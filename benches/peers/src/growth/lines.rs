//! Those who wait in line: to join it, to leave it from the middle, to be served.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use mainstay::pool::{Check, Manage};
use mainstay::prelude::*;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::error::Elapsed;

use super::crowd::Crowd;
use super::series::{Figure, Law, Series, Unit};
use super::sweep::{Sweep, block_on};
use crate::meter::{Sample, runtime};

const MOST: u64 = 100_000;
const LONG: Duration = Duration::from_hours(24);

/// One has what there is, so many wait for it.
struct Line<F: Future, M> {
    held: Option<F::Output>,
    crowd: Crowd<F, M>,
}

impl<F: Future, M: FnMut() -> F> Line<F, M> {
    /// One comes; what is held is given back, and the first gets it.
    fn serve(&mut self) {
        self.crowd.join();
        drop(self.held.take());
        self.held = Some(self.crowd.serve());
    }
}

/// A thing of which there is one, and those who wait for it.
trait Counter {
    type Wait: Future<Output: Send> + Send + 'static;

    fn wait(&self) -> Self::Wait;
}

/// Measures the operations on a line of so many.
struct Measuring<'a, C> {
    sweep: &'a Sweep,
    sizes: Vec<u64>,
    counter: fn() -> C,
}

impl<C: Counter + Send + Sync + 'static> Measuring<'_, C> {
    fn joined(&self) -> Vec<Series> {
        vec![
            self.series("to come and go", |line| line.crowd.come_and_go()),
            self.leaving("to leave from anywhere").against(1),
        ]
    }

    fn leaving(&self, name: &str) -> Series {
        self.series(name, |line| line.crowd.swap_any())
    }

    fn served(&self, name: &str) -> Series {
        self.series(name, Line::serve)
    }

    fn series(&self, name: &str, operation: fn(&mut LineOf<C>)) -> Series {
        self.sweep.series(name, &self.sizes, |sweep, size| {
            let runtime = runtime();
            let _inside = runtime.enter();
            let mut line = self.line(&runtime, size);
            sweep.time_in(&runtime, move || operation(&mut line))
        })
    }

    fn line(&self, runtime: &tokio::runtime::Runtime, size: u64) -> LineOf<C> {
        let counter = (self.counter)();
        let held = Some(block_on(runtime, counter.wait()));
        let make: Box<dyn FnMut() -> C::Wait + Send> = Box::new(move || counter.wait());
        let crowd = Crowd::new(size, make);
        Line { held, crowd }
    }
}

type LineOf<C> = Line<<C as Counter>::Wait, Box<dyn FnMut() -> <C as Counter>::Wait + Send>>;

fn figure<C>(
    sweep: &Sweep,
    title: &'static str,
    counter: fn() -> C,
    served: fn(&Measuring<'_, C>) -> Series,
) -> Figure
where
    C: Counter + Send + Sync + 'static,
{
    let sizes = sweep.sizes(1, MOST);
    let tokio = Measuring {
        sweep,
        sizes: sizes.clone(),
        counter: || Arc::new(Semaphore::new(1)),
    };
    let ours = Measuring {
        sweep,
        sizes,
        counter,
    };
    let mut all = ours.joined();
    all.push(served(&ours));
    Figure {
        file: "",
        title,
        axis: "waiters",
        about: "One operation while so many wait: one more comes and goes again; any of them goes \
                and another one comes; another one comes and the first is served. The yardstick \
                is tokio's `Semaphore` under tokio's timeout: ours have a longest wait too.",
        unit: Unit::Nanoseconds,
        ours: all,
        yardsticks: vec![
            tokio.served("tokio's Semaphore and timeout, to be served"),
            tokio.leaving("tokio's Semaphore and timeout, to leave from anywhere"),
        ],
        law: Law::Logarithmic,
    }
}

fn slots() -> Bulkhead {
    let slots = Bulkhead::builder().max_concurrent(1);
    let slots = slots.max_queue(usize::MAX).max_wait(LONG);
    slots.build().expect("in range")
}

fn slow() -> RateLimiter {
    let slow = RateLimiter::builder().rate(1, LONG).burst(1);
    slow.max_wait(Duration::MAX).build().expect("in range")
}

fn single() -> Lent {
    let one = Pool::builder(Units).max_size(1).check(Check::Never);
    let one = one.max_wait(LONG).build().expect("in range");
    Lent(Box::leak(Box::new(one)))
}

pub(crate) fn bulkhead(sweep: &Sweep) -> Figure {
    figure(sweep, "Bulkhead: waiters", slots, |line| {
        line.served("to be served")
    })
}

pub(crate) fn pool(sweep: &Sweep) -> Figure {
    let mut figure = figure(sweep, "Pool: waiters", single, |line| {
        line.served("to be served")
    });
    // No further: were it linear, the largest would take minutes.
    let sizes = sweep.sizes(100, MOST / 10);
    let failing = sweep.series("to come and be told that nothing works", &sizes, outage);
    figure.ours.push(failing);
    figure
}

/// A crowd of tasks comes while every creation fails; the cost of one of them.
fn outage(sweep: &Sweep, size: u64) -> Sample {
    let pool = Pool::builder(Broken).max_size(8).max_wait(LONG);
    let pool: &'static Pool<Broken> = Box::leak(Box::new(pool.build().expect("in range")));
    let crowd = async move || {
        let all: Vec<_> = (0..size).map(|_| tokio::spawn(pool.get())).collect();
        for one in all {
            assert!(one.await.expect("it does not panic").is_err());
        }
    };
    sweep.await_in(&runtime(), crowd).per(size)
}

struct Broken;

impl Manage for Broken {
    type Object = u64;
    type Error = std::fmt::Error;

    async fn create(&self) -> Result<u64, Self::Error> {
        tokio::task::yield_now().await;
        Err(std::fmt::Error)
    }
}

/// Whoever waits for a limiter is served by the time, and then all whose time has come: so it is
/// a crowd that comes and is served, and the cost of one of them.
pub(crate) fn limiter(sweep: &Sweep) -> Figure {
    figure(sweep, "Rate limiter: waiters", slow, |line| {
        let sizes = line.sweep.sizes(100, MOST);
        let name = "to come and be served, all at once";
        line.sweep.series(name, &sizes, |sweep, size| {
            let runtime = runtime();
            sweep
                .time_in(&runtime, move || come_and_be_served(size))
                .per(size)
        })
    })
}

fn come_and_be_served(size: u64) {
    let limiter = slow();
    limiter.try_acquire(1).expect("it is there");
    let mut crowd = Crowd::new(size, || limiter.acquire(1));
    let rate = limiter.set_rate(1_000_000_000, Duration::from_secs(1));
    let burst = limiter.set_burst(1_000_000_000);
    rate.and(burst).expect("in range");
    // Nobody drives the timers while a line is polled by hand: all must have their permit.
    // A sleep takes no CPU time.
    std::thread::sleep(Duration::from_nanos(size + 1000));
    (0..size).for_each(|_| assert!(crowd.serve().is_ok(), "it waits for as long as it takes"));
}

impl Counter for Bulkhead {
    type Wait = mainstay::Acquire<Self>;

    fn wait(&self) -> Self::Wait {
        self.acquire(1)
    }
}

impl Counter for RateLimiter {
    type Wait = mainstay::rate_limit::Acquire;

    fn wait(&self) -> Self::Wait {
        self.acquire(1)
    }
}

/// A pool that is there for good, so that a wait for it borrows from nobody.
struct Lent(&'static Pool<Units>);

struct Units;

impl Manage for Units {
    type Object = u64;
    type Error = std::convert::Infallible;

    async fn create(&self) -> Result<u64, Self::Error> {
        Ok(1)
    }
}

impl Counter for Lent {
    type Wait = mainstay::pool::Get<'static, Units>;

    fn wait(&self) -> Self::Wait {
        self.0.get()
    }
}

impl Counter for Arc<Semaphore> {
    type Wait = std::pin::Pin<Box<dyn Future<Output = Permit> + Send>>;

    fn wait(&self) -> Self::Wait {
        Box::pin(tokio::time::timeout(LONG, Arc::clone(self).acquire_owned()))
    }
}

type Permit = Result<Result<OwnedSemaphorePermit, AcquireError>, Elapsed>;
