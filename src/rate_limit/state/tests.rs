//! The queue: each rule by itself, then against a plain line with one server.
use proptest::prelude::*;

use super::*;

type Named = State<usize>;

fn rate(permits: u32, nanos: u64) -> Rate {
    Rate::new(permits, Duration::from_nanos(nanos)).unwrap()
}

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

/// One permit each 10 ns, and nothing saved up.
fn empty(burst: u32) -> Named {
    let mut state = State::new(Bucket::new(rate(1, 10), burst, at(0)));
    state.try_take(burst, at(0)).unwrap();
    state
}

fn enter(state: &mut Named, name: usize, permits: u32, now: u64) -> (Key, u64) {
    let until = Instant::NEVER;
    match state.enter(Ask { permits, until }, at(now), &mut Some(name)) {
        Place::Waits(key, told) => (key, told.as_nanos()),
        other => panic!("{other:?}"),
    }
}

fn check(state: &mut Named, (key, _): (Key, u64), permits: u32, now: u64) -> Place {
    state.check(key, permits, at(now), &mut Some(99)).0
}

fn limited(nanos: u64) -> Refusal {
    let retry_after = Duration::from_nanos(nanos);
    Refusal::RateLimited { retry_after }
}

#[test]
fn each_waiter_is_told_its_time_and_takes_at_it() {
    let mut state = empty(5);
    let (a, b) = (enter(&mut state, 0, 1, 0), enter(&mut state, 1, 2, 5));
    assert_eq!((a.1, b.1), (10, 30));
    assert_eq!(state.try_take(1, at(9)), Err(limited(31)));
    assert_eq!(check(&mut state, a, 1, 9), Place::Waits(a.0, at(10)));
    assert_eq!(check(&mut state, a, 1, 10), Place::Taken);
    assert_eq!(check(&mut state, b, 2, 30), Place::Taken);
    assert_eq!(state.queued(), (0, 0));
    assert!(state.take_wakers().is_empty(), "nobody had to be woken");
}

/// Trap 34.
#[test]
fn when_the_head_leaves_the_next_gets_its_time() {
    let mut state = empty(5);
    let a = enter(&mut state, 0, 1, 0);
    let b = enter(&mut state, 1, 1, 0);
    enter(&mut state, 2, 1, 0);
    assert_eq!(state.leave(a.0, at(3)), Some(0));
    assert_eq!(state.take_wakers(), [1]);
    assert_eq!(check(&mut state, b, 1, 3), Place::Waits(b.0, at(10)));
    assert_eq!(check(&mut state, b, 1, 10), Place::Taken);
    assert_eq!(state.take_wakers(), [2], "it was told 30 and is due at 20");
}

/// Trap 34.
#[test]
fn when_one_in_the_middle_or_at_the_tail_leaves_newcomers_wait_less() {
    let mut state = empty(9);
    enter(&mut state, 0, 1, 0);
    let middle = enter(&mut state, 1, 3, 0);
    let tail = enter(&mut state, 2, 2, 0);
    for round in 0..1000 {
        assert_eq!(state.try_take(1, at(0)), Err(limited(70)), "{round}");
        let replaced = enter(&mut state, 3, 4, 0);
        state.leave(replaced.0, at(0));
    }
    state.leave(middle.0, at(0));
    assert_eq!(state.try_take(1, at(0)), Err(limited(40)));
    state.leave(tail.0, at(0));
    assert_eq!(state.try_take(1, at(0)), Err(limited(20)));
    assert!(
        state.take_wakers().is_empty(),
        "the head's time is the same"
    );
}

/// Trap 35.
#[test]
fn two_that_leave_in_order_give_back_exactly_their_own() {
    let mut state = empty(9);
    let a = enter(&mut state, 0, 4, 0);
    let b = enter(&mut state, 1, 5, 0);
    state.leave(a.0, at(20));
    state.leave(b.0, at(20));
    assert_eq!(state.queued(), (0, 0));
    assert_eq!(state.bucket().available(), 2);
    assert_eq!(state.leave(a.0, at(20)), None, "a second time nothing");
}

#[test]
fn a_small_waiter_takes_at_once_when_the_big_one_ahead_leaves() {
    let mut state = empty(9);
    let big = enter(&mut state, 0, 9, 0);
    let small = enter(&mut state, 1, 1, 0);
    assert_eq!(small.1, 100);
    state.leave(big.0, at(15));
    assert_eq!(state.take_wakers(), [1]);
    assert_eq!(check(&mut state, small, 1, 15), Place::Taken);
}

#[test]
fn nobody_takes_what_one_ahead_needs_but_more_than_that_is_free() {
    let mut state = empty(3);
    let a = enter(&mut state, 0, 1, 0);
    let b = enter(&mut state, 1, 1, 0);
    assert_eq!(check(&mut state, b, 1, 15), Place::Waits(b.0, at(20)));
    assert_eq!(state.try_take(1, at(15)), Err(limited(15)));
    assert_eq!(check(&mut state, b, 1, 20), Place::Taken);
    assert_eq!(state.try_take(1, at(20)), Err(limited(10)));
    assert_eq!(state.try_take(1, at(30)), Ok(()));
    assert_eq!(check(&mut state, a, 1, 30), Place::Taken);
}

#[test]
fn where_there_is_enough_for_both_nobody_is_passed_by() {
    let mut state = empty(3);
    let (permits, until) = (1, at(100));
    let Place::Waits(silent, _) = state.enter(Ask { permits, until }, at(0), &mut Some(0)) else {
        panic!("it waits");
    };
    let behind = enter(&mut state, 1, 1, 0);
    let late = until.saturating_add(2 * ABANDONED).as_nanos();
    assert_eq!(check(&mut state, behind, 1, late), Place::Taken);
    assert!(state.take_wakers().is_empty());
    assert_eq!(check(&mut state, (silent, 0), 1, late), Place::Taken);
}

/// Trap 41.
#[test]
fn more_than_the_burst_is_refused_at_once() {
    let mut state = empty(3);
    let ask = Ask {
        permits: 4,
        until: Instant::NEVER,
    };
    let too_large = Refusal::TooLarge { asked: 4, limit: 3 };
    let place = state.enter(ask, at(0), &mut None);
    assert_eq!(place, Place::Refused(too_large));
    assert_eq!(state.try_take(4, at(99)), Err(too_large));
}

/// Trap 44.
#[test]
fn a_wait_that_does_not_fit_is_refused_at_once_with_its_length() {
    let mut state = empty(3);
    enter(&mut state, 0, 2, 0);
    let ask = |until| Ask {
        permits: 1,
        until: at(until),
    };
    let mut waker = Some(1);
    let late = state.enter(ask(29), at(0), &mut waker);
    assert_eq!(late, Place::Refused(limited(30)));
    assert_eq!(waker, Some(1), "nothing was queued");
    assert_eq!(state.queued(), (1, 2));
    let place = state.enter(ask(30), at(0), &mut waker);
    assert!(matches!(place, Place::Waits(_, told) if told == at(30)));
}

#[test]
fn what_is_there_to_the_nanosecond_fits_and_what_never_is_does_not() {
    let ask = Ask {
        permits: 1,
        until: at(30),
    };
    assert!(ask.fits(limited(10), at(20)));
    assert!(!ask.fits(limited(11), at(20)));
    assert!(!ask.fits(Refusal::TooLarge { asked: 4, limit: 3 }, at(20)));
}

/// Trap 43.
#[test]
fn a_lower_burst_refuses_those_who_wait_for_more() {
    let mut state = empty(5);
    let big = enter(&mut state, 0, 5, 0);
    let small = enter(&mut state, 1, 2, 0);
    state.set_burst(3, at(20));
    assert_eq!(state.take_wakers(), [0, 1]);
    let too_large = Refusal::TooLarge { asked: 5, limit: 3 };
    let place = check(&mut state, big, 5, 20);
    assert_eq!(place, Place::Refused(too_large));
    assert_eq!(check(&mut state, small, 2, 20), Place::Taken);
}

/// Trap 43.
#[test]
fn a_lower_rate_refuses_those_whose_time_no_longer_suffices() {
    let mut state = empty(9);
    let a = enter(&mut state, 0, 1, 0);
    let ask = Ask {
        permits: 6,
        until: at(90),
    };
    let Place::Waits(b, _) = state.enter(ask, at(0), &mut Some(1)) else {
        panic!("70 ns are less than 90")
    };
    let c = enter(&mut state, 2, 1, 0);
    state.set_rate(rate(1, 40), at(0));
    assert_eq!(state.take_wakers(), [1]);
    assert_eq!(
        check(&mut state, (b, 0), 6, 0),
        Place::Refused(limited(320))
    );
    assert_eq!(check(&mut state, a, 1, 10), Place::Waits(a.0, at(40)));
    let d = enter(&mut state, 3, 1, 10);
    assert_eq!(d.1, 120);
    assert_eq!(check(&mut state, d, 1, 11), Place::Waits(d.0, at(120)));
    assert_eq!(check(&mut state, c, 1, 79), Place::Waits(c.0, at(80)));
    assert_eq!(check(&mut state, c, 1, 80), Place::Taken);
}

#[test]
fn a_higher_rate_wakes_the_head_to_be_told_its_new_time() {
    let mut state = empty(9);
    let a = enter(&mut state, 0, 1, 0);
    let b = enter(&mut state, 1, 1, 0);
    state.set_rate(rate(1, 2), at(1));
    assert_eq!(state.take_wakers(), [0]);
    assert_eq!(check(&mut state, a, 1, 1), Place::Waits(a.0, at(3)));
    assert_eq!(check(&mut state, a, 1, 3), Place::Taken);
    assert_eq!(state.take_wakers(), [1]);
    let c = enter(&mut state, 2, 1, 3);
    assert_eq!(c.1, 7);
    assert_eq!(check(&mut state, c, 1, 4), Place::Waits(c.0, at(7)));
    assert_eq!(check(&mut state, b, 1, 5), Place::Taken);
}

#[test]
fn a_timer_that_is_a_hair_early_is_set_anew() {
    let mut state = empty(1);
    let a = enter(&mut state, 0, 1, 0);
    assert_eq!(check(&mut state, a, 1, 9), Place::Waits(a.0, at(10)));
    assert_eq!(check(&mut state, a, 1, 10), Place::Taken);
}

#[test]
fn a_head_that_nobody_polls_is_passed_by_after_its_time() {
    let second = Duration::from_secs(1);
    for burst in [1, 2] {
        let mut state = empty(burst);
        let ask = Ask {
            permits: 1,
            until: at(50),
        };
        let Place::Waits(lost, _) = state.enter(ask, at(0), &mut Some(0)) else {
            panic!("10 ns are less than 50")
        };
        let next = enter(&mut state, 1, 1, 0);
        let held_up = matches!(check(&mut state, next, 1, 50), Place::Waits(..));
        assert_eq!(held_up, burst == 1);
        let later = at(51).saturating_add(second);
        if held_up {
            let (place, _) = state.check(next.0, 1, later, &mut None);
            assert_eq!(place, Place::Taken);
        } else {
            assert_eq!(state.try_take(2, later), Ok(()));
        }
        let (place, _) = state.check(lost, 1, later, &mut None);
        assert!(matches!(place, Place::Refused(_)));
    }
}

fn enter_until(state: &mut Named, name: usize, permits: u32, until: u64) -> Key {
    let until = at(until);
    match state.enter(Ask { permits, until }, at(0), &mut Some(name)) {
        Place::Waits(key, _) => key,
        other => panic!("{other:?}"),
    }
}

/// Trap 44.
#[test]
fn one_behind_a_head_that_nobody_polls_is_refused_when_its_time_is_up() {
    let mut state = empty(1);
    enter(&mut state, 0, 1, 0);
    let next = enter_until(&mut state, 1, 1, 25);
    let place = check(&mut state, (next, 0), 1, 20);
    assert_eq!(place, Place::Waits(next, at(25)), "not past its time");
    let place = check(&mut state, (next, 0), 1, 25);
    assert!(matches!(place, Place::Refused(_)));
    assert_eq!(state.queued(), (1, 1));
}

/// Trap 44.
#[test]
fn a_head_whose_time_no_longer_suffices_is_refused_at_its_next_look() {
    let mut state = empty(1);
    let a = enter(&mut state, 0, 1, 0);
    let b = enter_until(&mut state, 1, 1, 20);
    // What comes while the one ahead is late does not fit into the bucket.
    assert_eq!(check(&mut state, a, 1, 15), Place::Taken);
    let place = check(&mut state, (b, 0), 1, 16);
    assert_eq!(place, Place::Refused(limited(9)));
}

#[test]
fn a_head_whose_time_just_suffices_waits_on() {
    let mut state = empty(1);
    let only = enter_until(&mut state, 0, 1, 10);
    let place = check(&mut state, (only, 0), 1, 5);
    assert_eq!(place, Place::Waits(only, at(10)));
}

#[test]
fn a_head_that_is_refused_late_is_told_of_its_own_permits_alone() {
    let mut state = empty(1);
    let a = enter(&mut state, 0, 1, 0);
    let b = enter_until(&mut state, 1, 1, 20);
    enter(&mut state, 2, 1, 0);
    assert_eq!(check(&mut state, a, 1, 15), Place::Taken);
    let place = check(&mut state, (b, 0), 1, 21);
    assert_eq!(place, Place::Refused(limited(4)));
}

#[test]
fn a_look_too_many_behind_one_that_left_does_not_refuse() {
    let mut state = empty(9);
    let a = enter(&mut state, 0, 1, 0);
    let middle = enter(&mut state, 1, 5, 0);
    state.leave(middle.0, at(0));
    let last = enter_until(&mut state, 2, 1, 20);
    let place = check(&mut state, (last, 0), 1, 5);
    assert_eq!(place, Place::Waits(last, at(20)));
    assert_eq!(check(&mut state, a, 1, 10), Place::Taken);
    assert_eq!(check(&mut state, (last, 0), 1, 20), Place::Taken);
}

#[test]
fn one_behind_one_that_left_takes_at_the_very_end_of_its_time() {
    let mut state = empty(9);
    let a = enter(&mut state, 0, 1, 0);
    let middle = enter(&mut state, 1, 5, 0);
    state.leave(middle.0, at(0));
    let last = enter_until(&mut state, 2, 1, 20);
    let late = enter_until(&mut state, 3, 1, 30);
    assert_eq!(check(&mut state, (last, 0), 1, 20), Place::Taken);
    assert_eq!(
        check(&mut state, (late, 0), 1, 20),
        Place::Waits(late, at(30))
    );
    assert_eq!(check(&mut state, a, 1, 20), Place::Taken);
}

#[test]
fn the_sum_of_all_permits_may_wrap() {
    let mut state = empty(9);
    state.total = u64::MAX - 1;
    let a = enter(&mut state, 0, 1, 0);
    let b = enter(&mut state, 1, 4, 0);
    assert_eq!(check(&mut state, b, 4, 49), Place::Waits(b.0, at(50)));
    assert_eq!(check(&mut state, b, 4, 50), Place::Taken);
    assert_eq!(check(&mut state, a, 1, 50), Place::Taken);
}

#[derive(Clone, Debug)]
enum Op {
    Try(u32),
    Enter(u32, u64),
    Leave(prop::sample::Index),
    Advance(u64),
    Rate(u32, u64),
    Burst(u32),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => (0..5u32).prop_map(Op::Try),
        4 => (0..5u32, 0..60u64).prop_map(|(n, wait)| Op::Enter(n, wait)),
        2 => any::<prop::sample::Index>().prop_map(Op::Leave),
        4 => (0..12u64).prop_map(Op::Advance),
        1 => (1..4u32, 1..8u64).prop_map(|(n, p)| Op::Rate(n, p)),
        1 => (1..6u32).prop_map(Op::Burst),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Taken(u64),
    Refused,
    Left,
}

/// Someone who looks when it was told to or woken, and never otherwise.
#[derive(Debug)]
struct Sleeper {
    key: Key,
    permits: u32,
    until: Instant,
    look_at: u64,
    end: Option<End>,
}

/// The state with its prompt sleepers; of those awake at one moment the last comes
/// first, to make it hard.
struct Driven {
    state: Named,
    sleepers: Vec<Sleeper>,
    now: u64,
}

impl Driven {
    fn settle(&mut self) {
        loop {
            for name in self.state.take_wakers() {
                self.sleepers[name].look_at = self.now;
            }
            let awake = |s: &Sleeper| s.end.is_none() && s.look_at <= self.now;
            let Some(name) = self.sleepers.iter().rposition(awake) else {
                break;
            };
            let sleeper = &mut self.sleepers[name];
            let (key, permits) = (sleeper.key, sleeper.permits);
            let (place, _) = self
                .state
                .check(key, permits, at(self.now), &mut Some(name));
            match place {
                Place::Taken => sleeper.end = Some(End::Taken(self.now)),
                Place::Refused(_) => sleeper.end = Some(End::Refused),
                Place::Waits(_, told) => sleeper.look_at = told.as_nanos(),
            }
        }
    }

    fn enter(&mut self, permits: u32, until: Instant) -> Option<End> {
        let name = self.sleepers.len();
        let place = self
            .state
            .enter(Ask { permits, until }, at(self.now), &mut Some(name));
        match place {
            Place::Taken => return Some(End::Taken(self.now)),
            Place::Refused(_) => return Some(End::Refused),
            Place::Waits(key, told) => self.sleepers.push(Sleeper {
                key,
                permits,
                until,
                look_at: told.as_nanos(),
                end: None,
            }),
        }
        None
    }

    fn waiting(&self) -> Vec<usize> {
        let waits = |name: &usize| self.sleepers[*name].end.is_none();
        (0..self.sleepers.len()).filter(waits).collect()
    }
}

/// A slow, obvious reference: a bucket, and a line in which only the first is served.
struct Model {
    bucket: Bucket,
    line: Vec<(usize, u32)>,
    ends: Vec<Option<End>>,
}

impl Model {
    fn serve(&mut self, now: u64) {
        self.bucket.refill(at(now));
        while let Some(&(name, permits)) = self.line.first() {
            if !self.bucket.covers(permits.into()) {
                break;
            }
            self.bucket.take(permits);
            self.line.remove(0);
            self.ends[name] = Some(End::Taken(now));
        }
    }

    fn enter(&mut self, permits: u32, now: u64) -> Option<End> {
        self.serve(now);
        if permits > self.bucket.burst() {
            return Some(End::Refused);
        }
        if self.line.is_empty() && self.bucket.covers(permits.into()) {
            self.bucket.take(permits);
            return Some(End::Taken(now));
        }
        self.line.push((self.ends.len(), permits));
        self.ends.push(None);
        None
    }
}

fn driven() -> Driven {
    Driven {
        state: State::new(Bucket::new(rate(1, 3), 3, at(0))),
        sleepers: Vec::new(),
        now: 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::models::cases("limiter"), ..ProptestConfig::default() })]

    /// Traps 34, 35, 36: who sleeps until its time takes to the nanosecond when the
    /// first in line would, whoever leaves and whatever is changed.
    #[test]
    fn serves_like_a_line_in_which_only_the_first_is_looked_at(
        ops in prop::collection::vec(op(), 0..20),
    ) {
        let mut driven = driven();
        let mut model = Model {
            bucket: driven.state.bucket().clone(),
            line: Vec::new(),
            ends: Vec::new(),
        };
        for op in ops {
            match op {
                Op::Try(n) => {
                    let taken = driven.state.try_take(n, at(driven.now)).is_ok();
                    let fits = model.line.is_empty()
                        && n <= model.bucket.burst()
                        && model.bucket.covers(n.into());
                    prop_assert_eq!(taken, fits);
                    if fits {
                        model.bucket.take(n);
                    }
                }
                Op::Enter(n, _) => {
                    let end = driven.enter(n, Instant::NEVER);
                    prop_assert_eq!(end, model.enter(n, driven.now));
                }
                Op::Leave(index) => if let [_, ..] = *driven.waiting() {
                    let name = *index.get(&driven.waiting());
                    driven.state.leave(driven.sleepers[name].key, at(driven.now));
                    driven.sleepers[name].end = Some(End::Left);
                    model.line.retain(|waiter| waiter.0 != name);
                    model.ends[name] = Some(End::Left);
                },
                Op::Advance(by) => for _ in 0..by {
                    driven.now += 1;
                    driven.settle();
                    model.serve(driven.now);
                },
                Op::Rate(n, p) => {
                    driven.state.set_rate(rate(n, p), at(driven.now));
                    model.bucket.set_rate(rate(n, p));
                }
                Op::Burst(burst) => {
                    driven.state.set_burst(burst, at(driven.now));
                    model.bucket.set_burst(burst);
                    for &(name, _) in model.line.iter().filter(|waiter| waiter.1 > burst) {
                        model.ends[name] = Some(End::Refused);
                    }
                    model.line.retain(|waiter| waiter.1 <= burst);
                }
            }
            driven.settle();
            model.serve(driven.now);
            let ends: Vec<_> = driven.sleepers.iter().map(|sleeper| sleeper.end).collect();
            prop_assert_eq!(&ends, &model.ends);
            let queued = model.line.iter().map(|waiter| u64::from(waiter.1)).sum();
            prop_assert_eq!(driven.state.queued(), (model.line.len(), queued));
            driven.state.refill(at(driven.now));
            prop_assert_eq!(driven.state.bucket(), &model.bucket);
        }
    }

    /// Trap 44: nobody waits past its time; nobody is let in whose time cannot suffice.
    #[test]
    fn whoever_waits_is_served_or_refused_in_its_time(
        ops in prop::collection::vec(op(), 0..20),
    ) {
        let mut driven = driven();
        for op in ops {
            match op {
                Op::Enter(n, wait) => {
                    driven.state.refill(at(driven.now));
                    let until = at(driven.now + wait);
                    let due = driven.state.refusal(n).retry_after();
                    let end = driven.enter(n, until);
                    let fits = due.is_some_and(|due| at(driven.now).saturating_add(due) <= until);
                    prop_assert_eq!(end == Some(End::Refused), !fits);
                }
                Op::Leave(index) => if let [_, ..] = *driven.waiting() {
                    let name = *index.get(&driven.waiting());
                    driven.state.leave(driven.sleepers[name].key, at(driven.now));
                    driven.sleepers[name].end = Some(End::Left);
                },
                Op::Advance(by) => for _ in 0..by {
                    driven.now += 1;
                    driven.settle();
                },
                Op::Rate(n, p) => driven.state.set_rate(rate(n, p), at(driven.now)),
                Op::Burst(n) => driven.state.set_burst(n, at(driven.now)),
                Op::Try(_) => {}
            }
            driven.settle();
            let times = driven.sleepers.iter().filter_map(|sleeper| match sleeper.end {
                Some(End::Taken(time)) => Some((time, at(time) <= sleeper.until)),
                _ => None,
            });
            let times: Vec<_> = times.collect();
            prop_assert!(times.is_sorted(), "first come, first served");
            prop_assert!(times.iter().all(|time| time.1), "in its time");
            for name in driven.waiting() {
                prop_assert!(driven.sleepers[name].until > at(driven.now));
            }
        }
    }
}
