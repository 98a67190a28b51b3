//! Slots that are held: a lease that renews itself, and says when it is lost.

use std::fmt;
use std::future::Future;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::watch;

use super::super::driver::Driver;
use super::Asker;
use super::leases::Life;
use crate::bulkhead::Bulkhead;
use crate::policy::Permit;
use crate::time::{self, Instant, Timer};

/// Slots of a [`SharedBulkhead`](super::SharedBulkhead). Dropped, they are given back.
///
/// The lease behind it is renewed in the background at a third of its length, for as long as
/// the runtime lives in which it was taken (or another in which the bulkhead is used).
///
/// # Losing it
///
/// A lease that could not be renewed in time is lost: others may have the slots by then, even
/// though this permit still exists. So is one that Redis has forgotten while others took the
/// slots. Work that must not overlap watches [`lost`](Self::lost), and sends
/// [`fencing_token`](Self::fencing_token) with each write to what it protects, which refuses
/// any token lower than the highest it has seen: a holder that was stopped for a while cannot
/// know in time, and only the token helps.
///
/// # Cancel safety
///
/// To drop it takes no time: the background task tells Redis, and tries again until that has
/// worked or the lease has run out. Where there is no runtime any more, the lease runs out.
#[must_use = "slots that are dropped at once guard nothing"]
pub struct SharedPermit(Kind);

enum Kind {
    Leased {
        driver: Arc<Driver<Asker>>,
        serial: u64,
        fence: u64,
        life: watch::Receiver<Life>,
    },
    /// Of the local share.
    Local(#[expect(dead_code, reason = "it is held, and gives itself back")] Permit<Bulkhead>),
    /// Let through without slots: it weighs nothing, or Redis is away and all are let through.
    Free,
}

impl SharedPermit {
    pub(super) fn leased(
        driver: Arc<Driver<Asker>>,
        serial: u64,
        fence: u64,
        life: watch::Receiver<Life>,
    ) -> Self {
        Self(Kind::Leased {
            driver,
            serial,
            fence,
            life,
        })
    }

    pub(super) const fn local(permit: Permit<Bulkhead>) -> Self {
        Self(Kind::Local(permit))
    }

    pub(super) const fn free() -> Self {
        Self(Kind::Free)
    }

    /// A number higher than that of any permit of this bulkhead before it, also over a restart
    /// of Redis without its data, as long as the server's clock does not go back there. `None`
    /// for a permit that Redis has not given (it was away, or the call weighs nothing): that
    /// one is no proof of anything.
    #[must_use]
    pub fn fencing_token(&self) -> Option<u64> {
        match &self.0 {
            Kind::Leased { fence, .. } => Some(*fence),
            Kind::Local(_) | Kind::Free => None,
        }
    }

    /// Whether the slots are known to be no longer this permit's. Once lost, it stays so. A
    /// permit without a lease is never lost.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match &self.0 {
            Kind::Leased { life, .. } => ends(&life.borrow()) <= time::now(),
            Kind::Local(_) | Kind::Free => false,
        }
    }

    /// Waits until the slots are lost; for ever, for a permit without a lease.
    ///
    /// # Cancel safety
    ///
    /// It only looks: it may be dropped, and called again.
    ///
    /// # Panics
    ///
    /// From tokio, outside of a runtime whose timer is enabled.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn work(token: Option<u64>) {}
    /// # async fn run(bulkhead: mainstay::redis::SharedBulkhead) -> Result<(), mainstay::Refusal> {
    /// let permit = bulkhead.acquire(1).await?;
    /// tokio::select! {
    ///     () = work(permit.fencing_token()) => {}
    ///     () = permit.lost() => eprintln!("somebody else may be at it by now"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn lost(&self) {
        let Kind::Leased { life, .. } = &self.0 else {
            return std::future::pending().await;
        };
        let mut life = life.clone();
        loop {
            let until = ends(&life.borrow_and_update());
            if until <= time::now() {
                return;
            }
            changed_or(until, &mut life).await;
        }
    }
}

/// A lease that is lost has ended at the beginning of time.
fn ends(life: &Life) -> Instant {
    match life {
        Life::Until(ends) => *ends,
        Life::Lost => Instant::from_nanos(0),
    }
}

/// Waits until the lease has another end, or has come to this one.
async fn changed_or(until: Instant, life: &mut watch::Receiver<Life>) {
    let mut changed = pin!(life.changed());
    let mut timer = Timer::new();
    let mut closed = false;
    poll_fn(|cx| {
        if !closed {
            match changed.as_mut().poll(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(()),
                // Nobody renews it any more: it has the time that is left.
                Poll::Ready(Err(_)) => closed = true,
                Poll::Pending => {}
            }
        }
        timer.poll_until(until, cx)
    })
    .await;
}

impl Drop for SharedPermit {
    fn drop(&mut self) {
        if let Kind::Leased { driver, serial, .. } = &self.0 {
            let now = time::now();
            if driver.with(|state| state.leases.give_back(*serial, now)) {
                driver.rouse();
            }
        }
    }
}

impl fmt::Debug for SharedPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedPermit")
            .field("fencing_token", &self.fencing_token())
            .field("lost", &self.is_lost())
            .finish_non_exhaustive()
    }
}
