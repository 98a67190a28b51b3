//! What waits for its time, in order of time: a wheel of wheels, told the time.
//!
//! A tick is 2^20 ns, a little more than tokio's millisecond. Level 0 has a list for each of
//! the 64 ticks of the current round, level 1 one for each of the 64 rounds of its own, and so
//! on: eight levels hold every `u64`. An entry stands in the level of the highest group of six
//! bits in which its tick differs from the tick that has passed; so entering and leaving are
//! O(1), and nothing is sorted. When the time reaches a list, it is taken in hand, and each of
//! its entries is due or goes to a level below, which happens to it seven times at most.
//!
//! Invariants: what stands in level L has all groups above L in common with `passed`, and (for
//! L > 0) a greater group L; hence the first list of the lowest level in use holds what comes
//! next. `passed` moves only past lists that are empty, so the list of an entry follows from
//! its time, unless it is in hand. Exact times are kept and compared, ticks only choose lists.

use super::Instant;

const TICK_BITS: u32 = 20;
const GROUP_BITS: u32 = 6;
const SLOTS: usize = 1 << GROUP_BITS;
const LEVELS: usize = 8;

/// Names an entry until it is removed.
pub(super) type Key = u32;

/// No entry.
const NONE: Key = Key::MAX;

#[derive(Debug)]
pub(super) struct Wheel<T> {
    nodes: Vec<Node<T>>,
    /// The first of the nodes that are not in use, linked by `behind`.
    free: Key,
    /// How many entries there are, due or not.
    owned: usize,
    /// How many of them wait.
    waiting: usize,
    lists: [List; LEVELS * SLOTS],
    /// A bit for each list that is not empty.
    used: [u64; LEVELS],
    /// The list whose time has come.
    hand: List,
    /// Whether `hand` was the list of the present tick.
    last: bool,
    /// The tick up to which the lists have been emptied.
    passed: u64,
}

// 32 bytes: at a million entries it is the memory that costs time.
#[derive(Debug)]
struct Node<T> {
    /// None once it is due.
    value: Option<T>,
    at: Instant,
    before: Key,
    behind: Key,
}

#[derive(Clone, Copy, Debug)]
struct List {
    head: Key,
    tail: Key,
}

impl List {
    const EMPTY: Self = Self {
        head: NONE,
        tail: NONE,
    };
}

impl<T> Wheel<T> {
    pub(super) const fn new() -> Self {
        Self {
            nodes: Vec::new(),
            free: NONE,
            owned: 0,
            waiting: 0,
            lists: [List::EMPTY; LEVELS * SLOTS],
            used: [0; LEVELS],
            hand: List::EMPTY,
            last: false,
            passed: 0,
        }
    }

    /// Whether nobody has an entry, due or not.
    pub(super) const fn is_empty(&self) -> bool {
        self.owned == 0
    }

    /// Whether nobody waits for a time to come.
    pub(super) const fn is_idle(&self) -> bool {
        self.waiting == 0
    }

    #[inline]
    pub(super) fn insert(&mut self, now: Instant, at: Instant, value: T) -> Key {
        if self.is_idle() {
            (self.passed, self.last) = (tick(now), false);
        }
        let key = match self.free {
            NONE => self.grow(at),
            free => free,
        };
        let before = self.append(at, key);
        self.owned += 1;
        let node = &mut self.nodes[key as usize];
        self.free = node.behind;
        *node = Node {
            value: Some(value),
            at,
            before,
            behind: NONE,
        };
        key
    }

    /// What waits there; nothing if its time has come.
    #[inline]
    pub(super) fn waiting_mut(&mut self, key: Key) -> Option<&mut T> {
        self.nodes[key as usize].value.as_mut()
    }

    /// Takes the entry out; what it held if its time has not come.
    #[inline]
    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let value = self.take(key);
        self.nodes[key as usize].behind = self.free;
        self.free = key;
        self.owned -= 1;
        if self.owned == 0 {
            self.release_memory();
        }
        value
    }

    /// Takes what everybody holds, as if all times had come.
    pub(super) fn take_all(&mut self) -> Vec<T> {
        self.lists = [List::EMPTY; LEVELS * SLOTS];
        self.used = [0; LEVELS];
        self.hand = List::EMPTY;
        self.waiting = 0;
        let nodes = self.nodes.iter_mut();
        nodes.filter_map(|node| node.value.take()).collect()
    }

    /// Takes up to `most` steps towards the time `now`, and puts into `due` whose time has
    /// come, tick by tick, and within a tick who entered first. Whether that was all; else go
    /// on.
    pub(super) fn advance(&mut self, now: Instant, most: usize, due: &mut Vec<T>) -> bool {
        for _ in 0..most {
            if self.hand.head != NONE {
                due.extend(self.sort_out(now));
            } else if self.last || !self.take_in_hand(now) {
                self.last = false;
                self.passed = self.passed.max(tick(now));
                return true;
            }
        }
        false
    }

    /// No entry's time comes earlier; mostly the time of the next. `None` if nobody waits.
    pub(super) fn next(&self) -> Option<Instant> {
        /// In a longer list the earliest is not looked for: its first tick comes before all.
        const SEARCHED: usize = 16;
        let (level, slot) = self.first()?;
        let start = self.start(level, slot);
        let node = |key: Key| self.nodes.get(key as usize);
        let first = node(self.lists[place(level, slot)].head);
        let mut entries = std::iter::successors(first, |entry| node(entry.behind));
        let early = entries.by_ref().take(SEARCHED).map(|entry| entry.at).min();
        if start > self.passed && entries.next().is_some() {
            return Some(Instant::from_nanos(start << TICK_BITS));
        }
        entries.map(|entry| entry.at).chain(early).min()
    }

    /// One more node that is not in use.
    #[cold]
    fn grow(&mut self, at: Instant) -> Key {
        let key = Key::try_from(self.nodes.len()).expect("no machine has that memory");
        self.nodes.push(Node {
            value: None,
            at,
            before: NONE,
            behind: NONE,
        });
        key
    }

    /// Takes the next list in hand, if its time has come.
    fn take_in_hand(&mut self, now: Instant) -> bool {
        let Some((level, slot)) = self.first() else {
            return false;
        };
        let start = self.start(level, slot);
        // Who enters late stands in the present list, which whoever tells an earlier time, too,
        // has to look through.
        let present = tick(now).max(self.passed);
        if start > present {
            return false;
        }
        self.last = level == 0 && start == present;
        self.passed = self.passed.max(start);
        self.used[level as usize] &= !(1 << slot);
        self.hand = std::mem::replace(&mut self.lists[place(level, slot)], List::EMPTY);
        true
    }

    /// The first in hand is due, or goes to its list.
    fn sort_out(&mut self, now: Instant) -> Option<T> {
        let key = self.hand.head;
        let at = self.nodes[key as usize].at;
        if at <= now {
            return self.take(key);
        }
        self.unlink(key);
        let before = self.append(at, key);
        let node = &mut self.nodes[key as usize];
        (node.before, node.behind) = (before, NONE);
        None
    }

    /// Takes what a node holds; then it waits no longer.
    fn take(&mut self, key: Key) -> Option<T> {
        let value = self.nodes[key as usize].value.take()?;
        self.unlink(key);
        Some(value)
    }

    /// The first list of the lowest level in use.
    fn first(&self) -> Option<(u32, u32)> {
        let mut levels = (0..).zip(self.used);
        let (level, used) = levels.find(|(_, used)| *used != 0)?;
        Some((level, used.trailing_zeros()))
    }

    /// The first tick of a list.
    const fn start(&self, level: u32, slot: u32) -> u64 {
        let shift = GROUP_BITS * level;
        let above = self.passed >> (shift + GROUP_BITS);
        ((above << GROUP_BITS) | slot as u64) << shift
    }

    /// The level and the slot of the list for a time.
    #[expect(clippy::cast_possible_truncation, reason = "a slot has six bits")]
    fn list_of(&self, at: Instant) -> (u32, u32) {
        let tick = tick(at).max(self.passed);
        let differs = tick ^ self.passed;
        let level = differs.checked_ilog2().unwrap_or(0) / GROUP_BITS;
        let slot = (tick >> (GROUP_BITS * level)) % SLOTS as u64;
        (level, slot as u32)
    }

    /// Makes a node the last of the list for a time; who comes before it.
    fn append(&mut self, at: Instant, key: Key) -> Key {
        let (level, slot) = self.list_of(at);
        let list = &mut self.lists[place(level, slot)];
        let before = std::mem::replace(&mut list.tail, key);
        if before == NONE {
            list.head = key;
            self.used[level as usize] |= 1 << slot;
        } else {
            self.nodes[before as usize].behind = key;
        }
        self.waiting += 1;
        before
    }

    /// Takes a node out of the list it stands in.
    fn unlink(&mut self, key: Key) {
        let Node {
            at, before, behind, ..
        } = self.nodes[key as usize];
        if before != NONE {
            self.nodes[before as usize].behind = behind;
        }
        if behind != NONE {
            self.nodes[behind as usize].before = before;
        }
        if before == NONE || behind == NONE {
            self.unlink_end(key, at, before, behind);
        }
        self.waiting -= 1;
    }

    /// A list has another first or last, or none.
    fn unlink_end(&mut self, key: Key, at: Instant, before: Key, behind: Key) {
        let (level, slot) = self.list_of(at);
        let in_hand = self.hand.head == key || self.hand.tail == key;
        let list = if in_hand {
            &mut self.hand
        } else {
            &mut self.lists[place(level, slot)]
        };
        if before == NONE {
            list.head = behind;
        }
        if behind == NONE {
            list.tail = before;
        }
        if list.head == NONE && !in_hand {
            self.used[level as usize] &= !(1 << slot);
        }
    }

    /// A crowd that has gone must not hold its memory for ever.
    #[inline]
    fn release_memory(&mut self) {
        const KEPT: usize = 64;
        if self.nodes.capacity() > KEPT {
            self.nodes = Vec::new();
            self.free = NONE;
        }
    }
}

const fn tick(at: Instant) -> u64 {
    at.as_nanos() >> TICK_BITS
}

const fn place(level: u32, slot: u32) -> usize {
    level as usize * SLOTS + slot as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    /// All that is due by then, in as many rounds as that takes.
    fn due_by<T>(wheel: &mut Wheel<T>, now: Instant, most: usize) -> Vec<T> {
        let mut due = Vec::new();
        while !wheel.advance(now, most, &mut due) {}
        due
    }

    #[test]
    fn a_node_is_half_a_cache_line() {
        assert_eq!(size_of::<Node<std::task::Waker>>(), 32);
    }

    #[test]
    fn what_waits_is_there_until_its_time_or_the_end_of_all() {
        let mut wheel = Wheel::new();
        let soon = wheel.insert(at(0), at(1 << 20), "soon");
        let late = wheel.insert(at(0), at(1 << 30), "late");
        assert_eq!(wheel.waiting_mut(soon), Some(&mut "soon"));
        assert_eq!(due_by(&mut wheel, at(1 << 22), 100), ["soon"]);
        assert_eq!(wheel.waiting_mut(soon), None);
        assert_eq!(wheel.waiting_mut(late), Some(&mut "late"));
        assert_eq!(wheel.take_all(), ["late"]);
        assert_eq!(wheel.waiting_mut(late), None);
        assert!(wheel.take_all().is_empty());
        assert_eq!([wheel.remove(soon), wheel.remove(late)], [None, None]);
    }

    #[test]
    fn a_crowd_that_has_gone_leaves_no_memory() {
        let mut wheel = Wheel::new();
        let keys: Vec<_> = (0..10_000)
            .map(|n| wheel.insert(at(0), at(n << 16), n))
            .collect();
        due_by(&mut wheel, at(1 << 28), 99);
        for key in keys {
            wheel.remove(key);
        }
        assert!(wheel.is_empty() && wheel.is_idle());
        assert_eq!(wheel.nodes.capacity(), 0);
        let key = wheel.insert(at(0), at(7), 7);
        assert_eq!(wheel.remove(key), Some(7));
    }

    #[test]
    fn what_is_due_together_comes_out_in_the_order_in_which_it_entered() {
        let mut wheel = Wheel::new();
        for n in 0..1000 {
            wheel.insert(at(0), at(1 << 40), n);
        }
        let start = Some(at(1 << 40));
        assert!(wheel.next() <= start);
        assert!(due_by(&mut wheel, at((1 << 40) - 1), 7).is_empty());
        assert_eq!(wheel.next(), start);
        let due = due_by(&mut wheel, at(1 << 40), 7);
        assert!(due.into_iter().eq(0..1000));
    }

    #[test]
    fn of_many_who_wait_together_the_time_of_their_list_is_told() {
        let mut wheel = Wheel::new();
        for n in 0..16 {
            wheel.insert(at(0), at((70 << TICK_BITS) + n), n);
        }
        assert_eq!(wheel.next(), Some(at(70 << TICK_BITS)), "the earliest");
        wheel.insert(at(0), at(71 << TICK_BITS), 16);
        assert_eq!(wheel.next(), Some(at(64 << TICK_BITS)), "before them all");
        assert!(due_by(&mut wheel, at(64 << TICK_BITS), 99).is_empty());
        assert!(wheel.next() >= Some(at(70 << TICK_BITS)));
    }

    #[test]
    fn nobody_looks_at_those_who_have_long_to_wait() {
        let mut wheel = Wheel::new();
        for n in 0..100 {
            wheel.insert(at(0), at((1_000 + n) << TICK_BITS), n);
        }
        let mut due = Vec::new();
        assert!(wheel.advance(at(10 << TICK_BITS), 1, &mut due), "one step");
        assert!(due.is_empty());
    }

    /// Whoever tells the time may be behind the one who told it before.
    #[test]
    fn who_enters_late_is_due_though_the_time_is_told_from_before() {
        let mut wheel = Wheel::new();
        wheel.insert(at(0), at(9 << TICK_BITS), 'a');
        wheel.insert(at(0), at(99 << TICK_BITS), 'b');
        assert_eq!(due_by(&mut wheel, at(50 << TICK_BITS), 7), ['a']);
        wheel.insert(at(0), at(5 << TICK_BITS), 'c');
        wheel.insert(at(0), at(7 << TICK_BITS), 'd');
        assert_eq!(wheel.next(), Some(at(5 << TICK_BITS)));
        assert_eq!(due_by(&mut wheel, at(6 << TICK_BITS), 7), ['c']);
        assert!(due_by(&mut wheel, at(6 << TICK_BITS), 7).is_empty());
        assert_eq!(wheel.next(), Some(at(7 << TICK_BITS)));
        assert_eq!(due_by(&mut wheel, at(7 << TICK_BITS), 1), ['d']);
        assert_eq!(due_by(&mut wheel, at(99 << TICK_BITS), 1), ['b']);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Insert(u64),
        /// At a time that another entry has, or close to it.
        Beside(prop::sample::Index, u64),
        Remove(prop::sample::Index),
        /// So much on from the last time; in so many steps at once.
        Advance(u64, usize),
        /// Up to the next time.
        Next(usize),
        Rounds(u64),
    }

    /// Spans of every magnitude, also the whole scale.
    fn span() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0..64u32).prop_map(|(n, shift)| n >> shift)
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => span().prop_map(Step::Insert),
            2 => (any::<prop::sample::Index>(), 0..3u64 << TICK_BITS).prop_map(|(i, n)| Step::Beside(i, n)),
            2 => any::<prop::sample::Index>().prop_map(Step::Remove),
            1 => (span(), 1..50usize).prop_map(|(n, most)| Step::Advance(n, most)),
            2 => (1..50usize).prop_map(Step::Next),
            1 => (0..1u64 << 30).prop_map(Step::Rounds),
        ];
        prop::collection::vec(step, 0..120)
    }

    /// The slow model: a list of those who wait, and a list of those who are due.
    struct Both {
        now: u64,
        wheel: Wheel<usize>,
        waiting: Vec<(Key, u64, usize)>,
        due: Vec<Key>,
        entered: usize,
    }

    impl Both {
        fn insert(&mut self, time: u64) {
            let n = self.entered;
            let key = self.wheel.insert(at(self.now), at(time), n);
            self.waiting.push((key, time, n));
            self.entered += 1;
        }

        fn remove(&mut self, index: prop::sample::Index) {
            let all = self.waiting.len() + self.due.len();
            if all == 0 {
                return;
            }
            let index = index.index(all);
            if index < self.waiting.len() {
                let (key, _, n) = self.waiting.remove(index);
                assert_eq!(self.wheel.remove(key), Some(n));
            } else {
                let key = self.due.remove(index - self.waiting.len());
                assert_eq!(self.wheel.waiting_mut(key), None);
                assert_eq!(self.wheel.remove(key), None);
            }
        }

        /// Goes on to a time; in between, some leave and some enter.
        fn advance(&mut self, now: u64, most: usize) {
            self.now = self.now.max(now);
            let mut due = Vec::new();
            while !self.wheel.advance(at(self.now), most, &mut due) {
                self.settle(&mut due);
                if let Some(&(key, _, n)) = self.waiting.last() {
                    assert_eq!(self.wheel.remove(key), Some(n));
                    self.waiting.pop();
                    // Who enters late now is due in the next advance, so this one does not.
                    if let (0, Some(time)) = (n % 2, self.now.checked_add(1 << (n % 40))) {
                        self.insert(time);
                    }
                }
            }
            self.settle(&mut due);
            let late = self.waiting.iter().find(|(_, time, _)| *time <= self.now);
            assert_eq!(late, None, "at {}", self.now);
        }

        fn settle(&mut self, due: &mut Vec<usize>) {
            for n in due.drain(..) {
                let index = self.waiting.iter().position(|entry| entry.2 == n).unwrap();
                let (key, time, _) = self.waiting.remove(index);
                assert!(time <= self.now, "{time} is early at {}", self.now);
                self.due.push(key);
            }
        }

        fn check(&mut self) {
            let next = self.wheel.next().map(Instant::as_nanos);
            let earliest = self.waiting.iter().map(|entry| entry.1).min();
            assert_eq!(next.is_some(), earliest.is_some());
            assert!(next <= earliest, "{next:?} after {earliest:?}");
            assert!(
                next.is_none_or(|next| next > self.now),
                "no progress at {next:?}"
            );
            assert_eq!(self.wheel.is_idle(), self.waiting.is_empty());
            assert_eq!(
                self.wheel.is_empty(),
                self.waiting.is_empty() && self.due.is_empty()
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: crate::models::cases("wheel"), ..ProptestConfig::default() })]

        #[test]
        fn nobody_is_early_or_late_whatever_comes_and_goes(start in span(), steps in steps()) {
            let mut both = Both { now: start, wheel: Wheel::new(), waiting: Vec::new(), due: Vec::new(), entered: 0 };
            for step in steps {
                match step {
                    Step::Insert(span) => both.insert(both.now.saturating_add(span).max(both.now.saturating_add(1))),
                    Step::Beside(index, span) => {
                        let beside = both.waiting.get(index.index(both.waiting.len().max(1)));
                        let time = beside.map_or(both.now, |entry| entry.1);
                        both.insert(time.saturating_add(span));
                    }
                    Step::Remove(index) => both.remove(index),
                    Step::Advance(span, most) => both.advance(both.now.saturating_add(span), most),
                    Step::Next(most) => {
                        if let Some(next) = both.wheel.next() {
                            both.advance(next.as_nanos(), most);
                        }
                    }
                    Step::Rounds(span) => {
                        for n in 0..20 {
                            both.insert(both.now.saturating_add(1 + span / 20 * n));
                        }
                    }
                }
                // One that was late when it entered is due by now.
                both.advance(both.now, 9);
                both.check();
            }
        }
    }
}
