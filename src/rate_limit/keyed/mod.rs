//! One limiter for each key, of as many as are remembered.

mod builder;
mod common;
#[cfg(all(test, mainstay_loom))]
mod loom;
mod shard;
mod table;
#[cfg(test)]
mod tests;

use std::borrow::Borrow;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub use builder::KeyedRateLimiterBuilder;

use super::bucket::Rate;
use super::builder::{Limits, check_burst};
use super::state::{Ask, State};
use super::{Acquire, RateLimiter};
use crate::config::ConfigError;
use crate::error::Refusal;
use crate::sync::{CacheLine, Lock, SharedLock, wake_all};
use crate::time::{self, Instant};
use common::{Answer, limited};
use shard::Shard;
use table::Forgotten;

/// Limits each key (a tenant, a user, a host) on its own, and remembers a bounded number of
/// keys.
///
/// A clone is the same limiter. Each key has a [`RateLimiter`] with the same settings and
/// its own queue. A key is forgotten when room is needed and its burst is full again: then
/// it equals a new one, and nobody can tell. No task runs in the background.
///
/// Beside those of the [`RateLimiter`] there is one setting:
///
/// | setting | default | why |
/// |---|---|---|
/// | `max_keys` | 65 536 | 6 MB with keys of 8 bytes, 50 MB if each has a limiter of its own; more keys than most services see in the time that a bucket takes to fill |
///
/// A key of 8 bytes costs 70 to 90 bytes. One that had to be waited for, or whose
/// [`limiter`](Self::limiter) was asked for, has a limiter of its own, and costs 660 bytes more
/// until it is forgotten. While there is room a key is kept for 10 s after its bucket has
/// filled up.
///
/// # Threads
///
/// From 16 384 keys on the table is kept in 16 parts, each with its own lock and its share of
/// the room, and a part may be full a little before the whole is. Takes of known keys read
/// under that lock and do not shut each other out. A key's permits are in one place, and exact.
/// The latest time that was told is kept for a whole part.
///
/// # Errors
///
/// As those of the [`RateLimiter`]. A new key is refused as well, by
/// [`Refusal::RateLimited`], while each of `max_keys` is in use (it has waiters, its handle
/// is held, or it was given settings of its own) or has not filled up again; the time it
/// tells is that until the first has, or until a key in use is looked at again, which
/// happens once a second. To forget a key that still owes would let its owner begin anew.
///
/// # Cancel safety, Fairness
///
/// As those of the [`RateLimiter`], for each key.
///
/// # Panics
///
/// Never of its own. The key's `Hash` and `Eq` run under a lock: they must not use the
/// limiter.
///
/// # Examples
///
/// ```
/// use mainstay::prelude::*;
/// use mainstay::rate_limit::KeyedRateLimiter;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tenants: KeyedRateLimiter<String> = RateLimiter::per_minute(2).keyed().build()?;
/// assert!(tenants.try_acquire("blue", 2).is_ok());
/// assert!(tenants.try_acquire("blue", 1).is_err());
/// assert!(tenants.try_acquire("red", 1).is_ok());
///
/// let red = tenants.limiter("red")?;
/// async { Ok::<_, std::io::Error>(()) }.rate_limit(&red).await?;
/// assert!(tenants.try_acquire("red", 1).is_err());
/// # Ok(())
/// # }
/// ```
pub struct KeyedRateLimiter<K> {
    shared: Arc<KeyedShared<K>>,
}

struct KeyedShared<K> {
    limits: Lock<Limits>,
    shards: Box<[Part<K>]>,
    hasher: RandomState,
    max_wait: Duration,
}

/// Each call writes to the lock of its part: it is kept apart from the others.
type Part<K> = CacheLine<SharedLock<Shard<K>>>;

impl<K: Hash + Eq> KeyedRateLimiter<K> {
    fn new(limits: Limits, max_keys: usize) -> Self {
        let shards = if max_keys < 16_384 { 1 } else { 16 };
        let (now, share) = (time::now(), max_keys / shards);
        let part = |_| CacheLine::new(SharedLock::new(Shard::new(limits, now, share)));
        Self {
            shared: Arc::new(KeyedShared {
                limits: Lock::new(limits),
                shards: (0..shards).map(part).collect(),
                hasher: RandomState::new(),
                max_wait: limits.max_wait,
            }),
        }
    }

    /// The limiter of one key, to put around calls. The key is remembered while this handle
    /// or a clone of it lives.
    ///
    /// A rate or burst that is set through the handle is that key's own; such a key is
    /// remembered until [`set_rate`](Self::set_rate) and [`set_burst`](Self::set_burst)
    /// have made it like the others again.
    ///
    /// # Errors
    ///
    /// [`Refusal::RateLimited`] when the key is new and there is no room for it.
    pub fn limiter<Q>(&self, key: &Q) -> Result<RateLimiter, Refusal>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let (part, hash) = self.part(key);
        let known = part.read().known_limiter((hash, key));
        known.map_or_else(|| self.bring(key, Shard::limiter).map_err(limited), Ok)
    }

    /// Takes `permits` of the key if they are there now and nobody waits for them.
    ///
    /// # Errors
    ///
    /// As those of [`RateLimiter::try_acquire`] and [`limiter`](Self::limiter).
    #[inline(always)]
    pub fn try_acquire<Q>(&self, key: &Q, permits: u32) -> Result<(), Refusal>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        // In line, so that a refusal, as large as it is, is not returned through memory and
        // moved there when there is none: 1.4 ns of 25.8.
        match self.look(key, permits) {
            Some(Answer::Taken) => Ok(()),
            other => self.settle(other, key, permits),
        }
    }

    /// Waits for `permits` of the key, at most as long as the limiter's own maximum wait.
    ///
    /// # Errors
    ///
    /// As those of [`RateLimiter::acquire`] and [`limiter`](Self::limiter).
    ///
    /// # Cancel safety
    ///
    /// Dropping it takes nothing and leaves the key's queue. Nothing happens before it is
    /// polled.
    pub fn acquire<'a, Q>(&'a self, key: &'a Q, permits: u32) -> KeyedAcquire<'a, K, Q>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        KeyedAcquire::new(self, key, permits, None)
    }

    /// Waits for `permits` of the key, at most `max_wait`; see [`acquire`](Self::acquire).
    pub fn acquire_within<'a, Q>(
        &'a self,
        key: &'a Q,
        permits: u32,
        max_wait: Duration,
    ) -> KeyedAcquire<'a, K, Q>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        KeyedAcquire::new(self, key, permits, Some(max_wait))
    }

    /// Changes the rate of every key, known or new; see [`RateLimiter::set_rate`]. It looks
    /// at each key that is remembered.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for 0 permits, and for a period that is not from 1 ns to 584 years;
    /// nothing has changed then.
    pub fn set_rate(&self, permits: u32, per: Duration) -> Result<(), ConfigError> {
        let (rate, now) = (Rate::new(permits, per)?, time::now());
        self.shared.limits.lock().rate = rate;
        self.change_all(|state, limits| state.set_rate(limits.rate, now));
        Ok(())
    }

    /// Changes the burst of every key, known or new; see [`RateLimiter::set_burst`]. It
    /// looks at each key that is remembered.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for 0; nothing has changed then.
    pub fn set_burst(&self, permits: u32) -> Result<(), ConfigError> {
        check_burst(permits)?;
        let now = time::now();
        self.shared.limits.lock().burst = permits;
        self.change_all(|state, limits| state.set_burst(limits.burst, now));
        Ok(())
    }

    /// How many keys are remembered now.
    #[must_use]
    pub fn keys(&self) -> usize {
        let parts = self.shared.shards.iter();
        parts.map(|part| part.read().len()).sum()
    }

    #[inline]
    fn part<Q: Hash + ?Sized>(&self, key: &Q) -> (&Part<K>, u64) {
        let hash = self.shared.hasher.hash_one(key);
        let shards = &self.shared.shards;
        // As many parts as a power of two: a division takes as long as the hash. By bits that
        // the table in the part looks at last.
        let part = (hash >> 32) as usize & (shards.len() - 1);
        (&shards[part], hash)
    }

    /// Takes permits of a known key, under a lock for readers.
    fn look<Q>(&self, key: &Q, permits: u32) -> Option<Answer>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (part, hash) = self.part(key);
        let now = time::now();
        part.read().try_take((hash, key), permits, now)
    }

    #[cold]
    fn settle<Q>(&self, answer: Option<Answer>, key: &Q, permits: u32) -> Result<(), Refusal>
    where
        Q: Hash + ToOwned<Owned = K> + ?Sized,
    {
        let answer = answer.unwrap_or_else(|| {
            let taking = |shard: &mut Shard<K>, key, now, forgotten: &mut _| {
                shard.try_take_of(key, permits, now, forgotten)
            };
            self.bring(key, taking)
        });
        match answer {
            Answer::Taken => Ok(()),
            Answer::Refused(refusal) => Err(refusal),
            Answer::Ask(own) => own.try_take(permits, time::now()),
        }
    }

    /// Asks the part of a key that may not be known yet.
    fn bring<Q, R>(
        &self,
        key: &Q,
        ask: impl FnOnce(&mut Shard<K>, (u64, K), Instant, &mut Forgotten<K>) -> R,
    ) -> R
    where
        Q: Hash + ToOwned<Owned = K> + ?Sized,
    {
        let (part, hash) = self.part(key);
        // A key's clone and drop are foreign code: both happen outside of the lock.
        let (key, mut forgotten) = (key.to_owned(), Forgotten::default());
        let now = time::now();
        // The lock is free again before what was forgotten is dropped.
        ask(&mut part.write(), (hash, key), now, &mut forgotten)
    }

    /// Brings every known key to the limits as they are when its table is locked: of two
    /// changes at once the later one holds for all.
    fn change_all(&self, change: impl Fn(&mut State<Waker>, &Limits)) {
        let (now, mut wake) = (time::now(), Vec::new());
        for part in &self.shared.shards {
            let mut shard = part.write();
            let limits = *self.shared.limits.lock();
            wake.extend(shard.set_limits(limits, now, &change));
        }
        wake_all(wake);
    }
}

impl<K> Clone for KeyedRateLimiter<K> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<K> fmt::Debug for KeyedRateLimiter<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedRateLimiter")
            .field("limits", &self.shared.limits)
            .finish_non_exhaustive()
    }
}

/// A wait for permits of a key; see [`KeyedRateLimiter::acquire`].
#[must_use = "a wait does nothing unless awaited"]
pub struct KeyedAcquire<'a, K, Q: ?Sized = K> {
    keyed: &'a KeyedRateLimiter<K>,
    key: &'a Q,
    permits: u32,
    /// Where it is not the limiter's own.
    max_wait: Option<Duration>,
    acquire: Option<Acquire>,
}

impl<'a, K, Q: ?Sized> KeyedAcquire<'a, K, Q> {
    fn new(
        keyed: &'a KeyedRateLimiter<K>,
        key: &'a Q,
        permits: u32,
        max_wait: Option<Duration>,
    ) -> Self {
        Self {
            keyed,
            key,
            permits,
            max_wait,
            acquire: None,
        }
    }
}

impl<K, Q> KeyedAcquire<'_, K, Q>
where
    K: Hash + Eq + Borrow<Q>,
    Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
{
    /// The wait for the permits, or what is known at once: most find their permits there, and
    /// only who waits needs a limiter of the key's own.
    fn begin(&self) -> Result<Acquire, Result<(), Refusal>> {
        let permits = self.permits;
        let max_wait = self.max_wait.unwrap_or(self.keyed.shared.max_wait);
        let now = time::now();
        let until = now.saturating_add(max_wait);
        match self.keyed.try_acquire(self.key, permits) {
            Err(refusal) if (Ask { permits, until }).fits(refusal, now) => {
                let limiter = self.keyed.limiter(self.key).map_err(Err)?;
                Ok(limiter.acquire_within(permits, max_wait))
            }
            answer => Err(answer),
        }
    }
}

impl<K, Q> Future for KeyedAcquire<'_, K, Q>
where
    K: Hash + Eq + Borrow<Q>,
    Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
{
    type Output = Result<(), Refusal>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let acquire = match &mut this.acquire {
            Some(acquire) => acquire,
            None => match this.begin() {
                Ok(acquire) => this.acquire.insert(acquire),
                Err(answer) => return Poll::Ready(answer),
            },
        };
        Pin::new(acquire).poll(cx)
    }
}

impl<K, Q: ?Sized> fmt::Debug for KeyedAcquire<'_, K, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedAcquire")
            .field("permits", &self.permits)
            .field("max_wait", &self.max_wait)
            .finish_non_exhaustive()
    }
}
