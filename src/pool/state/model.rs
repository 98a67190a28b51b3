//! The state against a slow, obvious model: random histories.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::super::entry::Ages;
use super::*;

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
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Coming {
    thing: Thing,
    check: bool,
    fresh: bool,
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
    line: Vec<Caller>,
    served: Vec<(Caller, Result<Coming, Id>)>,
    creating: usize,
    created: u64,
    failures: u64,
    gone: Vec<Reason>,
    fill: Fill,
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
            served: vec![],
            creating: 0,
            created: 0,
            failures: 0,
            gone: vec![],
            fill: Fill::default(),
        }
    }

    fn handed(&self) -> usize {
        self.served.iter().filter(|served| served.1.is_ok()).count()
    }

    fn living(&self) -> usize {
        let moving = self.coming.len() + self.returning.len() + self.handed();
        self.idle.len() + self.in_use.len() + moving + self.creating
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
                let idle_for = now.since(self.idle[at].since);
                let due = |after| after == 0 || idle_for >= Duration::from_nanos(after);
                return Some((at, self.rules.check_after.is_some_and(due)));
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
            self.served.push((self.line.remove(0), Ok(coming)));
        }
    }

    fn fail(&mut self, error: Id, wreck: Option<Id>) {
        self.creating -= 1;
        self.failures += 1;
        if let Some(id) = wreck {
            self.created += 1;
            self.closing.push((id, Reason::Broken));
        }
        if !self.line.is_empty() {
            self.served.push((self.line.remove(0), Err(error)));
        }
    }

    fn enter(&mut self, caller: Caller) {
        self.line.push(caller);
        self.line.sort_unstable();
    }

    /// How many creations are to be started.
    fn start(&mut self) -> usize {
        let mut started = 0;
        while !self.closed
            && self.living() + self.closing.len() < self.max
            && self.creating < self.rules.max_creating
            && self.creating < self.line.len() + self.missing()
        {
            self.creating += 1;
            started += 1;
        }
        started
    }

    fn missing(&self) -> usize {
        if self.fill.is_paused() {
            0
        } else {
            self.rules.min_idle.saturating_sub(self.idle.len())
        }
    }

    fn snapshot(&self) -> PoolSnapshot {
        let mut closed = PoolClosed::default();
        self.gone.iter().for_each(|reason| closed.count(*reason));
        PoolSnapshot {
            max_size: self.max,
            size: self.living() + self.closing.len(),
            idle: self.idle.len(),
            in_use: self.in_use.len(),
            creating: self.creating,
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
    out: HashMap<Id, Box<Entry<Id>>>,
    tickets: HashMap<Caller, u64>,
    names: u64,
    ages: Ages,
    /// Started by what is not a look: it is for the shell to start.
    started: usize,
}

fn thing(entry: &Entry<Id>) -> Thing {
    Thing {
        id: entry.object,
        expires: entry.expires,
        idle_limit: entry.idle_limit,
        since: entry.since,
    }
}

impl Both {
    fn new(rules: Rules, max: usize, ages: Ages) -> Self {
        Self {
            real: State::new(rules, max),
            model: Model::new(rules, max),
            fx: Effects::none(),
            now: Instant::from_nanos(1 << 40),
            out: HashMap::new(),
            tickets: HashMap::new(),
            names: 0,
            ages,
            started: 0,
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
            Take::Ready(entry) => {
                let (at, check) = found.unwrap();
                assert!(!check && !self.model.rules.hook_before);
                let expected = self.model.idle.remove(at);
                assert_eq!(thing(&entry), expected);
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
            Turn::Waiting(ticket) => {
                assert!(found.is_none());
                assert!(old.is_none_or(|old| old == ticket));
                self.model.enter(caller);
                self.tickets.insert(caller, ticket);
            }
            Turn::Closed => assert!(self.model.closed),
            Turn::Failed(_) => panic!("a newcomer has no failure"),
        }
    }

    fn look(&mut self, caller: Caller) {
        let ticket = self.tickets[&caller];
        let served = self.model.served.iter().position(|s| s.0 == caller);
        match self.real.look(ticket, &mut Some(caller), &mut self.fx) {
            Turn::Candidate(candidate) => {
                let (_, coming) = self.model.served.remove(served.unwrap());
                self.keep(candidate, coming.unwrap());
                self.model.coming.push((caller, coming.unwrap()));
            }
            Turn::Failed(error) => {
                let (_, failed) = self.model.served.remove(served.unwrap());
                assert_eq!(Err(error), failed);
            }
            Turn::Waiting(same) => {
                assert_eq!(same, ticket);
                assert!(self.model.line.contains(&caller));
            }
            Turn::Closed => {
                assert!(self.model.closed && served.is_none());
            }
        }
    }

    fn leave(&mut self, caller: Caller) {
        let waker = self
            .real
            .leave(self.tickets[&caller], self.now, &mut self.fx);
        let waited = self.model.line.contains(&caller);
        assert!(waker.is_none_or(|waker| waited && waker == caller));
        self.model.line.retain(|other| *other != caller);
        if let Some(at) = self.model.served.iter().position(|s| s.0 == caller) {
            if let Ok(coming) = self.model.served.remove(at).1 {
                self.model.give(coming.thing, coming.fresh, self.now);
            }
        }
    }

    fn land(&mut self, how: u8, random: f64) {
        let id = self.name();
        let entry = self.ages.entry(id, self.now, random);
        let expected = thing(&entry);
        if how == 0 {
            self.real.landed(entry, self.now, &mut self.fx);
            self.model.creating -= 1;
            self.model.created += 1;
            self.model.fill.succeeded();
            self.model.give(expected, true, self.now);
            return;
        }
        let wreck = (how == 1).then_some(entry);
        self.model.fill.failed(self.now, random);
        self.model.fail(id, wreck.as_ref().map(|_| id));
        let at = (self.now, random);
        self.real.failed(id, wreck, at, &mut self.fx);
    }

    fn come(&mut self, at: Index, how: u8) {
        let at = at.index(self.model.coming.len());
        let (caller, coming) = self.model.coming.remove(at);
        let id = coming.thing.id;
        if how == 0 {
            self.real.arrived();
            self.model.in_use.push(coming.thing);
            return;
        }
        let entry = self.out.remove(&id).unwrap();
        let reason = if how == 1 {
            Reason::CheckFailed
        } else {
            Reason::CancelledUse
        };
        self.real.fail_candidate(entry, reason, &mut self.fx);
        self.model.closing.push((id, reason));
        if how == 1 && self.tickets[&caller] != u64::MAX {
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
        self.model.line.clear();
        for thing in std::mem::take(&mut self.model.idle) {
            self.model.closing.push((thing.id, Reason::PoolClosed));
        }
    }

    fn advance(&mut self, span: Duration) {
        self.now = self.now.saturating_add(span);
        // The keeper comes when it was told to.
        if self.real.due <= self.now {
            self.tick();
        }
    }

    fn tick(&mut self) {
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
        self.model.fill.tick(self.now);
    }

    fn op(&mut self, (op, how, at): (u8, u8, Index)) {
        let someone = |of: &[Caller]| of.get(at.index(of.len().max(1))).copied();
        let served: Vec<Caller> = self.model.served.iter().map(|s| s.0).collect();
        match op {
            0..=2 => self.get(how == 0),
            3 | 4 if !self.model.in_use.is_empty() => self.come_back(at, how % 5),
            5 | 6 if self.model.creating > 0 => self.land(how % 4, f64::from(how) / 20.0),
            7 if !self.model.closing.is_empty() => self.end(at),
            8 if !self.model.coming.is_empty() => self.come(at, how % 3),
            9 => {
                if let Some(caller) = someone(&served) {
                    self.look(caller);
                }
            }
            10 => {
                let all = [&self.model.line[..], &served].concat();
                match someone(&all) {
                    Some(caller) if how % 2 == 0 => self.leave(caller),
                    Some(caller) => self.look(caller),
                    None => {}
                }
            }
            11 => self.advance(Duration::from_millis(u64::from(how) * 7)),
            12 if !self.model.returning.is_empty() => self.returned(at),
            13 if how < 5 => self.resize(usize::from(how)),
            14 if how < 1 => self.close(),
            15 => self.tick(),
            _ => {}
        }
    }

    /// What both hold is the same, and as it must be.
    fn compare(&mut self) {
        self.started += self.model.start();
        let fx = std::mem::replace(&mut self.fx, Effects::none());
        assert_eq!(fx.create, std::mem::take(&mut self.started), "creations");
        for (entry, reason) in &fx.close {
            assert!(self.model.closing.contains(&(entry.object, *reason)));
        }
        assert_eq!(self.real.snapshot(), self.model.snapshot());
        let idle: Vec<Thing> = self.real.idle.iter().map(|entry| thing(entry)).collect();
        assert_eq!(idle, self.model.idle);
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
        if snapshot.pending > 0 {
            assert_eq!(snapshot.idle, 0, "nobody sleeps beside an idle object");
            assert!(
                snapshot.creating >= snapshot.pending
                    || snapshot.size >= snapshot.max_size
                    || snapshot.creating == self.model.rules.max_creating,
                "nobody sleeps beside room: {snapshot:?}"
            );
        }
        for entry in &self.real.idle {
            let late = self.real.due > entry.expires
                || (entry.idle_until() > self.now && self.real.due > entry.idle_until());
            assert!(!late, "the keeper comes in time");
        }
        let paused = self.real.fill.resumes();
        let due = paused.filter(|_| self.model.rules.min_idle > 0);
        assert!(due.is_none_or(|at| self.model.closed || self.real.due <= at));
    }

    /// Everyone goes, everything comes back: one more gets an object, and a closed pool is
    /// empty.
    fn finish(&mut self) {
        let first = Index(0);
        while !self.model.line.is_empty() || !self.model.served.is_empty() {
            let served = self.model.served.first().map(|served| served.0);
            let caller = served.or(self.model.line.first().copied());
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
        if self.model.line.len() == 1 {
            self.settle();
        }
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
        while self.model.creating + self.model.closing.len() > 0 {
            match self.model.creating {
                0 => self.end(first),
                _ => self.land(0, 0.0),
            }
            self.compare();
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
    #![proptest_config(ProptestConfig { cases: crate::testing::cases(), ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_the_slow_model(
        rules in rules(),
        ages in ages(),
        max in 3..5usize,
        ops in prop::collection::vec((0..16u8, 0..20u8, any::<usize>().prop_map(Index)), 0..150),
    ) {
        let mut both = Both::new(rules, max, ages);
        both.tick();
        both.compare();
        for op in ops {
            both.op(op);
            both.compare();
        }
        both.finish();
    }
}
