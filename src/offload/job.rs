//! What becomes of one piece of work, between its caller and its thread.
//!
//! Invariants:
//! - Work runs at most once, and not at all when its caller went away before it began.
//! - The slot is with the thread's side, also while the runtime has that in its own queue: it
//!   comes back when the work has ended, before the caller sees the result, or when the
//!   runtime lets go of work that was given up. So the runtime never holds more than slots.
//! - `abandoned` counts what runs without a caller, so it is never more than `running`.
//!
//! The lock of `Threads` is only ever taken within that of a stage, or alone.

#[cfg(all(test, mainstay_loom))]
mod loom;

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::blocking;
use crate::bulkhead::Bulkhead;
use crate::error::{Error, Progress};
use crate::panics::{self, caught, swallow};
use crate::policy::Permit;
use crate::sync::Lock;

/// How many threads are at work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Threads {
    pub(super) running: u32,
    pub(super) abandoned: u32,
}

/// Where a piece of work `U` stands that is to yield an `R`.
#[derive(Debug)]
enum Stage<U, R> {
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
enum Left<U, R> {
    /// It will never run.
    Unrun(U),
    /// It goes on, or is about to hand in a result that nobody wants.
    Begun,
    Ended(R),
    Nothing,
}

impl<U, R> Stage<U, R> {
    /// A thread comes for the work.
    fn begin(&mut self, threads: &mut Threads) -> Option<U> {
        let unit = self.take_queued()?;
        *self = Self::Running;
        threads.running += 1;
        Some(unit)
    }

    /// Takes the work that no thread has come for.
    fn take_queued(&mut self) -> Option<U> {
        match mem::replace(self, Self::Over) {
            Self::Queued(unit) => Some(unit),
            other => {
                *self = other;
                None
            }
        }
    }

    /// The work has been done; whether someone still wants the result.
    fn end(&mut self, threads: &mut Threads) -> bool {
        threads.running -= 1;
        let wanted = matches!(self, Self::Running);
        if !wanted {
            threads.abandoned -= 1;
        }
        *self = if wanted { Self::Ending } else { Self::Over };
        wanted
    }

    /// Hands the result in; it comes back when the caller has gone meanwhile.
    fn hand_in(&mut self, result: R) -> Option<R> {
        if let Self::Over = self {
            return Some(result);
        }
        *self = Self::Ended(result);
        None
    }

    fn take_result(&mut self) -> Option<R> {
        match mem::replace(self, Self::Over) {
            Self::Ended(result) => Some(result),
            other => {
                *self = other;
                None
            }
        }
    }

    /// The caller goes away.
    fn leave(&mut self, threads: &mut Threads) -> Left<U, R> {
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

type Outcome<T, E> = Result<T, Error<E>>;

/// What a thread is to do.
pub(super) type Unit<T, E> = Box<dyn FnOnce() -> Result<T, E> + Send>;

struct Desk<T, E> {
    stage: Stage<Unit<T, E>, Outcome<T, E>>,
    caller: Option<Waker>,
}

/// What the caller and the thread share.
struct Shared<T, E> {
    desk: Lock<Desk<T, E>>,
    threads: Arc<Lock<Threads>>,
}

/// The caller's side. Dropped, it has gone.
pub(super) struct Job<T, E>(Arc<Shared<T, E>>);

/// The thread's side. Dropped, the work will not be run.
pub(super) struct OnThread<T, E> {
    shared: Arc<Shared<T, E>>,
    /// `None` once it is on its way back.
    slot: Option<Permit<Bulkhead>>,
}

pub(super) fn job<T, E>(
    unit: Unit<T, E>,
    slot: Permit<Bulkhead>,
    threads: &Arc<Lock<Threads>>,
) -> (Job<T, E>, OnThread<T, E>) {
    let shared = Arc::new(Shared {
        desk: Lock::new(Desk {
            stage: Stage::Queued(unit),
            caller: None,
        }),
        threads: Arc::clone(threads),
    });
    let job = Job(Arc::clone(&shared));
    let slot = Some(slot);
    (job, OnThread { shared, slot })
}

impl<T, E> OnThread<T, E> {
    /// Does the work, unless its caller has gone.
    pub(super) fn run(mut self) {
        let begun = {
            let mut desk = self.shared.desk.lock();
            desk.stage.begin(&mut self.shared.threads.lock())
        };
        let Some(work) = begun else {
            return;
        };
        let result = match caught(|| blocking::lend(work)) {
            Ok(result) => result.map_err(Error::operation),
            Err(payload) => Err(Error::panicked(panics::message(payload))),
        };
        self.end(result);
    }

    fn end(&mut self, result: Outcome<T, E>) {
        let mut result = Some(result);
        let abandoned = matches!(self.shared.desk.lock().stage, Stage::Abandoned);
        if abandoned {
            // Its destructor runs on the thread that is counted.
            swallow(|| drop(result.take()));
        }
        let wanted = {
            let mut desk = self.shared.desk.lock();
            desk.stage.end(&mut self.shared.threads.lock())
        };
        self.give_back();
        if let Some(result) = result.filter(|_| wanted) {
            self.shared.hand_in(result);
        }
    }

    /// Wakes the next caller. If that one's waker panics, this one is told all the same.
    fn give_back(&mut self) {
        let slot = self.slot.take();
        swallow(|| drop(slot));
    }
}

impl<T, E> Shared<T, E> {
    fn hand_in(&self, result: Outcome<T, E>) {
        let (unwanted, caller) = {
            let mut desk = self.desk.lock();
            (desk.stage.hand_in(result), desk.caller.take())
        };
        swallow(|| drop(unwanted));
        if let Some(caller) = caller {
            swallow(|| caller.wake());
        }
    }
}

impl<T, E> Drop for OnThread<T, E> {
    /// The work has ended; or it was given up, or the runtime has shut down, before a thread
    /// came.
    fn drop(&mut self) {
        let unrun = {
            let mut desk = self.shared.desk.lock();
            let unrun = desk.stage.take_queued();
            if unrun.is_some() {
                desk.stage = Stage::Ending;
            }
            unrun
        };
        let cancelled = unrun.is_some();
        // What the slot guards ends before the slot does.
        swallow(|| drop(unrun));
        self.give_back();
        if cancelled {
            self.shared.hand_in(Err(Error::cancelled()));
        }
    }
}

impl<T, E> Job<T, E> {
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Outcome<T, E>> {
        // A waker's clone and drop are foreign code: both happen outside of the lock.
        let mut waker = Some(cx.waker().clone());
        let mut desk = self.0.desk.lock();
        if let Some(result) = desk.stage.take_result() {
            return Poll::Ready(result);
        }
        mem::swap(&mut desk.caller, &mut waker);
        Poll::Pending
    }

    /// Gives the work up if it has not begun; whether that is so.
    pub(super) fn give_up(&self) -> bool {
        let unrun = self.0.desk.lock().stage.take_queued();
        unrun.is_some()
    }

    /// Gives the work up; how far it came.
    pub(super) fn leave(&self) -> Progress<E> {
        let (left, caller) = {
            let mut desk = self.0.desk.lock();
            let left = desk.stage.leave(&mut self.0.threads.lock());
            (left, desk.caller.take())
        };
        drop(caller);
        match left {
            Left::Unrun(_) | Left::Nothing => Progress::none(),
            Left::Begun | Left::Ended(Ok(_)) => Progress::started(1),
            Left::Ended(Err(error)) => Progress::new(error.attempts(), error.into_last()),
        }
    }
}

impl<T, E> Drop for Job<T, E> {
    fn drop(&mut self) {
        self.leave();
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
