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
