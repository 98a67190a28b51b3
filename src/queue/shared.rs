//! What the handles, the tickets and the workers share: the state behind its lock, and
//! everything that is to be done outside of the lock after a change.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::cell::{Cell, Delivery, Settled};
use super::home::Home;
use super::outbox::Outbox;
use super::snapshot::{Outcome, QueueSnapshot};
use super::start::Start;
use super::state::{Arrival, Entry, Place, State};
use crate::error::{Error, Progress};
use crate::panics::{caught, message};
use crate::sync::Lock;

/// A callback that is told the counts.
pub(super) type OnProgress = Box<dyn Fn(QueueSnapshot) + Send + Sync>;

pub(super) type Record<T, E> = Arc<Cell<T, E>>;

pub(super) struct Shared<J, T, E> {
    pub(super) inner: Lock<Inner<J, T, E>>,
    pub(super) start: Start<J, T, E>,
    /// Whether the handler is given a token by which it can be asked to end.
    pub(super) asks: bool,
    pub(super) max_wait: Duration,
    pub(super) ages: bool,
    pub(super) on_progress: Option<OnProgress>,
    pub(super) home: Lock<Home>,
}

/// Lock order: this one first, then that of a cell.
pub(super) struct Inner<J, T, E> {
    pub(super) state: State<J, Record<T, E>, Waker>,
    pub(super) outbox: Outbox<T, E>,
}

/// Drops a user's value, whose drop may panic where nobody can do anything about it.
pub(super) fn discard<V>(value: V) {
    if let Err(panic) = caught(move || drop(value)) {
        message(panic);
    }
}

/// Wakes everyone, each by itself: a waker that panics is not the caller's concern, and two
/// of them must not meet in one unwinding.
pub(super) fn wake(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        if let Err(panic) = caught(move || waker.wake()) {
            message(panic);
        }
    }
}

/// Wakes those who wait for it.
fn cancel_token(token: &CancellationToken) {
    if let Err(panic) = caught(|| token.cancel()) {
        message(panic);
    }
}

pub(super) fn cancelled<E>(attempts: u32) -> Error<E> {
    Error::cancelled().after(Progress::started(attempts))
}

impl<J, T, E> Inner<J, T, E> {
    /// How many more items may begin.
    pub(super) fn room(&self) -> usize {
        self.outbox.room(self.state.running().len())
    }

    pub(super) fn needs_worker(&self) -> bool {
        self.state.needs_worker(self.room())
    }

    /// Hands an outcome over; `Err` holds one that nobody wants, to be dropped.
    fn deliver(
        &mut self,
        cell: &Cell<T, E>,
        outcome: Settled<T, E>,
        wake: &mut Vec<Waker>,
    ) -> Result<(), Settled<T, E>> {
        let waker = match cell.deliver(outcome) {
            Delivery::Delivered(waker) => waker,
            Delivery::NoTicket(outcome) => self.outbox.put(cell.id(), outcome)?,
        };
        wake.extend(waker);
        Ok(())
    }

    /// Whom the end of all work concerns, if it is reached.
    fn ended(&mut self, wake: &mut Vec<Waker>) {
        wake.extend(self.state.take_drained());
        if self.has_ended() {
            wake.extend(self.outbox.reader.take());
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

    /// A producer who waits goes away.
    pub(super) fn break_off(&self, place: &mut Place) {
        let place = place.take();
        let (left, promised) = self.inner.lock().state.break_off(place);
        wake(promised);
        discard(left);
    }

    /// The next item, if one may begin; else the worker that asks has retired.
    pub(super) fn receive(&self) -> Option<(J, Record<T, E>, Option<Waker>)> {
        let mut inner = self.inner.lock();
        let room = inner.room();
        inner.state.receive(room)
    }

    /// Gives an item that runs its outcome, unless it has one.
    pub(super) fn settle(&self, cell: &Cell<T, E>, result: Settled<T, E>) {
        let mut inner = self.inner.lock();
        if !inner.state.settle(cell.id(), Outcome::of(&result)) {
            drop(inner);
            return discard(result);
        }
        let mut wakers = Vec::new();
        let unwanted = inner.deliver(cell, result, &mut wakers).err();
        inner.ended(&mut wakers);
        let counts = self.counts(&inner);
        drop(inner);
        wake(wakers);
        self.report(counts);
        discard(unwanted);
    }

    /// Takes an item out that waits; it has not begun.
    pub(super) fn withdraw(&self, cell: &Record<T, E>, outcome: Outcome) -> Option<J> {
        let mut inner = self.inner.lock();
        let is_meant = |record: &Record<T, E>| Arc::ptr_eq(record, cell);
        let (item, _, promised) = inner.state.withdraw(cell.rank, outcome, is_meant)?;
        let mut wakers = Vec::from_iter(promised);
        let unwanted = inner.deliver(cell, Err(cancelled(0)), &mut wakers).err();
        inner.ended(&mut wakers);
        let counts = self.counts(&inner);
        drop(inner);
        wake(wakers);
        self.report(counts);
        drop(unwanted); // it holds nothing of a user's
        Some(item)
    }

    /// Takes everything out that waits; nothing of it has begun.
    pub(super) fn empty(&self, outcome: Outcome) -> Vec<J> {
        let mut inner = self.inner.lock();
        let (mut items, mut wakers) = (Vec::new(), Vec::new());
        let mut records = Vec::new();
        while let Some((item, cell, promised)) = inner.state.withdraw_first(outcome) {
            items.push(item);
            wakers.extend(promised);
            // What is not wanted holds nothing of a user's: it may be dropped here.
            let _ = inner.deliver(&cell, Err(cancelled(0)), &mut wakers);
            records.push(cell);
        }
        inner.ended(&mut wakers);
        let counts = self.counts(&inner);
        drop(inner);
        wake(wakers);
        if !items.is_empty() {
            self.report(counts);
        }
        items
    }

    /// Lets nothing in any more.
    pub(super) fn close(&self) {
        let mut inner = self.inner.lock();
        let mut wakers = inner.state.close();
        inner.ended(&mut wakers);
        drop(inner);
        wake(wakers);
    }

    /// Cancels what waits.
    pub(super) fn cancel_waiting(&self) {
        self.empty(Outcome::Cancelled).into_iter().for_each(discard);
    }

    pub(super) fn running(&self) -> Vec<Record<T, E>> {
        let inner = self.inner.lock();
        inner.state.running().cloned().collect()
    }

    /// Asks a running item to end where its handler can be asked; else stops it.
    pub(super) fn ask(&self, cell: &Record<T, E>) {
        match &cell.token {
            Some(token) => cancel_token(token),
            None => self.stop(cell),
        }
    }

    /// Drops what is running of an item, here and now; what is being polled on another
    /// thread is dropped there, after that poll.
    pub(super) fn stop(&self, cell: &Record<T, E>) {
        if let Some(token) = &cell.token {
            cancel_token(token);
        }
        let Some((future, worker)) = cell.stop() else {
            return;
        };
        self.at_home(|| discard(future));
        self.settle(cell, Err(cancelled(cell.attempts())));
        wake(worker);
    }

    /// Stops everything that runs.
    pub(super) fn stop_running(&self) {
        for cell in self.running() {
            self.stop(&cell);
        }
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

    fn counts(&self, inner: &Inner<J, T, E>) -> Option<QueueSnapshot> {
        self.on_progress.as_ref().map(|_| inner.state.snapshot())
    }

    fn report(&self, counts: Option<QueueSnapshot>) {
        let Some((tell, counts)) = self.on_progress.as_ref().zip(counts) else {
            return;
        };
        if let Err(panic) = caught(|| tell(counts)) {
            message(panic);
        }
    }
}
