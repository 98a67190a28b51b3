//! Those who wait, by their tickets, and which of them are to start a creation.

use std::collections::BTreeMap;

/// One who waits.
#[derive(Debug)]
pub(super) struct Waiter<W, F> {
    /// `None` while it has been woken and has not looked yet.
    pub(super) waker: Option<W>,
    /// A creation is its to start, when it looks.
    called: bool,
    /// Of a creation: for it, if nothing else can come.
    pub(super) failure: Option<F>,
}

/// First come, first served.
#[derive(Debug)]
pub(super) struct Line<W, F> {
    waiting: BTreeMap<u64, Waiter<W, F>>,
    /// How many of them are called.
    called: usize,
    /// How many of those have not been woken: their time comes later.
    delayed: usize,
    /// All with a lower ticket are called, so that nobody looks through them again. The same for
    /// those for whom a failure is kept: a search through the line costs no more than a place in
    /// it, in all, however long it is.
    all_called_below: u64,
    all_failed_below: u64,
    /// For how many of them a failure is kept.
    failed: usize,
}

impl<W, F> Line<W, F> {
    pub(super) const fn new() -> Self {
        Self {
            waiting: BTreeMap::new(),
            called: 0,
            delayed: 0,
            all_called_below: 0,
            all_failed_below: 0,
            failed: 0,
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn called(&self) -> usize {
        self.called
    }

    pub(super) fn insert(&mut self, ticket: u64, waker: Option<W>) {
        let waiter = Waiter {
            waker,
            called: false,
            failure: None,
        };
        self.waiting.insert(ticket, waiter);
        self.all_called_below = self.all_called_below.min(ticket);
        self.all_failed_below = self.all_failed_below.min(ticket);
    }

    /// Swaps the waker of one who looks, who is called no more; whether it is in the line.
    pub(super) fn look(&mut self, ticket: u64, waker: &mut Option<W>) -> bool {
        let Some(waiter) = self.waiting.get_mut(&ticket) else {
            return false;
        };
        if std::mem::take(&mut waiter.called) {
            self.called -= 1;
            self.delayed -= usize::from(waiter.waker.is_some());
            self.all_called_below = self.all_called_below.min(ticket);
        }
        std::mem::swap(&mut waiter.waker, waker);
        true
    }

    pub(super) fn remove(&mut self, ticket: u64) -> Option<Waiter<W, F>> {
        let waiter = self.waiting.remove(&ticket)?;
        self.gone(&waiter);
        Some(waiter)
    }

    pub(super) fn pop_first(&mut self) -> Option<(u64, Waiter<W, F>)> {
        let (ticket, waiter) = self.waiting.pop_first()?;
        self.gone(&waiter);
        Some((ticket, waiter))
    }

    fn gone(&mut self, waiter: &Waiter<W, F>) {
        self.failed -= usize::from(waiter.failure.is_some());
        if waiter.called {
            self.called -= 1;
            self.delayed -= usize::from(waiter.waker.is_some());
        }
    }

    /// Calls the first until so many are called.
    pub(super) fn call(&mut self, number: usize, wake: &mut Vec<W>) {
        let missing = number.saturating_sub(self.called);
        if missing == 0 {
            return;
        }
        let rest = self.waiting.range_mut(self.all_called_below..);
        let uncalled = rest.filter(|(_, waiter)| !waiter.called);
        for (&ticket, waiter) in uncalled.take(missing) {
            waiter.called = true;
            self.called += 1;
            self.all_called_below = ticket + 1;
            wake.extend(waiter.waker.take());
        }
    }

    /// Calls the one with this ticket, who has just looked, for later.
    pub(super) fn delay(&mut self, ticket: u64) {
        if let Some(waiter) = self.waiting.get_mut(&ticket) {
            waiter.called = true;
            self.called += 1;
            self.delayed += usize::from(waiter.waker.is_some());
        }
    }

    /// Those called for later are called now.
    #[inline]
    pub(super) fn hurry(&mut self, wake: &mut Vec<W>) {
        if self.delayed > 0 {
            let called = self.waiting.values_mut().filter(|waiter| waiter.called);
            let delayed = called.filter_map(|waiter| waiter.waker.take());
            wake.extend(delayed.take(self.delayed));
            self.delayed = 0;
        }
    }

    /// Keeps a failure for the first who has none; the one that is in excess.
    pub(super) fn keep_failure(&mut self, failure: F) -> Option<F> {
        let mut rest = self.waiting.range_mut(self.all_failed_below..);
        if let Some((&ticket, waiter)) = rest.find(|(_, waiter)| waiter.failure.is_none()) {
            self.all_failed_below = ticket + 1;
            self.failed += 1;
            return waiter.failure.replace(failure);
        }
        match self.waiting.values_mut().next() {
            Some(first) => first.failure.replace(failure),
            None => Some(failure),
        }
    }

    /// Everyone for whom a failure is kept leaves the line.
    pub(super) fn take_failed(&mut self) -> Vec<(u64, Waiter<W, F>)> {
        let failed = self.waiting.iter().filter(|(_, w)| w.failure.is_some());
        let failed = failed.take(self.failed);
        let failed: Vec<u64> = failed.map(|(ticket, _)| *ticket).collect();
        let remove = |ticket| self.remove(ticket).map(|waiter| (ticket, waiter));
        failed.into_iter().filter_map(remove).collect()
    }

    /// Whether the counts and the marks say what is so.
    #[cfg(test)]
    pub(super) fn is_sound(&self) -> bool {
        let all = || self.waiting.iter();
        let called = all().filter(|(_, waiter)| waiter.called);
        let delayed = called.clone().filter(|(_, waiter)| waiter.waker.is_some());
        let failed = all().filter(|(_, waiter)| waiter.failure.is_some());
        let counts = (called.count(), delayed.count(), failed.count());
        counts == (self.called, self.delayed, self.failed)
            && all().all(|(&ticket, waiter)| {
                (waiter.called || ticket >= self.all_called_below)
                    && (waiter.failure.is_some() || ticket >= self.all_failed_below)
            })
    }
}
