//! The ledger of a retry budget, kept by two gates that admit everyone: one around the retry,
//! one in it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use mainstay::policy::{Admission, CallContext, End, Gate, Judge};

use crate::world::{World, locked};

pub(crate) const RESERVE: u32 = 20;

/// The law of a retry budget, over every window that begins when nobody calls: retries are at
/// most the ratio of the calls and the reserve. (A wait that is cut short gives its retry back,
/// so windows that begin in the middle of waits are no matter.)
pub(crate) struct BudgetLedger {
    world: Arc<World>,
    calls: AtomicU64,
    /// The worst window that ends now, in fifths of a retry.
    worst: Mutex<i64>,
}

/// In fifths of a retry.
const RETRY: i64 = 5;

impl BudgetLedger {
    pub(crate) fn new(world: &Arc<World>) -> Arc<Self> {
        Arc::new(Self {
            world: Arc::clone(world),
            calls: AtomicU64::new(0),
            worst: Mutex::new(0),
        })
    }

    /// Its first attempt follows at once, and is no retry.
    fn call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        *locked(&self.worst) -= 1 + RETRY;
    }

    fn attempt(&self) {
        let mut worst = locked(&self.worst);
        *worst += RETRY;
        let now = *worst;
        drop(worst);
        let most = i64::from(RESERVE) * RETRY + 1;
        let world = &self.world;
        world.law(now <= most, "budget: window", || format!("{now} of {most}"));
    }

    pub(crate) fn at_rest(&self) {
        let mut worst = locked(&self.worst);
        *worst = (*worst).max(0);
    }

    /// At the upstream itself: attempts of this budget's calls, and first ones among them.
    pub(crate) fn amplified(&self, attempts: u64) {
        let calls = self.calls.load(Ordering::Relaxed);
        let most = calls + calls / 5 + u64::from(RESERVE) + 1;
        self.world
            .law(attempts <= most, "budget: amplification", || {
                format!("{attempts} attempts of {calls} calls")
            });
    }
}

/// Stands in the retry, and sees each attempt.
pub(crate) struct Attempts(pub(crate) Arc<BudgetLedger>);

impl Gate for Attempts {
    type Wait = ();
    type Ticket = ();

    fn admit(&self, _: &CallContext<'_>) -> Admission<()> {
        self.0.attempt();
        Admission::Admitted(())
    }

    fn settle(&self, (): (), _: End) {}
}

impl<T, E> Judge<T, E> for Attempts {}

/// It stands around the retry, and sees each call.
impl Gate for BudgetLedger {
    type Wait = ();
    type Ticket = ();

    fn admit(&self, _: &CallContext<'_>) -> Admission<()> {
        self.call();
        Admission::Admitted(())
    }

    fn settle(&self, (): (), _: End) {}
}

impl<T, E> Judge<T, E> for BudgetLedger {}
