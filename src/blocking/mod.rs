//! The patterns for code that is not async: scripts, tests, a synchronous API.
//!
//! [`run`] waits for a future on the thread that calls it. [`run_call`] does so for everything
//! that yields the crate's one error (a [`Call`](crate::Call), a
//! [`Lazy::get`](crate::lazy::Lazy::get), an [`Offload::run`](crate::offload::Offload::run)),
//! and [`call`] for a call of a pipeline. They allow no more than the async ones, and no less:
//! limits, retries and time limits are the same, and so is the error.
//!
//! | the async one | here |
//! |---|---|
//! | `pipeline.call(..).await` | [`call`]`(&pipeline, ..)` |
//! | `gather(..).await` | [`run`]`(gather(..))` |
//! | `gather(..).as_finished()`, any stream | [`iter`]`(stream)` |
//! | `pool.get().await`, `pool.use_with(..).await` | [`run_call`]`(pool.get())`, `run_call(pool.use_with(..))` |
//! | `lazy.get().await`, `offload.run(..).await` | `run_call` likewise |
//!
//! # Where it works
//!
//! | called from | it |
//! |---|---|
//! | a plain thread, whether there is a runtime elsewhere or not | works |
//! | work that an [`Offload`](crate::offload::Offload) runs | works: that thread is there to be blocked |
//! | a runtime of its own that such work drives | [`Refusal::InsideRuntime`] |
//! | a task, a `block_on`, a `LocalSet`, another blocking call's future | [`Refusal::InsideRuntime`] |
//! | tokio's own `spawn_blocking` and `block_in_place` | [`Refusal::InsideRuntime`]: it cannot be told from a task by any means that tokio offers; use `Handle::block_on` there, or an `Offload` |
//! | a thread that has entered a runtime (`Handle::enter`) | [`Refusal::InsideRuntime`], likewise |
//! | a destructor of a thread-local value | works, or is refused once tokio's own have gone |
//!
//! There is never a panic and never a deadlock of its own. Only where the work of an `Offload`
//! drives a future by the `block_on` of the very runtime's `Handle` that it came from, a
//! blocking call in there cannot be told from one outside: it blocks that future.
//!
//! # The thread behind it
//!
//! The first call starts one thread with a tokio runtime (timers and, where tokio has them,
//! sockets). All blocking calls share it, and it stays for as long as the process does: tasks
//! that a call has spawned (a pool that replaces a lost connection) go on between the calls,
//! and are cut off when `main` returns. The future itself runs on the thread that calls: it
//! needs to be neither `Send` nor `'static`.
//!
//! The thread dies when a waker panics that a future of yours has left with one of its timers
//! or sockets (those of this crate and of tokio do not). Its tasks are cut off then, calls that
//! wait are let go with [`Refusal::ShutDown`], and the next call starts another one.
//!
//! A process that forks has no such thread in the child: the child's first call starts its
//! own, and what the parent had spawned does not go on there. A fork in the very moment in
//! which another thread makes the first call leaves the child's calls waiting, as with every
//! lock: fork before, or not at all.
//!
//! # Examples
//!
//! ```
//! use mainstay::{blocking, prelude::*};
//! use std::time::Duration;
//!
//! # async fn fetch(url: &str) -> std::io::Result<usize> { Ok(url.len()) }
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let pages = Pipeline::builder("pages")
//!         .retry(Retry::builder().max_attempts(4))
//!         .timeout(Duration::from_secs(1))
//!         .build()?;
//!     let url = String::from("/a");
//!     let page = blocking::call(&pages, || fetch(&url))?;
//!     let other = blocking::run_call(fetch("/b").timeout(Duration::from_secs(1)))?;
//!     let both = blocking::run(async { page + other })?;
//! #   assert_eq!(both, 4);
//!     Ok(())
//! }
//! ```
//!
//! A gather and a pool:
//!
//! ```
//! use mainstay::{Pool, blocking, gather};
//!
//! async fn connect() -> std::io::Result<Vec<u32>> { Ok(Vec::new()) }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let pool = Pool::builder(connect).max_size(2).build()?;
//!     let work = (1..=10).map(|n| pool.use_with(async move |connection| {
//!         connection.push(n);
//!         Ok::<_, std::io::Error>(n)
//!     }));
//!     let done = blocking::run(gather(work).limit(4))?;
//!     assert_eq!(done.successes().sum::<u32>(), 55);
//!
//!     let mut connection = blocking::run_call(pool.get())?;
//!     connection.push(7);
//!     Ok(())
//! }
//! ```

mod iter;
#[cfg(all(test, mainstay_loom))]
mod loom;
mod place;
mod runtime;
#[cfg(test)]
mod tests;

use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::process;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crate::error::{Error, Refusal};
use crate::operation::{Closure, Plain};
use crate::policy::{Pipeline, Policy};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::global;
use crate::sync::thread::{self, Thread};

pub use iter::{Iter, iter};
pub(crate) use place::lend;
use runtime::{Background, Home};

/// Waits for a future on this thread.
///
/// # Errors
///
/// [`Refusal::InsideRuntime`] where it would block an async runtime (see the
/// [module](self)); the future was not polled then. [`Refusal::ShutDown`] when the thread
/// behind it has died meanwhile; the future was dropped then.
///
/// # Panics
///
/// When the future does.
pub fn run<F: IntoFuture>(future: F) -> Result<F::Output, Refusal> {
    run_at(&HOME, future.into_future())
}

/// Waits for a call on this thread, with one flat error.
///
/// # Errors
///
/// The call's own, and those of [`run`] as [`Error::Refused`].
///
/// # Panics
///
/// When the call does.
///
/// # Examples
///
/// ```
/// use mainstay::{Error, blocking, prelude::*};
/// use std::time::Duration;
///
/// let never = std::future::pending::<std::io::Result<()>>();
/// let limit = Duration::from_millis(5);
/// let error = blocking::run_call(never.timeout(limit)).unwrap_err();
/// assert!(matches!(error, Error::TimedOut { after, .. } if after == limit));
/// ```
pub fn run_call<F, T, E>(call: F) -> Result<T, Error<E>>
where
    F: IntoFuture<Output = Result<T, Error<E>>>,
{
    run(call).unwrap_or_else(|reason| Err(Error::refused(reason)))
}

/// As [`Pipeline::call`], on this thread.
///
/// # Errors
///
/// The call's own, and those of [`run`] as [`Error::Refused`].
///
/// # Panics
///
/// When `start` or its future does.
pub fn call<'a, P, F, Fut, T, E>(pipeline: &'a Pipeline<P>, start: F) -> Result<T, Error<E>>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
    P: Policy<'a, Closure<Plain<F>, Fut>>,
{
    run_call(pipeline.call(start))
}

global! { static HOME: Home = Home::new(); }

fn run_at<Fut: Future>(home: &'static Home, future: Fut) -> Result<Fut::Output, Refusal> {
    let _here = place::enter()?;
    let background = home.background(process::id())?;
    let _within = background.enter();
    wait_for(future, &background)
}

/// Polls on this thread, and parks it in between.
fn wait_for<Fut: Future>(future: Fut, background: &Background) -> Result<Fut::Output, Refusal> {
    let mut future = pin!(future);
    let parked = Arc::new(Parked {
        thread: thread::current(),
        woken: AtomicBool::new(false),
    });
    let waker = Waker::from(Arc::clone(&parked));
    let listed = background.enlist(waker.clone())?;
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Ok(output);
        }
        if listed.is_dead() {
            return Err(Refusal::ShutDown);
        }
        parked.wait();
    }
}

/// A thread that waits to be woken. The flag is what counts: others may unpark the thread too.
struct Parked {
    thread: Thread,
    woken: AtomicBool,
}

impl Parked {
    fn wait(&self) {
        // Acquire: pairs with the release in `wake`; what was done before that is seen.
        while !self.woken.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Release: pairs with the acquire in `wait`. Who set the flag before unparks the thread.
        if !self.woken.swap(true, Ordering::Release) {
            self.thread.unpark();
        }
    }
}
