//! Time limits: on what is ready at once, and on what was pending once.

use mainstay::prelude::*;
use tower::Layer;
use tower_resilience::timelimiter::TimeLimiterLayer;

use crate::calls::{LONG, PendingOnce, Prompt, Slower, ask, ok, twice};
use crate::floor::timeout::Limited;
use crate::row::{Row, each};

/// What each of the others calls.
pub(super) fn bare(row: &mut Row) {
    row.note("What every other row calls, with nothing around it.");
    row.floor("async fn", each!(=> ok().await)).anchor(1.0);
}

pub(super) fn ready(row: &mut Row) {
    row.goal(3.0).note(
        "tokio makes its timer with the future. The floor and this crate make one when the \
         operation is pending for the first time, so here none.",
    );
    row.floor("timer at the first pending poll", || {
        let mut timer = None;
        async move || Limited::new(LONG, ok(), &mut timer).await
    })
    .anchor(1.75);
    row.peer(
        "tokio",
        "time::timeout",
        each!(=> tokio::time::timeout(LONG, ok()).await),
    )
    .anchor(34.7);
    let service = tower::timeout::Timeout::new(Prompt, LONG);
    row.peer(
        "tower",
        "Timeout",
        each!(service => ask(&mut service).await),
    )
    .anchor(43.4);
    let layer = TimeLimiterLayer::builder().timeout_duration(LONG).build();
    let service = layer.layer(Prompt);
    row.peer(
        "tower-resilience",
        "timelimiter",
        each!(service => ask(&mut service).await),
    )
    .anchor(133.4);
    row.ours("timeout()", each!(=> ok().timeout(LONG).await));
}

pub(super) fn pending_among_others(row: &mut Row) {
    row.timers = true;
    row.goal(70.0);
    pending(row, [61.3, 117.2, 124.9, 201.0]);
}

pub(super) fn pending_alone(row: &mut Row) {
    row.goal(100.0).note(
        "A timer that is earlier than all others wakes tokio's driver, by a write to a file \
         descriptor. The floor keeps its timer, and so is its own \"other timer\".",
    );
    pending(row, [62.3, 388.0, 394.0, 483.6]);
}

fn pending(row: &mut Row, [floor, tokio, tower, resilience]: [f64; 4]) {
    row.note("Polled a second time at once: both polls are measured, without a scheduler.");
    row.floor("one timer, kept and set anew", || {
        let mut timer = None;
        async move || twice(Limited::new(LONG, PendingOnce::default(), &mut timer)).await
    })
    .anchor(floor);
    let limited = || tokio::time::timeout(LONG, PendingOnce::default());
    row.peer(
        "tokio",
        "time::timeout",
        each!(limited => twice(limited()).await),
    )
    .anchor(tokio);
    let service = tower::timeout::Timeout::new(Slower, LONG);
    row.peer(
        "tower",
        "Timeout",
        each!(service => twice(ask(&mut service)).await),
    )
    .anchor(tower);
    let layer = TimeLimiterLayer::builder().timeout_duration(LONG).build();
    let service = layer.layer(Slower);
    row.peer(
        "tower-resilience",
        "timelimiter",
        each!(service => twice(ask(&mut service)).await),
    )
    .anchor(resilience);
    row.ours(
        "timeout()",
        each!(=> twice(PendingOnce::default().timeout(LONG)).await),
    );
}
