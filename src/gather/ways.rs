//! Where the items run, and through which pipeline.

use super::Gather;
use super::background::{Background, Parts};
use super::item::{Here, IntoItem, Item, Through};
use super::progress::Listen;
use super::source::Source;
use super::spawned::{InTasks, InTasksThrough};
use super::supply::{Origin, Supply};
use crate::operation::Operation;
use crate::policy::{Pipeline, Policy};

impl<S, K, W, H> Gather<Origin<S, K, W>, H> {
    fn launched_by<V>(self, launch: impl FnOnce(W) -> V) -> Gather<Origin<S, K, V>, H> {
        Gather {
            supply: Origin {
                source: self.supply.source,
                exhausted: self.supply.exhausted,
                launch: launch(self.supply.launch),
                kind: self.supply.kind,
            },
            listener: self.listener,
            settings: self.settings,
        }
    }
}

impl<S, K, H> Gather<Origin<S, K, Here>, H> {
    /// Sends each item through a pipeline; its errors do not nest. One that repeats needs
    /// closures: a future runs once.
    ///
    /// The time limits of the gather stand outside of the pipeline's: a wait in there that
    /// could not end in time is not begun.
    ///
    /// # Examples
    ///
    /// ```
    /// use mainstay::{gather::gather, prelude::*};
    ///
    /// # async fn fetch(url: &str) -> std::io::Result<usize> { Ok(url.len()) }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pages = Pipeline::builder("pages").retry(Retry::builder()).bulkhead(4).build()?;
    /// let urls = ["/a", "/bc"];
    /// let sizes = gather(urls.iter().map(|url| || fetch(url))) // closures: to be tried again
    ///     .limit(4)
    ///     .through(&pages)
    ///     .try_all()
    ///     .await?;
    /// assert_eq!(sizes, [2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn through<'a, P, R>(
        self,
        pipeline: &'a Pipeline<P>,
    ) -> Gather<Origin<S, K, Through<'a, P>>, H>
    where
        S: Source,
        S::Item: IntoItem<K, Operation = R>,
        R: Operation,
        P: Policy<'a, R>,
    {
        self.launched_by(|Here| Through(pipeline))
    }

    /// Runs each item in a tokio task of its own, so that several cores work.
    ///
    /// What has started goes on while the gather is not polled. A task that is ended (by a
    /// time limit, an error with `try_all`) is aborted, which takes effect where it awaits
    /// next; its outcome comes when it has ended, so that no more than the limit ever run.
    /// Dropping the gather aborts the tasks and does not wait.
    ///
    /// It costs two allocations for each item, and three through a pipeline.
    ///
    /// # Examples
    ///
    /// ```
    /// use mainstay::gather::gather;
    ///
    /// # #[tokio::main] async fn main() {
    /// let squares = (0..10_u64).map(|n| async move { Ok::<_, std::io::Error>(n * n) });
    /// let gathered = gather(squares).limit(2).spawned().await;
    /// assert_eq!(gathered.successes().sum::<u64>(), 285);
    /// # }
    /// ```
    pub fn spawned(self) -> Gather<Origin<S, K, InTasks>, H> {
        self.launched_by(|Here| InTasks)
    }
}

impl<S, K, H> Gather<Origin<S, K, InTasks>, H> {
    /// Sends each item through a pipeline; its errors do not nest.
    pub fn through<P, R>(self, pipeline: &Pipeline<P>) -> Gather<Origin<S, K, InTasksThrough<P>>, H>
    where
        S: Source,
        S::Item: IntoItem<K, Operation = R>,
        R: Operation + Send + 'static,
        P: for<'b> Policy<'b, R, Operation: Send>,
    {
        self.launched_by(|InTasks| InTasksThrough(pipeline.clone()))
    }
}

impl<S, K, P, H> Gather<Origin<S, K, Through<'_, P>>, H> {
    /// Runs each item in a tokio task of its own, so that several cores work.
    ///
    /// As without a pipeline; each task holds a handle of it.
    pub fn spawned(self) -> Gather<Origin<S, K, InTasksThrough<P>>, H> {
        self.launched_by(|Through(pipeline)| InTasksThrough(pipeline.clone()))
    }

    /// Drives the whole in a tokio task of its own, which goes on while the consumer is slow.
    ///
    /// As without a pipeline; the task holds a handle of it.
    pub fn in_background<R, T, E>(self, buffer: usize) -> Background<T, E>
    where
        S: Source + Send + 'static,
        S::Item: IntoItem<K, Operation = R>,
        K: 'static,
        P: for<'b> Policy<'b, R, Operation: Send> + Send + Sync + 'static,
        H: Listen + Send + 'static,
        R: Operation<Output = T, Error = E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let pipeline = self.supply.launch.0.clone();
        let parts = Parts {
            source: self.supply.source,
            kind: self.supply.kind,
            listener: self.listener,
            settings: self.settings,
        };
        Background::spawn_through(parts, pipeline, buffer)
    }
}

macro_rules! in_background {
    ($launch:ty $(, $generic:ident)?) => {
        impl<S, K, $($generic,)? H> Gather<Origin<S, K, $launch>, H> {
            /// Drives the whole in a tokio task of its own, which goes on while the consumer
            /// is slow.
            ///
            /// Nothing new is started while `buffer` outcomes wait (0 counts as 1, as with
            /// none at all nothing could ever start); what has started is driven to its end, so that at most `buffer` and what is in flight
            /// wait in the end. Dropping what this returns ends the task.
            ///
            /// # Examples
            ///
            /// ```
            /// use mainstay::gather::gather;
            ///
            /// # #[tokio::main(flavor = "current_thread")] async fn main() {
            /// let items = (0..100).map(|n| async move { Ok::<_, std::io::Error>(n) });
            /// let mut outcomes = gather(items).limit(8).in_background(16);
            /// let mut seen = 0;
            /// while let Some((_, outcome)) = outcomes.next().await {
            ///     tokio::task::yield_now().await; // a slow consumer
            ///     seen += outcome.map_or(0, |_| 1);
            /// }
            /// assert!(outcomes.is_complete());
            /// assert_eq!(seen, 100);
            /// # }
            /// ```
            pub fn in_background<R, O, T, E>(self, buffer: usize) -> Background<T, E>
            where
                Origin<S, K, $launch>: Supply<Raw = R, Item = O> + Send + 'static,
                O: Item<Output = T, Error = E> + Send + 'static,
                H: Listen + Send + 'static,
                R: Send + 'static,
                T: Send + 'static,
                E: Send + 'static,
            {
                Background::spawn(self.driver::<R, O>(), buffer)
            }
        }
    };
}

in_background!(Here);
in_background!(InTasks);
in_background!(InTasksThrough<P>, P);
