//! Models: see `sync::model`. One thread of the offload, and a caller who may go away.

use std::convert::Infallible;

use super::*;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::model::{Woken, bounded, exhaustive, spawn};

struct Offloaded {
    slots: Bulkhead,
    threads: Arc<Lock<Threads>>,
    runs: Arc<AtomicU32>,
}

impl Offloaded {
    fn new() -> Self {
        Self {
            slots: Bulkhead::builder().max_concurrent(1).build().unwrap(),
            threads: Arc::default(),
            runs: Arc::new(AtomicU32::new(0)),
        }
    }

    fn job(&self) -> (Job<u32, Infallible>, OnThread<u32, Infallible>) {
        let runs = Arc::clone(&self.runs);
        let unit: Unit<u32, Infallible> =
            Box::new(move || Ok(runs.fetch_add(1, Ordering::Relaxed)));
        let slot = self.slots.try_acquire_owned(1).unwrap();
        job(unit, slot, &self.threads)
    }

    /// All has ended: nothing runs, and the slot is back.
    fn is_idle(&self) {
        assert_eq!(*self.threads.lock(), Threads::default());
        assert_eq!(self.slots.snapshot().in_use, 0);
        assert!(self.slots.try_acquire(1).is_ok());
    }
}

fn poll(job: &Job<u32, Infallible>, waker: &Waker) -> bool {
    match job.poll(&mut Context::from_waker(waker)) {
        Poll::Ready(result) => {
            assert!(matches!(result, Ok(0)));
            true
        }
        Poll::Pending => false,
    }
}

/// Fails if `poll` looks and leaves its waker under two locks.
#[test]
fn who_waits_for_a_result_is_woken_by_it() {
    exhaustive(|| {
        let offloaded = Offloaded::new();
        let (job, on_thread) = offloaded.job();
        let thread = ::loom::thread::spawn(move || on_thread.run());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let ready = poll(&job, &waker);
        thread.join().unwrap();
        assert!(ready || (woken.times() == 1 && poll(&job, &waker)));
        drop(job);
        offloaded.is_idle();
    });
}

/// Fails if the work is looked at and begun under two locks.
#[test]
fn work_that_is_given_up_runs_once_or_never() {
    exhaustive(|| {
        let offloaded = Offloaded::new();
        let (job, on_thread) = offloaded.job();
        let thread = ::loom::thread::spawn(move || on_thread.run());
        let progress = job.leave();
        let begun = progress.attempts == 1;
        drop(job);
        thread.join().unwrap();
        assert_eq!(offloaded.runs.load(Ordering::Relaxed), u32::from(begun));
        offloaded.is_idle();
    });
}

#[test]
fn work_whose_runtime_ends_is_not_run_and_its_caller_is_told() {
    exhaustive(|| {
        let offloaded = Offloaded::new();
        let (job, on_thread) = offloaded.job();
        let runtime = ::loom::thread::spawn(move || drop(on_thread));
        let given_up = job.give_up();
        runtime.join().unwrap();
        let told = job.poll(&mut Context::from_waker(Waker::noop()));
        assert!(given_up || matches!(told, Poll::Ready(Err(_))));
        drop(job);
        assert_eq!(offloaded.runs.load(Ordering::Relaxed), 0);
        offloaded.is_idle();
    });
}

/// A look at the numbers never finds more abandoned than running.
#[test]
fn what_is_abandoned_runs() {
    bounded(3, || {
        let offloaded = Arc::new(Offloaded::new());
        let (job, on_thread) = offloaded.job();
        let thread = ::loom::thread::spawn(move || on_thread.run());
        let looker = spawn(&offloaded, |offloaded| {
            let threads = *offloaded.threads.lock();
            assert!(threads.abandoned <= threads.running && threads.running <= 1);
        });
        drop(job);
        looker.join().unwrap();
        thread.join().unwrap();
        offloaded.is_idle();
    });
}
