//! The line against a slow and obvious reference, and by itself.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;

use super::super::snapshot::Outcome;
use super::super::state::{Arrival, Entry, Limits, Place, Rank, State};
use crate::models::{Move, moves};
use crate::sync::Key;
use crate::time::Instant;

type Line = State<usize, usize, usize>;

const OUTCOMES: [Outcome; Outcome::KINDS] = [
    Outcome::Done,
    Outcome::Failed,
    Outcome::TimedOut,
    Outcome::Refused,
    Outcome::Panicked,
    Outcome::Cancelled,
    Outcome::Returned,
];

fn line(capacity: usize, workers: usize) -> Line {
    State::new(Limits {
        capacity,
        workers,
        ageing: None,
    })
}

fn at(priority: i32, nanos: u64, may_wait: bool) -> Arrival {
    Arrival {
        priority,
        now: Instant::from_nanos(nanos),
        may_wait,
    }
}

/// Enters as item and waker `name`.
fn enter(line: &mut Line, place: &mut Place, arrival: Arrival, name: usize) -> Entry<usize> {
    line.enter(place, arrival, &mut Some(name), |_| (name, name))
}

fn push(line: &mut Line, priority: i32, name: usize) -> Entry<usize> {
    enter(line, &mut None, at(priority, 0, false), name)
}

/// Promises what room there is: who is woken.
fn make_room(line: &mut Line, excess: usize) -> Vec<usize> {
    let mut woken = Vec::new();
    line.make_room(excess, &mut woken);
    woken
}

fn order(line: &mut Line) -> Vec<usize> {
    let mut all = Vec::new();
    while line.hire(true) {
        all.extend(line.receive(true).map(|(item, _)| item));
    }
    all
}

#[test]
fn what_is_more_important_begins_first_and_equals_in_order_of_arrival() {
    let mut line = line(9, 9);
    for (name, priority) in [0, 5, 0, i32::MIN, i32::MAX, 5].into_iter().enumerate() {
        push(&mut line, priority, name);
    }
    assert_eq!(order(&mut line), [4, 1, 5, 0, 2, 3]);
}

#[test]
fn with_ageing_what_has_waited_a_span_for_each_level_is_as_important() {
    let mut line = State::new(Limits {
        capacity: 9,
        workers: 9,
        ageing: Some(10),
    });
    for (name, (priority, nanos)) in [(0, 0), (1, 11), (1, 9), (i32::MAX, u64::MAX), (0, 1)]
        .into_iter()
        .enumerate()
    {
        enter(&mut line, &mut None, at(priority, nanos, false), name);
    }
    assert_eq!(order(&mut line), [2, 0, 1, 4, 3]);
}

#[test]
fn room_is_promised_to_the_first_who_waits_and_no_newcomer_takes_it() {
    let mut line = line(1, 1);
    push(&mut line, 0, 0);
    let (mut first, mut second) = (None, None);
    assert_eq!(
        enter(&mut line, &mut first, at(0, 0, true), 1),
        Entry::Waiting
    );
    assert_eq!(
        enter(&mut line, &mut second, at(9, 0, true), 2),
        Entry::Waiting
    );
    line.hire(true);
    assert_eq!(line.receive(true), Some((0, 0)));
    assert!(make_room(&mut line, 1).is_empty());
    assert_eq!(make_room(&mut line, 0), [1]);
    assert_eq!(push(&mut line, 9, 3), Entry::Full);
    assert_eq!(
        enter(&mut line, &mut second, at(9, 0, true), 2),
        Entry::Waiting
    );
    assert_eq!(
        enter(&mut line, &mut first, at(0, 0, true), 1),
        Entry::Entered(1)
    );
    assert_eq!(line.break_off(second), Some(2));
}

#[test]
fn a_promise_that_is_broken_off_goes_to_the_next() {
    let mut line = line(1, 1);
    push(&mut line, 0, 0);
    let (mut first, mut second) = (None, None);
    enter(&mut line, &mut first, at(0, 0, true), 1);
    enter(&mut line, &mut second, at(0, 0, true), 2);
    line.hire(true);
    line.receive(true);
    assert_eq!(make_room(&mut line, 0), [1]);
    assert_eq!(line.break_off(first), None);
    assert_eq!(make_room(&mut line, 0), [2]);
    assert_eq!(
        enter(&mut line, &mut second, at(0, 0, true), 2),
        Entry::Entered(2)
    );
}

#[test]
fn a_worker_is_hired_for_each_item_that_none_is_about_to_take() {
    let mut line = line(9, 2);
    assert!(!line.hire(true));
    push(&mut line, 0, 0);
    assert!(!line.hire(false));
    assert!(line.hire(true));
    assert!(!line.hire(true));
    line.receive(true);
    for name in 1..4 {
        push(&mut line, 0, name);
    }
    assert!(!line.needs_worker(false));
    assert!(line.hire(true));
    assert!(!line.hire(true));
}

#[test]
fn huge_limits_take_no_memory_and_do_not_overflow() {
    let mut line: Line = State::new(Limits {
        capacity: usize::MAX,
        workers: usize::MAX,
        ageing: Some(u64::MAX),
    });
    for (name, priority) in [i32::MIN, i32::MAX].into_iter().enumerate() {
        for nanos in [0, u64::MAX] {
            enter(&mut line, &mut None, at(priority, nanos, true), name);
        }
    }
    assert_eq!(order(&mut line), [1, 1, 0, 0]);
}

/// A waiting producer or a waiting item, in the reference.
#[derive(Clone, Copy, Debug)]
struct Entrant {
    name: usize,
    number: u64,
    priority: i32,
    came: u64,
}

/// Everything in plain lists.
#[derive(Default)]
struct Model {
    capacity: usize,
    max_workers: usize,
    ageing: Option<u64>,
    closed: bool,
    number: u64,
    now: u64,
    waiting: Vec<Entrant>,
    producers: VecDeque<Entrant>,
    promised: Vec<Entrant>,
    excess: usize,
    running: Vec<(usize, u64)>,
    workers: usize,
    drains: VecDeque<usize>,
    accepted: u64,
    ended: Vec<Outcome>,
}

impl Model {
    /// How important an item is now, times the span.
    fn weight(&self, item: &Entrant) -> i128 {
        match self.ageing {
            None => i128::from(item.priority),
            Some(span) => {
                let waited = i128::from(self.now) - i128::from(item.came);
                i128::from(item.priority) * i128::from(span) + waited
            }
        }
    }

    fn first(&self) -> Option<usize> {
        (0..self.waiting.len()).min_by_key(|&i| {
            let item = &self.waiting[i];
            (std::cmp::Reverse(self.weight(item)), item.number)
        })
    }

    fn has_room(&self) -> bool {
        self.waiting.len() + self.promised.len() + self.excess < self.capacity
    }

    /// Who is to be woken.
    fn make_room(&mut self) -> Vec<usize> {
        let mut woken = Vec::new();
        while self.has_room() && !self.producers.is_empty() {
            let first = self.producers.pop_front();
            woken.extend(first.map(|first| first.name));
            self.promised.extend(first);
        }
        woken
    }

    fn come(&mut self, name: usize, priority: i32) -> Entrant {
        self.number += 1;
        Entrant {
            name,
            number: self.number,
            priority,
            came: self.now,
        }
    }

    fn accept(&mut self, entrant: Entrant) {
        self.accepted += 1;
        self.waiting.push(entrant);
    }

    fn idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    fn count(&self, outcome: Outcome) -> u64 {
        self.ended.iter().filter(|ended| **ended == outcome).count() as u64
    }
}

/// What the test itself remembers of those who deal with the line.
#[derive(Default)]
struct Memory {
    places: Vec<(usize, i32, Place)>,
    ranks: std::collections::HashMap<usize, Rank>,
    begun: Vec<u64>,
    drains: Vec<(usize, Key)>,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Push(i32, bool),
    Repoll(u16),
    GiveUp(u16),
    BreakOff(u16),
    Hire(bool),
    Receive(bool),
    Settle(u16, usize),
    SettleAgain(u16),
    Lost,
    Withdraw(u16, usize),
    WithdrawFirst(usize),
    AwaitIdle,
    LeaveIdle(u16),
    Clock(Move),
    Excess(usize),
    Rouse,
    Close,
}

/// One union of 15 strategies would clone the runner for each alternative it does not take:
/// a few plain numbers, of which the first says what they mean, are far cheaper.
fn ops() -> impl Strategy<Value = Op> {
    let clock = moves(Duration::from_nanos(40));
    (0..40u8, any::<u16>(), 0..120u8, clock).prop_map(|(what, at, number, clock)| {
        let kind = usize::from(number) % Outcome::KINDS;
        let flag = number % 2 == 0;
        let mostly = number % 10 != 0;
        match what {
            0..6 => Op::Push(i32::from(number / 2 % 5) - 2, flag),
            6..10 => Op::Repoll(at),
            10 => Op::GiveUp(at),
            11..13 => Op::BreakOff(at),
            13..17 => Op::Hire(mostly),
            17..22 => Op::Receive(mostly),
            22..26 => Op::Settle(at, kind),
            26 => Op::SettleAgain(at),
            27 => Op::Lost,
            28 => Op::Withdraw(at, kind),
            29 => Op::WithdrawFirst(kind),
            30 => Op::AwaitIdle,
            31 => Op::LeaveIdle(at),
            32..36 => Op::Clock(clock),
            36 => Op::Close,
            37..39 => Op::Excess(kind % 3),
            _ => Op::Rouse,
        }
    })
}

struct Pair {
    line: Line,
    model: Model,
    memory: Memory,
}

impl Pair {
    fn enter(
        &mut self,
        name: usize,
        priority: i32,
        mut place: Place,
        may_wait: bool,
    ) -> (Entry<usize>, Place) {
        let now = Instant::from_nanos(self.model.now);
        let arrival = Arrival {
            priority,
            now,
            may_wait,
        };
        let ranks = &mut self.memory.ranks;
        let entry = self
            .line
            .enter(&mut place, arrival, &mut Some(name), |rank| {
                ranks.insert(name, rank);
                (name, name)
            });
        (entry, place)
    }

    fn step(&mut self, name: usize, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Push(priority, may_wait) => self.push(name, priority, may_wait)?,
            Op::Repoll(at) if !self.memory.places.is_empty() => self.repoll(at)?,
            Op::GiveUp(at) if !self.memory.places.is_empty() => {
                let at = usize::from(at) % self.memory.places.len();
                let (name, _, place) = self.memory.places[at];
                let waits = self.model.producers.iter().any(|p| p.name == name);
                prop_assert_eq!(
                    self.line.give_up(place),
                    if waits { Ok(Some(name)) } else { Err(()) }
                );
                if waits {
                    self.model.producers.retain(|p| p.name != name);
                    self.memory.places.remove(at);
                }
            }
            Op::BreakOff(at) if !self.memory.places.is_empty() => self.break_off(at)?,
            Op::Hire(open) => {
                let free = self.model.workers.saturating_sub(self.model.running.len());
                let more = open && self.model.waiting.len() > free;
                let hires = more && self.model.workers < self.model.max_workers;
                prop_assert_eq!(self.line.hire(open), hires);
                self.model.workers += usize::from(hires);
            }
            Op::Receive(open) if self.model.workers > self.model.running.len() => {
                self.receive(open)?;
            }
            Op::Settle(at, kind) if !self.model.running.is_empty() => {
                let (_, id) = self
                    .model
                    .running
                    .swap_remove(usize::from(at) % self.model.running.len());
                prop_assert!(self.line.settle(id, OUTCOMES[kind]));
                self.model.ended.push(OUTCOMES[kind]);
            }
            Op::SettleAgain(at) if !self.memory.begun.is_empty() => {
                let id = self.memory.begun[usize::from(at) % self.memory.begun.len()];
                if self.model.running.iter().all(|running| running.1 != id) {
                    prop_assert!(!self.line.settle(id, Outcome::Done));
                }
            }
            Op::Lost if self.model.workers > self.model.running.len() => {
                self.line.retire();
                self.model.workers -= 1;
            }
            Op::Withdraw(at, kind) if !self.memory.ranks.is_empty() => {
                self.withdraw(at, OUTCOMES[kind])?;
            }
            Op::WithdrawFirst(kind) => {
                let expected = self
                    .model
                    .first()
                    .map(|at| self.model.waiting.remove(at).name);
                self.model.ended.extend(expected.map(|_| OUTCOMES[kind]));
                let found = self.line.withdraw_first(OUTCOMES[kind]);
                prop_assert_eq!(found, expected.map(|name| (name, name)));
            }
            Op::AwaitIdle => {
                let mut waker = Some(name);
                let key = self.line.await_idle(None, &mut waker);
                prop_assert_eq!(key.is_none(), self.model.idle());
                if let Some(key) = key {
                    self.model.drains.push_back(name);
                    prop_assert_eq!(self.line.await_idle(Some(key), &mut Some(name)), Some(key));
                    self.memory.drains.push((name, key));
                }
            }
            Op::LeaveIdle(at) if !self.memory.drains.is_empty() => {
                let (name, key) = self
                    .memory
                    .drains
                    .swap_remove(usize::from(at) % self.memory.drains.len());
                let waits = self.model.drains.iter().position(|d| *d == name);
                prop_assert_eq!(self.line.leave_idle(key).is_some(), waits.is_some());
                waits.map(|at| self.model.drains.remove(at));
            }
            Op::Clock(by) => self.model.now = by.from(self.model.now),
            Op::Excess(places) => self.model.excess = places,
            Op::Rouse => self.rouse()?,
            Op::Close => {
                let woken: Vec<usize> = self.model.producers.drain(..).map(|p| p.name).collect();
                prop_assert_eq!(self.line.close(), woken);
                self.model.promised.clear();
                self.model.closed = true;
            }
            _ => {}
        }
        let drained = if self.model.idle() {
            self.model.drains.drain(..).collect()
        } else {
            Vec::new()
        };
        prop_assert_eq!(self.line.take_drained(), drained);
        let woken = self.model.make_room();
        prop_assert_eq!(make_room(&mut self.line, self.model.excess), woken);
        self.compare()
    }

    /// All who wait are woken, and come again.
    fn rouse(&mut self) -> Result<(), TestCaseError> {
        let model = &self.model;
        let producers = model.producers.iter().map(|producer| producer.name);
        let mut waiting: Vec<usize> = producers.chain(model.drains.iter().copied()).collect();
        let mut woken = self.line.sleepers();
        waiting.sort_unstable();
        woken.sort_unstable();
        prop_assert_eq!(woken, waiting);
        prop_assert_eq!(self.line.sleepers(), Vec::<usize>::new());
        let keys = std::mem::take(&mut self.memory.drains);
        for (name, key) in keys {
            let again = self.line.await_idle(Some(key), &mut Some(name));
            self.memory.drains.extend(again.map(|key| (name, key)));
        }
        let places = self.memory.places.len();
        let waits = |pair: &Self, at: usize| {
            let name = pair.memory.places[at].0;
            pair.model.producers.iter().any(|p| p.name == name)
        };
        for at in 0..places {
            if waits(self, at) {
                let (name, priority, place) = self.memory.places[at];
                let (entry, after) = self.enter(name, priority, place, true);
                prop_assert_eq!((entry, after), (Entry::Waiting, place));
            }
        }
        Ok(())
    }

    fn push(&mut self, name: usize, priority: i32, may_wait: bool) -> Result<(), TestCaseError> {
        let (entry, place) = self.enter(name, priority, None, may_wait);
        if self.model.closed {
            prop_assert_eq!(entry, Entry::Closed);
        } else if self.model.has_room() {
            prop_assert!(self.model.producers.is_empty());
            prop_assert_eq!(entry, Entry::Entered(name));
            let entrant = self.model.come(name, priority);
            self.model.accept(entrant);
        } else if may_wait {
            prop_assert_eq!(entry, Entry::Waiting);
            let entrant = self.model.come(name, priority);
            self.model.producers.push_back(entrant);
            self.memory.places.push((name, priority, place));
        } else {
            prop_assert_eq!(entry, Entry::Full);
        }
        Ok(())
    }

    fn repoll(&mut self, at: u16) -> Result<(), TestCaseError> {
        let at = usize::from(at) % self.memory.places.len();
        let (name, priority, place) = self.memory.places[at];
        let (entry, after) = self.enter(name, priority, place, true);
        let promised = self.model.promised.iter().position(|p| p.name == name);
        let expected = match promised {
            _ if self.model.closed => Entry::Closed,
            Some(at) => {
                let entrant = self.model.promised.remove(at);
                self.model.accept(entrant);
                Entry::Entered(name)
            }
            None => Entry::Waiting,
        };
        prop_assert_eq!(after.is_some(), expected == Entry::Waiting);
        if after.is_none() {
            self.memory.places.remove(at);
        }
        prop_assert_eq!(entry, expected);
        Ok(())
    }

    fn break_off(&mut self, at: u16) -> Result<(), TestCaseError> {
        let at = usize::from(at) % self.memory.places.len();
        let (name, _, place) = self.memory.places.remove(at);
        let expected = if self.model.closed {
            None
        } else if let Some(at) = self.model.producers.iter().position(|p| p.name == name) {
            self.model.producers.remove(at);
            Some(name)
        } else {
            self.model.promised.retain(|p| p.name != name);
            None
        };
        prop_assert_eq!(self.line.break_off(place), expected);
        Ok(())
    }

    fn receive(&mut self, open: bool) -> Result<(), TestCaseError> {
        let found = self.line.receive(open);
        let Some(at) = self.model.first().filter(|_| open) else {
            prop_assert_eq!(found, None);
            self.model.workers -= 1;
            return Ok(());
        };
        let item = self.model.waiting.remove(at);
        prop_assert_eq!(found, Some((item.name, item.name)));
        let id = self.memory.ranks[&item.name].id();
        self.memory.begun.push(id);
        self.model.running.push((item.name, id));
        Ok(())
    }

    fn withdraw(&mut self, at: u16, outcome: Outcome) -> Result<(), TestCaseError> {
        let mut names: Vec<usize> = self.memory.ranks.keys().copied().collect();
        names.sort_unstable();
        let name = names[usize::from(at) % names.len()];
        let rank = self.memory.ranks[&name];
        prop_assert_eq!(self.line.withdraw(rank, outcome, |_| false), None);
        let found = self.line.withdraw(rank, outcome, |record| *record == name);
        let waits = self.model.waiting.iter().position(|item| item.name == name);
        if let Some(at) = waits {
            self.model.waiting.remove(at);
            self.model.ended.push(outcome);
            prop_assert_eq!(found, Some((name, name)));
        } else {
            prop_assert_eq!(found, None);
        }
        Ok(())
    }

    fn compare(&self) -> Result<(), TestCaseError> {
        let (found, model) = (self.line.snapshot(), &self.model);
        prop_assert_eq!(found.accepted, model.accepted);
        prop_assert_eq!(found.waiting, model.waiting.len());
        prop_assert_eq!(found.running, model.running.len());
        let order = |item: &&Entrant| (std::cmp::Reverse(model.weight(item)), item.number);
        let mut waiting: Vec<&Entrant> = model.waiting.iter().collect();
        waiting.sort_by_key(order);
        let names: Vec<usize> = waiting.iter().map(|item| item.name).collect();
        prop_assert_eq!(self.line.waiting().copied().collect::<Vec<_>>(), names);
        let mut running = model.running.clone();
        running.sort_by_key(|running| running.1);
        let names: Vec<usize> = running.iter().map(|running| running.0).collect();
        prop_assert_eq!(self.line.running().copied().collect::<Vec<_>>(), names);
        prop_assert_eq!(found.producers, model.producers.len());
        prop_assert_eq!(found.workers, model.workers);
        prop_assert_eq!(
            (found.closed, self.line.is_closed()),
            (model.closed, model.closed)
        );
        prop_assert_eq!(self.line.is_idle(), model.idle());
        prop_assert_eq!(self.line.promised(), model.promised.len());
        let ended = [
            found.done,
            found.failed,
            found.timed_out,
            found.refused,
            found.panicked,
            found.cancelled,
            found.returned,
        ];
        prop_assert_eq!(ended, OUTCOMES.map(|outcome| model.count(outcome)));
        prop_assert_eq!(found.settled(), model.ended.len() as u64);
        // The laws.
        let inside = (found.waiting + found.running) as u64;
        prop_assert_eq!(found.accepted, inside + found.settled());
        prop_assert!(found.waiting + model.promised.len() <= model.capacity);
        prop_assert!(found.producers == 0 || !model.has_room());
        prop_assert!(found.running <= found.workers && found.workers <= model.max_workers);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::models::cases("queue"), ..ProptestConfig::default() })]
    #[test]
    fn behaves_like_the_slow_model(
        capacity in 1..4usize,
        workers in 1..4usize,
        ageing in prop::option::of(1..30u64),
        ops in prop::collection::vec(ops(), 0..80),
    ) {
        let mut pair = Pair {
            line: State::new(Limits { capacity, workers, ageing }),
            model: Model { capacity, max_workers: workers, ageing, ..Model::default() },
            memory: Memory::default(),
        };
        for (name, op) in ops.into_iter().enumerate() {
            pair.step(name, op)?;
        }
    }
}
