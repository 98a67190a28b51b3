//! How far a gather has come, as events.

use std::fmt;

/// How far a gather has come. Told at each start and at each end of an item.
///
/// `started - finished` is `running`; `finished - failed` have succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GatherProgress {
    /// Items that were taken up: started, or refused at once because of their weight.
    pub started: u64,
    /// Items that have an outcome.
    pub finished: u64,
    /// Of these, the ones whose outcome is an error.
    pub failed: u64,
    /// Items in flight.
    pub running: u64,
    /// How many items there are, if the source's `size_hint` said so exactly, and has not
    /// turned out to be wrong since.
    pub total: Option<u64>,
}

impl fmt::Display for GatherProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.finished)?;
        if let Some(total) = self.total {
            write!(f, " of {total}")?;
        }
        write!(
            f,
            " done ({} failed, {} running)",
            self.failed, self.running
        )
    }
}

/// Who counts, and is told of the progress: nobody, or a closure. Never implemented by hand.
pub trait Listen {
    #[doc(hidden)]
    fn expect(&mut self, total: Option<usize>);
    #[doc(hidden)]
    fn start(&mut self);
    #[doc(hidden)]
    fn finish(&mut self, failed: bool);
    /// Calls the closure with the counts as they are.
    #[doc(hidden)]
    fn tell(&mut self);
}

/// Nobody is told, and nothing is counted.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Listen for Silent {
    #[inline]
    fn expect(&mut self, _: Option<usize>) {}
    #[inline]
    fn start(&mut self) {}
    #[inline]
    fn finish(&mut self, _: bool) {}
    #[inline]
    fn tell(&mut self) {}
}

/// A closure is told.
pub struct Told<F> {
    told: F,
    counts: GatherProgress,
}

impl<F> Told<F> {
    pub(super) fn new(told: F) -> Self {
        Self {
            told,
            counts: GatherProgress::default(),
        }
    }
}

impl<F: FnMut(&GatherProgress)> Listen for Told<F> {
    fn expect(&mut self, total: Option<usize>) {
        self.counts.total = total.map(|total| total as u64);
    }

    fn start(&mut self) {
        let counts = &mut self.counts;
        counts.started += 1;
        counts.running += 1;
        counts.total = counts.total.filter(|total| *total >= counts.started);
    }

    fn finish(&mut self, failed: bool) {
        self.counts.finished += 1;
        self.counts.failed += u64::from(failed);
        self.counts.running -= 1;
    }

    fn tell(&mut self) {
        (self.told)(&self.counts);
    }
}

impl<F> fmt::Debug for Told<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_and_each_end_is_counted() {
        let mut seen = Vec::new();
        let mut told = Told::new(|progress: &GatherProgress| seen.push(*progress));
        told.expect(Some(2));
        told.start();
        told.start();
        told.tell();
        told.finish(true);
        told.finish(false);
        told.start();
        told.tell();
        let begun = GatherProgress {
            started: 2,
            running: 2,
            total: Some(2),
            ..GatherProgress::default()
        };
        let gone_on = GatherProgress {
            started: 3,
            finished: 2,
            failed: 1,
            running: 1,
            total: None,
        };
        assert_eq!(
            seen,
            [begun, gone_on],
            "more than there should be: nobody knows how many"
        );
    }

    #[test]
    fn as_text_it_says_how_far_it_is() {
        let told = Told::new(|_: &GatherProgress| {});
        assert_eq!(format!("{told:?}"), "Told");
        let mut progress = GatherProgress {
            started: 5,
            finished: 3,
            failed: 1,
            running: 2,
            total: None,
        };
        assert_eq!(progress.to_string(), "3 done (1 failed, 2 running)");
        progress.total = Some(9);
        assert_eq!(progress.to_string(), "3 of 9 done (1 failed, 2 running)");
    }
}
