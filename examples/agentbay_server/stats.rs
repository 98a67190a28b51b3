//! What is counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

/// Counters since the server was started. All are independent, hence relaxed.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    accepted: AtomicU64,
    open: AtomicU64,
    connections: AtomicU64,
    calls: Mutex<BTreeMap<&'static str, u64>>,
    tools: Mutex<BTreeMap<&'static str, u64>>,
}

impl Stats {
    pub(crate) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection had its first call that is not an admin's.
    pub(crate) fn connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Names are known ones, so there are only so many.
    pub(crate) fn call(&self, name: &'static str) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        *calls.entry(name).or_default() += 1;
    }

    pub(crate) fn tool(&self, name: &'static str) {
        let mut tools = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
        *tools.entry(name).or_default() += 1;
    }

    pub(crate) fn report(&self) -> Value {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let tools = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "accepted": self.accepted.load(Ordering::Relaxed),
            "open": self.open.load(Ordering::Relaxed),
            "connections": self.connections.load(Ordering::Relaxed),
            "requests": calls.values().sum::<u64>(),
            "calls": *calls,
            "tools": *tools,
        })
    }
}
