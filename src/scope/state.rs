//! Who is there, who runs, who waits for a place; what an end or an error leads to.
//!
//! Invariants:
//! - Every task that was let in ends exactly once, and is counted once.
//! - Never more than `limit` tasks have a place; whoever waits could not be given one.
//! - Places are given in the order in which the tasks came.
//! - The others are cancelled once; after that no place is given, and their time only shrinks.
//! - Nobody is let in once the registry was closed or cancelled.

use std::borrow::Cow;

use slab::Slab;

use super::effects::{Effects, Ending, Turn};
use super::report::{TaskFailure, TaskId, TaskInfo, TaskState};
use crate::shutdown::Counts;
use crate::sync::{self, WaitList};
use crate::time::Instant;

/// Names a task until it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    slot: usize,
    pub(super) id: TaskId,
}

#[derive(Debug)]
pub(super) struct Registry<W, A> {
    limit: usize,
    cancel_on_error: bool,
    tasks: Slab<Entry<W, A>>,
    queue: WaitList<usize>,
    places: usize,
    serial: u64,
    stage: Stage,
    /// Totals of those that have ended; `in_flight` is not kept here.
    ended: Counts,
    first_error: Option<TaskFailure>,
    /// The first since `note_errors`.
    later_error: Option<TaskFailure>,
    notes_later: bool,
    waiters: WaitList<Option<W>>,
}

#[derive(Debug)]
struct Entry<W, A> {
    id: TaskId,
    name: Cow<'static, str>,
    since: Instant,
    place: Place,
    /// Of a task that waits for its place.
    waker: Option<W>,
    abort: Abort<A>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Queued(sync::Key),
    Given,
    /// It was cancelled before it had one.
    Never,
    /// It runs without one.
    Outside,
}

/// How a task is aborted, and whether it is to be.
#[derive(Debug)]
enum Abort<A> {
    /// The means has not arrived yet.
    Unknown,
    By(A),
    Demanded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    Closed,
    Cancelled { abort_at: Instant },
}

impl<W, A> Registry<W, A> {
    pub(super) fn new(limit: usize, cancel_on_error: bool) -> Self {
        Self {
            limit,
            cancel_on_error,
            tasks: Slab::new(),
            queue: WaitList::new(),
            places: 0,
            serial: 0,
            stage: Stage::Open,
            ended: Counts::default(),
            first_error: None,
            later_error: None,
            notes_later: false,
            waiters: WaitList::new(),
        }
    }

    /// Lets a task in, unless the registry is closed; and whether it has a place already.
    pub(super) fn enter(&mut self, name: Cow<'static, str>, now: Instant) -> Option<(Key, bool)> {
        if self.stage != Stage::Open {
            return None;
        }
        let has_place = self.places < self.limit;
        let place = if has_place {
            self.places += 1;
            Place::Given
        } else {
            Place::Queued(self.queue.push_back(self.tasks.vacant_key()))
        };
        Some((self.insert(name, now, place, Abort::Unknown), has_place))
    }

    /// Lets in what runs beside the limit, whatever became of the others.
    pub(super) fn enter_outside(&mut self, name: Cow<'static, str>, now: Instant, by: A) -> Key {
        self.insert(name, now, Place::Outside, Abort::By(by))
    }

    fn insert(
        &mut self,
        name: Cow<'static, str>,
        since: Instant,
        place: Place,
        abort: Abort<A>,
    ) -> Key {
        self.serial += 1;
        let id = TaskId(self.serial);
        let slot = self.tasks.insert(Entry {
            id,
            name,
            since,
            place,
            waker: None,
            abort,
        });
        Key { slot, id }
    }

    /// Keeps the means to abort a task; gives it back when it is to be used at once
    /// (`true`), or is of no use any more.
    pub(super) fn attach(&mut self, key: Key, by: A) -> Option<(A, bool)> {
        match self.entry(key) {
            None => Some((by, false)),
            Some(entry) => match entry.abort {
                Abort::Unknown => {
                    entry.abort = Abort::By(by);
                    None
                }
                Abort::By(_) | Abort::Demanded => Some((by, true)),
            },
        }
    }

    /// Whether a task may begin. While it waits, `waker` is exchanged for the one it gave
    /// before.
    pub(super) fn turn(&mut self, key: Key, waker: &mut Option<W>) -> Turn {
        match self.entry(key) {
            Some(entry) => match entry.place {
                Place::Given | Place::Outside => Turn::Begin,
                Place::Never => Turn::Never,
                Place::Queued(_) => {
                    std::mem::swap(&mut entry.waker, waker);
                    Turn::Wait
                }
            },
            None => Turn::Never,
        }
    }

    /// Counts the end of a task, and gives its place to the next.
    pub(super) fn end(
        &mut self,
        key: Key,
        how: Ending,
        abort_at: impl FnOnce() -> Instant,
    ) -> Effects<W, A> {
        let mut effects = Effects::default();
        let Some(entry) = self.remove(key) else {
            return effects;
        };
        let fatal = self.count(&entry, how) && self.cancel_on_error;
        effects.wake.extend(entry.waker);
        if let Abort::By(unused) = entry.abort {
            effects.unused = Some(unused);
        }
        if fatal {
            self.cancel(abort_at(), &mut effects);
        }
        self.give_places(&mut effects);
        self.tell_waiters(&mut effects);
        effects
    }

    pub(super) fn close(&mut self) {
        if self.stage == Stage::Open {
            self.stage = Stage::Closed;
        }
    }

    /// Cancels, or shortens the time that those who run have since they were cancelled.
    pub(super) fn shorten(&mut self, abort_at: Instant, effects: &mut Effects<W, A>) {
        match &mut self.stage {
            Stage::Cancelled { abort_at: before } if *before <= abort_at => {}
            Stage::Cancelled { abort_at: before } => {
                *before = abort_at;
                effects.sooner = true;
            }
            Stage::Open | Stage::Closed => self.cancel(abort_at, effects),
        }
    }

    /// Cancels: nobody new, no further place; those that run have time until `abort_at`.
    /// Only the first time counts.
    pub(super) fn cancel(&mut self, abort_at: Instant, effects: &mut Effects<W, A>) {
        if self.abort_at().is_some() {
            return;
        }
        self.stage = Stage::Cancelled { abort_at };
        effects.cancelled = true;
        while let Some(slot) = self.queue.front().and_then(|key| self.queue.remove(key)) {
            let entry = &mut self.tasks[slot];
            entry.place = Place::Never;
            effects.wake.extend(entry.waker.take());
        }
    }

    /// Until when those that were cancelled have time.
    pub(super) fn abort_at(&self) -> Option<Instant> {
        match self.stage {
            Stage::Cancelled { abort_at } => Some(abort_at),
            Stage::Open | Stage::Closed => None,
        }
    }

    /// Aborts everything that is there.
    pub(super) fn abort_all(&mut self, now: Instant) -> Effects<W, A> {
        let mut effects = Effects::default();
        self.shorten(now, &mut effects);
        let entries = self.tasks.iter_mut();
        effects
            .abort
            .extend(entries.filter_map(|(_, entry)| entry.demand_abort()));
        effects
    }

    /// Aborts one.
    pub(super) fn abort(&mut self, key: Key) -> Option<A> {
        self.entry(key)?.demand_abort()
    }

    /// Whether nothing is there. While something is, `waker` is exchanged for the one that
    /// stands under `place`, or put in a new place.
    pub(super) fn poll_idle(
        &mut self,
        place: &mut Option<sync::Key>,
        waker: &mut Option<W>,
    ) -> bool {
        if self.tasks.is_empty() {
            return true;
        }
        match place.and_then(|key| self.waiters.get_mut(key)) {
            Some(old) => std::mem::swap(old, waker),
            None => *place = Some(self.waiters.push_back(waker.take())),
        }
        false
    }

    pub(super) fn stop_waiting(&mut self, place: sync::Key) -> Option<W> {
        self.waiters.remove(place).flatten()
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = self.ended;
        counts.in_flight = self.tasks.len() as u64;
        counts
    }

    pub(super) fn first_error(&self) -> Option<TaskFailure> {
        self.first_error.clone()
    }

    /// From now on the first error is kept apart from those before.
    pub(super) fn note_errors(&mut self) {
        self.notes_later = true;
    }

    pub(super) fn noted_error(&self) -> Option<TaskFailure> {
        self.later_error.clone()
    }

    /// Those that are there, in the order in which they came.
    pub(super) fn tasks(&self, now: Instant) -> Vec<TaskInfo> {
        let cancelling = self.abort_at().is_some();
        let tell = |entry: &Entry<W, A>| TaskInfo {
            id: entry.id,
            name: entry.name.clone(),
            age: now.since(entry.since),
            state: match entry.place {
                _ if cancelling || matches!(entry.abort, Abort::Demanded) => TaskState::Cancelling,
                Place::Queued(_) => TaskState::Queued,
                Place::Given | Place::Never | Place::Outside => TaskState::Running,
            },
        };
        let mut tasks: Vec<_> = self.tasks.iter().map(|(_, entry)| tell(entry)).collect();
        tasks.sort_unstable_by_key(|task| task.id);
        tasks
    }

    fn entry(&mut self, key: Key) -> Option<&mut Entry<W, A>> {
        let entry = self.tasks.get_mut(key.slot);
        entry.filter(|entry| entry.id == key.id)
    }

    fn remove(&mut self, key: Key) -> Option<Entry<W, A>> {
        self.entry(key)?;
        let entry = self.tasks.remove(key.slot);
        match entry.place {
            Place::Given => self.places -= 1,
            Place::Queued(place) => {
                self.queue.remove(place);
            }
            Place::Never | Place::Outside => {}
        }
        if self.tasks.is_empty() && self.tasks.capacity() > KEPT {
            self.tasks = Slab::new();
        }
        Some(entry)
    }

    /// Whether it was an error.
    fn count(&mut self, entry: &Entry<W, A>, how: Ending) -> bool {
        let ended = &mut self.ended;
        let (message, panicked) = match how {
            Ending::Completed => {
                ended.completed += 1;
                return false;
            }
            Ending::Dropped { begun } => {
                let demanded = matches!(entry.abort, Abort::Demanded);
                if begun && demanded {
                    ended.aborted += 1;
                } else {
                    ended.cancelled += 1;
                }
                return false;
            }
            Ending::Failed(message) => {
                ended.failed += 1;
                (message, false)
            }
            Ending::Panicked(message) => {
                ended.panicked += 1;
                (message, true)
            }
        };
        let failure = TaskFailure {
            id: entry.id,
            name: entry.name.clone(),
            message,
            panicked,
        };
        if self.notes_later {
            self.later_error.get_or_insert_with(|| failure.clone());
        }
        self.first_error.get_or_insert(failure);
        true
    }

    fn give_places(&mut self, effects: &mut Effects<W, A>) {
        while self.places < self.limit {
            let Some(slot) = self.queue.front().and_then(|key| self.queue.remove(key)) else {
                return;
            };
            self.places += 1;
            let entry = &mut self.tasks[slot];
            entry.place = Place::Given;
            effects.wake.extend(entry.waker.take());
        }
    }

    fn tell_waiters(&mut self, effects: &mut Effects<W, A>) {
        if self.tasks.is_empty() {
            let waiters = self.waiters.values_mut();
            effects.wake.extend(waiters.filter_map(Option::take));
        }
    }
}

/// A crowd that has gone must not hold its memory for ever.
const KEPT: usize = 1024;

impl<W, A> Entry<W, A> {
    fn demand_abort(&mut self) -> Option<A> {
        match std::mem::replace(&mut self.abort, Abort::Demanded) {
            Abort::By(by) => Some(by),
            Abort::Unknown | Abort::Demanded => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_that_has_gone_does_not_hold_its_memory() {
        let room_after = |capacity| {
            let mut registry = Registry::<(), ()>::new(1, false);
            registry.tasks = Slab::with_capacity(capacity);
            let (key, _) = registry.enter("it".into(), Instant::NEVER).unwrap();
            let _ = registry.end(key, Ending::Completed, || Instant::NEVER);
            registry.tasks.capacity()
        };
        assert_eq!(room_after(KEPT), KEPT);
        assert_eq!(room_after(KEPT + 1), 0);
    }
}
