//! The one clock, and the only place that sleeps.
//!
//! Production reads the processor's time-stamp counter through `quanta` (about half the
//! cost of `std::time::Instant::now`), scaled to the monotonic clock. Under test, and with
//! the feature `test-util`, it is tokio's clock instead, which can be paused and advanced.
//!
//! Timers are entries of wheels of our own, one for each thread and runtime, each on top of one
//! of tokio's timers: see [`Timer`].

mod alarm;
mod entry;
mod instant;
mod line;
#[cfg(test)]
mod tests;
mod timer;
mod wheel;

pub use instant::Instant;
pub(crate) use instant::nanos;
pub use timer::Timer;

/// Whether the clock is the fast one; else it can be paused. A test may claim it.
fn is_production() -> bool {
    #[cfg(test)]
    if tests::LAZY.get() {
        return true;
    }
    !cfg!(any(test, feature = "test-util"))
}

/// Where the scale stands at the first reading: far enough from zero that a reading before
/// it (another runtime's paused clock) is still on the scale.
const BASE: u64 = 1 << 60;

/// Reads the clock.
///
/// It never fails and needs no runtime. With the feature `test-util` it is tokio's clock.
// Two raw readings and their difference in nanoseconds: quanta's own instants and spans would
// divide into seconds and multiply back.
#[cfg(not(any(test, feature = "test-util")))]
#[must_use]
#[inline]
pub fn now() -> Instant {
    let (clock, zero) = FAST_CLOCK.get_or_init(fast_clock);
    Instant::from_nanos(BASE + clock.delta_as_nanos(*zero, clock.raw()))
}

#[cfg(not(any(test, feature = "test-util")))]
static FAST_CLOCK: std::sync::OnceLock<(quanta::Clock, u64)> = std::sync::OnceLock::new();

#[cfg(not(any(test, feature = "test-util")))]
#[cold]
fn fast_clock() -> (quanta::Clock, u64) {
    let clock = quanta::Clock::new();
    let zero = clock.raw();
    (clock, zero)
}

/// Reads the clock.
///
/// It never fails and needs no runtime. With the feature `test-util` it is tokio's clock.
#[cfg(any(test, feature = "test-util"))]
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads it"
)]
pub fn now() -> Instant {
    static ZERO: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let now = tokio::time::Instant::now().into_std();
    // Tokio's clock, not the real one: under a paused clock that is the first to be read, the
    // ticks of the wheel then lie the same way in each run, and timers come in the same order.
    let zero = *ZERO.get_or_init(|| now);
    // In a model the clock stands still: each run of it has to be the same.
    let now = if cfg!(mainstay_loom) { zero } else { now };
    #[cfg(test)]
    let now = now + tests::AHEAD.get();
    match now.checked_duration_since(zero) {
        Some(after) => Instant::from_nanos(BASE.saturating_add(nanos(after))),
        None => Instant::from_nanos(BASE.saturating_sub(nanos(zero - now))),
    }
}

/// Reads the clock once, so that no call has to wait until it is calibrated (10 to 20 ms,
/// once in a process). Every builder does it.
pub(crate) fn warm_up() {
    let _ = now();
}
