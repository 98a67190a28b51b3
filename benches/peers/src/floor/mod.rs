//! The floor: minimal prototypes that do only what must be done.
//!
//! No settings, no errors that explain, no queue for those who must wait, no events. Where `unsafe`
//! saves something it is used. Nobody could use them; they show what a call has to pay.

#![allow(unsafe_code, reason = "what is the least that must be done?")]

pub(crate) mod breaker;
pub(crate) mod gather;
pub(crate) mod limiter;
pub(crate) mod pool;
pub(crate) mod slots;
pub(crate) mod timeout;

use std::sync::atomic::AtomicU64;

/// A hot word, alone on its cache lines (a processor may fetch two at once).
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Alone(pub(crate) AtomicU64);
