//! Whatever of the user's panics: nothing is lost, and the state stays usable.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};

use super::*;
use crate::testing::catch_panic;

/// Trap 76.
#[tokio::test(start_paused = true)]
async fn a_creation_that_panics_is_an_error() {
    let (factory, pool) = pool_of(1);
    factory.create.set(Does::Panic);
    assert_eq!(error(pool.get().await), Error::panicked("told to"));
    let synchronous = Pool::builder(|| {
        assert!(std::thread::panicking(), "told to");
        std::future::ready(Ok::<u32, Oops>(7))
    });
    let bad = synchronous.max_size(1).build().unwrap();
    let failed = bad.get().await.map(drop).unwrap_err();
    assert_eq!(failed, Error::panicked("told to"));
    factory.create.set(Does::Well);
    assert_whole(&factory, &pool).await;
}

/// Trap 76.
#[tokio::test(start_paused = true)]
async fn a_check_or_a_hook_that_panics_takes_only_its_object() {
    let (factory, builder) = plant();
    let pool = builder
        .max_size(1)
        .check(Check::Always)
        .before_hand_over(hook(&factory, |factory| &factory.before))
        .after_return(hook(&factory, |factory| &factory.after))
        .build()
        .unwrap();
    drop(pool.get().await.unwrap());
    factory.check.set(Does::Panic);
    assert_eq!(pool.get().await.unwrap().name, 1, "another one");
    factory.check.set(Does::Well);
    factory.before.set(Does::Panic);
    assert_eq!(error(pool.get().await), Error::panicked("told to"));
    factory.before.set(Does::Well);
    assert_eq!(pool.snapshot().closed.check_failed, 3);
    assert_whole(&factory, &pool).await;
    factory.after.set(Does::Panic);
    drop(pool.get().await.unwrap());
    factory.after.takes(SECOND);
    drop(pool.get().await.unwrap());
    sleep(2 * SECOND).await;
    factory.after.takes(Duration::ZERO);
    factory.after.set(Does::Well);
    assert_eq!(pool.snapshot().closed.broken, 2);
    assert_whole(&factory, &pool).await;
}

/// Trap 76.
#[tokio::test(start_paused = true)]
async fn a_look_or_an_end_that_panics_does_not_get_out_of_a_drop() {
    let (factory, pool) = pool_of(1);
    factory.reusable.set(Does::Panic);
    drop(pool.get().await.unwrap());
    assert_eq!(pool.snapshot().closed.broken, 1);
    factory.reusable.set(Does::Well);
    factory.close.set(Does::Panic);
    Pooled::discard(pool.get().await.unwrap());
    factory.close.takes(SECOND);
    Pooled::discard(pool.get().await.unwrap());
    sleep(2 * SECOND).await;
    factory.close.set(Does::Well);
    assert_eq!((factory.alive(), pool.snapshot().closed.broken), (0, 3));
    assert_whole(&factory, &pool).await;
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "told to");
    }
}

/// Trap 76.
#[tokio::test(start_paused = true)]
async fn an_object_or_an_error_whose_drop_panics_does_no_harm() {
    let pool = Pool::builder(|| async { Ok::<_, Oops>(Bomb) });
    let pool = pool.max_size(2).build().unwrap();
    drop((pool.get().await.unwrap(), pool.get().await.unwrap()));
    pool.resize(1);
    assert_eq!(
        (pool.snapshot().size, pool.snapshot().closed.resized),
        (1, 1)
    );
    Pooled::discard(pool.get().await.unwrap());
    assert_eq!(
        (pool.snapshot().size, pool.snapshot().closed.broken),
        (0, 1)
    );

    let failing = Pool::builder(|| async {
        sleep(SECOND).await;
        Err::<u32, _>(Bomb)
    });
    let failing = failing.max_size(1).build().unwrap();
    assert!(failing.get().max_wait(MILLI).await.is_err());
    sleep(2 * SECOND).await;
    assert_eq!(
        (failing.snapshot().size, failing.snapshot().create_failures),
        (0, 1)
    );
}

/// A waker that looks at the pool whenever it is used.
struct Curious(Pool<Plant>);

impl Wake for Curious {
    fn wake(self: Arc<Self>) {
        let _ = self.0.snapshot();
    }
}

impl Drop for Curious {
    fn drop(&mut self) {
        let _ = self.0.snapshot();
    }
}

fn poll_with<Fut: Future>(waker: &Waker, future: std::pin::Pin<&mut Fut>) -> Poll<Fut::Output> {
    future.poll(&mut Context::from_waker(waker))
}

/// Trap 77: a waker that comes back into the pool while it is woken or dropped.
#[tokio::test(start_paused = true)]
async fn no_waker_is_woken_or_dropped_under_the_lock() {
    let (factory, pool) = pool_of(1);
    let curious = || Waker::from(Arc::new(Curious(pool.clone())));
    let held = pool.get().await.unwrap();
    {
        let mut replaced = pin!(pool.get());
        assert!(poll_with(&curious(), replaced.as_mut()).is_pending());
        assert!(poll_with(&curious(), replaced.as_mut()).is_pending());
        let mut dropped = Box::pin(pool.get());
        assert!(poll_with(&curious(), dropped.as_mut()).is_pending());
        drop(dropped);
        drop(held);
        assert!(poll_with(&curious(), replaced.as_mut()).is_ready());
    }
    let held = pool.get().await.unwrap();
    let mut refused = pin!(pool.get());
    assert!(poll_with(&curious(), refused.as_mut()).is_pending());
    let mut drained = pin!(pool.drained());
    assert!(poll_with(&curious(), drained.as_mut()).is_pending());
    assert!(poll_with(&curious(), drained.as_mut()).is_pending());
    let mut left = Box::pin(pool.drained());
    assert!(poll_with(&curious(), left.as_mut()).is_pending());
    drop(left);
    pool.close();
    drop(held);
    assert!(poll_with(&curious(), drained.as_mut()).is_ready());
    assert_eq!(factory.alive(), 0);
}

/// A callback may use the pool that calls it.
#[tokio::test(start_paused = true)]
async fn callbacks_may_come_back_into_the_pool() {
    struct Nosy(std::sync::OnceLock<Pool<Nosy>>);
    impl Nosy {
        fn look(&self) {
            if let Some(pool) = self.0.get() {
                let _ = (pool.snapshot(), pool.try_get());
            }
        }
    }
    impl Manage for Nosy {
        type Object = u32;
        type Error = Oops;
        async fn create(&self) -> Result<u32, Oops> {
            self.look();
            Ok(7)
        }
        async fn check(&self, _: &mut u32) -> Result<(), Oops> {
            self.look();
            Ok(())
        }
        fn reusable(&self, _: &mut u32) -> bool {
            self.look();
            true
        }
        async fn close(&self, _: u32) {
            self.look();
        }
    }
    let pool = Pool::builder(Nosy(std::sync::OnceLock::new()));
    let pool = pool.max_size(2).check(Check::Always).build().unwrap();
    pool.manager().0.set(pool.clone()).unwrap();
    drop(pool.get().await.unwrap());
    drop(pool.get().await.unwrap());
    Pooled::discard(pool.get().await.unwrap());
    pool.close();
    pool.drained().await;
}

/// A waker that panics keeps nobody else from what is his.
#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_takes_nothing_from_others() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("told to");
        }
    }
    let (factory, pool) = pool_of(1);
    let held = pool.get().await.unwrap();
    let mut first = Box::pin(pool.get());
    assert!(poll_with(&Arc::new(Panics).into(), first.as_mut()).is_pending());
    assert!(catch_panic(async { drop(held) }).await.is_err());
    let got = poll_with(Waker::noop(), first.as_mut());
    assert!(matches!(got, Poll::Ready(Ok(_))));
    drop((got, first));
    assert_whole(&factory, &pool).await;
}
