//! The patterns for code that is not async.
