//! A panic in everything that a user supplies: afterwards all is given back, the next call
//! succeeds, and nobody else was hit.
//!
//! Each row of the table injects one; `sites` finds in the sources what a user can supply, and
//! holds it against the rows. Two panics at once (one in a drop, while another unwinds) end
//! the process by the language's rules: no row does that, and no library can.
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

mod clock;
mod many;
mod owners;
mod policies;
#[path = "../support/proof.rs"]
mod proof;
mod sessions;
mod sites;
mod sizes;
#[path = "../support/mod.rs"]
mod support;
mod wakers;

use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use futures_util::FutureExt;

/// What panics, once, when it was armed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fuse(Arc<(AtomicBool, AtomicU32)>);

impl Fuse {
    pub(crate) fn arm(&self) {
        self.0.0.store(true, Ordering::SeqCst);
    }

    /// Panics if it is armed.
    pub(crate) fn blow(&self) {
        if self.0.0.swap(false, Ordering::SeqCst) {
            self.0.1.fetch_add(1, Ordering::SeqCst);
            resume_unwind(Box::new("fuse"));
        }
    }

    /// Something else has panicked in its place.
    pub(crate) fn count(&self) {
        self.0.1.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn blown(&self) -> u32 {
        self.0.1.load(Ordering::SeqCst)
    }
}

/// A value of the user's whose drop, clone or display may panic.
pub(crate) struct Touchy {
    pub(crate) fuse: Fuse,
    pub(crate) on: On,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    Drop,
    Clone,
    Display,
}

impl Touchy {
    pub(crate) fn new(fuse: &Fuse, on: On) -> Self {
        Self {
            fuse: fuse.clone(),
            on,
        }
    }

    fn does(&self, what: On) {
        if self.on == what {
            self.fuse.blow();
        }
    }
}

impl Drop for Touchy {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.does(On::Drop);
        }
    }
}

impl Clone for Touchy {
    fn clone(&self) -> Self {
        self.does(On::Clone);
        Self::new(&self.fuse, self.on)
    }
}

impl std::fmt::Display for Touchy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.does(On::Display);
        f.write_str("touchy")
    }
}

impl std::fmt::Debug for Touchy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("touchy")
    }
}

/// The result, or that it panicked; the future is dropped in either case, and a panic of that
/// counts.
pub(crate) async fn caught<T>(future: impl Future<Output = T>) -> Result<T, ()> {
    let whole = async move { Box::pin(future).await };
    AssertUnwindSafe(whole).catch_unwind().await.map_err(drop)
}

/// As `caught`, of a function.
pub(crate) fn caught_now<T>(call: impl FnOnce() -> T) -> Result<T, ()> {
    std::panic::catch_unwind(AssertUnwindSafe(call)).map_err(drop)
}

pub(crate) type Test = Pin<Box<dyn Future<Output = ()>>>;

/// One thing that a user supplies.
pub(crate) struct Row {
    pub(crate) pattern: &'static str,
    pub(crate) thing: &'static str,
    /// The places in the public API by which it is supplied.
    pub(crate) sites: &'static [&'static str],
    pub(crate) run: fn(Fuse) -> Test,
}

/// `"pattern", "thing", ["site", ..], |fuse| { .. }`: the body is async.
#[macro_export]
macro_rules! rows {
    ($($pattern:literal, $thing:literal, [$($site:literal),*], |$fuse:ident| $body:block)*) => {
        pub(crate) fn rows() -> Vec<$crate::Row> {
            vec![$($crate::Row {
                pattern: $pattern,
                thing: $thing,
                sites: &[$($site),*],
                run: |$fuse| Box::pin(async move $body),
            }),*]
        }
    };
}

pub(crate) fn table() -> Vec<Row> {
    let mut table = policies::rows();
    table.extend(many::rows());
    table.extend(owners::rows());
    table.extend(sessions::rows());
    table
}

#[test]
fn a_panic_in_whatever_a_user_supplies_leaves_everything_usable() {
    let table = table();
    let mut failed = Vec::new();
    for row in &table {
        let fuse = Fuse::default();
        let name = format!("{}: {}", row.pattern, row.thing);
        let ended = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(async {
                let hour = std::time::Duration::from_secs(3600);
                let done = tokio::time::timeout(hour, (row.run)(fuse.clone())).await;
                assert!(done.is_ok(), "it hangs");
            });
            assert!(fuse.blown() > 0, "nothing has panicked");
        }));
        if ended.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    proof::count("faults.panics", table.len() as u64);
}
