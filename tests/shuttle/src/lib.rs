//! Random orders of tasks, for what a lock alone does not decide: the pool, the queue, the
//! gather, scopes, shutdown, with the real primitives of tokio inside.
//!
//! Each model runs some thousand times, each time in another order of its tasks, half of them
//! random, half by PCT (few changes of priority, at points drawn by lot). `MAINSTAY_SCHEDULES`
//! says how often. A run that fails prints its order; with `MAINSTAY_SCHEDULE` set to that text
//! the test of that name replays it. Each model's text says what was broken by hand to see it
//! fail.
#![cfg(test)]

mod gather;
mod lazy;
mod pool;
#[path = "../../support/proof.rs"]
mod proof;
mod queue;
mod scope;
mod shutdown;
mod stage;
