//! A limit that finds its own size.

use std::sync::Arc;

use tower::Layer;
use tower_resilience::adaptive::{AdaptiveLimiterLayer, Aimd, Vegas};

use crate::calls::{Prompt, ask, ok};
use crate::floor::slots::Slots;
use crate::row::{Row, each};

pub(super) fn admit(row: &mut Row) {
    row.shared().goal(25.0).note(
        "An adaptive limiter is not in this crate. The floor does not adapt: it is a limit of \
         fixed size.",
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
    let aimd = Aimd::builder().initial_limit(100).build().expect("a limit");
    let service = AdaptiveLimiterLayer::new(aimd).layer(Prompt);
    row.peer(
        "tower-resilience",
        "adaptive, AIMD",
        each!(service => ask(&mut service).await),
    )
    .anchor(204.6);
    let vegas = Vegas::builder()
        .initial_limit(100)
        .build()
        .expect("a limit");
    let service = AdaptiveLimiterLayer::new(vegas).layer(Prompt);
    row.peer(
        "tower-resilience",
        "adaptive, Vegas",
        each!(service => ask(&mut service).await),
    )
    .anchor(219.0);
}
