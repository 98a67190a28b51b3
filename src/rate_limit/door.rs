//! The way in without the lock, while nobody waits: one word, and one exchange of it.
//!
//! The word is the bucket's number on a [`Scale`]. It carries a mark while the door is shut;
//! then everyone goes to the lock, under which the exact bucket and the queue are.
//!
//! Invariants:
//! - The door is shut and opened only under the lock, and is open only while nobody waits.
//! - While it is shut, the bucket under the lock is the truth, and the word stays as it is.
//!   While it is open, the word is the truth, and of the bucket only the rate and the burst.
//! - So one who finds no permits under the lock and is put into the queue there cannot be
//!   passed by: nobody has come in past it since the door was shut, nor will before it has
//!   left the queue.
//! - The scale is changed only while the door is shut, and no open word of the new scale is
//!   one of the old: see `scale`. Whoever decided by an older scale, or by parts of two, does
//!   not get to exchange the word, and goes to the lock.

#[cfg(all(test, mainstay_loom))]
mod loom;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::bucket::Bucket;
use super::scale::Scale;
use super::word::{Latest, Word};
use crate::sync::CacheLine;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::time::Instant;

/// Set while the door is shut. A number on the scale is below.
const SHUT: u64 = 1 << 63;

#[derive(Debug)]
pub(super) struct Door {
    /// What every call writes, apart from what it only reads.
    hot: CacheLine<Hot>,
    scale: SharedScale,
}

#[derive(Debug)]
struct Hot {
    word: Word,
    latest: Latest,
}

impl Door {
    /// Shut, until it is opened for its bucket.
    pub(super) fn new() -> Self {
        let hot = Hot {
            word: Word::new(SHUT),
            latest: Latest::new(Instant::from_nanos(0)),
        };
        Self {
            hot: CacheLine::new(hot),
            scale: SharedScale::default(),
        }
    }

    /// Takes permits, or says when they would be there. `None`: it is for the lock to say.
    #[inline(always)]
    pub(super) fn try_take(&self, permits: u32, now: Instant) -> Option<Result<(), Duration>> {
        // All that can be done before the word is read: others exchange it meanwhile.
        let (version, scale) = self.scale.load();
        self.try_take_by(permits, now, version, &scale)
    }

    #[inline(always)]
    fn try_take_by(
        &self,
        permits: u32,
        now: Instant,
        version: u64,
        scale: &Scale,
    ) -> Option<Result<(), Duration>> {
        // Who sees an open word sees the version of its scale, or a later one.
        let is_valid = |word| word & SHUT == 0 && self.scale.version() == version;
        let Hot { word, latest } = &*self.hot;
        let taken = word.try_take(permits, (now, latest), scale, is_valid)?;
        Some(taken.map_err(|missing| scale.time_for(missing)))
    }

    /// Sends everyone to the lock, and brings the bucket up to date. Only under the lock.
    pub(super) fn shut(&self, bucket: &mut Bucket) {
        // Only the lock's holders set the mark.
        if self.hot.word.number() & SHUT != 0 {
            return;
        }
        let number = self.hot.word.mark(SHUT);
        let (_, scale) = self.scale.load();
        scale.bring_up(bucket, number, self.hot.latest.get());
    }

    /// Lets everyone in again, if the bucket can be told by a number. Only under the lock,
    /// after [`shut`](Self::shut).
    pub(super) fn open(&self, bucket: &Bucket) {
        let (_, scale) = self.scale.load();
        let number = scale.number(bucket).or_else(|| self.rescale(bucket));
        if let Some(number) = number {
            self.hot.latest.tell_exactly(bucket.at());
            self.hot.word.set(number);
        }
    }

    fn rescale(&self, bucket: &Bucket) -> Option<u64> {
        // As the door is shut, this is as the lock's holders left it.
        let scale = Scale::new(bucket, self.hot.word.number() & !SHUT)?;
        self.scale.store(scale);
        scale.number(bucket)
    }
}

/// The scale, in parts: written only while the door is shut.
///
/// Whoever has read the same version before and after (before the parts, and after a word
/// that was open) has the scale of that word. For if it saw any part of a newer scale, it
/// also saw the door shut for it; and if the word is of a newer scale, then so is the second
/// version.
#[derive(Debug, Default)]
struct SharedScale {
    version: AtomicU64,
    base: AtomicU64,
    span: AtomicU64,
    start: AtomicU64,
    per_nano: AtomicU64,
    cost: AtomicU64,
    rim: AtomicU64,
}

impl SharedScale {
    /// Acquire, each: pairs with the Release of `store`. Who sees a new version sees all of
    /// its parts, and who sees a part sees the door that was shut before.
    #[inline]
    fn load(&self) -> (u64, Scale) {
        let version = self.version.load(Ordering::Acquire);
        let scale = Scale {
            base: self.base.load(Ordering::Acquire),
            span: self.span.load(Ordering::Acquire),
            start: self.start.load(Ordering::Acquire),
            per_nano: self.per_nano.load(Ordering::Acquire),
            cost: self.cost.load(Ordering::Acquire),
            rim: self.rim.load(Ordering::Acquire),
        };
        (version, scale)
    }

    /// To be read after a word by Acquire: that is why Relaxed is enough.
    #[inline]
    fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// Only under the lock, while the door is shut.
    fn store(&self, scale: Scale) {
        self.base.store(scale.base, Ordering::Release);
        self.span.store(scale.span, Ordering::Release);
        self.start.store(scale.start, Ordering::Release);
        self.per_nano.store(scale.per_nano, Ordering::Release);
        self.cost.store(scale.cost, Ordering::Release);
        self.rim.store(scale.rim, Ordering::Release);
        // Last: who sees it sees all of the parts.
        self.version.store(self.version() + 1, Ordering::Release);
    }
}
