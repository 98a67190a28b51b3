//! several processes
