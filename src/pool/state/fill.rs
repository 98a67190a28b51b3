//! The pauses between creations that nothing depends on, while creations fail.

use crate::time::Instant;

/// The first pause, and the longest, in nanoseconds. Half of each is random.
const FIRST: u64 = 100_000_000;
const LONGEST: u64 = 30_000_000_000;

/// How long the minimum is not filled up.
#[derive(Debug, Default)]
pub(super) struct Fill {
    failures: u32,
    /// What was created lately has not worked: another creation that succeeds proves nothing.
    doubted: bool,
    /// While it is paused.
    resumes: Option<Instant>,
}

impl Fill {
    pub(super) fn is_paused(&self) -> bool {
        self.resumes.is_some()
    }

    pub(super) fn resumes(&self) -> Option<Instant> {
        self.resumes
    }

    pub(super) fn succeeded(&mut self) {
        if !self.doubted {
            *self = Self::default();
        }
    }

    /// An object works.
    pub(super) fn proved(&mut self) {
        if self.doubted {
            *self = Self::default();
        }
    }

    /// An object has never worked.
    pub(super) fn disproved(&mut self) {
        self.doubted = true;
    }

    /// Pauses; until when. `random` is in 0..1. Failures during a pause are of creations
    /// that somebody needs who has nothing else to wait for, or that were started together
    /// with the first: they change nothing.
    pub(super) fn failed(&mut self, now: Instant, random: f64) -> Instant {
        if let Some(resumes) = self.resumes {
            return resumes;
        }
        let pause = FIRST
            .saturating_mul(1 << self.failures.min(20))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a part of half a minute fits, and need not be exact"
        )]
        let random = (pause as f64 / 2.0 * random) as u64;
        let resumes = now.after(pause / 2 + random);
        self.resumes = Some(resumes);
        resumes
    }

    /// Ends the pause when its time has come.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.resumes.is_some_and(|at| at <= now) {
            self.resumes = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_anew_after_a_success() {
        let now = Instant::from_nanos(0);
        let mut fill = Fill::default();
        let pauses: Vec<u64> = (0..12)
            .map(|_| {
                let resumes = fill.failed(now, 1.0);
                assert_eq!(fill.failed(Instant::NEVER, 0.0), resumes);
                fill.tick(resumes);
                resumes.as_nanos()
            })
            .collect();
        assert_eq!(pauses[..3], [FIRST, 2 * FIRST, 4 * FIRST]);
        assert_eq!(pauses[11], LONGEST);
        fill.succeeded();
        assert!(!fill.is_paused());
        assert_eq!(fill.failed(now, 0.0).as_nanos(), FIRST / 2);
    }

    /// Objects that are created, and never work, are no success.
    #[test]
    fn pauses_grow_until_an_object_works() {
        let mut fill = Fill::default();
        let pause = |fill: &mut Fill| {
            fill.disproved();
            let resumes = fill.failed(Instant::from_nanos(0), 1.0);
            fill.tick(resumes);
            fill.succeeded();
            resumes.as_nanos()
        };
        assert_eq!([pause(&mut fill), pause(&mut fill)], [FIRST, 2 * FIRST]);
        fill.proved();
        assert_eq!(pause(&mut fill), FIRST);
    }

    #[test]
    fn a_pause_ends_at_its_time() {
        let mut fill = Fill::default();
        let resumes = fill.failed(Instant::from_nanos(7), 0.5);
        fill.tick(Instant::from_nanos(resumes.as_nanos() - 1));
        assert!(fill.is_paused());
        fill.tick(resumes);
        assert!(!fill.is_paused());
    }
}
