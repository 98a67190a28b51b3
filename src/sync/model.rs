//! Models: what threads share is run by loom in every order in which they can meet, with every
//! value that the memory orderings let them see.
//!
//! A model is an ordinary test, beside the type it is of, in a file that only this build knows:
//!
//! ```text
//! #[cfg(all(test, mainstay_loom))]
//! mod loom;                               // src/bulkhead/slots/loom.rs
//! ```
//!
//! Its name begins with what all models are found by, the name of the file: `loom::`, as in
//! `bulkhead::slots::loom::no_slot_is_lost`. It hands a closure to [`exhaustive`] or [`bounded`],
//! which is run once for each order:
//!
//! ```text
//! use crate::sync::model::{exhaustive, spawn};
//!
//! #[test]
//! fn no_slot_is_lost() {
//!     exhaustive(|| {
//!         let slots = Arc::new(Slots::new(1));          // Arc is std's
//!         let other = spawn(&slots, |slots| slots.try_take(1) == Place::Admitted);
//!         let mine = slots.try_take(1) == Place::Admitted;
//!         assert!(mine != other.join().unwrap());
//!     });
//! }
//! ```
//!
//! - All that the threads share is made inside the closure. What the model is to see has to come
//!   from `crate::sync`; statics are made anew for each run by `global!`.
//! - The closure must do the same each time: no clock ([`now`](crate::time::now) stands still
//!   here, and goes on by `crate::time::tests::AHEAD`), no random numbers, no `HashMap` that is
//!   walked through, no waiting for a thread outside of the model.
//! - It runs on one thread of the system: a lock that is not `crate::sync`'s must not be held
//!   where a model may switch threads, that is at every atomic and lock of `crate::sync`.
//! - At most four threads with the first one.
//!
//! Two threads run exhaustively, three with a bound of three switches (or more) that no thread asked
//! for. Six models of two threads have a bound as well, as their orders are too many: four of the
//! rate limiter whose settings change (its door is ten words), one of the background gather, one of
//! the queue. `MAINSTAY_LOOM=deep` gives each bounded model a bound three higher, and those of
//! [`exhaustive_or`] all of their orders.
//!
//! What loom does not show: an exchange always reads the latest value of all, so the orderings
//! of what is only ever exchanged are not put to the test; of a store beside exchanges it may
//! take an order that no machine has. Locks are never poisoned, and `SeqCst` is `AcqRel`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Wake;

use loom::model::Builder;
use loom::thread::JoinHandle;

use crate::proof;

mod waiting;
pub(crate) use waiting::{block_on, give_up};

/// Runs a closure in every order.
pub(crate) fn exhaustive(run: impl Fn() + Send + Sync + 'static) {
    check(None, run);
}

/// Runs a closure in every order with at most so many switches that no thread asked for; three
/// more in the deep run.
pub(crate) fn bounded(switches: usize, run: impl Fn() + Send + Sync + 'static) {
    check(Some(switches + if deep() { 3 } else { 0 }), run);
}

/// Runs a closure in every order in the deep run, and else with at most so many switches: for a
/// model of two threads whose orders are too many for each day.
pub(crate) fn exhaustive_or(switches: usize, run: impl Fn() + Send + Sync + 'static) {
    check((!deep()).then_some(switches), run);
}

/// Whether this is the run at full strength.
pub(crate) fn deep() -> bool {
    match std::env::var("MAINSTAY_LOOM").as_deref() {
        Ok("deep") => true,
        Ok("short") | Err(_) => false,
        Ok(other) => panic!("MAINSTAY_LOOM is short or deep, not {other}"),
    }
}

/// A thread of the model, which shares this with the first one.
pub(crate) fn spawn<S, T>(shared: &Arc<S>, run: impl FnOnce(&S) -> T + 'static) -> JoinHandle<T>
where
    S: 'static,
    T: 'static,
{
    let shared = Arc::clone(shared);
    loom::thread::spawn(move || run(&shared))
}

/// Counts how often it was woken. It is no part of the model: to be looked at when the threads
/// have ended.
#[derive(Default)]
pub(crate) struct Woken(AtomicU64);

impl Woken {
    pub(crate) fn times(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn check(bound: Option<usize>, run: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = bound;
    builder.max_branches = 10_000;
    // Loom takes these from the environment, and stops there without a word.
    builder.max_duration = None;
    builder.max_permutations = None;
    // Not loom's: std's, so that it is no part of the model.
    let runs = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&runs);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        run();
    });
    let runs = runs.load(Ordering::Relaxed);
    // A model of which there is one run has nothing to race.
    assert!(runs > 1, "the threads of this model never meet");
    proof::count("loom.interleavings", runs);
    proof::count("loom.models", 1);
}
