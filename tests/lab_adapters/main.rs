//! The cancellation laboratory over every public future of the adapters: with real children,
//! sockets and servers, on the real clock where they need it.
//!
//! After each point children, descriptors, tasks, sessions, leases and connections are back,
//! and the next call succeeds.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

#[path = "../../examples/agentbay_server/mod.rs"]
mod agentbay_server;
mod complete;
#[path = "../websocket/peer.rs"]
#[expect(dead_code, reason = "a part of it is used")]
mod peer;
mod processes;
#[path = "../support/proof.rs"]
mod proof;
mod providers;
mod redis_clients;
mod redis_limits;
#[path = "../support/redis_server.rs"]
mod redis_server;
mod relay;
#[path = "../support/sessions.rs"]
mod scripted;
mod sessions;
#[path = "../support/sources.rs"]
mod sources;
mod trial;
mod websockets;

use trial::Trial;

/// Makes a test of each adapter, and one list of all of them.
macro_rules! adapters {
    ($($name:ident)*) => {
        /// Every trial there is.
        fn all() -> Vec<Trial> {
            let mut all = Vec::new();
            $(all.extend($name::trials());)*
            all
        }

        mod every_point_of {
            $(#[test]
            fn $name() {
                let name = concat!("every_point_of::", stringify!($name));
                crate::trial::apart(name, crate::$name::trials);
            })*
        }
    };
}

adapters! {
    processes
    providers
    redis_clients
    redis_limits
    sessions
    websockets
}
