//! The keys that are remembered: a pure state of bounded size.
//!
//! A key may be forgotten when it is idle: equal to a fresh one, and used by nobody. Each
//! key has one entry in an order by time, the earliest moment at which it can be idle as of
//! the last look. Using a key does not touch the order: it can only become idle later, and
//! that is found out when its entry comes up. So a key that is known costs one look-up, and
//! a new one a look at those whose time has come; of stale entries there is at most one for
//! each key that was used since.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::Duration;

use crate::time::Instant;

/// When a key that is in use is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// While the table is less than half full, a key is looked at so long after it may have become
/// idle: one that comes back every now and then is not made anew each time.
const KEPT: Duration = Duration::from_secs(10);

/// How many keys are looked at for each new one while there is room: more than one, so that
/// the table shrinks back after a crowd.
const LOOKS: usize = 2;

#[derive(Debug)]
pub(super) struct Table<K, V> {
    entries: HashMap<K, V>,
    order: BTreeMap<(Instant, u64), K>,
    serial: u64,
    max_keys: usize,
    latest: Instant,
}

/// What is to be dropped outside of the lock: keys are foreign code.
#[derive(Debug)]
pub(super) struct Forgotten<K, V> {
    keys: Vec<K>,
    values: Vec<V>,
}

impl<K, V> Default for Forgotten<K, V> {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            values: Vec::new(),
        }
    }
}

impl<K: Hash + Eq, V: Clone> Table<K, V> {
    pub(super) fn new(max_keys: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: BTreeMap::new(),
            serial: 0,
            max_keys,
            latest: Instant::from_nanos(0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.entries.get(key)
    }

    /// The value of a key, which is made if it is not known: `fresh` makes it. `idle` says
    /// from when on a value equals a fresh one; `None` while it is in use.
    ///
    /// # Errors
    ///
    /// There is no room; after that time the first key can be forgotten.
    pub(super) fn get_or_insert(
        &mut self,
        (key, copy): (K, K),
        now: Instant,
        idle: impl Fn(&V, Instant) -> Option<Instant>,
        fresh: impl FnOnce(Instant) -> V,
        forgotten: &mut Forgotten<K, V>,
    ) -> Result<V, Duration> {
        // A fresh value is never older than one that was forgotten, whatever the clock says.
        self.latest = self.latest.max(now);
        let now = self.latest;
        let known = match self.entries.get(&key) {
            Some(value) => Some(Ok(value.clone())),
            None => self.make_room(now, idle, forgotten).err().map(Err),
        };
        if let Some(known) = known {
            forgotten.keys.extend([key, copy]);
            return known;
        }
        let value = fresh(now);
        self.entries.insert(key, value.clone());
        self.note(now, copy);
        Ok(value)
    }

    /// Every value. All are looked at again when room is next needed.
    pub(super) fn all(&mut self) -> impl Iterator<Item = &V> {
        for ((_, serial), key) in std::mem::take(&mut self.order) {
            self.order.insert((Instant::from_nanos(0), serial), key);
        }
        self.entries.values()
    }

    fn note(&mut self, at: Instant, key: K) {
        self.serial += 1;
        self.order.insert((at, self.serial), key);
    }

    /// Looks at the keys whose time has come: at a few, or, when there is no room, until
    /// there is or the first time is known.
    fn make_room(
        &mut self,
        now: Instant,
        idle: impl Fn(&V, Instant) -> Option<Instant>,
        forgotten: &mut Forgotten<K, V>,
    ) -> Result<(), Duration> {
        let mut looks = 0;
        let kept = if self.entries.len() < self.max_keys / 2 {
            KEPT
        } else {
            Duration::ZERO
        };
        while let Some((&(noted, _), key)) = self.order.first_key_value() {
            let room = self.entries.len() < self.max_keys;
            if room && (looks == LOOKS || noted.saturating_add(kept) > now) {
                break;
            }
            let idle_at = self.entries.get(key).map_or(Some(now), |v| idle(v, now));
            let look_at = match idle_at {
                Some(at) => at,
                None if noted > now => noted,
                None => now.saturating_add(LOOK_AGAIN),
            };
            if look_at > now && look_at == noted {
                return Err(noted.since(now));
            }
            self.look(look_at, now, forgotten);
            looks += 1;
        }
        Ok(())
    }

    /// Forgets the first key, or notes when it is to be looked at again.
    fn look(&mut self, look_at: Instant, now: Instant, forgotten: &mut Forgotten<K, V>) {
        let Some((_, key)) = self.order.pop_first() else {
            return;
        };
        if look_at > now {
            self.note(look_at, key);
            return;
        }
        if let Some((stored, value)) = self.entries.remove_entry(&key) {
            forgotten.keys.push(stored);
            forgotten.values.push(value);
        }
        forgotten.keys.push(key);
        self.release_memory();
    }

    /// A crowd that has gone must not hold its memory for ever.
    fn release_memory(&mut self) {
        const KEPT: usize = 64;
        if self.entries.capacity() / 8 > self.entries.len() + KEPT {
            self.entries.shrink_to(self.entries.len() * 2 + KEPT);
        }
    }
}
