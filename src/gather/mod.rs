//! Many operations at once, so many at a time.
//!
//! [`gather`] takes an iterator or a stream of operations and drives them: see [`Gather`].

#![expect(
    clippy::inline_always,
    reason = "it took an item that is ready at once from 24 to 9 ns: between functions, items and \
              results are moved through memory, and what has just been written in small pieces \
              stalls the processor when it is copied in large ones"
)]

mod background;
mod clock;
mod collect;
mod driver;
mod item;
mod outcome;
mod progress;
mod ready;
mod reorder;
mod seats;
mod settings;
mod slot;
mod source;
mod spawned;
mod streams;
mod supply;
#[cfg(test)]
mod tests;
mod ways;

use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::time::Duration;

use driver::Driver;
use settings::Settings;

pub use background::Background;
pub use collect::{Collect, TryAll};
pub use item::{Alone, End, Ended, Here, IntoItem, Item, Launch, Limits, Through, Weighted};
pub use outcome::{Gathered, ItemError};
pub use progress::{GatherProgress, Listen, Silent, Told};
pub use source::{FromIter, FromStream, IntoSource, OfIterator, OfStream, Source};
pub use spawned::{InTasks, InTasksThrough, Spawned};
pub use streams::{AsFinished, Batches, InOrder};
pub use supply::{Origin, Supply};

use crate::time;

/// Drives many operations, so many at a time; see [`Gather`].
///
/// `source` is an [`IntoIterator`] or a [`Stream`](futures_core::Stream). Its items are
/// futures of a `Result`, or closures that make one, or pairs `(weight: u32, either)`.
/// Nothing is pulled before the gather is polled.
///
/// # Examples
///
/// ```
/// use mainstay::gather::gather;
/// use std::time::Duration;
///
/// # async fn fetch(page: u32) -> std::io::Result<u32> { Ok(page) }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let gathered = gather((1..=100).map(fetch))
///     .limit(8)
///     .timeout(Duration::from_secs(1)) // each of them
///     .deadline(Duration::from_secs(10)) // all of them
///     .await;
/// for (index, error) in gathered.failures() {
///     println!("item {index}: {error}");
/// }
/// assert_eq!(gathered.successes().sum::<u32>(), 5050);
/// # }
/// ```
pub fn gather<I, M, K>(source: I) -> Gather<Origin<I::Source, K, Here>, Silent>
where
    I: IntoSource<M>,
    <I::Source as Source>::Item: IntoItem<K>,
{
    time::warm_up();
    Gather {
        supply: Origin {
            source: Some(source.into_source()),
            exhausted: false,
            launch: Here,
            kind: PhantomData,
        },
        listener: Silent,
        settings: Settings::default(),
    }
}

/// Many operations at once, so many at a time.
///
/// It is made by [`gather`], set with the methods below, and then either awaited or made a
/// stream of:
///
/// | what you want | how |
/// |---|---|
/// | every outcome, in the order of the source | `.await`: a [`Gathered`] |
/// | every value, or the first error and the rest dropped | [`try_all`](Self::try_all) |
/// | each outcome as it comes | [`as_finished`](Self::as_finished) |
/// | each outcome, in the order of the source | [`in_order`](Self::in_order) |
/// | so many, then the next so many | [`batches`](Self::batches) |
/// | as they come, from a task that goes on while you are slow | [`in_background`](Self::in_background) |
///
/// Each outcome is a `Result<T, Error<E>>` with the crate's one flat [`Error`](crate::Error).
///
/// # Defaults
///
/// | setting | default | why |
/// |---|---|---|
/// | [`limit`](Self::limit) | 64 | enough to hide a network's latency; far below the 1024 descriptors that a process usually may open |
/// | weight of an item | 1 | a limit then is a number of items |
/// | [`timeout`](Self::timeout) | none | only you know what an item may take |
/// | [`deadline`](Self::deadline) | none | |
/// | a panic | becomes its item's outcome | one bad item must not cost the others |
/// | items | driven by the gather, in your task | they may borrow, and need not be `Send` |
///
/// # Pipelines
///
/// [`through`](Self::through) sends each item through a pipeline; closures can then be tried
/// again, and the errors stay flat. A gather of ready-made calls,
/// `gather(urls.map(|url| pipeline.call(..)))`, works as well, but a call is a future like
/// any other, and its errors come as `Error<Error<E>>`: [`Gathered::flatten`] makes one of two.
///
/// # What is pulled when
///
/// An item is pulled from the source when there is room for it, so that a million of them
/// never exist at once; a heavy one is pulled, and then waits until it fits. It is started in
/// the order of the source: a light one does not pass by.
///
/// # Who drives
///
/// The items are driven while the gather is polled, and only then. Two things follow for its
/// streams, whose consumer does something else between two outcomes:
///
/// - While the consumer is busy, no item makes progress. What was in flight finds its time
///   limits passed and its peers gone. If your consumer is slow, use
///   [`in_background`](Self::in_background) (all goes on, up to so many outcomes that wait),
///   or [`spawned`](Self::spawned) (what has started goes on, nothing new starts).
/// - Do not wait, in the consumer, for something that an item in flight holds (a lock, a
///   permit, a place in a channel): the item cannot give it up while it is not polled, and
///   both wait for ever. This is sometimes called a futurelock. Drop the stream first, or use
///   one of the two forms above.
///
/// `.await` and [`try_all`](Self::try_all) have no consumer; both things concern them only as
/// part of a `select!` in a loop, in whose other branches they are not polled.
///
/// # In a task
///
/// What is given to `tokio::spawn` or `tokio::join!` has to be a future already, and a gather
/// becomes one only by `.await`: give them `gather(..).into_future()`, or an `async` block
/// around it. The block is needed by `join!` in a spawned task too, where the closures of the
/// gather borrow: without it the compiler finds them "not general enough".
///
/// ```
/// use mainstay::gather::gather;
///
/// # async fn fetch(page: &str) -> std::io::Result<usize> { Ok(page.len()) }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let task = tokio::spawn(async {
///     let pages = [String::from("/a"), String::from("/bc")];
///     let sizes = async { gather(pages.iter().map(|page| fetch(page))).await };
///     let (sizes, other) = tokio::join!(sizes, fetch("/"));
///     sizes.into_successes().sum::<usize>() + other.unwrap()
/// });
/// assert_eq!(task.await.unwrap(), 6);
/// # }
/// ```
///
/// # Cancel safety
///
/// Dropping it, at any point and in any form, drops all that is in flight. Of items in tasks
/// of their own, and of a gather in the background, the tasks are aborted: they end as soon as
/// the runtime gets to them, which a drop cannot wait for. Where the gather itself ends items
/// (an error with `try_all`, a time limit, a panic that is passed on), they have ended when
/// it says so, tasks included.
///
/// # Fairness
///
/// Everyone who has been woken is polled once before anyone is polled again. After 128 polls
/// without a pause the gather lets other tasks run.
///
/// # Panics
///
/// A panic of an item, also in its drop, becomes that item's
/// [`Error::Panicked`](crate::Error::Panicked); with
/// [`propagate_panics`](Self::propagate_panics) all others are dropped, and then it goes on.
/// So does a panic of the source or of the listener, which are no items. Outside of a tokio
/// runtime with its timer enabled, tokio panics when there is a time limit to wait for, and
/// when an item or the gather is to be spawned.
///
/// # Algorithm
///
/// Each item in flight sits in a slot, whose memory is allocated once and used by one item
/// after another; there are as many slots as there were ever items in flight at once, and the
/// limit costs nothing by itself. A slot has one waker, made once, that sets its bit in a set
/// which the gather empties in rounds: only those are polled that were woken. One timer serves
/// all time limits; where there are any, the clock is looked at as well, at each poll of the
/// gather and once in 16 polls and starts of items, since a runtime whose thread is kept busy
/// tells of its timers late. Before anything is ended for that, the runtime is given a turn:
/// what has come in time counts. Nothing is allocated for an item (but in
/// [`spawned`](Self::spawned): its task).
#[must_use = "a gather does nothing unless awaited"]
pub struct Gather<F, H> {
    supply: F,
    listener: H,
    settings: Settings,
}

impl<F, H> Gather<F, H> {
    /// How much may be in flight at once: the sum of the weights. Default 64.
    ///
    /// An item weighs 1, or what the source says, of which 0 counts as 1. One that weighs more
    /// than the limit is refused ([`Refusal::TooLarge`](crate::Refusal::TooLarge)), so that a
    /// limit of 0 refuses each of them. A huge limit allocates nothing before it is used.
    pub fn limit(mut self, limit: usize) -> Self {
        self.settings.limit = limit;
        self
    }

    /// The time for one item, from its start. Default [`Duration::MAX`]: no limit.
    ///
    /// One that takes longer is dropped; its outcome is
    /// [`Error::TimedOut`](crate::Error::TimedOut). A result that is there when the limit
    /// passes counts.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.settings.timeout = limit;
        self
    }

    /// The time for the whole, from the first poll. Default [`Duration::MAX`]: no limit.
    ///
    /// When it passes, what is in flight is dropped, with
    /// [`Error::TimedOut`](crate::Error::TimedOut) as its outcome; what was not pulled has
    /// none. The outcomes so far are kept, and [`Gathered::is_complete`] says that they are
    /// not all.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.settings.deadline = limit;
        self
    }

    /// Lets a panic of an item go on, when all the others have been dropped. Default: it
    /// becomes the item's outcome.
    pub fn propagate_panics(mut self) -> Self {
        self.settings.propagate = true;
        self
    }

    /// Tells `listener` how far it has come, at each start and each end of an item; the last
    /// one given counts.
    ///
    /// It is called while the gather is polled. A panic in it ends the gather, and goes on.
    ///
    /// # Examples
    ///
    /// ```
    /// use mainstay::gather::gather;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let mut lines = Vec::new();
    /// let items = (0..2).map(|n| async move { Ok::<_, std::io::Error>(n) });
    /// let gathered = gather(items)
    ///     .on_progress(|progress| lines.push(progress.to_string()))
    ///     .await;
    /// assert_eq!(lines.last().unwrap(), "2 of 2 done (0 failed, 0 running)");
    /// # let _ = gathered;
    /// # }
    /// ```
    pub fn on_progress<G>(self, listener: G) -> Gather<F, Told<G>>
    where
        G: FnMut(&GatherProgress),
    {
        Gather {
            supply: self.supply,
            listener: Told::new(listener),
            settings: self.settings,
        }
    }

    fn driver<R, O>(self) -> Driver<F, H, R, O> {
        Driver::new(self.supply, self.listener, self.settings)
    }
}

impl<F, H, R, O, T, E> Gather<F, H>
where
    F: Supply<Raw = R, Item = O>,
    O: Item<Output = T, Error = E>,
    H: Listen,
{
    /// Every value in the order of the source, or the first error that there is; then the rest
    /// is dropped, the values so far as well, before this is ready.
    ///
    /// # Errors
    ///
    /// The [`ItemError`] of the item that failed first in time. If the deadline for the whole
    /// passes, that of an item that it has cut short.
    ///
    /// # Examples
    ///
    /// ```
    /// use mainstay::gather::gather;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let half = |n: u32| async move { if n % 2 == 0 { Ok(n / 2) } else { Err("odd") } };
    /// assert_eq!(gather([2, 4].map(half)).try_all().await, Ok(vec![1, 2]));
    /// let error = gather([2, 3].map(half)).try_all().await.unwrap_err();
    /// assert_eq!(error.to_string(), "item 1: odd");
    /// # }
    /// ```
    pub fn try_all(self) -> TryAll<F, H, R, O, T, E> {
        TryAll::new(self.driver())
    }

    /// The outcomes as they come, as a stream.
    ///
    /// # Examples
    ///
    /// ```
    /// use mainstay::gather::gather;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let items = (0..3).map(|n| async move { Ok::<_, std::io::Error>(n) });
    /// let mut outcomes = gather(items).as_finished();
    /// while let Some((index, outcome)) = outcomes.next().await {
    ///     assert_eq!(outcome.unwrap(), index);
    /// }
    /// assert!(outcomes.is_complete());
    /// # }
    /// ```
    pub fn as_finished(self) -> AsFinished<F, H, R, O> {
        AsFinished::new(self.driver())
    }

    /// The outcomes in the order of the source, as a stream.
    ///
    /// While the first takes long, others are started, until twice the limit are in flight or
    /// finished.
    pub fn in_order(self) -> InOrder<F, H, R, O, T, E> {
        InOrder::new(self.driver())
    }

    /// The outcomes in batches of `size`, in the order of the source, as a stream. A size of 0
    /// counts as 1: batches of nothing would never come to the end of the source.
    ///
    /// The next batch starts when it is asked for.
    pub fn batches(self, size: usize) -> Batches<F, H, R, O, T, E> {
        Batches::new(self.driver(), size)
    }
}

impl<F, H, R, O, T, E> IntoFuture for Gather<F, H>
where
    F: Supply<Raw = R, Item = O>,
    O: Item<Output = T, Error = E>,
    H: Listen,
{
    type Output = Gathered<T, E>;
    type IntoFuture = Collect<F, H, R, O, T, E>;

    fn into_future(self) -> Self::IntoFuture {
        Collect::new(self.driver())
    }
}

impl<F, H> fmt::Debug for Gather<F, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gather")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
