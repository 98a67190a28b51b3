//! Costly objects, kept and lent out.
//!
//! Who waits, what is idle and what must be created is decided in `state`; objects on their
//! way are owned by guards that settle with it when they are dropped.

mod arriving;
mod background;
mod builder;
mod component;
mod create;
mod drain;
mod entry;
mod get;
mod keeper;
mod manage;
mod place;
mod pooled;
mod shared;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use builder::PoolBuilder;
pub use drain::{Drained, PoolReport};
pub use get::Get;
pub use manage::{Check, HookFuture, Manage};
pub use pooled::Pooled;
pub use snapshot::{PoolClosed, PoolSnapshot};

use crate::error::{Error, Refusal};
use crate::time;
use shared::{Shared, within};
use state::State;

/// Keeps costly objects (sessions, connections, browsers), creates them as they are needed,
/// up to a maximum, and lends them out.
///
/// A clone is the same pool. Defaults, in one place:
///
/// | setting | default | why |
/// |---|---|---|
/// | `max_size` | none; it must be set | only you know what the other side bears |
/// | `min_idle` | 0 | what nobody asks for need not be there |
/// | `max_creating` | no limit | the maximum limits it; set it where a log-in is dear |
/// | `max_wait` | none | the call's deadline is the better limit |
/// | `check` | after 1 s idle ([`Manage::CHECK`]) | what worked a moment ago mostly still does |
/// | `check_limit` | 5 s | a check of a dead peer would hang for ever |
/// | `create_limit` | 30 s | so would a creation, and hold a slot |
/// | `close_limit` | 5 s | so would an end |
/// | `idle_time`, `life_time` | none | only you know whether objects age |
/// | `jitter` | 0.1 | what was created together must not end together |
/// | `order` | newest first | few objects stay in use, the rest may end |
/// | `create_policy` | none | give a pipeline with a retry and a breaker |
/// | `runtime` | the callers' | what they wait for then lives as long as they do |
///
/// # How objects come and go
///
/// Each caller who finds nothing idle starts one creation, in a task of its own, as long as
/// there are fewer than `max_size` objects. It goes on when the caller gives up. Whatever
/// comes first, a new object or one that comes back, goes to the one who has waited longest.
/// A creation that fails fails a caller only when nothing else can come to it; see [`Get`].
/// Objects count until their [end](Manage::close) has come, so there are never more than
/// `max_size`.
///
/// One task in the background keeps `min_idle`, `idle_time` and `life_time`; it is there only
/// if one of them is set, and it does not keep the pool alive.
///
/// # Errors
///
/// See [`Get`].
///
/// # Cancel safety
///
/// No object is lost, and no place, wherever a future is dropped; see [`Get`] and
/// [`use_with`](Self::use_with).
///
/// # Runtimes
///
/// Creations run in the tokio runtime of the caller who waits for them; the task that keeps
/// the minimum and times in that of the caller who came first. An end or a hook runs where the
/// object is given up or back, or else in the runtime in which someone waited last. When a
/// runtime shuts down, the creations that it had under way are reported to those who have
/// begun them; the others who wait begin anew, each in its own. Where there is none at all,
/// idle objects are still lent out, and come back; but nothing can be created, and an end or a
/// hook that has to wait is cut short.
///
/// A runtime that is kept but not driven (a current-thread one outside of its `block_on`)
/// stalls what was begun in it: an object whose end was begun there holds its place, and no
/// limit passes, until it goes on. Nobody can see that from outside: where there are such
/// runtimes, give the pool one that is driven, by [`PoolBuilder::runtime`].
///
/// # Threads
///
/// All threads share one line and one list of idle objects, behind one lock that is taken twice
/// for an object: once to lend it out, once to take it back. Nothing is sharded, so that all
/// counts are exact and objects go to those who have waited longest, on whatever thread. Taking a
/// place in a line of `n`, leaving it and being served cost `log n`.
///
/// # Examples
///
/// ```
/// use mainstay::pool::{Pool, Pooled};
///
/// # async fn connect() -> std::io::Result<Vec<u8>> { Ok(Vec::new()) }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = Pool::builder(connect).max_size(2).build()?;
///
/// let mut connection = pool.get().await?;
/// connection.push(7);
/// drop(connection);
///
/// let sent = pool
///     .use_with(async |connection| {
///         connection.push(8);
///         Ok::<_, std::io::Error>(connection.len())
///     })
///     .await?;
/// assert_eq!(sent, 2);
/// assert_eq!(pool.snapshot().created, 1);
///
/// let connection = Pooled::into_owned(pool.get().await?);
/// tokio::spawn(async move { drop(connection) }).await?;
///
/// pool.close();
/// pool.drained().await;
/// # Ok(())
/// # }
/// ```
pub struct Pool<M: Manage> {
    handle: Arc<Handle<M>>,
}

/// What the clones of a pool have in common, and nobody else: with the last of them the pool
/// is closed.
struct Handle<M: Manage> {
    shared: Arc<Shared<M>>,
}

/// Which idle object is lent out next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// The one that came back last: a few stay in use, and the rest reach their idle time.
    #[default]
    NewestFirst,
    /// The one that has been idle for longest: all are used evenly, and stay warm.
    OldestFirst,
}

impl<M: Manage> Pool<M> {
    /// A pool with every default, to be given its size. A closure that makes a future of a
    /// `Result` is a manager too.
    pub fn builder(manager: M) -> PoolBuilder<M> {
        PoolBuilder::new(manager)
    }

    fn new(shared: Arc<Shared<M>>) -> Self {
        Self {
            handle: Arc::new(Handle { shared }),
        }
    }

    #[inline]
    fn shared(&self) -> &Arc<Shared<M>> {
        &self.handle.shared
    }

    /// Waits for an object.
    #[inline]
    pub fn get(&self) -> Get<'_, M> {
        Get::new(self.shared())
    }

    /// Takes an idle object that needs no check and no hook, if nobody waits. It never
    /// creates one, and needs no runtime.
    ///
    /// # Errors
    ///
    /// [`Refusal::PoolExhausted`] when there is none, [`Refusal::ShutDown`] when the pool is
    /// closed.
    #[inline]
    pub fn try_get(&self) -> Result<Pooled<'_, M>, Refusal> {
        let shared = self.shared();
        let taken = shared
            .take_plain()
            .map_or_else(|| shared.take_at_once(), Ok);
        taken.map(|entry| Pooled::lent(shared, entry))
    }

    /// Waits for an object and uses it; see [`Pooled::use_with`]. To limit the wait, call that
    /// one after a [`get`](Self::get).
    ///
    /// The closure is an async one, whose future borrows the object. No bound says that this
    /// future is `Send`, as none can; the compiler sees it where it is spawned.
    ///
    /// # Errors
    ///
    /// Those of [`Get`], and what `work` returns as an [`Error::Operation`].
    ///
    /// # Cancel safety
    ///
    /// An object whose use was begun and does not come to its end, by a drop or a panic, is
    /// closed and replaced: a reply that is still to come is not read by the next user.
    ///
    /// # Examples
    ///
    /// ```
    /// use mainstay::pool::Pool;
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = Pool::builder(|| async { Ok::<_, std::io::Error>(()) }).max_size(1).build()?;
    /// let command = pool.use_with(async |_connection| {
    ///     std::future::pending::<Result<(), std::io::Error>>().await
    /// });
    /// let cut = tokio::time::timeout(Duration::from_millis(1), command).await;
    /// assert!(cut.is_err());
    /// assert_eq!(pool.snapshot().closed.cancelled_use, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn use_with<T, E, F>(&self, work: F) -> Result<T, Error<E>>
    where
        F: AsyncFnOnce(&mut M::Object) -> Result<T, E>,
        M::Error: Into<E>,
    {
        let pooled = self.get().await.map_err(|error| error.map(Into::into))?;
        let result = Pooled::use_with(pooled, work).await;
        result.map_err(Error::operation)
    }

    /// Changes the maximum. Idle objects that are too many end at once, those in use when they
    /// come back. With 0 everyone waits until it is raised.
    pub fn resize(&self, max_size: usize) {
        let resize = |state: &mut shared::PoolState<M>, fx: &mut _| state.resize(max_size, fx);
        self.shared().change(resize);
    }

    /// Closes the pool: nothing is lent out any more, those who wait are refused, idle objects
    /// end now and the others when they come back.
    ///
    /// The last handle that is dropped does it too.
    pub fn close(&self) {
        self.shared().change(State::close);
    }

    /// Waits until the pool is [closed](Self::close) and every object has ended: those in
    /// use have come back, creations that were under way have ended, and so has every
    /// [end](Manage::close).
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub fn drained(&self) -> Drained<'_, M> {
        Drained::new(self.shared())
    }

    /// Closes the pool and waits for so long at most until it is drained.
    ///
    /// What is still out then ends when it comes back, whenever that is.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves the pool closed.
    ///
    /// # Examples
    ///
    /// ```
    /// use mainstay::pool::Pool;
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = Pool::builder(|| async { Ok::<_, std::io::Error>(()) }).max_size(1).build()?;
    /// let held = pool.get().await?;
    /// let report = pool.close_within(Duration::from_millis(1)).await;
    /// assert_eq!((report.is_drained, report.snapshot.in_use), (false, 1));
    /// drop(held);
    /// assert!(pool.close_within(Duration::ZERO).await.is_drained);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn close_within(&self, limit: Duration) -> PoolReport {
        let since = time::now();
        self.close();
        let drained = within(limit, self.drained()).await;
        PoolReport {
            is_drained: drained.is_some(),
            took: time::now().since(since),
            snapshot: self.snapshot(),
        }
    }

    /// Whether the pool is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.snapshot().is_closed
    }

    /// What it holds now and has done so far.
    #[must_use]
    pub fn snapshot(&self) -> PoolSnapshot {
        self.shared().lock().snapshot()
    }

    /// What creates the objects.
    #[must_use]
    pub fn manager(&self) -> &M {
        self.shared().manager()
    }
}

impl<M: Manage> Drop for Handle<M> {
    fn drop(&mut self) {
        self.shared.change(State::close);
    }
}

impl<M: Manage> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self {
            handle: Arc::clone(&self.handle),
        }
    }
}

impl<M: Manage> fmt::Debug for Pool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("snapshot", &self.snapshot())
            .finish_non_exhaustive()
    }
}
