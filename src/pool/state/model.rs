//! The state against a slow, obvious model: random histories.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;

use super::super::entry::Ages;
use super::*;
use crate::models::{Move, moves};

/// One of so many.
#[derive(Clone, Copy, Debug)]
struct Index(usize);

impl Index {
    fn index(self, len: usize) -> usize {
        self.0 % len
    }
}

type Caller = u64;
type Id = u64;
type Real = State<Id, Caller, Id>;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Thing {
    id: Id,
    expires: Instant,
    idle_limit: u64,
    since: Instant,
    uses: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Coming {
    thing: Thing,
    check: bool,
    fresh: bool,
}

/// One who waits.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Wait {
    caller: Caller,
    /// It looks again at that time.
    timer: Option<Instant>,
    failure: Option<Id>,
}

/// When no creations are started that nothing depends on, while creations fail.
#[derive(Default)]
struct Pauses {
    /// How often there was one since something worked.
    number: u32,
    /// What was created lately has never worked.
    doubted: bool,
    until: Option<Instant>,
}

impl Pauses {
    fn failed(&mut self, now: Instant, random: f64) {
        if self.until.is_some() {
            return;
        }
        // A tenth of a second, doubled each time, at most half a minute; half of it by chance.
        let mut millis = 100u32;
        (0..self.number).for_each(|_| millis = (millis * 2).min(30_000));
        self.number += 1;
        let least = Duration::from_millis(millis.into()) / 2;
        self.until = Some(now.saturating_add(least + least.mul_f64(random)));
    }

    fn succeeded(&mut self) {
        if !self.doubted {
            *self = Self::default();
        }
    }

    fn proved(&mut self) {
        if self.doubted {
            *self = Self::default();
        }
    }

    fn tick(&mut self, now: Instant) {
        self.until = self.until.filter(|until| *until > now);
    }
}

/// Lists and loops.
struct Model {
    rules: Rules,
    max: usize,
    closed: bool,
    idle: Vec<Thing>,
    in_use: Vec<Thing>,
    coming: Vec<(Caller, Coming)>,
    returning: Vec<Thing>,
    closing: Vec<(Id, Reason)>,
    line: Vec<Wait>,
    /// Woken, and not looked yet.
    awake: HashSet<Caller>,
    served: Vec<(Caller, Result<Coming, Id>)>,
    /// By whom each was started who waited.
    creating: Vec<Option<Caller>>,
    failing: bool,
    created: u64,
    failures: u64,
    gone: Vec<Reason>,
    pauses: Pauses,
}

impl Model {
    fn new(rules: Rules, max: usize) -> Self {
        Self {
            rules,
            max,
            closed: false,
            idle: vec![],
            in_use: vec![],
            coming: vec![],
            returning: vec![],
            closing: vec![],
            line: vec![],
            awake: HashSet::new(),
            served: vec![],
            creating: vec![],
            failing: false,
            created: 0,
            failures: 0,
            gone: vec![],
            pauses: Pauses::default(),
        }
    }

    fn handed(&self) -> usize {
        self.served.iter().filter(|served| served.1.is_ok()).count()
    }

    fn circulating(&self) -> usize {
        self.in_use.len() + self.coming.len() + self.returning.len() + self.handed()
    }

    fn living(&self) -> usize {
        self.idle.len() + self.circulating() + self.creating.len()
    }

    /// In the line, woken or with a time to look at.
    fn called(&self) -> usize {
        let called = |wait: &&Wait| self.awake.contains(&wait.caller) || wait.timer.is_some();
        self.line.iter().filter(called).count()
    }

    fn pause(&self) -> Option<Instant> {
        let other = self.circulating() > 0 || (self.failing && !self.creating.is_empty());
        self.pauses.until.filter(|_| other)
    }

    fn is_due(&self, thing: &Thing, now: Instant) -> bool {
        let idle_for = now.since(thing.since);
        let due = |after| after == 0 || idle_for >= Duration::from_nanos(after);
        self.rules.check_after.is_some_and(due)
    }

    fn overaged(&self, at: usize, now: Instant) -> Option<Reason> {
        let thing = self.idle[at];
        let idle_for = now.since(thing.since);
        if thing.expires <= now {
            Some(Reason::LifeTime)
        } else if idle_for >= Duration::from_nanos(thing.idle_limit)
            && thing.idle_limit != u64::MAX
            && self.idle.len() > self.rules.min_idle
        {
            Some(Reason::IdleTime)
        } else {
            None
        }
    }

    fn next_idle(&self) -> Option<usize> {
        let last = self.idle.len().checked_sub(1)?;
        Some(if self.rules.newest_first { last } else { 0 })
    }

    /// The idle object that a caller would get now; those too old on the way end.
    fn find_idle(&mut self, now: Instant) -> Option<(usize, bool)> {
        while let Some(at) = self.next_idle() {
            let Some(reason) = self.overaged(at, now) else {
                return Some((at, self.is_due(&self.idle[at], now)));
            };
            let thing = self.idle.remove(at);
            self.closing.push((thing.id, reason));
        }
        None
    }

    fn give(&mut self, mut thing: Thing, fresh: bool, now: Instant) {
        if self.closed {
            self.closing.push((thing.id, Reason::PoolClosed));
        } else if self.living() + 1 > self.max {
            self.closing.push((thing.id, Reason::Resized));
        } else if thing.expires <= now && !fresh {
            self.closing.push((thing.id, Reason::LifeTime));
        } else if self.line.is_empty() {
            thing.since = now;
            self.idle.push(thing);
        } else {
            let check = !fresh && self.rules.check_after == Some(0);
            let coming = Coming {
                thing,
                check,
                fresh,
            };
            self.served.push((self.line.remove(0).caller, Ok(coming)));
        }
    }

    /// A creation is over; who started it.
    fn creation_over(&mut self, at: Index, wreck: Option<Id>) -> Option<Caller> {
        let at = at.index(self.creating.len());
        let starter = self.creating.remove(at);
        self.failures += 1;
        if let Some(id) = wreck {
            self.created += 1;
            self.closing.push((id, Reason::Broken));
        }
        starter
    }

    fn fail(&mut self, error: Id) {
        self.failing = !self.creating.is_empty();
        let without = self.line.iter().position(|wait| wait.failure.is_none());
        if let Some(wait) = self.line.get_mut(without.unwrap_or(0)) {
            wait.failure = Some(error);
        }
        if self.circulating() + self.creating.len() == 0 {
            for wait in std::mem::take(&mut self.line) {
                match wait.failure {
                    Some(failure) => self.served.push((wait.caller, Err(failure))),
                    None => self.line.push(wait),
                }
            }
        }
    }

    fn lose(&mut self, starter: Option<Caller>, error: Id) {
        self.failing &= !self.creating.is_empty();
        if let Some(at) = self.line.iter().position(|w| Some(w.caller) == starter) {
            self.served.push((self.line.remove(at).caller, Err(error)));
        }
    }

    /// One who waits looks: whether it starts a creation.
    fn begin(&mut self, caller: Caller, now: Instant) -> bool {
        self.pauses.tick(now);
        let (missing, others) = (self.missing(), self.called());
        let pause = self.pause();
        let wait = self.line.iter_mut().find(|wait| wait.caller == caller);
        wait.unwrap().timer = pause.filter(|_| missing > others);
        let starts = missing > 0 && pause.is_none();
        if starts {
            self.creating.push(Some(caller));
        }
        starts
    }

    fn enter(&mut self, caller: Caller) {
        let (timer, failure) = (None, None);
        self.line.push(Wait {
            caller,
            timer,
            failure,
        });
        self.line.sort_unstable_by_key(|wait| wait.caller);
    }

    fn has_room(&self, more: usize) -> bool {
        let (size, creating) = (self.living() + self.closing.len(), self.creating.len());
        !self.closed && size + more < self.max && creating + more < self.rules.max_creating
    }

    /// How many creations are to be started for those who wait.
    fn missing(&self) -> usize {
        let mut missing = 0;
        while self.has_room(missing) && self.creating.len() + missing < self.line.len() {
            missing += 1;
        }
        missing
    }

    /// And for the minimum.
    fn missing_idle(&self) -> usize {
        let fill = self.rules.min_idle.saturating_sub(self.idle.len());
        let (first, mut missing) = (self.missing(), 0);
        while self.pauses.until.is_none()
            && missing < fill
            && self.has_room(first + missing)
            && self.creating.len() + missing < self.line.len() + fill
        {
            missing += 1;
        }
        missing
    }

    fn snapshot(&self) -> PoolSnapshot {
        let mut closed = PoolClosed::default();
        self.gone.iter().for_each(|reason| closed.count(*reason));
        PoolSnapshot {
            max_size: self.max,
            size: self.living() + self.closing.len(),
            idle: self.idle.len(),
            in_use: self.in_use.len(),
            creating: self.creating.len(),
            changing_hands: self.coming.len() + self.returning.len() + self.handed(),
            closing: self.closing.len(),
            pending: self.line.len(),
            created: self.created,
            create_failures: self.failures,
            closed,
            is_closed: self.closed,
        }
    }
}

/// Both, and what the real state has given away.
struct Both {
    real: Real,
    model: Model,
    fx: Effects<Id, Caller, Id>,
    now: Instant,
    /// The latest time that it ever was.
    latest: Instant,
    out: HashMap<Id, Box<Entry<Id>>>,
    tickets: HashMap<Caller, u64>,
    names: u64,
    ages: Ages,
    /// How many creations are to have been started.
    started: usize,
    /// The keeper has been called since it came last.
    keeper_called: bool,
}

fn thing(entry: &Entry<Id>) -> Thing {
    Thing {
        id: entry.object,
        expires: entry.expires,
        idle_limit: entry.idle_limit,
        since: entry.since,
        uses: entry.uses,
    }
}

impl Both {
    fn new(rules: Rules, max: usize, ages: Ages) -> Self {
        Self {
            real: State::new(rules, max),
            model: Model::new(rules, max),
            fx: Effects::none(),
            now: Instant::from_nanos(1 << 40),
            latest: Instant::from_nanos(1 << 40),
            out: HashMap::new(),
            tickets: HashMap::new(),
            names: 0,
            ages,
            started: 0,
            keeper_called: false,
        }
    }

    fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    /// The real candidate is the one that the model expects.
    fn keep(&mut self, real: Candidate<Id>, expected: Coming) {
        assert_eq!((real.check, real.fresh), (expected.check, expected.fresh));
        assert_eq!(thing(&real.entry), expected.thing);
        self.out.insert(real.entry.object, real.entry);
    }

    fn get(&mut self, at_once: bool) {
        let caller = self.name();
        let taken = match self.real.take_plain(self.now) {
            Some(entry) => Take::Ready(entry),
            None => self.real.take(self.now, at_once, &mut self.fx),
        };
        let found = if self.model.closed || !self.model.line.is_empty() {
            None
        } else {
            self.model.find_idle(self.now)
        };
        match taken {
            Take::Closed => assert!(self.model.closed),
            Take::Ready(mut entry) => {
                let (at, check) = found.unwrap();
                assert!(!check && !self.model.rules.hook_before);
                let mut expected = self.model.idle.remove(at);
                assert_eq!(thing(&entry), expected);
                expected.uses += 1;
                entry.uses += 1;
                self.model.in_use.push(expected);
                self.out.insert(entry.object, entry);
            }
            Take::Candidate(candidate, ticket) => {
                let (at, check) = found.unwrap();
                assert!(!at_once && (check || self.model.rules.hook_before));
                let coming = Coming {
                    thing: self.model.idle.remove(at),
                    check,
                    fresh: false,
                };
                self.keep(candidate, coming);
                self.model.coming.push((caller, coming));
                self.tickets.insert(caller, ticket);
            }
            Take::Empty => {
                assert!(!self.model.closed);
                let unusable = |(_, check)| at_once && (check || self.model.rules.hook_before);
                assert!(found.is_none_or(unusable));
                if !at_once {
                    self.enter(caller);
                }
            }
        }
    }

    fn enter(&mut self, caller: Caller) {
        let old = self.tickets.get(&caller).copied();
        let turn = self
            .real
            .enter(old, &mut Some(caller), self.now, &mut self.fx);
        let found = if self.model.closed || !self.model.line.is_empty() {
            None
        } else {
            self.model.find_idle(self.now)
        };
        match turn {
            Turn::Candidate(candidate) => {
                let (at, check) = found.unwrap();
                let coming = Coming {
                    thing: self.model.idle.remove(at),
                    check,
                    fresh: false,
                };
                self.keep(candidate, coming);
                self.model.coming.push((caller, coming));
                self.tickets.entry(caller).or_insert(u64::MAX);
            }
            Turn::Waiting(ticket, again) => {
                assert!(found.is_none());
                assert!(old.is_none_or(|old| old == ticket));
                self.model.enter(caller);
                self.tickets.insert(caller, ticket);
                self.begin(caller, again);
            }
            Turn::Closed => assert!(self.model.closed),
            Turn::Failed(_) => panic!("a newcomer has no failure"),
        }
    }

    fn begin(&mut self, caller: Caller, again: Option<Instant>) {
        let starts = self.model.begin(caller, self.now);
        let wait = self.model.line.iter().find(|wait| wait.caller == caller);
        assert_eq!(wait.unwrap().timer, again);
        let starter = starts.then(|| self.tickets[&caller]);
        assert_eq!(self.fx.starter, starter);
        self.started += usize::from(starts);
    }

    fn look(&mut self, caller: Caller) {
        let ticket = self.tickets[&caller];
        self.model.awake.remove(&caller);
        if let Some(wait) = self.model.line.iter_mut().find(|w| w.caller == caller) {
            wait.timer = None;
        }
        let served = self.model.served.iter().position(|s| s.0 == caller);
        match self
            .real
            .look(ticket, &mut Some(caller), self.now, &mut self.fx)
        {
            Turn::Candidate(candidate) => {
                let (_, coming) = self.model.served.remove(served.unwrap());
                self.keep(candidate, coming.unwrap());
                self.model.coming.push((caller, coming.unwrap()));
            }
            Turn::Failed(error) => {
                let (_, failed) = self.model.served.remove(served.unwrap());
                assert_eq!(Err(error), failed);
            }
            Turn::Waiting(same, again) => {
                assert_eq!(same, ticket);
                self.begin(caller, again);
            }
            Turn::Closed => {
                assert!(self.model.closed && served.is_none());
            }
        }
    }

    fn leave(&mut self, caller: Caller) {
        let (waker, failure) = self
            .real
            .leave(self.tickets[&caller], self.now, &mut self.fx);
        self.model.awake.remove(&caller);
        let line = &mut self.model.line;
        if let Some(at) = line.iter().position(|wait| wait.caller == caller) {
            let waited = line.remove(at);
            assert!(waker.is_none_or(|waker| waker == caller));
            assert_eq!(failure, waited.failure);
            return;
        }
        assert_eq!(waker, None);
        if let Some(at) = self.model.served.iter().position(|s| s.0 == caller) {
            match self.model.served.remove(at).1 {
                Ok(coming) => self.model.give(coming.thing, coming.fresh, self.now),
                Err(error) => assert_eq!(failure, Some(error)),
            }
        }
    }

    fn land(&mut self, at: Index, how: u8, random: f64) {
        let id = self.name();
        let entry = self.ages.entry(id, self.now, random);
        let expected = thing(&entry);
        if how < 2 {
            let at = at.index(self.model.creating.len());
            self.real.landed(entry, self.now, &mut self.fx);
            self.model.creating.remove(at);
            self.model.failing = false;
            self.model.created += 1;
            self.model.pauses.succeeded();
            self.model.give(expected, true, self.now);
            return;
        }
        let wreck = (how % 2 == 1).then_some(entry);
        let made = wreck.as_ref().map(|_| id);
        let starter = self.model.creation_over(at, made);
        if how < 5 {
            self.model.pauses.failed(self.now, random);
            self.model.fail(id);
            let at = (self.now, random);
            self.real.failed(id, wreck, at, &mut self.fx);
            return;
        }
        if starter.is_none() {
            self.model.pauses.failed(self.now, 0.0);
        }
        self.model.lose(starter, id);
        let ticket = starter.map(|starter| self.tickets[&starter]);
        self.real.lost(ticket, id, wreck, self.now, &mut self.fx);
    }

    fn arrive(&mut self, mut coming: Coming) {
        let id = coming.thing.id;
        let arrived = self.real.arrived(&mut self.fx);
        assert_eq!(arrived, !self.model.closed);
        if arrived {
            self.model.pauses.proved();
            self.out.get_mut(&id).unwrap().uses += 1;
            coming.thing.uses += 1;
            self.model.in_use.push(coming.thing);
            return;
        }
        self.fail_candidate(coming, Reason::PoolClosed);
    }

    fn fail_candidate(&mut self, coming: Coming, reason: Reason) {
        let entry = self.out.remove(&coming.thing.id).unwrap();
        self.real
            .fail_candidate(entry, reason, (self.now, 0.5), &mut self.fx);
        self.model.closing.push((coming.thing.id, reason));
        if coming.thing.uses == 0 && reason == Reason::CheckFailed {
            self.model.pauses.doubted = true;
            self.model.pauses.failed(self.now, 0.5);
        }
    }

    fn end_doubtful(&mut self) {
        self.real.end_doubtful(self.now, &mut self.fx);
        for thing in std::mem::take(&mut self.model.idle) {
            if self.model.is_due(&thing, self.now) {
                self.model.closing.push((thing.id, Reason::CheckFailed));
            } else {
                self.model.idle.push(thing);
            }
        }
    }

    fn come(&mut self, at: Index, how: u8) {
        let at = at.index(self.model.coming.len());
        let (caller, coming) = self.model.coming.remove(at);
        match how {
            0 => return self.arrive(coming),
            1 => self.fail_candidate(coming, Reason::CheckFailed),
            2 => return self.fail_candidate(coming, Reason::CancelledUse),
            3 => {
                // It still counts as coming.
                self.model.coming.push((caller, coming));
                self.end_doubtful();
                self.compare();
                self.model.coming.pop();
                self.fail_candidate(coming, Reason::CheckFailed);
            }
            _ => {
                let entry = self.out.remove(&coming.thing.id).unwrap();
                self.real.returned(entry, self.now, &mut self.fx);
                return self.model.give(coming.thing, false, self.now);
            }
        }
        if self.tickets[&caller] != u64::MAX {
            self.compare();
            self.enter(caller);
        }
    }

    fn come_back(&mut self, at: Index, how: u8) {
        let at = at.index(self.model.in_use.len());
        let used = self.model.in_use.remove(at);
        let entry = self.out.remove(&used.id).unwrap();
        match how {
            0 | 1 => {
                if let Some(entry) = self.real.put_plain(entry, self.now) {
                    self.real.put(entry, self.now, &mut self.fx);
                }
                self.model.give(used, false, self.now);
            }
            2 => {
                self.real.discard(entry, Reason::Broken, &mut self.fx);
                self.model.closing.push((used.id, Reason::Broken));
            }
            3 => {
                self.real.detach(&mut self.fx);
                self.model.gone.push(Reason::Detached);
            }
            _ => {
                self.real.returning();
                self.model.returning.push(used);
                self.out.insert(used.id, entry);
            }
        }
    }

    fn returned(&mut self, at: Index) {
        let at = at.index(self.model.returning.len());
        let used = self.model.returning.remove(at);
        let entry = self.out.remove(&used.id).unwrap();
        self.real.returned(entry, self.now, &mut self.fx);
        self.model.give(used, false, self.now);
    }

    fn end(&mut self, at: Index) {
        let at = at.index(self.model.closing.len());
        let (_, reason) = self.model.closing.remove(at);
        self.real.ended(reason, &mut self.fx);
        self.model.gone.push(reason);
    }

    fn resize(&mut self, max: usize) {
        self.real.resize(max, &mut self.fx);
        self.model.max = max;
        while self.model.living() > max && !self.model.idle.is_empty() {
            let thing = self.model.idle.remove(0);
            self.model.closing.push((thing.id, Reason::Resized));
        }
    }

    fn close(&mut self) {
        self.real.close(&mut self.fx);
        self.model.closed = true;
        let woken: HashSet<Caller> = self.fx.wake.iter().copied().collect();
        for wait in std::mem::take(&mut self.model.line) {
            let awake = self.model.awake.remove(&wait.caller);
            assert!(awake || woken.contains(&wait.caller), "all are told");
        }
        for (caller, served) in std::mem::take(&mut self.model.served) {
            self.model.awake.remove(&caller);
            if let Ok(coming) = served {
                let id = coming.thing.id;
                self.model.closing.push((id, Reason::PoolClosed));
            }
        }
        for thing in std::mem::take(&mut self.model.idle) {
            self.model.closing.push((thing.id, Reason::PoolClosed));
        }
    }

    fn advance(&mut self, by: Move) {
        self.now = Instant::from_nanos(by.from(self.now.as_nanos()));
        self.latest = self.latest.max(self.now);
        // The keeper comes when it was told to, and when it is called.
        if self.real.due <= self.now || self.keeper_called {
            self.tick();
        }
    }

    fn tick(&mut self) {
        self.keeper_called = false;
        let due = self.real.tick(self.now, &mut self.fx);
        assert_eq!(due.is_none(), self.model.closed);
        if self.model.closed {
            return;
        }
        let mut at = 0;
        while at < self.model.idle.len() {
            match self.model.overaged(at, self.now) {
                None => at += 1,
                Some(reason) => {
                    let thing = self.model.idle.remove(at);
                    self.model.closing.push((thing.id, reason));
                }
            }
        }
        self.model.pauses.tick(self.now);
        let start = self.model.missing_idle();
        self.model.creating.extend(vec![None; start]);
        self.started += start;
    }

    fn op(&mut self, (op, how, at, clock): (u8, u8, Index, Move)) {
        let someone = |of: &[Caller]| of.get(at.index(of.len().max(1))).copied();
        let served: Vec<Caller> = self.model.served.iter().map(|s| s.0).collect();
        match op {
            0..=2 => self.get(how == 0),
            3 | 4 if !self.model.in_use.is_empty() => self.come_back(at, how % 5),
            5 | 6 if !self.model.creating.is_empty() => {
                self.land(at, how % 7, f64::from(how) / 20.0);
            }
            7 if !self.model.closing.is_empty() => self.end(at),
            8 if !self.model.coming.is_empty() => self.come(at, how % 5),
            9 => {
                if let Some(caller) = someone(&served) {
                    self.look(caller);
                }
            }
            10 => {
                let line = self.model.line.iter().map(|wait| wait.caller);
                let all: Vec<Caller> = line.chain(served).collect();
                match someone(&all) {
                    Some(caller) if how % 2 == 0 => self.leave(caller),
                    Some(caller) => self.look(caller),
                    None => {}
                }
            }
            11 => self.advance(clock),
            12 if !self.model.returning.is_empty() => self.returned(at),
            13 if how < 5 => self.resize(usize::from(how)),
            14 if how < 1 => self.close(),
            15 => self.tick(),
            _ => {}
        }
    }

    /// What both hold is the same, and as it must be.
    fn compare(&mut self) {
        let fx = std::mem::replace(&mut self.fx, Effects::none());
        assert_eq!(fx.create, std::mem::take(&mut self.started), "creations");
        self.keeper_called |= fx.sooner;
        let told = |caller: &Caller| {
            let waits = self.model.line.iter().any(|wait| wait.caller == *caller);
            waits || self.model.served.iter().any(|served| served.0 == *caller)
        };
        let woken: Vec<Caller> = fx.wake.iter().copied().filter(told).collect();
        self.model.awake.extend(woken);
        for (entry, reason) in &fx.close {
            assert!(self.model.closing.contains(&(entry.object, *reason)));
        }
        assert_eq!(self.real.snapshot(), self.model.snapshot());
        let idle: Vec<Thing> = self.real.idle.iter().map(|entry| thing(entry)).collect();
        assert_eq!(idle, self.model.idle);
        assert!(self.real.waiting.is_sound());
        self.check_laws(&fx);
    }

    fn check_laws(&self, fx: &Effects<Id, Caller, Id>) {
        let snapshot = self.real.snapshot();
        let moving = snapshot.changing_hands + snapshot.closing;
        let sum = snapshot.idle + snapshot.in_use + snapshot.creating + moving;
        assert_eq!(snapshot.size, sum);
        let there = (snapshot.size - snapshot.creating) as u64;
        assert_eq!(
            snapshot.created,
            there + snapshot.closed.total(),
            "none is lost"
        );
        assert!(
            fx.create == 0 || snapshot.size <= snapshot.max_size,
            "the maximum"
        );
        assert!(snapshot.creating <= self.model.rules.max_creating);
        assert!(snapshot.pending == 0 || snapshot.idle == 0, "{snapshot:?}");
        self.check_wakes();
        for entry in &self.real.idle {
            let late = self.real.due > entry.expires
                || (entry.idle_until() > self.latest && self.real.due > entry.idle_until());
            assert!(!late, "the keeper comes in time");
        }
        let paused = self.real.fill.resumes();
        let due = paused.filter(|_| self.model.rules.min_idle > 0);
        assert!(due.is_none_or(|at| self.model.closed || self.real.due <= at));
    }

    /// Nobody sleeps who has something to do.
    fn check_wakes(&self) {
        let model = &self.model;
        for (caller, _) in &model.served {
            assert!(model.awake.contains(caller), "who is served is told");
        }
        let missing = model.missing();
        assert!(model.called() >= missing, "nobody sleeps beside room");
        if model.pause().is_none() {
            let awake = |wait: &&Wait| model.awake.contains(&wait.caller);
            let awake = model.line.iter().filter(awake).count();
            assert!(awake >= missing.min(model.called()), "and not for a pause");
            let timed = |wait: &Wait| wait.timer.is_some() && !model.awake.contains(&wait.caller);
            assert!(!model.line.iter().any(timed), "nobody waits for no pause");
        }
        let kept = self.keeper_called || model.missing_idle() == 0;
        assert!(kept, "the keeper is called for the minimum");
    }

    /// Everyone who is woken, or whose time has come, looks; everything that is under way
    /// ends well: everybody who waits is served.
    fn serve_everyone(&mut self) {
        if self.model.max == 0 {
            self.resize(1);
            self.compare();
        }
        for _ in 0..1_000 {
            let awake = self.model.awake.iter().copied().min();
            let now = self.now;
            let timed = |wait: &&Wait| wait.timer.is_some_and(|at| at <= now);
            let timed = self.model.line.iter().find(timed).map(|wait| wait.caller);
            let first = Index(0);
            if let Some(caller) = awake.or(timed) {
                self.look(caller);
            } else if !self.model.coming.is_empty() {
                self.come(first, 0);
            } else if !self.model.in_use.is_empty() {
                self.come_back(first, 0);
            } else if !self.model.returning.is_empty() {
                self.returned(first);
            } else if !self.model.creating.is_empty() {
                self.land(first, 0, 0.0);
            } else if !self.model.closing.is_empty() {
                self.end(first);
            } else {
                break;
            }
            self.compare();
        }
        let left = (self.model.line.len(), self.model.served.len());
        assert_eq!(left, (0, 0), "everyone is served: {:?}", self.model.line);
    }

    /// Everyone goes, everything comes back: one more gets an object, and a closed pool is
    /// empty.
    fn finish(&mut self) {
        let first = Index(0);
        while !self.model.line.is_empty() || !self.model.served.is_empty() {
            let served = self.model.served.first().map(|served| served.0);
            let caller = served.or(self.model.line.first().map(|wait| wait.caller));
            self.leave(caller.unwrap());
            self.compare();
        }
        self.settle();
        if self.model.closed {
            assert_eq!(self.real.snapshot().size, 0);
            assert!(self.real.poll_drained(&mut None, &mut Some(0)));
            return;
        }
        if self.model.max == 0 {
            self.resize(1);
            self.compare();
        }
        self.get(false);
        self.compare();
        self.serve_first();
        let served = self.model.served.first().map(|served| served.0);
        if let Some(caller) = served {
            self.look(caller);
        }
        if !self.model.coming.is_empty() {
            self.come(first, 0);
        }
        self.compare();
        assert_eq!(self.real.snapshot().in_use, 1, "the next call succeeds");
    }

    /// All that is under way ends well.
    fn settle(&mut self) {
        let first = Index(0);
        while self.model.coming.len() + self.model.returning.len() > 0 {
            if self.model.coming.is_empty() {
                self.returned(first);
            } else {
                self.come(first, 0);
            }
            self.compare();
        }
        while !self.model.in_use.is_empty() {
            self.come_back(first, 0);
            self.compare();
        }
        while self.model.creating.len() + self.model.closing.len() > 0 {
            if self.model.creating.is_empty() {
                self.end(first);
            } else {
                self.land(first, 0, 0.0);
            }
            self.compare();
        }
    }

    /// The only one in the line starts what it was called for.
    fn serve_first(&mut self) {
        for _ in 0..3 {
            if !self.model.line.is_empty() {
                self.settle();
            }
            if let Some(wait) = self.model.line.first().copied() {
                self.look(wait.caller);
                self.compare();
            }
        }
    }
}

fn rules() -> impl Strategy<Value = Rules> {
    (
        0..3usize,
        1..4usize,
        prop::option::of(0..20u64),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(min_idle, max_creating, check, hook_before, newest_first)| Rules {
                min_idle,
                max_creating,
                check_after: check.map(|ms| ms * 1_000_000),
                hook_before,
                newest_first,
            },
        )
}

fn op() -> impl Strategy<Value = (u8, u8, Index, Move)> {
    let at = any::<usize>().prop_map(Index);
    (0..16u8, 0..20u8, at, moves(Duration::from_millis(140)))
}

fn ages() -> impl Strategy<Value = Ages> {
    let span = || {
        prop_oneof![
            Just(Duration::MAX),
            (1..300u64).prop_map(Duration::from_millis)
        ]
    };
    (span(), span()).prop_map(|(idle_time, life_time)| Ages {
        idle_time,
        life_time,
        jitter: 0.5,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::models::cases("pool"), ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_the_slow_model(
        rules in rules(),
        ages in ages(),
        max in 3..5usize,
        patient in any::<bool>(),
        ops in prop::collection::vec(op(), 0..150),
    ) {
        let mut both = Both::new(rules, max, ages);
        both.tick();
        both.compare();
        for op in ops {
            both.op(op);
            both.compare();
        }
        if patient {
            both.serve_everyone();
        }
        both.finish();
    }
}
