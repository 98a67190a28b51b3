//! A value that is made when it is first asked for.
//!
//! The decision who makes it is in `state`; this module runs the initialiser.

mod get;
#[cfg(all(test, mainstay_loom))]
mod loom;
mod state;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Wake, Waker};

pub use get::Get;

use crate::error::{Error, Progress};
use crate::panics;
use crate::policy::{DynPipeline, ErasablePolicy, Pipeline};
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::thread::ThreadId;
use crate::sync::{Lock, wake_quietly};
use state::State;

/// A value that is made by an async initialiser, once, when it is first asked for.
///
/// However many ask at the same time, one execution of the initialiser runs. It belongs to the
/// cell and to none of its callers: whoever is there drives it, and when a caller goes away
/// (cancelled, timed out) another goes on with it where it stands. When all of them are gone
/// it rests, and the next caller goes on with it.
///
/// A failure is given to everyone who waited for that execution; the next one who asks tries
/// again. To try again at once, with a back-off and a limit, give it a pipeline with a retry:
/// then an execution is a whole [`call`](Pipeline::call) of it.
///
/// Defaults, in one place:
///
/// | setting | default | why |
/// |---|---|---|
/// | pipeline | none: one attempt each time someone asks | an initialiser that may be repeated says so |
///
/// A failure is cloned for each caller. Where it cannot be (an [`io::Error`](std::io::Error)),
/// let the initialiser share it: `connect().await.map_err(Arc::new)`.
///
/// # Errors
///
/// [`get`](Self::get) yields the initialiser's error, and whatever its pipeline adds;
/// [`Error::Panicked`] when it panics, to every caller alike, and it can be tried again;
/// [`Refused`](Error::Refused) to an initialiser that asks for its own value, which would
/// wait for its own end. One that makes another task ask, and waits for that, is not found
/// out; nor are two cells whose initialisers ask for each other, when two threads poll them:
/// put a time limit into their pipelines. A pipeline around `get` nests its errors
/// ([`Error::flatten`]).
///
/// # Cancel safety
///
/// Dropping a [`Get`] never stops the initialiser, nor does it begin anew.
///
/// # Fairness
///
/// Each time the initialiser is to be polled all its callers are woken and the first to come
/// does it, so that nobody depends on a caller who is there and is not polled any more. With
/// `n` callers a step of the initialiser costs `n` wake-ups.
///
/// # Panics
///
/// Never of its own. What the initialiser uses of a tokio runtime (a timer, a connection) it
/// takes from the one of the caller who happens to poll it: a cell that is shared between
/// runtimes must not be left half-made by one that ends.
///
/// # Examples
///
/// ```
/// use mainstay::lazy::Lazy;
/// use mainstay::prelude::*;
/// use std::time::Duration;
///
/// # #[derive(Debug)] struct Client;
/// # async fn connect() -> Result<Client, String> { Ok(Client) }
/// struct Knowledge {
///     client: Lazy<Client, String>,
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let connecting = Pipeline::builder("connect")
///     .retry(Retry::exponential(Duration::from_millis(100)))
///     .timeout(Duration::from_secs(2))
///     .build()?;
/// let base = Knowledge { client: Lazy::new(connect).through(&connecting) };
/// assert!(base.client.try_get().is_none());
/// let client = base.client.get().await.map_err(|error| error.to_string())?;
/// # let _ = client; Ok(())
/// # }
/// ```
pub struct Lazy<T, E> {
    value: OnceLock<T>,
    shared: Arc<Shared<T, E>>,
    start: Start<T, E>,
    pipeline: Option<DynPipeline<T, E>>,
}

type Start<T, E> = Arc<dyn Fn() -> Attempt<T, E> + Send + Sync>;
type Attempt<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// One execution.
struct Execution<T, E> {
    run: Pin<Box<dyn Future<Output = Result<T, Error<E>>> + Send>>,
    /// For a panic, which passes through the pipeline that could tell.
    attempts: Arc<AtomicU32>,
}

type Shares<T, E> = State<Execution<T, E>, Waker, Arc<Error<E>>, ThreadId>;

/// What the wakers of an execution hold. The value is not in here: a forgotten waker does not
/// keep it.
struct Shared<T, E> {
    state: Lock<Shares<T, E>>,
}

impl<T: Send + 'static, E: Send + 'static> Lazy<T, E> {
    /// A cell whose value `start` makes.
    pub fn new<F, Fut>(start: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        Self {
            value: OnceLock::new(),
            shared: Arc::new(Shared {
                state: Lock::new(State::new()),
            }),
            start: Arc::new(move || Box::pin(start())),
            pipeline: None,
        }
    }

    /// Makes each execution a whole call of `pipeline`, in place of one given before.
    ///
    /// Its policies count together with its other calls: one breaker may guard the connection
    /// and everything that is sent over it.
    #[must_use]
    pub fn through<P>(mut self, pipeline: &Pipeline<P>) -> Self
    where
        P: ErasablePolicy<T, E> + 'static,
    {
        self.pipeline = Some(pipeline.erase());
        self
    }

    fn execution(&self) -> Execution<T, E> {
        let attempts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&attempts);
        let start = Arc::clone(&self.start);
        let start = move || {
            // Relaxed: whoever reads it holds the execution, which came through a lock.
            counted.fetch_add(1, Ordering::Relaxed);
            start()
        };
        let pipeline = self.pipeline.clone();
        let run = Box::pin(async move {
            match pipeline {
                Some(pipeline) => pipeline.call(start).await,
                None => start().await.map_err(Error::operation),
            }
        });
        Execution { run, attempts }
    }
}

impl<T, E> Lazy<T, E> {
    /// The value, made now if it has not been made before.
    ///
    /// Once it is there this costs an atomic load. It needs no runtime but for what the
    /// initialiser needs.
    ///
    /// # Errors
    ///
    /// See the type's text.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the initialiser to the others.
    #[inline]
    pub fn get(&self) -> Get<'_, T, E>
    where
        E: Clone,
    {
        Get::new(self)
    }

    /// The value, if it is there.
    #[must_use]
    #[inline]
    pub fn try_get(&self) -> Option<&T> {
        self.value.get()
    }

    /// The value, if it is there, to be changed.
    #[must_use]
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut()
    }

    /// Takes the value out, if it is there; the next one who asks makes it anew.
    pub fn take(&mut self) -> Option<T> {
        let value = self.value.take()?;
        let _none = self.shared.state.lock().clear();
        Some(value)
    }

    /// The value, if it is there.
    #[must_use]
    pub fn into_inner(mut self) -> Option<T> {
        self.take()
    }
}

impl<T, E> Drop for Lazy<T, E> {
    /// Wakers of what rests may outlive the cell; it must not outlive it in them.
    fn drop(&mut self) {
        let rest = self.shared.state.lock().clear();
        drop(rest);
    }
}

impl<T: Send + 'static, E: Send + Sync + 'static> Wake for Shared<T, E> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let callers = self.state.lock().wake();
        // Quietly: who wakes is nobody's caller. It may be the runtime itself, and a panic of
        // one caller's waker would end the work of all that live there.
        wake_quietly(callers);
    }
}

impl<T, E> Execution<T, E> {
    /// The text of a panic as an error of this execution.
    fn panicked(&self, payload: panics::Payload) -> Error<E> {
        let attempts = self.attempts.load(Ordering::Relaxed);
        let error = Error::panicked(panics::message(payload));
        error.after(Progress::started(attempts.saturating_sub(1)))
    }
}

impl<T: fmt::Debug, E> fmt::Debug for Lazy<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (running, waiting) = {
            let state = self.shared.state.lock();
            (state.is_running(), state.waiting())
        };
        f.debug_struct("Lazy")
            .field("value", &self.value.get())
            .field("running", &running)
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}
