//! Panics in what pools, lazy values, scopes and shutdowns are given.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mainstay::pool::{Check, HookFuture, Manage, Pooled};
use mainstay::prelude::*;
use mainstay::scope::OnError;
use mainstay::shutdown::{Component, Counts};
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::support::Oops;
use crate::{Fuse, On, Touchy, caught, caught_now};

const SECOND: Duration = Duration::from_secs(1);

/// A manager that panics in one of its functions, or in what these return.
struct Maker(Fuse, &'static str);

impl Maker {
    fn touch(&self, what: &str) {
        if self.1 == what {
            self.0.blow();
        }
    }
}

impl Manage for Maker {
    type Object = Touchy;
    type Error = Oops;

    fn create(&self) -> impl Future<Output = Result<Touchy, Oops>> + Send {
        self.touch("create");
        async {
            yield_now().await;
            self.touch("create: poll");
            let on = if self.1 == "object" {
                On::Drop
            } else {
                On::Display
            };
            Ok(Touchy::new(&self.0, on))
        }
    }

    fn check(&self, _: &mut Touchy) -> impl Future<Output = Result<(), Oops>> + Send {
        self.touch("check");
        async {
            yield_now().await;
            self.touch("check: poll");
            Ok(())
        }
    }

    fn reusable(&self, _: &mut Touchy) -> bool {
        self.touch("reusable");
        true
    }

    fn close(&self, object: Touchy) -> impl Future<Output = ()> + Send {
        self.touch("close");
        async move {
            yield_now().await;
            self.touch("close: poll");
            drop(object);
        }
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.touch("manager");
        }
    }
}

fn hook(
    fuse: &Fuse,
    here: bool,
) -> impl for<'a> Fn(&'a mut Touchy) -> HookFuture<'a, Oops> + Send + Sync + use<> {
    let fuse = fuse.clone();
    move |_| {
        if here {
            fuse.blow();
        }
        Box::pin(async { Ok(()) })
    }
}

/// Uses a pool of one while the fuse is armed, with a second caller who waits.
async fn pooled(fuse: Fuse, what: &'static str) {
    let pool = Pool::builder(Maker(fuse.clone(), what))
        .max_size(1)
        .check(Check::Always)
        .create_limit(9 * SECOND)
        .after_create(hook(&fuse, what == "after_create"))
        .before_hand_over(hook(&fuse, what == "before_hand_over"))
        .after_return(hook(&fuse, what == "after_return"))
        .build()
        .unwrap();
    fuse.arm();
    for _ in 0..2 {
        let one = async {
            let got = caught(async {
                let mut got = pool.get().await?;
                yield_now().await;
                if what == "object" || what.starts_with("close") {
                    Pooled::mark_broken(&mut got);
                }
                Ok::<_, mainstay::Error<Oops>>(())
            });
            let _ = got.await;
        };
        futures_util::future::join(one, async {
            yield_now().await;
            let other = caught(async { pool.get().await.map(drop) }).await;
            assert!(other.is_ok(), "{what}: nobody else is hit");
        })
        .await;
    }
    sleep(60 * SECOND).await;
    let seen = pool.snapshot();
    let moving = seen.in_use + seen.creating + seen.changing_hands + seen.closing + seen.pending;
    assert_eq!(moving, 0, "{what}: {seen:?}");
    assert_eq!(
        seen.created,
        seen.size as u64 + seen.closed.total(),
        "{what}"
    );
    drop(pool.get().await.expect("the next is served"));
    if what == "manager" {
        fuse.arm();
        let _ = caught_now(|| drop(pool));
        sleep(SECOND).await;
        return;
    }
    let report = pool.close_within(60 * SECOND).await;
    assert!(report.is_drained, "{what}");
}

/// A component that panics in one of its functions.
struct Part(Fuse, &'static str);

impl Part {
    fn touch(&self, what: &str) {
        if self.1 == what {
            self.0.blow();
        }
    }
}

impl Component for Part {
    fn stop(&self) {
        self.touch("stop");
    }

    fn drained(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.touch("drained");
        Box::pin(async {
            yield_now().await;
            self.touch("drained: poll");
            if matches!(self.1, "cancel" | "abort") {
                std::future::pending::<()>().await;
            }
        })
    }

    fn cancel(&self) {
        self.touch("cancel");
    }

    fn abort(&self) {
        self.touch("abort");
    }

    fn counts(&self) -> Counts {
        self.touch("counts");
        Counts::new(0)
    }

    fn failure(&self) -> Option<Box<str>> {
        self.touch("failure");
        None
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.touch("drop");
        }
    }
}

/// The other component is closed all the same, within the deadline.
async fn shut_down(fuse: Fuse, what: &'static str) {
    let scope = Scope::new();
    scope
        .spawn("other", async {
            sleep(SECOND).await;
            Ok::<_, Oops>(())
        })
        .unwrap();
    let other = scope.handle();
    let shutdown = Shutdown::builder()
        .deadline(9 * SECOND)
        .component("bad", Part(fuse.clone(), what))
        .component("other", scope)
        .build()
        .unwrap();
    fuse.arm();
    shutdown.request();
    let report = shutdown.run().await;
    assert!(report.duration <= 9 * SECOND, "{what}");
    assert_eq!(report.components.len(), 2);
    assert_eq!(report.components[1].counts.completed, 1, "{what}: {report}");
    assert_eq!(other.counts().in_flight, 0);
    let _ = caught_now(|| drop(shutdown));
    sleep(SECOND).await;
}

async fn made(fuse: Fuse, what: &'static str) {
    let f = fuse.clone();
    let lazy = Arc::new(Lazy::<Touchy, Oops>::new(move || {
        let fuse = f.clone();
        if what == "start" {
            fuse.blow();
        }
        async move {
            let guard = Touchy::new(
                &fuse,
                if what == "future" {
                    On::Drop
                } else {
                    On::Display
                },
            );
            yield_now().await;
            if what == "poll" {
                fuse.blow();
            }
            drop(guard);
            Ok(Touchy::new(
                &fuse,
                if what == "value" {
                    On::Drop
                } else {
                    On::Display
                },
            ))
        }
    }));
    fuse.arm();
    let both = futures_util::future::join(
        caught(async { lazy.get().await.is_err_and(|e| e.is_panicked()) }),
        caught(async { lazy.get().await.is_err_and(|e| e.is_panicked()) }),
    )
    .await;
    if what == "value" {
        assert_eq!(both, (Ok(false), Ok(false)));
        assert!(caught_now(|| drop(lazy)).is_err());
        return;
    }
    assert!(both.0 == Ok(true) || both.1 == Ok(true), "{what}: {both:?}");
    assert!(lazy.get().await.is_ok(), "the next makes it anew");
}

async fn scoped(fuse: Fuse, what: &'static str) {
    let scope = Scope::builder().on_error(OnError::Collect).build().unwrap();
    fuse.arm();
    let f = fuse.clone();
    let bad = scope.spawn("bad", async move {
        let on = match what {
            "display" => On::Display,
            "drop" => On::Drop,
            _ => On::Clone,
        };
        let guard = Touchy::new(
            &f,
            if what == "future" {
                On::Drop
            } else {
                On::Clone
            },
        );
        yield_now().await;
        if what == "poll" {
            f.blow();
        }
        drop(guard);
        Err::<u32, _>(Touchy::new(&f, on))
    });
    let good = scope
        .spawn("good", async {
            sleep(SECOND).await;
            Ok::<_, Oops>(2)
        })
        .unwrap();
    drop(bad);
    assert_eq!(good.await, Ok(2), "{what}");
    let report = scope.join().await;
    let counts = report.counts;
    assert_eq!(
        (counts.in_flight, counts.ended(), counts.completed),
        (0, 2, 1),
        "{what}"
    );
}

crate::rows! {
    "pool", "create", ["pool/manage trait Manage"], |fuse| { pooled(fuse, "create").await; }
    "pool", "create: poll", ["pool/manage trait Manage"], |fuse| { pooled(fuse, "create: poll").await; }
    "pool", "check", ["pool/manage trait Manage"], |fuse| { pooled(fuse, "check").await; }
    "pool", "check: poll", ["pool/manage trait Manage"], |fuse| { pooled(fuse, "check: poll").await; }
    "pool", "reusable", ["pool/manage trait Manage"], |fuse| { pooled(fuse, "reusable").await; }
    "pool", "close", ["pool/manage trait Manage"], |fuse| { pooled(fuse, "close").await; }
    "pool", "close: poll", ["pool/manage trait Manage"], |fuse| { pooled(fuse, "close: poll").await; }
    "pool", "after_create", ["pool/builder after_create"], |fuse| { pooled(fuse, "after_create").await; }
    "pool", "before_hand_over", ["pool/builder before_hand_over"], |fuse| { pooled(fuse, "before_hand_over").await; }
    "pool", "after_return", ["pool/builder after_return"], |fuse| { pooled(fuse, "after_return").await; }
    "pool", "object: drop", [], |fuse| { pooled(fuse, "object").await; }
    "pool", "manager: drop", [], |fuse| { pooled(fuse, "manager").await; }
    "pool", "use_with", ["pool/mod use_with", "pool/pooled use_with"], |fuse| {
        let pool = Pool::builder(|| async { Ok::<_, Oops>(1) }).max_size(1).build().unwrap();
        for of_the_guard in [false, true] {
            fuse.arm();
            let used = caught(async {
                if of_the_guard {
                    let pooled = pool.get().await?;
                    let used = Pooled::use_with(pooled, async |_| { fuse.blow(); Ok::<_, Oops>(1) });
                    used.await.map_err(Into::into)
                } else {
                    pool.use_with(async |_| { fuse.blow(); Ok::<_, Oops>(1) }).await
                }
            }).await;
            assert!(used.is_err());
            sleep(SECOND).await;
        }
        let seen = pool.snapshot();
        assert_eq!((seen.in_use, seen.closed.cancelled_use), (0, 2));
        assert_eq!(pool.use_with(async |n| Ok::<_, Oops>(*n)).await, Ok(1));
    }
    "lazy", "closure", ["lazy/mod new"], |fuse| { made(fuse, "start").await; }
    "lazy", "future: poll", [], |fuse| { made(fuse, "poll").await; }
    "lazy", "future: drop", [], |fuse| { made(fuse, "future").await; }
    "lazy", "value: drop", [], |fuse| { made(fuse, "value").await; }
    "lazy", "error: clone", [], |fuse| {
        let f = fuse.clone();
        let lazy = Lazy::<u32, Touchy>::new(move || {
            let fuse = f.clone();
            async move { yield_now().await; Err(Touchy::new(&fuse, On::Clone)) }
        });
        fuse.arm();
        let get = || caught(async { lazy.get().await.map(drop).map_err(|e| e.is_panicked()) });
        let both = futures_util::future::join3(get(), get(), get()).await;
        let hit = [&both.0, &both.1, &both.2].into_iter().filter(|r| r.is_err()).count();
        assert!(hit <= 1, "one caller's clone is that caller's");
        assert_eq!(get().await, Ok(Err(false)));
    }
    "scope", "task: poll", [], |fuse| { scoped(fuse, "poll").await; }
    "scope", "task: drop", [], |fuse| { scoped(fuse, "future").await; }
    "scope", "error: display", [], |fuse| { scoped(fuse, "display").await; }
    "scope", "error: drop", [], |fuse| { scoped(fuse, "drop").await; }
    "scope", "on_drop", ["scope/builder on_drop"], |fuse| {
        let f = fuse.clone();
        let scope = Scope::builder().on_drop(move |_| f.blow()).build().unwrap();
        scope.spawn("left", async { std::future::pending::<Result<(), Oops>>().await }).unwrap();
        let handle = scope.handle();
        yield_now().await;
        fuse.arm();
        assert!(caught_now(|| drop(scope)).is_ok(), "it does not get out of the drop");
        handle.drained().await;
        assert_eq!(handle.counts().aborted, 1);
    }
    "scope", "body", ["scope/run run"], |fuse| {
        fuse.arm();
        let f = fuse.clone();
        let scope = Scope::new();
        let handle = scope.handle();
        let ran = caught(async move {
            scope.run(|inside| {
                let task = inside.spawn("left", async { std::future::pending::<Result<(), Oops>>().await });
                assert!(task.is_ok());
                f.blow();
                async { Ok::<_, Oops>(1) }
            }).await.0
        }).await;
        assert!(ran.map_or(true, |result| result.is_err_and(|e| e.is_panicked())));
        handle.drained().await;
        assert_eq!(handle.counts().in_flight, 0);
    }
    "shutdown", "stop", ["shutdown/component trait Component"], |fuse| { shut_down(fuse, "stop").await; }
    "shutdown", "drained", ["shutdown/component trait Component"], |fuse| { shut_down(fuse, "drained").await; }
    "shutdown", "drained: poll", ["shutdown/component trait Component"], |fuse| { shut_down(fuse, "drained: poll").await; }
    "shutdown", "cancel", ["shutdown/component trait Component"], |fuse| { shut_down(fuse, "cancel").await; }
    "shutdown", "abort", ["shutdown/component trait Component"], |fuse| { shut_down(fuse, "abort").await; }
    "shutdown", "counts", ["shutdown/component trait Component"], |fuse| { shut_down(fuse, "counts").await; }
    "shutdown", "failure", ["shutdown/component trait Component"], |fuse| { shut_down(fuse, "failure").await; }
    "shutdown", "component: drop", [], |fuse| { shut_down(fuse, "drop").await; }
    "shutdown", "closing: closure, future, error", ["shutdown/builder closing"], |fuse| {
        for what in 0..3 {
            let f = fuse.clone();
            let shutdown = Shutdown::builder().deadline(9 * SECOND).closing("bad", move || {
                if what == 0 { f.blow(); }
                async move {
                    yield_now().await;
                    if what == 1 { f.blow(); }
                    if what == 2 { Err(Touchy::new(&f, On::Display)) } else { Ok(()) }
                }
            }).build().unwrap();
            fuse.arm();
            shutdown.request();
            let report = shutdown.run().await;
            assert!(!report.is_orderly() && report.duration <= 9 * SECOND, "{what}");
        }
        assert_eq!(fuse.blown(), 3);
    }
    "shutdown", "stage", ["shutdown/builder stage"], |fuse| {
        fuse.arm();
        assert!(caught_now(|| Shutdown::builder().stage(|stage| { fuse.blow(); stage })).is_err());
        assert!(Shutdown::builder().stage(|stage| stage).build().is_ok());
    }
}
