//! A future is counted in and out, for whoever waits until all are gone.

use std::sync::Arc;

use mainstay::scope::Tracker;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::calls::ok;
use crate::floor::slots::Tracked;
use crate::row::{Row, each};

pub(super) fn track(row: &mut Row) {
    row.shared().goal(12.0).note(
        "Ours lets nobody in once it was closed; tokio-util's does. A JoinSet makes a task of the \
         future, which is more than to count it.",
    );
    let floor = Arc::new(Tracked::default());
    row.floor(
        "one word",
        each!(floor => {
            let _inside = floor.enter();
            ok().await
        }),
    )
    .anchor(10.3);
    let tracker = TaskTracker::new();
    row.peer(
        "tokio-util",
        "TaskTracker",
        each!(tracker => tracker.track_future(ok()).await),
    )
    .anchor(20.3);
    row.aside("tokio", "JoinSet, spawn and join", || {
        let mut tasks = JoinSet::new();
        async move || {
            tasks.spawn(ok());
            tasks.join_next().await.is_some()
        }
    })
    .alone()
    .anchor(614.6);
    let ours = Arc::new(Tracker::new());
    row.ours(
        "Tracker::track",
        each!(ours => match ours.track(ok()) {
            Ok(future) => future.await.is_ok(),
            Err(_) => false,
        }),
    );
}
