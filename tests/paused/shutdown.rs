//! Shutdowns together with pipelines and scopes, over the public API.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use mainstay::pool::Pool;
use mainstay::prelude::*;
use mainstay::queue::Queue;
use mainstay::scope::{Scope, Tracker};
use mainstay::shutdown::{Shutdown, Status};
use mainstay::{Pipeline, Refusal};
use tokio::time::{Instant, sleep};

use crate::support::Oops;

const SECOND: Duration = Duration::from_secs(1);

async fn job(span: Duration) -> Result<(), Infallible> {
    sleep(span).await;
    Ok(())
}

/// An earlier stage that drains may still push into a later one.
#[tokio::test(start_paused = true)]
async fn a_stage_feeds_the_next_until_it_has_drained() {
    let (intake, jobs) = (Scope::new(), Scope::new());
    let feed = jobs.handle();
    intake
        .spawn("feeds", async move {
            for n in 0..4 {
                sleep(SECOND).await;
                feed.spawn(format!("job {n}"), job(2 * SECOND))?;
            }
            Ok::<_, Refusal>(())
        })
        .unwrap();
    let shutdown = Shutdown::builder()
        .component("intake", intake)
        .component("jobs", jobs)
        .build()
        .unwrap();
    shutdown.request();
    let report = shutdown.run().await;
    assert!(report.is_orderly(), "{report}");
    assert_eq!(report.components[1].counts.completed, 4);
    assert_eq!(report.duration, 6 * SECOND);
}

/// What a server does: requests are tracked, and cut short by the shutdown's token.
#[tokio::test(start_paused = true)]
async fn requests_are_counted_refused_and_cut_short() {
    let requests = Arc::new(Tracker::new());
    let calls = Pipeline::builder("calls")
        .timeout(20 * SECOND)
        .build()
        .unwrap();
    let calls = Arc::new(calls);
    let shutdown = Shutdown::builder()
        .deadline(10 * SECOND)
        .component("requests", Arc::clone(&requests))
        .build()
        .unwrap();
    let mut ends = Vec::new();
    for n in [1, 15] {
        let (calls, token) = (Arc::clone(&calls), shutdown.token());
        let request = async move {
            let call = calls.call(|| async move {
                sleep(n * SECOND).await;
                Ok::<_, Oops>(n)
            });
            tokio::select! {
                result = call => result.is_ok(),
                () = async { token.cancelled().await; sleep(3 * SECOND).await } => false,
            }
        };
        ends.push(tokio::spawn(requests.track_owned(request).unwrap()));
    }
    shutdown.request();
    let start = Instant::now();
    let report = shutdown.run().await;
    assert_eq!(start.elapsed(), 3 * SECOND);
    assert!(requests.enter().is_err());
    assert_eq!(report.components[0].status, Status::Completed);
    assert_eq!(report.components[0].at_start, 2);
    assert!(ends.remove(0).await.unwrap());
    assert!(!ends.remove(0).await.unwrap());
}

/// A work loop that looks at the token between two rounds, and protects each of them.
#[tokio::test(start_paused = true)]
async fn a_loop_ends_after_the_round_that_it_has_begun() {
    let shutdown = Shutdown::builder().build().unwrap();
    let rounds = tokio::spawn({
        let shutdown = shutdown.clone();
        async move {
            let mut rounds = 0;
            while let Ok(_section) = shutdown.protect() {
                sleep(2 * SECOND).await;
                rounds += 1;
            }
            rounds
        }
    });
    sleep(5 * SECOND).await;
    shutdown.request();
    let report = shutdown.run().await;
    assert_eq!((report.duration, report.sections_held), (SECOND, 0));
    assert_eq!(rounds.await.unwrap(), 3);
}

/// It ends by its pipeline's time limit, and the shutdown goes on behind it.
#[tokio::test(start_paused = true)]
async fn a_time_limit_around_a_run_does_not_end_the_shutdown() {
    let jobs = Scope::new();
    jobs.spawn("job", job(5 * SECOND)).unwrap();
    let shutdown = Shutdown::builder().component("jobs", jobs).build().unwrap();
    shutdown.request();
    let run = async { Ok::<_, Infallible>(shutdown.run().await) };
    assert!(run.timeout(SECOND).await.unwrap_err().is_timed_out());
    let report = shutdown.run().await;
    assert_eq!((report.duration, report.is_orderly()), (5 * SECOND, true));
}

/// A whole program: what comes in feeds a queue, whose handler uses a pool.
#[tokio::test(start_paused = true)]
async fn intake_queue_and_pool_close_in_order() {
    let pool = Pool::builder(|| async { Ok::<_, Infallible>(()) })
        .max_size(2)
        .build()
        .unwrap();
    let sessions = pool.clone();
    let queue = Queue::builder()
        .workers(2)
        .build(move |n: u64| {
            let sessions = sessions.clone();
            async move {
                let work = sessions.use_with(async |()| {
                    sleep(SECOND).await;
                    Ok::<_, Infallible>(n)
                });
                work.await
            }
        })
        .unwrap();
    let intake = Scope::new();
    let feed = queue.clone();
    intake
        .spawn("feeds", async move {
            for n in 0..6 {
                let ticket = feed.push(n).await.map_err(|rejected| rejected.reason)?;
                ticket.detach();
            }
            Ok::<_, Refusal>(())
        })
        .unwrap();
    let shutdown = Shutdown::builder()
        .component("intake", intake)
        .component("queue", queue)
        .component("sessions", pool.clone())
        .build()
        .unwrap();
    shutdown.request();
    let report = shutdown.run().await;
    assert!(report.is_orderly(), "{report}");
    assert_eq!(report.components[1].counts.completed, 6);
    assert_eq!(report.components[2].counts.completed, 2);
    assert_eq!(report.duration, 3 * SECOND);
    assert_eq!(
        pool.get().await.unwrap_err().refusal(),
        Some(Refusal::ShutDown)
    );
}

/// Of a queue that cannot finish in time the rest is cancelled, then aborted.
#[tokio::test(start_paused = true)]
async fn a_queue_with_too_much_to_do_ends_at_the_deadline() {
    let queue = Queue::builder().workers(1).build(job).unwrap();
    for _ in 0..3 {
        let ticket = queue.try_push(60 * SECOND).unwrap();
        ticket.detach();
    }
    let shutdown = Shutdown::builder()
        .deadline(10 * SECOND)
        .component("queue", queue.clone())
        .build()
        .unwrap();
    shutdown.request();
    let report = shutdown.run().await;
    let told = &report.components[0];
    assert_eq!(told.status, Status::Cancelled, "{report}");
    assert_eq!((told.counts.cancelled, told.counts.in_flight), (3, 0));
    assert_eq!(report.duration, 8 * SECOND);
    assert_eq!(queue.snapshot().cancelled, 3);
}
