//! A hedge whose first attempt is ready at once.

use std::time::Duration;

use tower::Layer;
use tower::hedge::{Hedge, Policy};
use tower_resilience::hedge::HedgeLayer;

use crate::calls::{Prompt, ask, ok};
use crate::floor::timeout::Limited;
use crate::row::{Row, each};

const DELAY: Duration = Duration::from_millis(100);

#[derive(Clone)]
struct Always;

impl Policy<u64> for Always {
    fn clone_request(&self, request: &u64) -> Option<u64> {
        Some(*request)
    }

    fn can_retry(&self, _: &u64) -> bool {
        true
    }
}

pub(super) fn primary(row: &mut Row) {
    row.goal(4.0).note("A hedge is not in this crate.");
    row.floor("timer at the first pending poll", || {
        let mut timer = None;
        async move || Limited::new(DELAY, ok(), &mut timer).await
    })
    .anchor(1.75);
    row.peer("tower", "Hedge", || {
        let mut service = Hedge::new(Prompt, Always, 10, 0.9, Duration::from_mins(1));
        async move || ask(&mut service).await
    })
    .anchor(134.2);
    let layer = HedgeLayer::builder().delay(DELAY).max_hedged_attempts(2);
    let service = layer.build().layer(Prompt);
    row.peer(
        "tower-resilience",
        "hedge",
        each!(service => ask(&mut service).await),
    )
    .anchor(287.1);
    row.aside(
        "tokio",
        "select! with a sleep, by hand",
        each!(=> {
            let second = tokio::time::sleep(DELAY);
            tokio::select! { biased; answer = ok() => answer.is_ok(), () = second => false }
        }),
    )
    .anchor(39.5);
}
