//! Who waits for a value that is being made, and who goes on making it.
//!
//! Invariants:
//! - There is at most one execution, and it is at one place: at rest in here, or in the hands
//!   of the one caller who polls it.
//! - An execution that asks to be polled, and rests, has called everyone who waits; whoever
//!   comes first takes it. So nobody depends on a caller who has gone, or who is there and is
//!   not polled any more.
//! - Everyone who waits when an execution ends is told how it ended.
//! - A value is made once; nothing is started after that.

use crate::sync::{Key, WaitList};

/// `R` is the execution, `W` a waker, `A` what a failure leaves to those who waited, `P` says
/// who polls.
#[derive(Debug)]
pub(super) struct State<R, W, A, P> {
    stage: Stage<R, P>,
    waiting: WaitList<Waiter<W, A>>,
}

#[derive(Debug)]
enum Stage<R, P> {
    Idle,
    /// `asks`: it wants to be polled.
    Resting {
        execution: R,
        asks: bool,
    },
    Polled {
        asks: bool,
        by: P,
    },
    Made,
}

/// One who waits. To be dropped outside of the lock: a waker and an error are foreign.
#[derive(Debug)]
pub(super) struct Waiter<W, A> {
    waker: Option<W>,
    answer: Option<A>,
}

/// What a caller is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<R, A> {
    /// The value is there.
    Made,
    /// The execution that it waited for has failed.
    Failed(A),
    /// It is in the initialiser itself, which would wait for its own end.
    Reentered,
    Wait,
    /// Start an execution and poll it.
    Start,
    /// Poll this execution.
    Drive(R),
}

/// Those to be woken; the lock is free by then.
pub(super) type Wakers<W> = Vec<W>;

impl<R, W, A: Clone, P: PartialEq> State<R, W, A, P> {
    pub(super) const fn new() -> Self {
        Self {
            stage: Stage::Idle,
            waiting: WaitList::new(),
        }
    }

    /// A caller asks. While it waits on, `waker` is exchanged for the one it gave before.
    pub(super) fn ask(
        &mut self,
        place: &mut Option<Key>,
        waker: &mut Option<W>,
        me: P,
    ) -> Step<R, A> {
        if let Some(failure) = self.answer(place) {
            return Step::Failed(failure);
        }
        match std::mem::replace(&mut self.stage, Stage::Made) {
            Stage::Made => Step::Made,
            Stage::Polled { asks, by } => {
                let reentered = by == me;
                self.stage = Stage::Polled { asks, by };
                if reentered {
                    return Step::Reentered;
                }
                self.wait(place, waker);
                Step::Wait
            }
            Stage::Idle => {
                self.take(place, waker, me);
                Step::Start
            }
            Stage::Resting {
                execution,
                asks: true,
            } => {
                self.take(place, waker, me);
                Step::Drive(execution)
            }
            resting @ Stage::Resting { .. } => {
                self.stage = resting;
                self.wait(place, waker);
                Step::Wait
            }
        }
    }

    /// The one who polls has found it pending. Whoever it has called meanwhile found it away.
    pub(super) fn put_back(&mut self, execution: R) -> Wakers<W> {
        let asks = matches!(self.stage, Stage::Polled { asks: true, .. });
        self.stage = Stage::Resting { execution, asks };
        if asks { self.call_all() } else { Wakers::new() }
    }

    /// The execution asks to be polled.
    pub(super) fn wake(&mut self) -> Wakers<W> {
        match &mut self.stage {
            Stage::Resting { asks, .. } => {
                *asks = true;
                self.call_all()
            }
            Stage::Polled { asks, .. } => {
                *asks = true;
                Wakers::new()
            }
            Stage::Idle | Stage::Made => Wakers::new(),
        }
    }

    /// The execution has ended; `failure` goes to everyone who waits but the one who polled
    /// it, whose place is `own`.
    pub(super) fn end(&mut self, own: &mut Option<Key>, failure: Option<&A>) -> Wakers<W> {
        self.stage = match failure {
            Some(_) => Stage::Idle,
            None => Stage::Made,
        };
        let mut wake = Wakers::new();
        let own = self.leave(own).and_then(|waiter| waiter.waker);
        wake.extend(own); // it cannot be dropped here, and to be woken does it no harm
        for waiter in self.waiting.values_mut() {
            if waiter.answer.is_none() {
                waiter.answer = failure.cloned();
                wake.extend(waiter.waker.take());
            }
        }
        wake
    }

    /// A caller goes away.
    #[must_use = "to be dropped outside of the lock"]
    pub(super) fn leave(&mut self, place: &mut Option<Key>) -> Option<Waiter<W, A>> {
        self.waiting.remove(place.take()?)
    }

    /// Takes what rests: nobody is left who could want it.
    pub(super) fn clear(&mut self) -> Option<R> {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Resting { execution, .. } => Some(execution),
            Stage::Idle | Stage::Polled { .. } | Stage::Made => None,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Resting { .. } | Stage::Polled { .. })
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn answer(&mut self, place: &mut Option<Key>) -> Option<A> {
        let key = (*place)?;
        let answer = self.waiting.get_mut(key)?.answer.take()?;
        self.waiting.remove(key);
        *place = None;
        Some(answer)
    }

    fn take(&mut self, place: &mut Option<Key>, waker: &mut Option<W>, me: P) {
        self.stage = Stage::Polled {
            asks: false,
            by: me,
        };
        self.wait(place, waker);
    }

    fn wait(&mut self, place: &mut Option<Key>, waker: &mut Option<W>) {
        let waiter = place.and_then(|key| self.waiting.get_mut(key));
        if let Some(waiter) = waiter {
            std::mem::swap(&mut waiter.waker, waker);
        } else {
            let waker = waker.take();
            let answer = None;
            *place = Some(self.waiting.push_back(Waiter { waker, answer }));
        }
    }

    fn call_all(&mut self) -> Wakers<W> {
        let waiting = self.waiting.values_mut();
        waiting.filter_map(|waiter| waiter.waker.take()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Plain = State<u32, usize, u32, usize>;

    fn ask(state: &mut Plain, place: &mut Option<Key>, who: usize) -> Step<u32, u32> {
        state.ask(place, &mut Some(who), who)
    }

    #[test]
    fn one_starts_and_the_others_wait() {
        let mut state = Plain::new();
        let (mut a, mut b) = (None, None);
        assert_eq!(ask(&mut state, &mut a, 0), Step::Start);
        assert_eq!(ask(&mut state, &mut b, 1), Step::Wait);
        assert!(state.put_back(7).is_empty());
        assert_eq!(ask(&mut state, &mut b, 1), Step::Wait);
        assert_eq!(state.wake(), [0, 1]);
        assert_eq!(ask(&mut state, &mut b, 1), Step::Drive(7));
        assert_eq!(state.end(&mut b, None), [1]);
        assert_eq!(ask(&mut state, &mut a, 0), Step::Made);
    }

    /// Trap 71: one who found no value, and comes to wait when it has been made.
    #[test]
    fn who_joins_after_the_end_is_told() {
        let mut state = Plain::new();
        let (mut a, mut late) = (None, None);
        assert_eq!(ask(&mut state, &mut a, 0), Step::Start);
        assert_eq!(state.end(&mut a, None), [0]);
        assert_eq!(ask(&mut state, &mut late, 1), Step::Made);
        assert_eq!((late, state.waiting()), (None, 0));
        // After a failure it is a flight of its own.
        let mut state = Plain::new();
        assert_eq!(ask(&mut state, &mut a, 0), Step::Start);
        assert_eq!(state.end(&mut a, Some(&9)), [0]);
        assert_eq!(ask(&mut state, &mut late, 1), Step::Start);
    }

    #[test]
    fn whoever_was_called_while_it_was_away_is_called_again() {
        let mut state = Plain::new();
        let (mut a, mut b) = (None, None);
        ask(&mut state, &mut a, 0);
        assert!(state.wake().is_empty());
        assert_eq!(ask(&mut state, &mut b, 1), Step::Wait);
        assert_eq!(state.put_back(7), [0, 1]);
    }

    #[test]
    fn what_rests_goes_on_with_the_next_caller() {
        let mut state = Plain::new();
        let (mut a, mut b) = (None, None);
        ask(&mut state, &mut a, 0);
        state.put_back(7);
        assert!(state.leave(&mut a).is_some());
        assert_eq!((state.waiting(), state.is_running()), (0, true));
        assert!(state.wake().is_empty());
        assert_eq!(ask(&mut state, &mut b, 1), Step::Drive(7));
    }

    #[test]
    fn what_rests_is_handed_out_when_nobody_is_left_who_could_want_it() {
        let mut state = Plain::new();
        let mut a = None;
        assert_eq!(state.clear(), None);
        ask(&mut state, &mut a, 0);
        state.put_back(7);
        assert!(state.leave(&mut a).is_some());
        assert_eq!((state.clear(), state.is_running()), (Some(7), false));
        assert_eq!(state.clear(), None);
    }

    #[test]
    fn a_failure_goes_to_those_who_waited_and_to_nobody_else() {
        let mut state = Plain::new();
        let (mut a, mut b, mut c) = (None, None, None);
        ask(&mut state, &mut a, 0);
        ask(&mut state, &mut b, 1);
        assert_eq!(state.end(&mut a, Some(&9)), [0, 1]);
        assert_eq!(ask(&mut state, &mut c, 2), Step::Start);
        assert_eq!(ask(&mut state, &mut b, 1), Step::Failed(9));
        assert_eq!((a, b), (None, None));
        assert_eq!(state.waiting(), 1);
    }

    /// One who is told late is told of its own execution, not of a later one.
    #[test]
    fn a_later_failure_does_not_replace_the_one_that_was_waited_for() {
        let mut state = Plain::new();
        let (mut a, mut b) = (None, None);
        ask(&mut state, &mut a, 0);
        ask(&mut state, &mut b, 1);
        state.end(&mut a, Some(&8));
        ask(&mut state, &mut a, 0);
        assert_eq!(state.end(&mut a, Some(&9)), [0]);
        assert_eq!(ask(&mut state, &mut b, 1), Step::Failed(8));
    }

    #[test]
    fn the_initialiser_does_not_wait_for_itself() {
        let mut state = Plain::new();
        let (mut a, mut inner) = (None, None);
        ask(&mut state, &mut a, 0);
        assert_eq!(ask(&mut state, &mut inner, 0), Step::Reentered);
        assert_eq!(state.waiting(), 1);
    }

    /// What has become of the callers of a random history.
    #[derive(Default)]
    struct Crowd {
        places: [Option<Key>; 5],
        woken: [bool; 5],
        /// Who polls the execution at this moment.
        hand: Option<usize>,
        started: u32,
        failed: u32,
        made: u32,
        /// The failure that each of those who wait is to be told.
        owed: [Option<u32>; 5],
    }

    impl Crowd {
        fn called(&mut self, who: Vec<usize>) {
            for caller in who {
                self.woken[caller] = true;
            }
        }

        fn poll(&mut self, state: &mut Plain, who: usize) -> Result<(), TestCaseError> {
            self.woken[who] = false;
            match ask(state, &mut self.places[who], who) {
                Step::Wait => prop_assert!(self.places[who].is_some()),
                Step::Made => {
                    prop_assert_eq!(self.made, 1);
                    prop_assert_eq!(self.owed[who], None);
                    drop(state.leave(&mut self.places[who]));
                }
                Step::Failed(number) => prop_assert_eq!(self.owed[who].take(), Some(number)),
                Step::Reentered => prop_assert!(false, "nobody polls twice at a time"),
                Step::Start => {
                    prop_assert_eq!(self.started, self.failed);
                    prop_assert_eq!(self.made, 0);
                    self.started += 1;
                    self.hand = Some(who);
                }
                Step::Drive(number) => {
                    prop_assert_eq!(number, self.started);
                    prop_assert_eq!(self.hand.replace(who), None);
                }
            }
            Ok(())
        }

        fn end(&mut self, state: &mut Plain, ok: bool) {
            let Some(who) = self.hand.take() else { return };
            let number = self.started;
            if ok {
                self.made += 1;
            } else {
                self.failed += 1;
                for (at, place) in self.places.iter().enumerate() {
                    if place.is_some() && at != who && self.owed[at].is_none() {
                        self.owed[at] = Some(number);
                    }
                }
            }
            let failure = (!ok).then_some(&number);
            let called = state.end(&mut self.places[who], failure);
            self.called(called);
        }

        fn check(&self, state: &Plain) -> Result<(), TestCaseError> {
            let waiting = self.places.iter().flatten().count();
            prop_assert_eq!(state.waiting(), waiting);
            prop_assert_eq!(state.is_running(), self.started > self.failed + self.made);
            for who in 0..5 {
                let told = self.owed[who].is_some() || self.made > 0;
                let asks = matches!(state.stage, Stage::Resting { asks: true, .. });
                if self.places[who].is_some() && (told || asks) {
                    prop_assert!(self.woken[who], "{who} sleeps although it is its turn");
                }
            }
            Ok(())
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: crate::models::cases("lazy"), ..ProptestConfig::default() })]

        /// Callers come, are polled with and without being woken, and go; the execution asks,
        /// rests, fails, succeeds. In the end everyone who is left gets an answer.
        #[test]
        fn one_execution_at_a_time_and_nobody_is_forgotten(
            ops in prop::collection::vec((0..12u8, 0..5usize), 0..80),
        ) {
            let mut state = Plain::new();
            let mut crowd = Crowd::default();
            for (op, who) in ops {
                match op {
                    0..=4 if crowd.hand != Some(who) => crowd.poll(&mut state, who)?,
                    5 | 6 if crowd.hand != Some(who) => {
                        drop(state.leave(&mut crowd.places[who]));
                        crowd.owed[who] = None;
                    }
                    7 | 8 => {
                        let called = state.wake();
                        crowd.called(called);
                    }
                    9 if crowd.hand.take().is_some() => {
                        let called = state.put_back(crowd.started);
                        crowd.called(called);
                    }
                    10 => crowd.end(&mut state, false),
                    11 => crowd.end(&mut state, true),
                    _ => {}
                }
                crowd.check(&state)?;
            }
            crowd.end(&mut state, true);
            let called = state.wake();
            crowd.called(called);
            while let Some(who) = (0..5).find(|&who| crowd.woken[who] && crowd.places[who].is_some()) {
                crowd.poll(&mut state, who)?;
                crowd.end(&mut state, true);
            }
            prop_assert_eq!(crowd.places, [None; 5]);
            prop_assert!(crowd.made <= 1);
        }
    }
}
