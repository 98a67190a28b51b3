//! The reaper's book: which sessions are held, which are to end, and when the next try is
//! due. Pure: it is told the time.
//!
//! Invariants: a session stands in it from the moment in which the client knows of it until it
//! is gone, given away or given up; `due` holds exactly the entries at the stage `Due`.

mod entry;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::super::types::SessionId;
use super::report::ReaperSnapshot;
use crate::retry::Delays;
use crate::time::Instant;
pub(super) use entry::{Course, End, Rules, Target};
use entry::{Entry, Stage, Totals};

#[derive(Debug)]
pub(super) struct Book {
    rules: Rules,
    entries: BTreeMap<Target, Entry>,
    due: BTreeSet<(Instant, Target)>,
    running: usize,
    /// Nothing new will come: what waits for its next try is tried at once.
    hurried: bool,
    /// Nobody may hold a session any more.
    ending: bool,
    /// Nobody will try any more.
    aborted: bool,
    totals: Totals,
}

impl Book {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            entries: BTreeMap::new(),
            due: BTreeSet::new(),
            running: 0,
            hurried: false,
            ending: false,
            aborted: false,
            totals: Totals::default(),
        }
    }

    /// A session has an owner, who may find that it ends: what comes after the end of all ends
    /// too. False if it stands in the book already.
    pub(super) fn hold(&mut self, id: &SessionId, now: Instant) -> bool {
        if self.knows(id) {
            return false;
        }
        let ends = self.ending && !self.aborted;
        let stage = if ends { Stage::due(now) } else { Stage::Held };
        self.enter(Target::Session(id.clone()), stage, None);
        true
    }

    /// Whether a session stands in the book.
    pub(super) fn knows(&self, id: &SessionId) -> bool {
        self.entries.contains_key(&Target::Session(id.clone()))
    }

    /// Its owner has let go of it. False when it was given up thereby.
    pub(super) fn let_go(&mut self, id: &SessionId, now: Instant) -> bool {
        let target = Target::Session(id.clone());
        match self.entries.get(&target).map(|entry| entry.stage) {
            Some(Stage::Held | Stage::Closing) if self.aborted => {
                self.remove(&target);
                self.totals.given_up += 1;
                false
            }
            Some(Stage::Held | Stage::Closing) => {
                self.put(&target, Stage::due(now));
                true
            }
            _ => true,
        }
    }

    /// Its owner keeps it for good, outside of the book. False when its end had begun.
    pub(super) fn give_away(&mut self, id: &SessionId) -> bool {
        let target = Target::Session(id.clone());
        let held = self.entries.get(&target).map(|entry| entry.stage) == Some(Stage::Held);
        if held {
            self.remove(&target);
        }
        held
    }

    /// Its owner ends it.
    pub(super) fn closing(&mut self, id: &SessionId) {
        let target = Target::Session(id.clone());
        let stage = self.entries.get(&target).map(|entry| entry.stage);
        if matches!(stage, Some(Stage::Held | Stage::Due { .. })) {
            self.put(&target, Stage::Closing);
        }
    }

    /// Someone else has ended it: no try is needed, if it waits for one.
    pub(super) fn gone(&mut self, id: &SessionId) {
        let target = Target::Session(id.clone());
        let stage = self.entries.get(&target).map(|entry| entry.stage);
        if matches!(stage, Some(Stage::Due { .. })) {
            self.remove(&target);
        }
    }

    /// Some try of this creation may have made a session that nobody knows; `kept` is not it.
    pub(super) fn search(&mut self, key: Arc<str>, kept: Option<SessionId>, now: Instant) {
        if self.aborted {
            self.totals.given_up += 1;
            return;
        }
        self.enter(Target::Creation(key), Stage::due(now), kept);
    }

    /// The next one that is due, if there is room for it.
    pub(super) fn start(&mut self, now: Instant) -> Option<Target> {
        if self.running >= self.rules.concurrency {
            return None;
        }
        let (at, target) = self.due.first()?;
        if *at > now {
            return None;
        }
        let target = target.clone();
        self.put(&target, Stage::Running);
        Some(target)
    }

    /// A try has ended. `seed` is for the jitter.
    pub(super) fn ended(&mut self, target: &Target, end: End, now: Instant, seed: u64) -> Course {
        let Some(entry) = self.entries.get(target) else {
            return Course::Done;
        };
        let kept = entry.kept.clone();
        match end {
            End::Gone { before } => {
                self.remove(target);
                self.totals.deleted += 1;
                self.totals.already_gone += u64::from(before);
                Course::Done
            }
            End::Looked(found) if self.take_over(&found, kept.as_ref(), now) => {
                self.failed(target, None, now, seed)
            }
            End::Looked(_) => self.looked_in_vain(target, now, seed),
            End::Failed(after) => {
                self.totals.failures += 1;
                self.failed(target, after, now, seed)
            }
        }
    }

    /// Its task is gone without an end, with its runtime.
    pub(super) fn interrupted(&mut self, target: &Target, now: Instant) {
        if self.entries.contains_key(target) {
            self.put(target, Stage::due(now));
        }
    }

    /// There is no runtime to work in.
    pub(super) fn stranded(&mut self) {
        self.totals.stranded += 1;
    }

    /// Nothing new comes: what waits is tried at once, unless the other side has named a time.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.hurried = true;
        let unnamed = |entry: &Entry| matches!(entry.stage, Stage::Due { named: false, .. });
        self.make_due(unnamed, now);
    }

    /// Every session that is held ends now, and each that comes later.
    pub(super) fn end_all(&mut self, now: Instant) {
        self.ending = true;
        self.make_due(|entry| entry.stage == Stage::Held, now);
    }

    /// Gives up everything; how much that was.
    pub(super) fn abort(&mut self) -> usize {
        self.aborted = true;
        let all = self.entries.len();
        self.totals.given_up += all as u64;
        self.entries.clear();
        self.due.clear();
        self.running = 0;
        all
    }

    pub(super) const fn is_aborted(&self) -> bool {
        self.aborted
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        let room = self.running < self.rules.concurrency;
        self.due.first().filter(|_| room).map(|(at, _)| *at)
    }

    /// Whether there is something to do or to wait for.
    pub(super) fn has_work(&self) -> bool {
        !self.due.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn snapshot(&self) -> ReaperSnapshot {
        let mut snapshot = ReaperSnapshot {
            deleted: self.totals.deleted,
            already_gone: self.totals.already_gone,
            found: self.totals.found,
            failures: self.totals.failures,
            given_up: self.totals.given_up,
            stranded: self.totals.stranded,
            ..ReaperSnapshot::default()
        };
        for (target, entry) in &self.entries {
            *match (target, entry.stage) {
                (Target::Creation(_), _) => &mut snapshot.searching,
                (_, Stage::Held) => &mut snapshot.held,
                (_, Stage::Due { .. }) => &mut snapshot.waiting,
                (_, Stage::Running | Stage::Closing) => &mut snapshot.ending,
            } += 1;
        }
        snapshot
    }

    /// Takes the sessions that a look has found; whether there was one that may not stay.
    fn take_over(&mut self, found: &[SessionId], kept: Option<&SessionId>, now: Instant) -> bool {
        let strays = found.iter().filter(|id| kept != Some(*id));
        let mut any = false;
        for id in strays {
            any = true;
            if !self.knows(id) {
                self.totals.found += 1;
                self.enter(Target::Session(id.clone()), Stage::due(now), None);
            }
        }
        any
    }

    fn looked_in_vain(&mut self, target: &Target, now: Instant, seed: u64) -> Course {
        let enough = if self.hurried { 1 } else { self.rules.looks };
        let Some(entry) = self.entries.get_mut(target) else {
            return Course::Done;
        };
        entry.empty += 1;
        let (empty, failures) = (entry.empty, entry.failures);
        if empty >= enough {
            self.remove(target);
            return Course::Done;
        }
        let at = now.saturating_add(self.delay(empty, seed));
        self.put(target, Stage::due(at));
        Course::Again(failures)
    }

    fn failed(
        &mut self,
        target: &Target,
        after: Option<Duration>,
        now: Instant,
        seed: u64,
    ) -> Course {
        let Some(entry) = self.entries.get_mut(target) else {
            return Course::Done;
        };
        entry.failures += 1;
        entry.empty = 0;
        let failures = entry.failures;
        if failures >= self.rules.max_attempts {
            self.remove(target);
            self.totals.given_up += 1;
            return Course::GivenUp(failures);
        }
        let wait = after.unwrap_or_else(|| self.delay(failures, seed));
        let (at, named) = (now.saturating_add(wait), after.is_some());
        self.put(target, Stage::Due { at, named });
        Course::Again(failures)
    }

    /// The back-off's delay after so many failures.
    fn delay(&self, failures: u32, seed: u64) -> Duration {
        let nth = failures.saturating_sub(1).min(64) as usize;
        self.rules
            .backoff
            .delays(|| seed)
            .nth(nth)
            .unwrap_or_default()
    }

    fn make_due(&mut self, which: impl Fn(&Entry) -> bool, now: Instant) {
        let these = self.entries.iter().filter(|(_, entry)| which(entry));
        let these: Vec<Target> = these.map(|(target, _)| target.clone()).collect();
        for target in these {
            self.put(&target, Stage::due(now));
        }
    }

    /// A new entry, at a stage that no count knows of but `due`.
    fn enter(&mut self, target: Target, stage: Stage, kept: Option<SessionId>) {
        if let Stage::Due { at, .. } = stage {
            self.due.insert((at, target.clone()));
        }
        self.entries.insert(target, Entry::new(stage, kept));
    }

    /// Moves an entry to a stage; the sets and counts follow.
    fn put(&mut self, target: &Target, stage: Stage) {
        let Some(entry) = self.entries.get_mut(target) else {
            return;
        };
        let before = std::mem::replace(&mut entry.stage, stage);
        self.leave(target, before);
        match stage {
            Stage::Due { at, .. } => {
                self.due.insert((at, target.clone()));
            }
            Stage::Running => self.running += 1,
            Stage::Held | Stage::Closing => {}
        }
    }

    fn remove(&mut self, target: &Target) {
        if let Some(entry) = self.entries.remove(target) {
            self.leave(target, entry.stage);
        }
    }

    fn leave(&mut self, target: &Target, stage: Stage) {
        match stage {
            Stage::Due { at, .. } => {
                self.due.remove(&(at, target.clone()));
            }
            Stage::Running => self.running -= 1,
            Stage::Held | Stage::Closing => {}
        }
    }
}
