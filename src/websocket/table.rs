//! Who waits for what: the pending calls of one client, as a pure state.
//!
//! A number is given once and never again, over all connections. A call waits in the queue
//! until the owner of the socket takes it out (from then on it may have an effect), and for
//! its reply from then on. However it ends, it is taken out of the table by that.

use std::collections::{BTreeMap, BTreeSet};

/// The latest calls that were given up are remembered, to tell a late reply from a second one.
const REMEMBERED: usize = 1024;

/// The table; `B` is what is to be sent, `S` where the answer goes.
#[derive(Debug)]
pub(super) struct Table<B, S> {
    next: u64,
    /// All that someone waits for.
    calls: BTreeMap<u64, Entry<B, S>>,
    /// Those of them that have not been sent, in order.
    queue: BTreeSet<u64>,
    given_up: BTreeSet<u64>,
    strays: Strays,
}

#[derive(Debug)]
struct Entry<B, S> {
    slot: S,
    wants: Wants,
    /// `None` once it was sent.
    body: Option<B>,
}

/// What a call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    Reply,
    /// That it has been handed to the socket: a notification.
    Dispatch,
}

/// What the owner of the socket is to send.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outgoing<B, S> {
    pub(super) body: B,
    /// `None` for a notification.
    pub(super) id: Option<u64>,
    /// To be told that it went out.
    pub(super) done: Option<S>,
}

/// Replies that nobody waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Strays {
    pub(super) late: u64,
    pub(super) duplicate: u64,
    pub(super) unknown: u64,
}

impl<B, S> Table<B, S> {
    pub(super) fn new() -> Self {
        Self {
            next: 1,
            calls: BTreeMap::new(),
            queue: BTreeSet::new(),
            given_up: BTreeSet::new(),
            strays: Strays::default(),
        }
    }

    /// Lets a call in, at the end of the queue.
    pub(super) fn begin(&mut self, body: B, wants: Wants, slot: S) -> u64 {
        let id = self.next;
        self.next += 1;
        let entry = Entry {
            slot,
            wants,
            body: Some(body),
        };
        self.calls.insert(id, entry);
        self.queue.insert(id);
        id
    }

    /// Takes the next one to send.
    pub(super) fn take(&mut self) -> Option<Outgoing<B, S>> {
        let id = self.queue.pop_first()?;
        let entry = self.calls.get_mut(&id)?;
        let body = entry.body.take()?;
        Some(match entry.wants {
            Wants::Reply => Outgoing {
                body,
                id: Some(id),
                done: None,
            },
            Wants::Dispatch => Outgoing {
                body,
                id: None,
                done: self.calls.remove(&id).map(|entry| entry.slot),
            },
        })
    }

    /// Finds who waits for this reply; else it is counted.
    pub(super) fn reply(&mut self, id: Option<u64>) -> Option<S> {
        let asked = id.filter(|id| self.is_sent(*id));
        let found = asked.and_then(|id| self.calls.remove(&id));
        if found.is_none() {
            self.count_stray(id);
        }
        found.map(|entry| entry.slot)
    }

    /// Takes out a call whose caller has gone.
    pub(super) fn give_up(&mut self, id: u64) -> Option<S> {
        let entry = self.calls.remove(&id)?;
        if !self.queue.remove(&id) {
            self.remember(id);
        }
        Some(entry.slot)
    }

    /// Takes out everything that was sent: its connection is gone. What has not been sent
    /// stays for the next.
    pub(super) fn lose(&mut self) -> Vec<S> {
        let queued = self.queue.iter();
        let kept = queued.filter_map(|id| self.calls.remove(id).map(|entry| (*id, entry)));
        let kept: BTreeMap<_, _> = kept.collect();
        let lost = std::mem::replace(&mut self.calls, kept);
        for id in lost.keys() {
            self.remember(*id);
        }
        lost.into_values().map(|entry| entry.slot).collect()
    }

    /// Takes out everything; and whether it was sent.
    pub(super) fn clear(&mut self) -> Vec<(S, bool)> {
        self.queue.clear();
        let all = std::mem::take(&mut self.calls).into_iter();
        all.map(|(id, entry)| {
            let was_sent = entry.body.is_none();
            if was_sent {
                self.remember(id);
            }
            (entry.slot, was_sent)
        })
        .collect()
    }

    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn strays(&self) -> Strays {
        self.strays
    }

    fn is_sent(&self, id: u64) -> bool {
        let entry = self.calls.get(&id);
        entry.is_some_and(|entry| entry.body.is_none())
    }

    fn count_stray(&mut self, id: Option<u64>) {
        let known = id.filter(|id| (1..self.next).contains(id) && !self.queue.contains(id));
        let count = match known {
            None => &mut self.strays.unknown,
            Some(id) if self.given_up.remove(&id) => &mut self.strays.late,
            Some(_) => &mut self.strays.duplicate,
        };
        *count = count.saturating_add(1);
    }

    fn remember(&mut self, id: u64) {
        self.given_up.insert(id);
        if self.given_up.len() > REMEMBERED {
            self.given_up.pop_first();
        }
    }
}

#[cfg(test)]
mod tests;
