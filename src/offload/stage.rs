//! Where one piece of work stands, and how many are at work: pure.
//!
//! Invariant: `abandoned` counts what runs without a caller, so it is never more than `running`.

use std::mem;

/// How many threads are at work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Threads {
    pub(super) running: u32,
    pub(super) abandoned: u32,
}

/// Where a piece of work `U` stands that is to yield an `R`.
#[derive(Debug)]
pub(super) enum Stage<U, R> {
    /// No thread has come yet.
    Queued(U),
    Running,
    /// It runs, and its caller has gone.
    Abandoned,
    /// It has run; the slot is on its way back.
    Ending,
    Ended(R),
    /// The caller has the result, or has gone.
    Over,
}

/// What a caller leaves behind that goes away.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left<U, R> {
    /// It will never run.
    Unrun(U),
    /// It goes on, or is about to hand in a result that nobody wants.
    Begun,
    Ended(R),
    Nothing,
}

impl<U, R> Stage<U, R> {
    /// A thread comes for the work.
    pub(super) fn begin(&mut self, threads: &mut Threads) -> Option<U> {
        let unit = self.take_queued()?;
        *self = Self::Running;
        threads.running += 1;
        Some(unit)
    }

    /// Takes the work that no thread has come for.
    pub(super) fn take_queued(&mut self) -> Option<U> {
        match mem::replace(self, Self::Over) {
            Self::Queued(unit) => Some(unit),
            other => {
                *self = other;
                None
            }
        }
    }

    /// The work has been done; whether someone still wants the result.
    pub(super) fn end(&mut self, threads: &mut Threads) -> bool {
        threads.running -= 1;
        let wanted = matches!(self, Self::Running);
        if !wanted {
            threads.abandoned -= 1;
        }
        *self = if wanted { Self::Ending } else { Self::Over };
        wanted
    }

    /// Hands the result in; it comes back when the caller has gone meanwhile.
    pub(super) fn hand_in(&mut self, result: R) -> Option<R> {
        if let Self::Over = self {
            return Some(result);
        }
        *self = Self::Ended(result);
        None
    }

    pub(super) fn take_result(&mut self) -> Option<R> {
        match mem::replace(self, Self::Over) {
            Self::Ended(result) => Some(result),
            other => {
                *self = other;
                None
            }
        }
    }

    /// The caller goes away.
    pub(super) fn leave(&mut self, threads: &mut Threads) -> Left<U, R> {
        match mem::replace(self, Self::Over) {
            Self::Queued(unit) => Left::Unrun(unit),
            Self::Running => {
                *self = Self::Abandoned;
                threads.abandoned += 1;
                Left::Begun
            }
            Self::Ending => Left::Begun,
            Self::Ended(result) => Left::Ended(result),
            gone @ (Self::Abandoned | Self::Over) => {
                *self = gone;
                Left::Nothing
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Plain = Stage<u32, u32>;

    #[test]
    fn work_whose_caller_has_gone_is_not_begun() {
        let mut threads = Threads::default();
        let mut stage = Plain::Queued(7);
        assert_eq!(stage.leave(&mut threads), Left::Unrun(7));
        assert_eq!(stage.begin(&mut threads), None);
        assert_eq!(threads, Threads::default());
    }

    #[test]
    fn what_is_abandoned_is_counted_until_it_ends() {
        let mut threads = Threads::default();
        let mut stage = Plain::Queued(7);
        assert_eq!(stage.begin(&mut threads), Some(7));
        assert_eq!(stage.leave(&mut threads), Left::Begun);
        assert_eq!((threads.running, threads.abandoned), (1, 1));
        assert!(!stage.end(&mut threads));
        assert_eq!(threads, Threads::default());
        assert_eq!(stage.leave(&mut threads), Left::Nothing);
    }

    /// The count is settled by then: one who goes now is not counted as abandoned for ever.
    #[test]
    fn a_caller_may_go_between_the_end_and_the_result() {
        let mut threads = Threads::default();
        let mut stage = Plain::Queued(7);
        stage.begin(&mut threads);
        assert!(stage.end(&mut threads));
        assert_eq!(stage.leave(&mut threads), Left::Begun);
        assert_eq!(stage.hand_in(9), Some(9));
        assert_eq!(threads, Threads::default());
    }

    /// A slow, obvious reference: what has happened to one piece of work, as flags.
    #[expect(
        clippy::struct_excessive_bools,
        reason = "that is what makes it obvious"
    )]
    #[derive(Clone, Copy, Debug, Default)]
    struct Seen {
        begun: bool,
        ended: bool,
        handed_in: bool,
        left: bool,
        taken: bool,
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: crate::models::cases("offload"), ..ProptestConfig::default() })]

        #[test]
        fn the_counts_are_those_of_a_list_of_flags(
            ops in prop::collection::vec((0..6u8, 0..4usize), 0..80),
        ) {
            let mut threads = Threads::default();
            let mut stages = [0, 1, 2, 3].map(Plain::Queued);
            let mut seen = [Seen::default(); 4];
            for (op, at) in ops {
                let (stage, flags) = (&mut stages[at], &mut seen[at]);
                match op {
                    0 => {
                        let begins = !flags.begun && !flags.left;
                        prop_assert_eq!(stage.begin(&mut threads).is_some(), begins);
                        flags.begun |= begins;
                    }
                    1 if flags.begun && !flags.ended => {
                        prop_assert_eq!(stage.end(&mut threads), !flags.left);
                        flags.ended = true;
                    }
                    2 if flags.ended && !flags.handed_in => {
                        prop_assert_eq!(stage.hand_in(9).is_some(), flags.left);
                        flags.handed_in = true;
                    }
                    3 => {
                        let left = stage.leave(&mut threads);
                        let expected = match *flags {
                            Seen { left: true, .. } | Seen { taken: true, .. } => Left::Nothing,
                            Seen { begun: false, .. } => Left::Unrun(u32::try_from(at).unwrap()),
                            Seen { handed_in: false, .. } => Left::Begun,
                            _ => Left::Ended(9),
                        };
                        prop_assert_eq!(left, expected);
                        flags.left = true;
                    }
                    4 => {
                        let there = flags.handed_in && !flags.left && !flags.taken;
                        prop_assert_eq!(stage.take_result().is_some(), there);
                        flags.taken |= there;
                    }
                    5 => {
                        let unrun = !flags.begun && !flags.left;
                        prop_assert_eq!(stage.take_queued().is_some(), unrun);
                        flags.left |= unrun;
                    }
                    _ => {}
                }
                let running = seen.iter().filter(|one| one.begun && !one.ended);
                let abandoned = running.clone().filter(|one| one.left).count();
                prop_assert_eq!(threads.running as usize, running.count());
                prop_assert_eq!(threads.abandoned as usize, abandoned);
            }
        }
    }
}
