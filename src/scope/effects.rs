//! What the registry is told, and what it leaves to be done.

/// What a task that has not begun may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Begin,
    Wait,
    Never,
}

/// How a task ended.
#[derive(Debug)]
pub(super) enum Ending {
    Completed,
    Failed(Box<str>),
    Panicked(Box<str>),
    /// Without a result.
    Dropped {
        begun: bool,
    },
}

/// What is to be done when the lock is free.
#[derive(Debug)]
#[must_use = "somebody would sleep for ever"]
pub(super) struct Effects<W, A> {
    pub(super) wake: Vec<W>,
    pub(super) abort: Vec<A>,
    /// Of a task that has ended: it is to be dropped, which is not ours to do in here.
    pub(super) unused: Option<A>,
    /// The others are cancelled now: tell the token.
    pub(super) cancelled: bool,
    /// They were before, and have less time now: tell whoever watches it.
    pub(super) sooner: bool,
}

impl<W, A> Default for Effects<W, A> {
    fn default() -> Self {
        Self {
            wake: Vec::new(),
            abort: Vec::new(),
            unused: None,
            cancelled: false,
            sooner: false,
        }
    }
}
