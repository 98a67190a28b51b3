//! Which sessions there are, and what may be done with them: pure, and told the time.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::super::types::{Labels, SessionId, SessionStatus};
use crate::time::Instant;

/// The sessions of one provider. `T` is what stands behind each.
#[derive(Debug)]
pub(super) struct Table<T> {
    /// In the order of their creation, which a list keeps.
    rows: BTreeMap<u64, Row<T>>,
    numbers: HashMap<SessionId, u64>,
    /// Seats of sessions that are being made.
    reserved: usize,
    max: usize,
    next: u64,
    closed: bool,
}

#[derive(Debug)]
struct Row<T> {
    id: SessionId,
    labels: Labels,
    phase: Phase,
    /// Calls that work with it now.
    busy: usize,
    /// When the last of them ended.
    since: Instant,
    behind: T,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// Somebody deletes it.
    Deleting,
    /// Nobody does any more, and it is not gone: the next one tries again.
    Stuck,
}

/// Why there is no seat for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoSeat {
    Closed,
    Full,
}

/// What it means to delete a session now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Deletion<T> {
    /// There is none of this name (any more).
    Gone,
    /// It is on the caller to do it.
    Begin(T),
    /// Somebody does it already.
    Join(T),
}

/// A page of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) rows: Vec<(SessionId, SessionStatus)>,
    /// The number of its last row, if more follow.
    pub(super) next: Option<u64>,
    pub(super) total: usize,
}

impl<T: Clone> Table<T> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            rows: BTreeMap::new(),
            numbers: HashMap::new(),
            reserved: 0,
            max,
            next: 1,
            closed: false,
        }
    }

    /// Takes a seat for a session that is about to be made.
    pub(super) fn reserve(&mut self) -> Result<(), NoSeat> {
        if self.closed {
            return Err(NoSeat::Closed);
        }
        if self.rows.len() + self.reserved >= self.max {
            return Err(NoSeat::Full);
        }
        self.reserved += 1;
        Ok(())
    }

    /// Gives a seat back that was not used.
    pub(super) fn unreserve(&mut self) {
        self.reserved = self.reserved.saturating_sub(1);
    }

    /// Uses a seat. When the table was closed meanwhile, what was to sit there comes back.
    pub(super) fn insert(
        &mut self,
        id: SessionId,
        labels: Labels,
        behind: T,
        now: Instant,
    ) -> Result<(), T> {
        self.unreserve();
        if self.closed {
            return Err(behind);
        }
        let number = self.next;
        self.next += 1;
        self.numbers.insert(id.clone(), number);
        let row = Row {
            id,
            labels,
            phase: Phase::Running,
            busy: 0,
            since: now,
            behind,
        };
        self.rows.insert(number, row);
        Ok(())
    }

    /// Lets nobody in any more; all that are there, to be deleted.
    pub(super) fn close(&mut self) -> Vec<SessionId> {
        self.closed = true;
        self.rows.values().map(|row| row.id.clone()).collect()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    fn row(&self, id: &SessionId) -> Option<&Row<T>> {
        self.rows.get(self.numbers.get(id)?)
    }

    fn row_mut(&mut self, id: &SessionId) -> Option<&mut Row<T>> {
        self.rows.get_mut(self.numbers.get(id)?)
    }

    pub(super) fn status(&self, id: &SessionId) -> Option<SessionStatus> {
        self.row(id).map(Row::status)
    }

    /// Begins a call that works with a session, if it runs.
    pub(super) fn begin(&mut self, id: &SessionId) -> Option<T> {
        let row = self.row_mut(id)?;
        if row.phase != Phase::Running {
            return None;
        }
        row.busy += 1;
        Some(row.behind.clone())
    }

    /// Ends a call that had begun. How many others go on.
    pub(super) fn end(&mut self, id: &SessionId, now: Instant) -> usize {
        let Some(row) = self.row_mut(id) else {
            return 0;
        };
        row.busy = row.busy.saturating_sub(1);
        row.since = now;
        row.busy
    }

    /// How many calls work with it.
    pub(super) fn busy(&self, id: &SessionId) -> usize {
        self.row(id).map_or(0, |row| row.busy)
    }

    pub(super) fn labels(&self, id: &SessionId) -> Option<Labels> {
        self.row(id).map(|row| row.labels.clone())
    }

    pub(super) fn set_labels(&mut self, id: &SessionId, labels: Labels) -> bool {
        let row = self.row_mut(id);
        row.map(|row| row.labels = labels).is_some()
    }

    /// Decides who deletes.
    pub(super) fn begin_delete(&mut self, id: &SessionId) -> Deletion<T> {
        let Some(row) = self.row_mut(id) else {
            return Deletion::Gone;
        };
        let behind = row.behind.clone();
        if row.phase == Phase::Deleting {
            return Deletion::Join(behind);
        }
        row.phase = Phase::Deleting;
        Deletion::Begin(behind)
    }

    /// It is gone.
    pub(super) fn deleted(&mut self, id: &SessionId) {
        if let Some(number) = self.numbers.remove(id) {
            self.rows.remove(&number);
        }
    }

    /// It could not be deleted; what is left is for the next one.
    pub(super) fn stuck(&mut self, id: &SessionId) {
        if let Some(row) = self.row_mut(id) {
            row.phase = Phase::Stuck;
        }
    }

    /// Sessions with all of `labels`, at most `size`, after the one with the number `after`.
    pub(super) fn page(&self, labels: &Labels, size: usize, after: u64) -> Page {
        let all = self.rows.iter().filter(|(_, row)| row.carries(labels));
        let total = all.clone().count();
        let mut rest = all.filter(|(number, _)| **number > after);
        let mut rows = Vec::new();
        let mut last = after;
        for (number, row) in rest.by_ref().take(size) {
            rows.push((row.id.clone(), row.status()));
            last = *number;
        }
        let next = rest.next().map(|_| last);
        Page { rows, next, total }
    }

    /// Begins to delete those that nobody has used for `span`, so that nobody begins to use
    /// them meanwhile; and when the next one will have been idle so long, if nothing happens.
    pub(super) fn begin_delete_idle(&mut self, span: Duration, now: Instant) -> (Vec<T>, Instant) {
        let mut due = Vec::new();
        let mut next = now.saturating_add(span);
        let idle = |row: &&mut Row<T>| row.phase == Phase::Running && row.busy == 0;
        for row in self.rows.values_mut().filter(idle) {
            let until = row.since.saturating_add(span);
            if until <= now {
                row.phase = Phase::Deleting;
                due.push(row.behind.clone());
            } else {
                next = next.min(until);
            }
        }
        (due, next)
    }
}

impl<T> Row<T> {
    fn status(&self) -> SessionStatus {
        match self.phase {
            Phase::Running => SessionStatus::Running,
            Phase::Deleting | Phase::Stuck => SessionStatus::Deleting,
        }
    }

    fn carries(&self, labels: &Labels) -> bool {
        labels
            .iter()
            .all(|(name, value)| self.labels.get(name) == Some(value))
    }
}

#[cfg(test)]
mod tests;
