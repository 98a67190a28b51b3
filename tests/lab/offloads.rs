//! `Offload`: work on real threads. The clock stands while they are at work.

use std::sync::{Arc, Condvar, Mutex};

use mainstay::prelude::*;
use mainstay::testing::{Order, Point};
use mainstay::{Error, Refusal};
use tokio::task::yield_now;

use crate::support::Oops;
use crate::trial::{Trial, trial};

/// One thread, whose work ends when the latch is open.
struct Works {
    offload: Offload,
    latch: Arc<Latch>,
}

#[derive(Default)]
struct Latch(Mutex<bool>, Condvar);

impl Latch {
    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    /// What a thread does.
    fn wait(&self) {
        let is_open = self.0.lock().unwrap();
        drop(self.1.wait_while(is_open, |is_open| !*is_open).unwrap());
    }
}

impl Works {
    /// The thread is free, or at work.
    async fn new(is_busy: bool) -> Self {
        let offload = Offload::builder().threads(1).queue(2).build().unwrap();
        let latch = Arc::<Latch>::default();
        if is_busy {
            let known = Arc::clone(&latch);
            let work = offload.run(move || {
                known.wait();
                Ok::<_, Oops>(7)
            });
            tokio::spawn(async move { work.await.unwrap() });
            while offload.snapshot().running == 0 {
                yield_now().await;
            }
        }
        Self { offload, latch }
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = Vec::new();
    for (name, is_busy) in [("free", false), ("all threads at work", true)] {
        let covers = &["policy::Call"];
        all.push(trial(
            format!("offload: {name}"),
            covers,
            2,
            move |lab| async move {
                let run = |works: Arc<Works>| async move {
                    let latch = Arc::clone(&works.latch);
                    match works
                        .offload
                        .run(move || {
                            latch.wait();
                            Ok::<_, Oops>(7)
                        })
                        .await
                    {
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
                        works.latch.open();
                    };
                    futures_util::future::join(other, holder).await;
                };
                let check = async |works: &Works, _: &Point| {
                    works.latch.open();
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
                lab.run_beside(async || Works::new(is_busy).await, run, actor, check)
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
