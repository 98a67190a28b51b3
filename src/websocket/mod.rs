//! JSON-RPC 2.0 over a WebSocket that reconnects.
//!
//! One task owns the socket. What it knows is in two pure states: a table of who waits for
//! which reply, and the life of the connection, which is told the time. The handles and the
//! owner share them behind one lock; the frames are tungstenite's, and what surrounds a call
//! (time limit, bulkhead, retry) is the crate's own.

mod builder;
mod client;
mod component;
mod error;
mod life;
mod message;
mod notifications;
mod owner;
mod request;
mod serve;
mod shared;
mod snapshot;
mod table;

pub use builder::ClientBuilder;
pub use client::{Client, Closed};
pub use error::{RpcError, RpcErrorKind};
pub use notifications::{Lagged, Notification, Notifications};
pub use request::{Notify, Reply, Request};
pub use snapshot::{LinkState, Snapshot};
