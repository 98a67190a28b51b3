//! A part of the keys, behind one lock.
//!
//! Takes of known keys only look at it and may run at once; all else changes it alone.

use std::borrow::Borrow;
use std::task::Waker;
use std::time::Duration;

use super::common::{Answer, Common, limited};
use super::table::{Forgotten, Table};
use crate::rate_limit::RateLimiter;
use crate::rate_limit::builder::Limits;
use crate::rate_limit::state::State;
use crate::rate_limit::word::Word;
use crate::time::Instant;

#[derive(Debug)]
pub(super) struct Shard<K> {
    common: Common,
    table: Table<K, Word>,
}

impl<K: Eq> Shard<K> {
    pub(super) fn new(limits: Limits, now: Instant, max_keys: usize) -> Self {
        Self {
            common: Common::new(limits, now),
            table: Table::new(max_keys),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Takes permits of a known key, if nothing has to be changed for it.
    #[inline(always)]
    pub(super) fn try_take<Q>(
        &self,
        (hash, key): (u64, &Q),
        permits: u32,
        now: Instant,
    ) -> Option<Answer>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let word = self.table.get(hash, key)?;
        self.common.try_take(word, permits, now)
    }

    /// Takes permits of a key, known or not.
    pub(super) fn try_take_of(
        &mut self,
        key: (u64, K),
        permits: u32,
        now: Instant,
        forgotten: &mut Forgotten<K>,
    ) -> Answer {
        let (word, common) = match self.word(key, now, forgotten) {
            Ok(found) => found,
            Err(retry_after) => return Answer::Refused(limited(retry_after)),
        };
        let answer = common.try_take(word, permits, now);
        answer.unwrap_or_else(|| Answer::Ask(common.make_own(word)))
    }

    /// The own limiter of a key, known or not, which it has from now on.
    pub(super) fn limiter(
        &mut self,
        key: (u64, K),
        now: Instant,
        forgotten: &mut Forgotten<K>,
    ) -> Result<RateLimiter, Duration> {
        let (word, common) = self.word(key, now, forgotten)?;
        let own = common.make_own(word);
        Ok(common.limiter(own))
    }

    /// The limiter of a known key that has one of its own.
    pub(super) fn known_limiter<Q>(&self, (hash, key): (u64, &Q)) -> Option<RateLimiter>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.common.known_limiter(self.table.get(hash, key)?)
    }

    /// Brings every key to other limits; `change` does it to limiters of their own. Returns
    /// those who are to be woken.
    pub(super) fn set_limits(
        &mut self,
        limits: Limits,
        now: Instant,
        change: impl Fn(&mut State<Waker>, &Limits),
    ) -> Vec<Waker> {
        let Self { common, table } = self;
        common.tell(now, |each| table.for_each(each));
        // The words first: those that get a limiter only now have what is to be changed.
        common.set_limits(limits, |each| table.for_each(each));
        table.look_at_all();
        common.change_own(change)
    }

    fn word(
        &mut self,
        (hash, key): (u64, K),
        now: Instant,
        forgotten: &mut Forgotten<K>,
    ) -> Result<(&Word, &mut Common), Duration> {
        let Self { common, table } = self;
        // A fresh key is never older than one that was forgotten, whatever the clock says.
        let now = common.tell(now, |each| table.for_each(each));
        if table.get(hash, &key).is_none() {
            let idle = |word: &Word| common.idle_at(word);
            let mut words = Vec::new();
            let room = table.make_room(now, idle, forgotten, &mut words);
            for word in &words {
                common.forget(word);
            }
            if let Err(wait) = room {
                forgotten.push(key);
                return Err(wait);
            }
        }
        let fresh = || common.fresh();
        let word = table.get_or_insert((hash, key), now, fresh, forgotten);
        Ok((word, common))
    }
}
