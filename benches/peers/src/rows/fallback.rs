//! A fallback that is not needed.

use std::future::ready;

use futures::TryFutureExt;
use mainstay::prelude::*;
use tower::{Layer, ServiceExt};
use tower_resilience::fallback::FallbackLayer;

use crate::calls::{Answer, Failed, Prompt, ask, ok};
use crate::row::{Row, each};

pub(super) fn unused(row: &mut Row) {
    row.goal(1.5);
    row.floor("unwrap_or", each!(=> ok().await.unwrap_or(7)))
        .anchor(0.9);
    let other = |_: Failed| ready(Answer::Ok(7));
    row.peer(
        "futures",
        "or_else",
        each!(other => ok().or_else(other).await),
    )
    .anchor(0.94);
    let service = Prompt.then(|answer: Answer| ready(answer.or(Answer::Ok(7))));
    row.peer("tower", "then", each!(service => ask(&mut service).await))
        .anchor(1.41);
    let service = FallbackLayer::<u64, u64, Failed>::value(7).layer(Prompt);
    row.peer(
        "tower-resilience",
        "fallback",
        each!(service => ask(&mut service).await),
    )
    .anchor(53.0);
    row.ours(
        "fallback()",
        each!(=> ok().fallback(Fallback::value(7)).await),
    );
}
