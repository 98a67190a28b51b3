//! One limiter for each key, of as many as are remembered.

mod builder;
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
use super::state::State;
use super::{Acquire, RateLimiter};
use crate::config::ConfigError;
use crate::error::Refusal;
use crate::sync::{CacheLine, Lock, SharedLock, wake_all};
use crate::time::{self, Instant};
use table::{Forgotten, Table};

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
/// | `max_keys` | 65 536 | some 45 MB at the very most, more keys than most services see in the time that a bucket takes to fill |
///
/// A key costs about 700 bytes and its own size twice. From 16 384 keys on the table is kept
/// in 16 parts, each with its own lock and its share of the room, and a part may be full a
/// little before the whole is. Calls of known keys read under that lock and do not shut each
/// other out. A key's permits are in one place, and exact.
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
    shards: Box<[Shard<K>]>,
    hasher: RandomState,
}

/// Each call writes to the lock of its part: it is kept apart from the others.
type Shard<K> = CacheLine<SharedLock<Table<K, RateLimiter>>>;

impl<K: Hash + Eq> KeyedRateLimiter<K> {
    fn new(limits: Limits, max_keys: usize) -> Self {
        let shards = if max_keys < 16_384 { 1 } else { 16 };
        let share = max_keys / shards;
        Self {
            shared: Arc::new(KeyedShared {
                limits: Lock::new(limits),
                shards: (0..shards)
                    .map(|_| CacheLine::new(SharedLock::new(Table::new(share))))
                    .collect(),
                hasher: RandomState::new(),
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
        let shard = self.shard(key);
        let known = shard.read().get(key).cloned();
        known.map_or_else(|| self.remember(shard, key), Ok)
    }

    /// Takes `permits` of the key if they are there now and nobody waits for them.
    ///
    /// # Errors
    ///
    /// As those of [`RateLimiter::try_acquire`] and [`limiter`](Self::limiter).
    pub fn try_acquire<Q>(&self, key: &Q, permits: u32) -> Result<(), Refusal>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let shard = self.shard(key);
        let now = time::now();
        let known = {
            let table = shard.read();
            // Through the door, without a handle: two writes less to what the key's callers
            // share. What is behind it wakes others, which may not be done under this lock.
            match table
                .get(key)
                .map(|known| (known, known.shared.door.try_take(permits, now)))
            {
                Some((_, Some(taken))) => return taken.map_err(limited),
                Some((known, None)) => Some(known.clone()),
                None => None,
            }
        };
        let limiter = known.map_or_else(|| self.remember(shard, key), Ok)?;
        limiter.shared.try_take(permits, now)
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
        let rate = Rate::new(permits, per)?;
        self.shared.limits.lock().rate = rate;
        let now = time::now();
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
        self.shared.limits.lock().burst = permits;
        let now = time::now();
        self.change_all(|state, limits| state.set_burst(limits.burst, now));
        Ok(())
    }

    /// How many keys are remembered now.
    #[must_use]
    pub fn keys(&self) -> usize {
        let shards = self.shared.shards.iter();
        shards.map(|shard| shard.read().len()).sum()
    }

    fn shard<Q: Hash + ?Sized>(&self, key: &Q) -> &Shard<K> {
        let shards = &self.shared.shards;
        if let [only] = &**shards {
            return only;
        }
        let hash = self.shared.hasher.hash_one(key);
        // There are 16; the remainder fits any machine's word.
        let part = usize::try_from(hash % shards.len() as u64).unwrap_or(0);
        &shards[part]
    }

    fn remember<Q>(&self, shard: &Shard<K>, key: &Q) -> Result<RateLimiter, Refusal>
    where
        Q: ToOwned<Owned = K> + ?Sized,
    {
        let now = time::now();
        // A key's clone and drop are foreign code: both happen outside of the lock.
        let keys = (key.to_owned(), key.to_owned());
        let mut forgotten = Forgotten::default();
        let limiter = {
            let mut table = shard.write();
            // Read under the table's lock: a change of the limits comes to each table after
            // it, and so to this key as well.
            let limits = *self.shared.limits.lock();
            let idle = |limiter: &RateLimiter, now| limiter.idle_at(&limits, now);
            let fresh = |now| limits.limiter(now);
            table.get_or_insert(keys, now, idle, fresh, &mut forgotten)
        };
        limiter.map_err(limited)
    }

    /// Brings every known key to the limits as they are when its table is locked: of two
    /// changes at once the later one holds for all.
    fn change_all(&self, change: impl Fn(&mut State<Waker>, &Limits)) {
        let mut wake = Vec::new();
        for shard in &self.shared.shards {
            let mut table = shard.write();
            let limits = *self.shared.limits.lock();
            for limiter in table.all() {
                let changed = limiter.shared.ask_quietly(|state| change(state, &limits));
                wake.extend(changed.1);
            }
        }
        wake_all(wake);
    }
}

fn limited(retry_after: Duration) -> Refusal {
    Refusal::RateLimited { retry_after }
}

impl RateLimiter {
    /// When it equals a fresh one with these limits; `None` while someone holds it or it
    /// has limits of its own.
    fn idle_at(&self, limits: &Limits, now: Instant) -> Option<Instant> {
        // The count can only fall meanwhile: the one handle left is the table's, and who
        // wants another one waits for the table's lock. What other holders did to the state
        // is seen through its own lock.
        if Arc::strong_count(&self.shared) > 1 {
            return None;
        }
        let idle_at = |state: &mut State<Waker>| {
            state.refill(now);
            let bucket = state.bucket();
            let usual = bucket.rate() == limits.rate && bucket.burst() == limits.burst;
            usual.then(|| bucket.full_at())
        };
        // Nobody waits where nobody holds it, so there is nobody to wake.
        self.shared.ask_quietly(idle_at).0
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

impl<K, Q> Future for KeyedAcquire<'_, K, Q>
where
    K: Hash + Eq + Borrow<Q>,
    Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
{
    type Output = Result<(), Refusal>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let acquire = if let Some(acquire) = &mut this.acquire {
            acquire
        } else {
            let limiter = this.keyed.limiter(this.key)?;
            let max_wait = this.max_wait.unwrap_or(limiter.max_wait);
            let acquire = limiter.acquire_within(this.permits, max_wait);
            this.acquire.insert(acquire)
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
