//! One item's record: what the worker, the ticket and an aborter share.
//!
//! Invariants:
//! - The item's future is in the cell, or in the hands of the worker that polls it just now,
//!   or gone. Whoever takes it out drops it, and then settles the item.
//! - The outcome is given once, to the ticket, or back to the one who gives if there is no
//!   ticket any more.
//!
//! No lock is held while the future is polled or dropped.

#[cfg(all(test, mainstay_loom))]
mod loom;

use std::future::Future;
use std::pin::Pin;
use std::task::Waker;

use tokio_util::sync::CancellationToken;

use super::state::Rank;
use crate::error::Error;
use crate::sync::Lock;
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// What an item yields in the end.
pub(super) type Settled<T, E> = Result<T, Error<E>>;

/// An item that is being worked on.
pub(super) type Running<T, E> = Pin<Box<dyn Future<Output = Settled<T, E>> + Send>>;

pub(super) struct Cell<T, E> {
    pub(super) rank: Rank,
    /// Only where the handler asks for it.
    pub(super) token: Option<CancellationToken>,
    /// How often the handler was called. Only whoever makes and polls the future writes it, one
    /// at a time; who reads it has taken the future, or told of its end, under the lock.
    attempts: AtomicU32,
    /// Set under the lock, once: who sees it finds the outcome, or that it was taken.
    settled: AtomicBool,
    life: Lock<Life<T, E>>,
}

struct Life<T, E> {
    /// Between two polls.
    future: Option<Running<T, E>>,
    worker: Option<Waker>,
    stop: bool,
    receipt: Receipt<T, E>,
}

/// What the ticket's side holds.
enum Receipt<T, E> {
    Open(Option<Waker>),
    Settled(Settled<T, E>),
    /// Nobody wants the outcome, or somebody has it already.
    Gone,
}

/// What a worker finds when it wants to poll.
pub(super) enum Step<T, E> {
    /// `true`: the worker's waker is there already.
    Poll(Running<T, E>, bool),
    /// Somebody has taken the future, to drop it; the worker will be woken after that.
    Taken,
    Settled,
}

/// What a settler does next.
pub(super) enum Delivery<T, E> {
    Delivered(Option<Waker>),
    NoTicket(Settled<T, E>),
}

impl<T, E> Cell<T, E> {
    pub(super) fn new(rank: Rank, token: Option<CancellationToken>) -> Self {
        Self {
            rank,
            token,
            attempts: AtomicU32::new(0),
            settled: AtomicBool::new(false),
            life: Lock::new(Life {
                future: None,
                worker: None,
                stop: false,
                receipt: Receipt::Open(None),
            }),
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.rank.id()
    }

    /// The handler is called, once more.
    pub(super) fn count_attempt(&self) {
        // Relaxed, and no read-modify-write: there is one writer, and the lock publishes it.
        let before = self.attempts.load(Ordering::Relaxed);
        self.attempts
            .store(before.saturating_add(1), Ordering::Relaxed);
    }

    pub(super) fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.life.lock().stop
    }

    pub(super) fn is_settled(&self) -> bool {
        // Acquire: pairs with the Release of `deliver`.
        self.settled.load(Ordering::Acquire)
    }

    /// Takes the future out, to poll it.
    pub(super) fn take(&self, worker: &Waker) -> Step<T, E> {
        let mut life = self.life.lock();
        let known = life.worker.as_ref().is_some_and(|w| w.will_wake(worker));
        match life.future.take() {
            Some(future) => Step::Poll(future, known),
            None if self.is_settled() => Step::Settled,
            None => Step::Taken,
        }
    }

    /// Puts it back after a poll that left it pending, with the worker's waker if that is a
    /// new one. It comes back if it is to be stopped; the old waker is to be dropped.
    pub(super) fn put_back(
        &self,
        future: Running<T, E>,
        worker: &mut Option<Waker>,
    ) -> Option<Running<T, E>> {
        let mut life = self.life.lock();
        if worker.is_some() {
            std::mem::swap(&mut life.worker, worker);
        }
        if life.stop {
            return Some(future);
        }
        life.future = Some(future);
        None
    }

    /// There will be no further poll: the waker of its worker, which is as large as the
    /// worker's task and must not stay for as long as the ticket.
    pub(super) fn release(&self) -> Option<Waker> {
        self.life.lock().worker.take()
    }

    /// Takes the future out for good, with the waker of its worker. Where it is being
    /// polled, or has not been made, the worker is told to stop.
    pub(super) fn stop(&self) -> Option<(Running<T, E>, Option<Waker>)> {
        let mut life = self.life.lock();
        life.stop = true;
        let future = life.future.take()?;
        Some((future, life.worker.take()))
    }

    pub(super) fn deliver(&self, outcome: Settled<T, E>) -> Delivery<T, E> {
        let mut life = self.life.lock();
        // Release: pairs with the Acquire of `is_settled`.
        self.settled.store(true, Ordering::Release);
        match std::mem::replace(&mut life.receipt, Receipt::Gone) {
            Receipt::Open(waker) => {
                life.receipt = Receipt::Settled(outcome);
                Delivery::Delivered(waker)
            }
            gone => {
                debug_assert!(matches!(gone, Receipt::Gone), "settled twice");
                Delivery::NoTicket(outcome)
            }
        }
    }

    /// Takes the outcome. While there is none, `waker` is exchanged for the one given
    /// before.
    pub(super) fn collect(&self, waker: &mut Option<Waker>) -> Option<Settled<T, E>> {
        let mut life = self.life.lock();
        match std::mem::replace(&mut life.receipt, Receipt::Gone) {
            Receipt::Open(mut known) => {
                std::mem::swap(&mut known, waker);
                life.receipt = Receipt::Open(known);
                None
            }
            Receipt::Settled(outcome) => Some(outcome),
            Receipt::Gone => None,
        }
    }

    /// Takes the waker of whoever waits for the outcome.
    pub(super) fn sleeper(&self) -> Option<Waker> {
        match &mut self.life.lock().receipt {
            Receipt::Open(waker) => waker.take(),
            _ => None,
        }
    }

    /// Nobody holds the ticket any more: the outcome that it did not take, and its waker.
    pub(super) fn let_go(&self) -> (Option<Settled<T, E>>, Option<Waker>) {
        let mut life = self.life.lock();
        match std::mem::replace(&mut life.receipt, Receipt::Gone) {
            Receipt::Open(waker) => (None, waker),
            Receipt::Settled(outcome) => (Some(outcome), None),
            Receipt::Gone => (None, None),
        }
    }
}
