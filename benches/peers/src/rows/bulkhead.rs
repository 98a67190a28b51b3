//! A bulkhead with room.

use std::sync::Arc;

use mainstay::prelude::*;
use tokio::sync::Semaphore;
use tower::Layer;
use tower::limit::ConcurrencyLimit;
use tower_resilience::bulkhead::BulkheadLayer;

use crate::calls::{Prompt, ask, ok};
use crate::floor::slots::Slots;
use crate::row::{Row, each};

pub(super) fn admit(row: &mut Row) {
    row.shared().goal(12.0).note(
        "Who must wait at ours, tokio's and tower's waits in a queue, first in, first out. What \
         only tries does not wait at all, and is shown aside.",
    );
    let floor = Arc::new(Slots::new(100));
    row.floor(
        "one word",
        each!(floor => {
            let _inside = floor.enter();
            ok().await
        }),
    )
    .anchor(10.5);
    let slots = Arc::new(Semaphore::new(100));
    row.peer(
        "tokio",
        "Semaphore::acquire",
        each!(slots => {
            let _permit = slots.acquire().await;
            ok().await
        }),
    )
    .anchor(28.8);
    row.aside(
        "tokio",
        "Semaphore::try_acquire",
        each!(slots => {
            let _permit = slots.try_acquire();
            ok().await
        }),
    )
    .anchor(19.9);
    let service = ConcurrencyLimit::new(Prompt, 100);
    row.peer(
        "tower",
        "ConcurrencyLimit",
        each!(service => ask(&mut service).await),
    )
    .anchor(32.6);
    let layer = BulkheadLayer::builder().max_concurrent_calls(100).build();
    let service = layer.expect("a bulkhead").layer(Prompt);
    row.peer(
        "tower-resilience",
        "bulkhead",
        each!(service => ask(&mut service).await),
    )
    .anchor(177.3);
    let ours = Bulkhead::builder().max_concurrent(100).build();
    let ours = ours.expect("a bulkhead");
    row.aside(
        "mainstay",
        "try_acquire()",
        each!(ours => {
            let _permit = ours.try_acquire(1);
            ok().await
        }),
    );
    row.ours("bulkhead()", each!(ours => ok().bulkhead(&ours).await));
}
