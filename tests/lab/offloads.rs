//! `Offload`: work on real threads. The clock stands while they are at work.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use mainstay::prelude::*;
use mainstay::testing::{Order, Point};
use mainstay::{Error, Refusal};
use tokio::task::yield_now;

use crate::support::Oops;
use crate::trial::{Trial, trial};

/// One thread, and who keeps it at work.
struct Works {
    offload: Offload,
    hold: Mutex<Option<Sender<()>>>,
}

impl Works {
    /// Nobody is at work, or somebody is until he is told.
    async fn new(is_held: bool) -> Self {
        let offload = Offload::builder().threads(1).queue(2).build().unwrap();
        let (hold, until): (_, Receiver<()>) = channel();
        if is_held {
            let until = Mutex::new(until);
            let work = offload.run(move || {
                let _gone = until.lock().unwrap().recv();
                Ok::<_, Oops>(0)
            });
            tokio::spawn(async move { work.await.unwrap() });
            while offload.snapshot().running == 0 {
                yield_now().await;
            }
        }
        Self {
            offload,
            hold: Mutex::new(Some(hold)),
        }
    }

    /// Ends the work, and waits for the thread: what comes then is the same each time.
    fn release(&self) {
        if self.hold.lock().unwrap().take().is_some() {
            while self.offload.snapshot().running > 0 {
                std::thread::yield_now();
            }
        }
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = Vec::new();
    for (name, is_held) in [("free", false), ("queued", true)] {
        let covers = &["policy::Call"];
        all.push(trial(
            format!("offload: {name}"),
            covers,
            2,
            move |lab| async move {
                let run = |works: Arc<Works>| async move {
                    match works.offload.run(|| Ok::<_, Oops>(7)).await {
                        Ok(number) => assert_eq!(number, 7),
                        Err(error) => is_full(&error),
                    }
                };
                let actor = |works: Arc<Works>| async move {
                    let other = async {
                        let again = works.offload.run_repeatable(|| Ok::<_, Oops>(7));
                        if let Err(error) = again.await {
                            is_full(&error);
                        }
                    };
                    let holder = async {
                        yield_now().await;
                        works.release();
                    };
                    futures_util::future::join(other, holder).await;
                };
                let check = async |works: &Works, _: &Point| {
                    works.release();
                    for _ in 0..2 {
                        assert_eq!(works.offload.run(|| Ok::<_, Oops>(7)).await, Ok(7));
                    }
                    let seen = works.offload.snapshot();
                    assert_eq!((seen.queued, seen.abandoned), (0, 0));
                    while works.offload.snapshot().running > 0 {
                        yield_now().await;
                    }
                };
                // The neighbour must not wait for the cut: nothing would end the work that stops the
                // clock.
                let lab = lab.shuffles(0).orders([Order::Between, Order::First]);
                lab.run_beside(async || Works::new(is_held).await, run, actor, check)
                    .await
            },
        ));
    }
    all
}

#[track_caller]
fn is_full(error: &Error<Oops>) {
    assert!(
        matches!(error.refusal(), Some(Refusal::BulkheadFull { .. })),
        "{error}"
    );
}
