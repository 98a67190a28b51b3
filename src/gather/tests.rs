//! Tests of the gather: its pure parts, its forms, its ends.

mod ended;
mod ends;
mod forms;
mod histories;
mod late;
mod panics;
mod parts;
mod tasks;

use std::cell::Cell;
use std::time::Duration;

use super::*;
use crate::error::Error;
use crate::testing::sleep;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// Counts those alive, and the most that ever were.
#[derive(Debug, Default)]
struct Alive {
    now: Cell<u32>,
    most: Cell<u32>,
    ever: Cell<u32>,
}

struct Guard<'a>(&'a Alive, u32);

impl Alive {
    fn guard(&self) -> Guard<'_> {
        self.weighing(1)
    }

    fn weighing(&self, weight: u32) -> Guard<'_> {
        self.now.set(self.now.get() + weight);
        self.most.set(self.most.get().max(self.now.get()));
        self.ever.set(self.ever.get() + 1);
        Guard(self, weight)
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.now.set(self.0.now.get() - self.1);
    }
}

type Plain = Result<u32, &'static str>;

async fn after(span: Duration, result: Plain) -> Plain {
    sleep(span).await;
    result
}

/// Unwinds without a word on standard error.
fn unwind() -> ! {
    std::panic::resume_unwind(Box::new("told"))
}

fn is_panic<T>(outcome: &Result<T, Error<&'static str>>) -> bool {
    outcome.as_ref().is_err_and(Error::is_panicked)
}
