//! Time limits that are pending.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mainstay::prelude::*;

use super::series::{Figure, Law, Unit};
use super::sweep::{Numbers, Sweep};
use crate::meter::{Sample, runtime};

type Waiting = std::future::Pending<Result<(), std::convert::Infallible>>;

pub(crate) fn pending(sweep: &Sweep) -> Figure {
    let sizes = sweep.sizes(1, 1_000_000);
    Figure {
        file: "",
        title: "Time limits that are pending",
        axis: "time limits",
        about: "Any of so many operations under a time limit of 30 to 90 s is dropped, another \
                one is made and polled once, which arms its time limit. The yardstick is \
                `tokio::time::timeout`.",
        unit: Unit::Nanoseconds,
        ours: vec![
            sweep.series("time limits of this crate", &sizes, |sweep, size| {
                any_of(sweep, size, |limit| never().timeout(limit))
            }),
        ],
        yardsticks: vec![sweep.series("tokio's timeout", &sizes, |sweep, size| {
            any_of(sweep, size, |limit| tokio::time::timeout(limit, never()))
        })],
        law: Law::Logarithmic,
    }
}

fn never() -> Waiting {
    std::future::pending()
}

fn any_of<F>(sweep: &Sweep, size: u64, make: fn(Duration) -> F) -> Sample
where
    F: Future + Send + 'static,
{
    let runtime = runtime();
    let _inside = runtime.enter();
    let mut numbers = Numbers::new();
    let mut one = move || {
        let limit = Duration::from_millis(30_000 + numbers.below(60_000));
        armed(make(limit))
    };
    let mut all: Vec<_> = (0..size).map(|_| one()).collect();
    let mut numbers = Numbers::new();
    sweep.time_in(&runtime, move || {
        let any = numbers.below(size) as usize;
        all[any] = one();
    })
}

fn armed<F: Future>(limited: F) -> Pin<Box<F>> {
    let mut limited = Box::pin(limited);
    let polled = limited
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Pending), "it never ends");
    limited
}
