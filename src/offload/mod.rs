//! Blocking work on a bounded number of threads.
