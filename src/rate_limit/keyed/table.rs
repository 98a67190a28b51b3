//! The keys that are remembered: a pure state of bounded size.
//!
//! A key may be forgotten when it is idle: equal to a fresh one, and used by nobody. Each
//! hash has one entry in an order by time, the earliest moment at which its key can be idle as
//! of the last look. Using a key does not touch the order: it can only become idle later, and
//! that is found out when its entry comes up. So a key that is known costs one look-up, and
//! a new one a look at those whose time has come; of stale entries there is at most one for
//! each key that was used since.
//!
//! The caller hashes, once and outside of the lock. Two keys with the same 64 bits all but
//! never meet: they share a place in the order, and are forgotten together.

use std::borrow::Borrow;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use crate::time::Instant;

/// When a key that is in use is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// While there is room, a key is looked at so long after it may have become idle: one that
/// comes back every now and then is not made anew each time.
const KEPT: Duration = Duration::from_secs(10);

/// How many keys are looked at for each new one while there is room: more than one, so that
/// the table shrinks back after a crowd.
const LOOKS: usize = 2;

#[derive(Debug)]
pub(super) struct Table<K, V> {
    entries: HashMap<u64, Known<K, V>, BuildHasherDefault<Hashed>>,
    /// Those whose hash another key has in `entries`.
    twins: Vec<(u64, Known<K, V>)>,
    order: BTreeSet<(Instant, u64)>,
    max_keys: usize,
}

#[derive(Debug)]
struct Known<K, V> {
    key: K,
    value: V,
}

/// Hands on what is a hash already.
#[derive(Debug, Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Keys that are to be dropped outside of the lock: they are foreign code.
pub(super) type Forgotten<K> = Vec<K>;

impl<K: Eq, V> Table<K, V> {
    pub(super) fn new(max_keys: usize) -> Self {
        Self {
            entries: HashMap::default(),
            twins: Vec::new(),
            order: BTreeSet::new(),
            max_keys,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() + self.twins.len()
    }

    #[inline(always)]
    pub(super) fn get<Q>(&self, hash: u64, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        match self.entries.get(&hash)? {
            known if known.key.borrow() == key => Some(&known.value),
            _ => self.twin(hash, key),
        }
    }

    #[cold]
    fn twin<Q>(&self, hash: u64, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let mut twins = self.twins.iter();
        let twin = twins.find(|twin| twin.0 == hash && twin.1.key.borrow() == key);
        twin.map(|(_, known)| &known.value)
    }

    /// The value of a key. One that is not known is remembered, in the
    /// [room](Self::make_room) made for it.
    pub(super) fn get_or_insert(
        &mut self,
        (hash, key): (u64, K),
        now: Instant,
        fresh: impl FnOnce() -> V,
        forgotten: &mut Forgotten<K>,
    ) -> &V {
        let twins = &mut self.twins;
        match self.entries.entry(hash) {
            Entry::Vacant(entry) => {
                self.order.insert((now, hash));
                let value = fresh();
                &entry.insert(Known { key, value }).value
            }
            Entry::Occupied(entry) if entry.get().key == key => {
                forgotten.push(key);
                &entry.into_mut().value
            }
            Entry::Occupied(_) => {
                let known = twins
                    .iter()
                    .position(|twin| twin.0 == hash && twin.1.key == key);
                let at = known.unwrap_or(twins.len());
                if at < twins.len() {
                    forgotten.push(key);
                } else {
                    let value = fresh();
                    twins.push((hash, Known { key, value }));
                }
                &twins[at].1.value
            }
        }
    }

    /// Every value.
    pub(super) fn for_each(&self, each: &mut dyn FnMut(&V)) {
        let twins = self.twins.iter().map(|(_, known)| known);
        for known in self.entries.values().chain(twins) {
            each(&known.value);
        }
    }

    /// All are looked at again when room is next needed.
    pub(super) fn look_at_all(&mut self) {
        let hashes = self.entries.keys();
        self.order = hashes.map(|hash| (Instant::from_nanos(0), *hash)).collect();
    }

    /// Looks at the keys whose time has come: at a few, or, when there is no room, until
    /// there is or the first time is known. `idle` says from when on a value equals a fresh
    /// one; `None` while it is in use. What is forgotten comes out.
    ///
    /// # Errors
    ///
    /// There is no room; after that time the first key can be forgotten.
    pub(super) fn make_room(
        &mut self,
        now: Instant,
        idle: impl Fn(&V) -> Option<Instant>,
        forgotten: &mut Forgotten<K>,
        values: &mut Vec<V>,
    ) -> Result<(), Duration> {
        let mut looks = 0;
        while let Some(&(noted, hash)) = self.order.first() {
            let room = self.len() < self.max_keys;
            let kept = if room { KEPT } else { Duration::ZERO };
            if room && (looks == LOOKS || noted.saturating_add(kept) > now) {
                break;
            }
            let look_at = match self.idle_at(hash, &idle) {
                Some(at) => at,
                None if noted > now => noted,
                None => now.saturating_add(LOOK_AGAIN),
            };
            if look_at > now && look_at == noted {
                return Err(noted.since(now));
            }
            self.order.pop_first();
            if look_at.saturating_add(kept) > now {
                self.order.insert((look_at, hash));
            } else {
                self.forget(hash, forgotten, values);
            }
            looks += 1;
        }
        Ok(())
    }

    /// When all keys of a hash are idle; `None` while one is in use.
    fn idle_at(&self, hash: u64, idle: impl Fn(&V) -> Option<Instant>) -> Option<Instant> {
        let mut at = idle(&self.entries.get(&hash)?.value)?;
        for (_, twin) in self.twins.iter().filter(|twin| twin.0 == hash) {
            at = at.max(idle(&twin.value)?);
        }
        Some(at)
    }

    fn forget(&mut self, hash: u64, forgotten: &mut Forgotten<K>, values: &mut Vec<V>) {
        let mut next = self.entries.remove(&hash);
        while let Some(known) = next {
            forgotten.push(known.key);
            values.push(known.value);
            let twin = self.twins.iter().position(|twin| twin.0 == hash);
            next = twin.map(|twin| self.twins.swap_remove(twin).1);
        }
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

#[cfg(test)]
mod tests;
