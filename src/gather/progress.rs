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

/// The counts behind the events.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally(GatherProgress);

impl Tally {
    pub(super) fn expect(&mut self, total: Option<usize>) {
        self.0.total = total.map(|total| total as u64);
    }

    pub(super) fn start(&mut self) {
        self.0.started += 1;
        self.0.running += 1;
        self.0.total = self.0.total.filter(|total| *total >= self.0.started);
    }

    pub(super) fn finish(&mut self, failed: bool) {
        self.0.finished += 1;
        self.0.failed += u64::from(failed);
        self.0.running -= 1;
    }
}

/// Who is told of the progress: nobody, or a closure. Never implemented by hand.
pub trait Listen {
    #[doc(hidden)]
    fn tell(&mut self, progress: &GatherProgress);
}

/// Nobody is told.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Listen for Silent {
    #[inline]
    fn tell(&mut self, _: &GatherProgress) {}
}

/// A closure is told.
pub struct Told<F>(pub(super) F);

impl<F: FnMut(&GatherProgress)> Listen for Told<F> {
    fn tell(&mut self, progress: &GatherProgress) {
        (self.0)(progress);
    }
}

impl<F> fmt::Debug for Told<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told")
    }
}

impl Tally {
    #[inline]
    pub(super) fn tell(&self, listener: &mut impl Listen) {
        listener.tell(&self.0);
    }
}
