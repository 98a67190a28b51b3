//! What stands for the rest of the crate: types that a state is told or tells. They
//! decide nothing, and are not mutated.

/// For what sorts results: a state is told the outcome.
#[cfg(not(feature = "circuit_breaker"))]
pub(crate) mod classify {
    pub trait Decision: Sized {
        const ANSWERED: Self;
        const FAILED: Self;
        const REFUSED: Self;
        const REFUSED_LATER: Self = Self::FAILED;
    }
}

/// For what tells the world.
pub(crate) mod observe {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum GaveUp {
        Attempts,
        Elapsed,
        Deadline,
        RetryAfter,
        Backoff,
    }

    pub(crate) const TRACES: bool = false;

    #[cfg(feature = "circuit_breaker")]
    pub(crate) fn circuit_changed(_: &str, _: &crate::circuit_breaker::StateChange) {}
}

/// For the pipeline.
pub(crate) mod policy {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum End {
        Success,
        Failure,
        Ignored,
        Cancelled,
        Panicked,
    }

    impl crate::classify::Decision for End {
        const ANSWERED: Self = Self::Success;
        const FAILED: Self = Self::Failure;
        const REFUSED: Self = Self::Ignored;
    }
}

#[cfg(feature = "process")]
pub(crate) mod process {
    pub mod command {
        use std::time::Duration;

        #[derive(Clone, Copy, Debug, Default)]
        pub struct Limits {
            pub time: Option<Duration>,
            pub grace: Duration,
            pub pipe_grace: Duration,
            pub line: usize,
        }
    }

    pub mod handle {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum State {
            Running,
            Paused,
            Ending,
        }
    }

    pub mod output {
        use std::time::Duration;

        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum End {
            TimedOut { after: Duration },
            Cancelled,
        }

        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Captured {
            pub bytes: Vec<u8>,
            pub total: u64,
            pub cut_at: Option<usize>,
        }
    }
}

#[cfg(feature = "session")]
pub(crate) mod session {
    pub mod types {
        use std::collections::BTreeMap;
        use std::fmt;
        use std::sync::Arc;

        pub type Labels = BTreeMap<String, String>;

        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct SessionId(Arc<str>);

        impl SessionId {
            pub fn new(id: impl Into<Arc<str>>) -> Self {
                Self(id.into())
            }
        }

        impl fmt::Display for SessionId {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum SessionStatus {
            Running,
            Pausing,
            Paused,
            Resuming,
            Deleting,
            Deleted,
        }
    }
}

#[cfg(feature = "websocket")]
pub(crate) mod websocket {
    pub mod snapshot {
        use std::time::Duration;

        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum LinkState {
            Idle,
            Connecting,
            Up { age: Duration },
            Down { retry_after: Duration },
            Closed,
        }
    }
}

#[cfg(feature = "redis")]
pub(crate) mod redis {
    pub mod driver {
        use crate::time::Instant;

        #[derive(Debug, PartialEq, Eq)]
        pub enum Step {
            Ask(Vec<String>),
            Sleep(Instant),
            Done,
        }
    }
}
