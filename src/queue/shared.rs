//! What the handles, the tickets and the workers share: the state behind its lock, and
//! everything that is to be done outside of the lock after a change.

#[cfg(all(test, mainstay_loom))]
mod loom;

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::after::{After, Callbacks};
use super::cell::{Cell, Delivery, Settled};
use super::home::Home;
use super::outbox::Outbox;
use super::snapshot::Outcome;
use super::start::Start;
use super::state::{Arrival, Entry, Place, State};
use crate::error::{Error, Progress};
use crate::panics::{discard, swallow};
use crate::sync::{Lock, wake_quietly};

pub(super) type Record<T, E> = Arc<Cell<T, E>>;

/// What a worker takes out of the line.
pub(super) struct Received<J, T, E> {
    pub(super) item: J,
    pub(super) cell: Record<T, E>,
    pub(super) start: Start<J, T, E>,
}

pub(super) struct Shared<J, T, E> {
    pub(super) inner: Lock<Inner<J, T, E>>,
    /// Whether the handler is given a token by which it can be asked to end.
    pub(super) asks: bool,
    pub(super) max_wait: Duration,
    pub(super) ages: bool,
    pub(super) home: Lock<Home>,
}

/// Lock order: this one first, then that of a cell.
pub(super) struct Inner<J, T, E> {
    pub(super) state: State<J, Record<T, E>, Waker>,
    pub(super) outbox: Outbox<T, E>,
    /// Until the queue is closed and has nothing left.
    pub(super) callbacks: Option<Callbacks<J, T, E>>,
}

/// Wakes those who wait for it.
fn cancel_token(token: &CancellationToken) {
    swallow(|| token.cancel());
}

pub(super) fn cancelled<E>(attempts: u32) -> Error<E> {
    Error::cancelled().after(Progress::started(attempts))
}

impl<J, T, E> Inner<J, T, E> {
    pub(super) fn needs_worker(&self) -> bool {
        self.state.needs_worker(self.outbox.has_room())
    }

    /// Hands an outcome over.
    fn deliver(&mut self, cell: &Cell<T, E>, outcome: Settled<T, E>, after: &mut After<J, T, E>) {
        after.settled = true;
        match cell.deliver(outcome) {
            Delivery::Delivered(waker) => after.wakers.extend(waker),
            Delivery::NoTicket(outcome) => self.keep(cell.id(), outcome, after),
        }
    }

    /// Keeps an outcome for the stream, if there is one. Of several in one change none may
    /// hold anything of a user's.
    pub(super) fn keep(&mut self, id: u64, outcome: Settled<T, E>, after: &mut After<J, T, E>) {
        match self.outbox.put(id, outcome) {
            Ok(reader) => after.wakers.extend(reader),
            Err(unwanted) => after.unwanted = Some(unwanted),
        }
    }

    /// What every change may have led to: that there is room, nothing to do, or nothing any
    /// more.
    fn conclude(&mut self, after: &mut After<J, T, E>) {
        let excess = self.outbox.excess();
        self.state.make_room(excess, &mut after.wakers);
        after.wakers.extend(self.state.take_drained());
        let tell = self.callbacks.as_ref().filter(|_| after.settled);
        if let Some(tell) = tell.and_then(|callbacks| callbacks.on_progress.clone()) {
            after.told = Some((tell, self.state.snapshot()));
        }
        if self.has_ended() {
            after.wakers.extend(self.outbox.reader.take());
            after.over = self.callbacks.take();
        }
    }

    /// All who wait for anything of the queue.
    pub(super) fn sleepers(&mut self) -> Vec<Waker> {
        let mut wakers = self.state.sleepers();
        wakers.extend(self.state.waiting().filter_map(|cell| cell.sleeper()));
        wakers.extend(self.outbox.reader.take());
        wakers
    }

    /// Whether there will be no outcome any more.
    pub(super) fn has_ended(&self) -> bool {
        self.state.is_closed() && self.state.is_idle()
    }
}

impl<J, T, E> Shared<J, T, E> {
    /// Enters the line; see [`State::enter`]. The item is taken only then. `true`: a worker
    /// is needed.
    pub(super) fn enter(
        &self,
        place: &mut Place,
        arrival: Arrival,
        item: &mut Option<J>,
        waker: &mut Option<Waker>,
    ) -> (Entry<Record<T, E>>, bool) {
        let token = self.asks.then(CancellationToken::new);
        let mut inner = self.inner.lock();
        let entry = inner.state.enter(place, arrival, waker, |rank| {
            let Some(item) = item.take() else {
                unreachable!("who has entered does not enter again");
            };
            (item, Arc::new(Cell::new(rank, token)))
        });
        let short = inner.needs_worker();
        (entry, short)
    }

    /// Ends a producer's wait for room whose time is up; `false` if it had ended before.
    pub(super) fn give_up(&self, place: &mut Place) -> bool {
        let left = self.inner.lock().state.give_up(*place);
        if left.is_ok() {
            *place = None;
        }
        left.is_ok() // its waker is dropped out of the lock
    }

    /// Changes the state, and does without the lock what follows from it.
    pub(super) fn change<R>(
        &self,
        change: impl FnOnce(&mut Inner<J, T, E>, &mut After<J, T, E>) -> R,
    ) -> R {
        let mut after = After::nothing();
        let mut inner = self.inner.lock();
        let result = change(&mut inner, &mut after);
        inner.conclude(&mut after);
        drop(inner);
        after.carry_out();
        result
    }

    /// A producer who waits goes away.
    pub(super) fn break_off(&self, place: &mut Place) {
        let place = place.take();
        let left = self.change(|inner, _| inner.state.break_off(place));
        discard(left);
    }

    /// The next item, if one may begin; else the worker that asks has retired.
    pub(super) fn receive(&self) -> Option<Received<J, T, E>> {
        self.change(|inner, _| {
            let open = inner.outbox.has_room();
            let (item, cell) = inner.state.receive(open)?;
            let Some(callbacks) = &inner.callbacks else {
                unreachable!("a queue has its handler while it has an item");
            };
            let start = Arc::clone(&callbacks.start);
            Some(Received { item, cell, start })
        })
    }

    /// Gives an item that runs its outcome, unless it has one.
    pub(super) fn settle(&self, cell: &Cell<T, E>, result: Settled<T, E>) {
        let late = self.change(|inner, after| {
            if !inner.state.settle(cell.id(), Outcome::of(&result)) {
                return Some(result);
            }
            inner.deliver(cell, result, after);
            None
        });
        discard(late);
    }

    /// As [`settle`](Self::settle), for many that end as cancelled.
    pub(super) fn settle_cancelled(&self, cells: &[Record<T, E>]) {
        self.change(|inner, after| {
            for cell in cells {
                if inner.state.settle(cell.id(), Outcome::Cancelled) {
                    inner.deliver(cell, Err(cancelled(cell.attempts())), after);
                }
            }
        });
    }

    /// Takes an item out that waits; it has not begun.
    pub(super) fn withdraw(&self, cell: &Record<T, E>, outcome: Outcome) -> Option<J> {
        self.change(|inner, after| {
            let is_meant = |record: &Record<T, E>| Arc::ptr_eq(record, cell);
            let (item, _) = inner.state.withdraw(cell.rank, outcome, is_meant)?;
            inner.deliver(cell, Err(cancelled(0)), after);
            Some(item)
        })
    }

    /// Takes everything out that waits; nothing of it has begun.
    pub(super) fn empty(&self, outcome: Outcome) -> Vec<J> {
        self.change(|inner, after| {
            let mut items = Vec::new();
            while let Some((item, cell)) = inner.state.withdraw_first(outcome) {
                items.push(item);
                inner.deliver(&cell, Err(cancelled(0)), after);
            }
            items
        })
    }

    /// Lets nothing in any more.
    pub(super) fn close(&self) {
        self.change(|inner, after| after.wakers.extend(inner.state.close()));
    }

    /// Cancels what waits.
    pub(super) fn cancel_waiting(&self) {
        self.empty(Outcome::Cancelled).into_iter().for_each(discard);
    }

    pub(super) fn running(&self) -> Vec<Record<T, E>> {
        let inner = self.inner.lock();
        inner.state.running().cloned().collect()
    }

    /// Asks running items to end where the handler can be asked; else stops them.
    pub(super) fn ask(&self, cells: &[Record<T, E>]) {
        if !self.asks {
            return self.stop(cells);
        }
        for token in cells.iter().filter_map(|cell| cell.token.as_ref()) {
            cancel_token(token);
        }
    }

    /// Drops what is running of these items, here and now; what is being polled on another
    /// thread is dropped there, after that poll. Progress is told once for all of them.
    pub(super) fn stop(&self, cells: &[Record<T, E>]) {
        let (mut stopped, mut workers) = (Vec::new(), Vec::new());
        for cell in cells {
            if let Some(token) = &cell.token {
                cancel_token(token);
            }
            if let Some((future, worker)) = cell.stop() {
                self.at_home(|| discard(future));
                stopped.push(Arc::clone(cell));
                workers.extend(worker);
            }
        }
        self.settle_cancelled(&stopped);
        wake_quietly(workers);
    }

    /// Stops everything that runs.
    pub(super) fn stop_running(&self) {
        self.stop(&self.running());
    }

    /// The last handle has gone.
    pub(super) fn end(&self) {
        self.close();
        self.cancel_waiting();
        self.stop_running();
    }

    /// Runs what may need the context of the workers' runtime, also elsewhere; where a
    /// thread ends whose own memory has gone there is no context any more.
    fn at_home(&self, call: impl FnOnce()) {
        let home = self.home.lock().handle();
        let gone = Handle::try_current().is_err_and(|e| e.is_thread_local_destroyed());
        let _inside = home.as_ref().filter(|_| !gone).map(Handle::enter);
        call();
    }
}
