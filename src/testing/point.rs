//! Where a future is cancelled, how, and when its neighbour takes its steps.

use std::fmt;

/// One point at which a future is cancelled: after how many polls, how, and in which order with
/// its neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Point {
    polls: usize,
    ending: Ending,
    order: Order,
}

impl Point {
    /// The point after so many polls.
    #[must_use]
    pub const fn new(polls: usize, ending: Ending, order: Order) -> Self {
        Self {
            polls,
            ending,
            order,
        }
    }

    /// How often the future is polled by the laboratory before it is cancelled. It may end
    /// earlier by itself.
    #[must_use]
    pub const fn polls(&self) -> usize {
        self.polls
    }

    /// How it is cancelled.
    #[must_use]
    pub const fn ending(&self) -> Ending {
        self.ending
    }

    /// When its neighbour takes its steps.
    #[must_use]
    pub const fn order(&self) -> Order {
        self.order
    }
}

impl Point {
    /// In words, without its order: "dropped after 2 polls".
    pub(super) fn moment(&self) -> String {
        let ending = match self.ending {
            Ending::Drop => "dropped",
            Ending::DropWoken => "dropped when woken",
            Ending::TimeOut => "timed out",
            Ending::Abort => "aborted",
        };
        format!("{ending} after {}", count(self.polls))
    }
}

/// In words: "dropped after 2 polls (the actor steps in between)".
impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.moment())?;
        match self.order {
            Order::AfterCut => f.write_str("(the actor waits for the cut)"),
            Order::Between => f.write_str("(the actor steps in between)"),
            Order::First => f.write_str("(the actor steps first)"),
            Order::Shuffled(seed) => write!(f, "(shuffled with seed {seed})"),
        }
    }
}

/// "1 poll", "2 polls".
pub(super) fn count(polls: usize) -> String {
    let plural = if polls == 1 { "" } else { "s" };
    format!("{polls} poll{plural}")
}

/// How a future is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// It is dropped right after the `k`-th poll, or before the first.
    Drop,
    /// It is dropped when it has been woken, instead of being polled again: what it has been
    /// handed, it has not seen yet.
    DropWoken,
    /// After the `k`-th poll a [`Timeout`](crate::Timeout) is put around it, which polls it on,
    /// passes in the middle of its wait, and drops it.
    TimeOut,
    /// It runs in a task of its own, which is aborted after the `k`-th poll: the scheduler drops
    /// it.
    Abort,
}

impl Ending {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Drop, Self::DropWoken, Self::TimeOut, Self::Abort];
}

/// When the neighbour of a future takes its steps.
///
/// The future is polled when it was woken, and once more after each step of the neighbour
/// whether it was woken or not, as any future must bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// The neighbour waits until the future is cancelled. A future that waits for its neighbour
    /// is not polled on then: the points of this order end there.
    AfterCut,
    /// The neighbour takes a step after each poll.
    Between,
    /// The neighbour takes a step before the first poll, and after each.
    First,
    /// By chance, with this seed: the neighbour takes steps, none or several, time goes on, and
    /// the future is polled, woken or not.
    Shuffled(u64),
}
