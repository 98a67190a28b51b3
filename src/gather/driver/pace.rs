//! How much is done in a row before something else is looked at. Pure.

use std::mem;

/// Polls and starts of items in a row before the gather lets other tasks run.
const BUDGET: u32 = 128;

/// Polls and starts in a row before it looks at the clock, if there is a time limit.
const LOOK: u32 = 16;

/// Starts in a row before those are polled that were woken.
const STARTS: u32 = 64;

/// Counts the polls and starts of items, and says what may be done before the next look at
/// anything else.
#[derive(Debug)]
pub(super) struct Pace {
    /// Since the last pause.
    spent: u32,
    /// When so much is spent, the clock is looked at, and whether a pause is due.
    look_at: u32,
    /// Until so much is spent, items may be started.
    start_until: u32,
    /// Items had their turn to be started since the last round began.
    opened: bool,
    /// Looks are so far apart.
    step: u32,
}

impl Pace {
    pub(super) const fn new(limited: bool) -> Self {
        let step = if limited { LOOK } else { BUDGET };
        Self {
            spent: 0,
            look_at: step,
            start_until: 0,
            opened: false,
            step,
        }
    }

    /// Whether anything may be done before the next look.
    #[inline]
    pub(super) const fn goes_on(&self) -> bool {
        self.spent < self.look_at
    }

    /// Whether an item may be started.
    #[inline]
    pub(super) const fn may_start(&self) -> bool {
        self.spent < self.start_until
    }

    /// An item is polled, started or ended.
    #[inline]
    pub(super) const fn spend(&mut self) {
        self.spent += 1;
    }

    /// Lets so many items be started in a row, once in a round; whether it does.
    pub(super) fn open(&mut self) -> bool {
        if self.opened {
            return false;
        }
        self.opened = true;
        self.start_until = self.spent + STARTS;
        true
    }

    /// Whoever was woken has a turn, and then items may be started again; whether any could be
    /// since the last time.
    pub(super) fn begin_round(&mut self) -> bool {
        mem::take(&mut self.opened)
    }

    /// Lets no item be started, until it is opened again.
    pub(super) const fn close(&mut self) {
        self.start_until = 0;
    }

    /// A poll begins, which looks at everything.
    pub(super) fn begin(&mut self) {
        self.look_at = self.spent.max(1).next_multiple_of(self.step);
        self.close();
    }

    /// Whether a pause is due, as far as the next look is.
    pub(super) fn look(&mut self) -> bool {
        self.look_at = self.spent.saturating_add(self.step);
        self.close();
        self.spent >= BUDGET
    }

    /// Other tasks are let run.
    pub(super) fn pause(&mut self) {
        self.spent = 0;
        self.look_at = self.step;
        self.close();
    }

    /// Everything is being ended, without a pause.
    pub(super) fn hurry(&mut self) {
        self.step = u32::MAX;
        self.look_at = u32::MAX;
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polls(pace: &mut Pace) -> u32 {
        let mut polls = 0;
        while pace.goes_on() {
            pace.spend();
            polls += 1;
        }
        polls
    }

    fn starts(pace: &mut Pace) -> u32 {
        let mut starts = 0;
        while pace.goes_on() && pace.may_start() {
            pace.spend();
            starts += 1;
        }
        starts
    }

    #[test]
    fn it_pauses_when_the_budget_is_spent_and_looks_at_the_clock_on_the_way() {
        for limited in [false, true] {
            let mut pace = Pace::new(limited);
            let mut spent = polls(&mut pace);
            assert_eq!(spent, if limited { LOOK } else { BUDGET });
            while !pace.look() {
                spent += polls(&mut pace);
            }
            assert_eq!(spent, BUDGET);
            pace.pause();
            assert_eq!(polls(&mut pace), if limited { LOOK } else { BUDGET });
        }
    }

    #[test]
    fn polls_that_begin_anew_do_not_put_off_the_pause() {
        let mut pace = Pace::new(true);
        for spent in 0..BUDGET {
            pace.begin();
            assert!(pace.goes_on() || (spent % LOOK == 0 && !pace.look()));
            pace.spend();
        }
        pace.begin();
        assert!(!pace.goes_on() && pace.look());
    }

    #[test]
    fn items_are_started_once_in_a_round_and_not_after_a_look() {
        let mut pace = Pace::new(false);
        assert!(!pace.may_start());
        assert!(pace.open() && !pace.open());
        assert_eq!(starts(&mut pace), STARTS);
        assert!(!pace.open());
        assert!(pace.begin_round() && !pace.begin_round());
        assert!(pace.open());
        pace.look();
        assert_eq!(starts(&mut pace), 0);
        pace.begin_round();
        assert!(pace.open());
        pace.close();
        assert_eq!(starts(&mut pace), 0);
    }

    #[test]
    fn who_is_in_a_hurry_never_pauses() {
        let mut pace = Pace::new(false);
        pace.open();
        pace.hurry();
        for _ in 0..2 * BUDGET {
            assert!(pace.goes_on() && !pace.may_start());
            pace.spend();
        }
        pace.pause();
        pace.begin();
        assert!(pace.goes_on());
    }
}
