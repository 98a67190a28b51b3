//! The seats, the order, the set of those who were woken.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use proptest::prelude::*;

use crate::gather::ready::{Ready, SOURCE, TIMER};
use crate::gather::reorder::Reorder;
use crate::gather::seats::{Fit, Passenger, Seats};
use crate::time::Instant;

/// The slow and obvious ones: who sits, oldest first, and whether he is ending.
#[derive(Default)]
struct Reference(Vec<(usize, Passenger, bool)>);

impl Reference {
    fn used(&self) -> u64 {
        self.0.iter().map(|(_, one, _)| u64::from(one.weight)).sum()
    }

    fn oldest(&self) -> Option<&(usize, Passenger, bool)> {
        self.0.iter().find(|(_, _, ending)| !ending)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::models::cases("gather"), ..ProptestConfig::default() })]

    #[test]
    fn seats_behave_like_a_list_of_passengers(
        limit in prop_oneof![0..20_usize, Just(usize::MAX)],
        ops in prop::collection::vec((0..4u8, 1..8u32, any::<prop::sample::Index>()), 0..100),
    ) {
        let mut seats = Seats::new(limit);
        let mut model = Reference::default();
        for (number, (op, weight, at)) in ops.into_iter().enumerate() {
            let total = model.used() + u64::from(weight);
            let fit = if u64::from(weight) > limit as u64 { Fit::Never }
                else if total > limit as u64 { Fit::Later }
                else { Fit::Now };
            prop_assert_eq!(seats.fit(weight), fit);
            if op < 2 && fit == Fit::Now {
                let passenger = Passenger { index: number, weight, due: Instant::from_nanos(number as u64) };
                let next = seats.next();
                prop_assert!(model.0.iter().all(|(seat, ..)| *seat != next));
                prop_assert_eq!(seats.take(passenger), next);
                model.0.push((next, passenger, false));
            } else if !model.0.is_empty() {
                let at = at.index(model.0.len());
                let (seat, passenger, _) = model.0[at];
                if op == 3 {
                    seats.unlink(seat);
                    model.0[at].2 = true;
                } else {
                    prop_assert_eq!(seats.leave(seat), Some(passenger));
                    prop_assert_eq!(seats.leave(seat), None);
                    model.0.remove(at);
                }
            }
            prop_assert_eq!(seats.taken(), model.0.len());
            prop_assert_eq!(seats.is_full(), model.used() >= limit as u64);
            prop_assert_eq!(seats.oldest(), model.oldest().map(|(seat, ..)| *seat));
            let due = model.oldest().map_or(Instant::NEVER, |(_, one, _)| one.due);
            prop_assert_eq!(seats.first_due(), due);
            for (seat, passenger, _) in &model.0 {
                prop_assert_eq!(seats.passenger(*seat), Some(passenger));
            }
        }
    }

    #[test]
    fn what_comes_in_any_order_goes_in_order(keys in prop::collection::vec(any::<u32>(), 0..60), takes in prop::collection::vec(any::<bool>(), 60)) {
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by_key(|at| keys[*at]);
        let mut reorder = Reorder::new();
        let (mut put, mut taken) = (BTreeSet::new(), 0);
        for (number, take) in order.into_iter().zip(takes) {
            reorder.put(number, number);
            put.insert(number);
            while take && put.contains(&taken) {
                prop_assert!(reorder.is_ready());
                prop_assert_eq!(reorder.take(), Some(taken));
                taken += 1;
            }
            prop_assert_eq!(reorder.is_ready(), put.contains(&taken));
            prop_assert_eq!(reorder.next(), taken);
            if !put.contains(&taken) {
                prop_assert_eq!(reorder.take(), None);
            }
        }
        while let Some(number) = reorder.take() {
            prop_assert_eq!(number, taken);
            taken += 1;
        }
        prop_assert_eq!(taken, keys.len());
    }

    #[test]
    fn what_is_put_through_comes_out_in_order_and_the_rest_at_the_end(
        keys in prop::collection::vec(any::<u32>(), 0..60),
        missing in prop::collection::btree_set(0..60_usize, 0..3),
    ) {
        let mut order: Vec<usize> = (0..keys.len()).filter(|number| !missing.contains(number)).collect();
        let all = order.clone();
        order.sort_by_key(|at| keys[*at] / 0x1000_0000);
        let (mut reorder, mut done, mut put) = (Reorder::new(), Vec::new(), BTreeSet::new());
        for number in order {
            reorder.put_through(number, number, &mut done);
            put.insert(number);
            let known = (0..).take_while(|next| put.contains(next));
            prop_assert!(done.iter().copied().eq(known));
            prop_assert_eq!(reorder.next(), done.len());
        }
        done.extend(reorder.rest());
        prop_assert_eq!(done, all);
    }

    /// Everyone woken before a round is named in it once, in order, whatever the number of seats.
    #[test]
    fn a_round_names_those_who_were_woken(
        woken in prop::collection::vec((0..10_000_usize, 1..4u8), 0..50),
        marks in 0..4u64,
    ) {
        let mut ready = Ready::new();
        prop_assert_eq!(ready.begin_round(), 0);
        for (seat, times) in &woken {
            let waker = ready.waker_of(*seat);
            (0..*times).for_each(|_| waker.wake_by_ref());
        }
        let others = [TIMER, SOURCE].map(|bit| ready.waker_of_bit(bit));
        if marks & 1 != 0 { others[0].wake_by_ref(); }
        if marks & 2 != 0 { others[1].wake_by_ref(); }
        let begun = ready.begin_round();
        prop_assert_eq!(begun & TIMER != 0, marks & 1 != 0);
        prop_assert_eq!(begun & SOURCE != 0, marks & 2 != 0);
        let named: Vec<usize> = std::iter::from_fn(|| ready.next()).collect();
        let once: BTreeSet<usize> = woken.iter().map(|(seat, _)| *seat).collect();
        prop_assert_eq!(named, Vec::from_iter(once), "in the order of the seats");
        prop_assert!(ready.is_round_over());
        prop_assert_eq!(ready.begin_round(), 0);
    }
}

#[derive(Default)]
struct Task(AtomicUsize, AtomicBool);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
        self.1.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_task_is_woken_once_and_only_while_it_sleeps() {
    let task = Arc::new(Task::default());
    let waker = Waker::from(Arc::clone(&task));
    let cx = Context::from_waker(&waker);
    let mut ready = Ready::new();
    let seats = [0, 1, 70].map(|seat| ready.waker_of(seat));
    seats[0].wake_by_ref();
    assert_eq!(task.0.load(Ordering::SeqCst), 0);
    assert!(!ready.sleep(&cx), "somebody was woken meanwhile");
    ready.begin_round();
    while ready.next().is_some() {}
    assert!(ready.sleep(&cx));
    seats.iter().for_each(Waker::wake_by_ref);
    assert_eq!(task.0.load(Ordering::SeqCst), 1);
    ready.wake_up();
    ready.begin_round();
    assert_eq!(std::iter::from_fn(|| ready.next()).count(), 3);
    assert!(ready.sleep(&cx));
    drop(ready.close());
    seats[0].wake_by_ref();
    assert_eq!(task.0.load(Ordering::SeqCst), 1, "nobody is there any more");
    assert_eq!(Arc::strong_count(&task), 2);
}

#[test]
fn one_wake_up_wakes_the_task_that_sleeps_and_none_the_one_that_is_awake() {
    let task = Arc::new(Task::default());
    let waker = Waker::from(Arc::clone(&task));
    let mut ready = Ready::new();
    let (one, other) = (ready.waker_of(0), ready.waker_of(64));
    assert!(ready.is_awake() && ready.is_quiet());
    assert!(ready.sleep(&Context::from_waker(&waker)));
    assert!(!ready.is_awake() && !ready.is_quiet());
    ready.wake_up();
    assert!(ready.is_awake() && ready.is_quiet());
    one.wake_by_ref();
    assert!(!ready.is_quiet());
    assert_eq!(task.0.load(Ordering::SeqCst), 0, "it looks again by itself");
    ready.begin_round();
    while ready.next().is_some() {}
    assert!(ready.sleep(&Context::from_waker(&waker)));
    other.wake_by_ref();
    assert_eq!(task.0.load(Ordering::SeqCst), 1);
}

#[test]
fn who_comes_in_turn_and_finds_nobody_waiting_passes() {
    let mut reorder = Reorder::new();
    assert!(reorder.pass(0) && reorder.pass(1));
    assert!(!reorder.pass(3));
    assert_eq!(reorder.next(), 2);
    reorder.put(3, 3);
    assert!(!reorder.pass(2), "another one comes after it");
    reorder.put(2, 2);
    assert_eq!([reorder.take(), reorder.take()], [Some(2), Some(3)]);
}

#[test]
fn seats_that_were_cleared_are_free() {
    let mut seats = Seats::new(3);
    for index in 0..3 {
        let due = Instant::NEVER;
        seats.take(Passenger {
            index,
            weight: 1,
            due,
        });
    }
    seats.clear();
    assert_eq!((seats.taken(), seats.next(), seats.oldest()), (0, 0, None));
    assert_eq!((seats.fit(3), seats.fit(4)), (Fit::Now, Fit::Never));
}

#[test]
fn a_waker_that_is_used_up_wakes_as_well() {
    let mut ready = Ready::new();
    ready.waker_of(3).wake();
    ready.waker_of_bit(TIMER).wake();
    assert_eq!(ready.begin_round() & (TIMER | SOURCE), TIMER);
    assert_eq!(ready.next(), Some(3));
}

#[test]
fn seats_are_at_hand_until_the_last_of_their_chunk_is_named() {
    let mut ready = Ready::new();
    for seat in [1, 2] {
        ready.waker_of(seat).wake();
    }
    ready.begin_round();
    assert!(!ready.is_in_hand());
    assert_eq!(ready.next(), Some(1));
    assert!(ready.is_in_hand());
    assert_eq!(ready.next(), Some(2));
    assert!(!ready.is_in_hand());
}

/// Two threads wake, one sleeps and looks: each wake-up is followed by a look.
#[test]
fn no_wake_up_is_lost_between_threads() {
    const TURNS: usize = crate::testing::rounds(20_000) as usize;
    let task = Arc::new(Task::default());
    let waker = Waker::from(Arc::clone(&task));
    let mut ready = Ready::new();
    // Each thread wakes its own seat, and goes on when it has been named.
    let named: Arc<[AtomicUsize; 2]> = Arc::default();
    let threads = [3, 67].map(|seat| {
        let (waker, named) = (ready.waker_of(seat), Arc::clone(&named));
        std::thread::spawn(move || {
            for turn in 1..=TURNS {
                waker.wake_by_ref();
                while named[seat / 64].load(Ordering::Acquire) < turn {
                    std::thread::yield_now();
                }
            }
        })
    });
    let mut turns = [0; 2];
    while turns != [TURNS; 2] {
        ready.wake_up();
        ready.begin_round();
        while let Some(seat) = ready.next() {
            turns[seat / 64] += 1;
            named[seat / 64].store(turns[seat / 64], Ordering::Release);
        }
        task.1.store(false, Ordering::SeqCst);
        if turns != [TURNS; 2] && ready.sleep(&Context::from_waker(&waker)) {
            while !task.1.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
}
