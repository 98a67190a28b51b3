//! A local server that speaks what AgentBay speaks, on sessions of this machine.
//!
//! `wire` reads requests and writes replies; `actions`, `tools` and `files` do what is asked;
//! `book` knows in which state a session is and `faults` what shall go wrong: both are pure and
//! told the time or the name; `accept` is the shell around all of it.

#![allow(
    dead_code,
    unused_imports,
    reason = "the example and the tests each use a part of it"
)]

mod accept;
mod actions;
mod admin;
mod book;
mod config;
mod faults;
mod files;
mod link;
mod routes;
mod server;
mod stats;
mod tools;
mod wire;

pub(crate) use accept::{Handle, Stopped, serve};
pub(crate) use config::{Config, DEFAULT_KEY, from_args};
pub(crate) use faults::{Kind, Rule};
pub(crate) use mainstay::session::EmbeddedProvider as Provider;
