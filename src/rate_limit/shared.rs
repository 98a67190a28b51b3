//! What the clones of a limiter share: the door, and the state behind its lock.

#[cfg(all(test, mainstay_loom))]
mod loom;

use std::task::Waker;
use std::time::Duration;

use super::bucket::Bucket;
use super::door::Door;
use super::state::State;
use crate::error::Refusal;
use crate::sync::{Lock, wake_all};
use crate::time::Instant;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) door: Door,
    state: Lock<State<Waker>>,
}

impl Shared {
    pub(super) fn new(bucket: Bucket) -> Self {
        let door = Door::new();
        door.open(&bucket);
        let state = Lock::new(State::new(bucket));
        Self { door, state }
    }

    /// The way in for all who do not wait yet: no lock while nobody waits.
    #[inline(always)]
    pub(super) fn try_take(&self, permits: u32, now: Instant) -> Result<(), Refusal> {
        match self.door.try_take(permits, now) {
            Some(Ok(())) => Ok(()),
            other => self.judge(other, permits, now),
        }
    }

    /// What an answer of the door means; where there is none, the state is asked.
    #[cold]
    pub(super) fn judge(
        &self,
        taken: Option<Result<(), Duration>>,
        permits: u32,
        now: Instant,
    ) -> Result<(), Refusal> {
        match taken {
            Some(taken) => taken.map_err(|retry_after| Refusal::RateLimited { retry_after }),
            None => self.ask(|state| state.try_take(permits, now)),
        }
    }

    /// Asks the state, and wakes whom it names once the lock is free.
    pub(super) fn ask<R>(&self, ask: impl FnOnce(&mut State<Waker>) -> R) -> R {
        let (answer, wake) = self.ask_quietly(ask);
        wake_all(wake);
        answer
    }

    /// Asks the state behind the shut door. Returns those who are to be woken.
    pub(super) fn ask_quietly<R>(
        &self,
        ask: impl FnOnce(&mut State<Waker>) -> R,
    ) -> (R, Vec<Waker>) {
        let mut state = self.state.lock();
        self.door.shut(state.bucket_mut());
        let answer = ask(&mut state);
        if !state.has_queue() {
            self.door.open(state.bucket());
        }
        (answer, state.take_wakers())
    }
}
