//! What a pool holds and has done, and why objects ended.

/// What a pool holds at one moment, and has done so far: exact, read under one lock.
///
/// At every moment `size` is the sum of `idle`, `in_use`, `creating`, `changing_hands` and
/// `closing`; and `created` is `size - creating` and everything [`closed`](Self::closed).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolSnapshot {
    /// The most objects that there may be.
    pub max_size: usize,
    /// How many there are, in whatever state. More than `max_size` only after that was
    /// lowered.
    pub size: usize,
    /// Objects at hand.
    pub idle: usize,
    /// Objects lent out.
    pub in_use: usize,
    /// Objects being created.
    pub creating: usize,
    /// Objects on the way to a caller or back: under check, in a hook, handed to a caller
    /// who has not looked yet.
    pub changing_hands: usize,
    /// Objects whose end is under way.
    pub closing: usize,
    /// Callers who wait.
    pub pending: usize,
    /// Objects created since the pool was built.
    pub created: u64,
    /// Creations that failed.
    pub create_failures: u64,
    /// Objects that have gone, by reason.
    pub closed: PoolClosed,
    /// Whether the pool is closed.
    pub is_closed: bool,
}

/// How many objects a pool has given up, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolClosed {
    /// Idle for too long.
    pub idle_time: u64,
    /// Too old.
    pub life_time: u64,
    /// The check failed, took too long, or the hook before the hand-over did.
    pub check_failed: u64,
    /// Marked as broken, not reusable, or failed in a hook after its creation or its return.
    pub broken: u64,
    /// Given up in the middle of a use, a check or a hook: by a cancellation or a panic.
    pub cancelled_use: u64,
    /// The pool was made smaller.
    pub resized: u64,
    /// The pool was closed.
    pub pool_closed: u64,
    /// Taken out of the pool, alive.
    pub detached: u64,
}

impl PoolClosed {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.idle_time
            + self.life_time
            + self.check_failed
            + self.broken
            + self.cancelled_use
            + self.resized
            + self.pool_closed
            + self.detached
    }

    pub(super) fn count(&mut self, reason: Reason) {
        *match reason {
            Reason::IdleTime => &mut self.idle_time,
            Reason::LifeTime => &mut self.life_time,
            Reason::CheckFailed => &mut self.check_failed,
            Reason::Broken => &mut self.broken,
            Reason::CancelledUse => &mut self.cancelled_use,
            Reason::Resized => &mut self.resized,
            Reason::PoolClosed => &mut self.pool_closed,
            Reason::Detached => &mut self.detached,
        } += 1;
    }
}

/// Why an object leaves the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    IdleTime,
    LifeTime,
    CheckFailed,
    Broken,
    CancelledUse,
    Resized,
    PoolClosed,
    Detached,
}
