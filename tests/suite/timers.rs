//! Time limits by the thousand, on the production clock.
use std::future::pending;
use std::io;
use std::time::{Duration, Instant};

use mainstay::prelude::*;
use tokio::runtime::{Builder, Runtime};

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

fn workers(threads: usize) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder
        .enable_time()
        .worker_threads(threads)
        .build()
        .unwrap()
}

/// Some end in time, some are cut, some are given up.
async fn one_of_the_crowd(n: u64) {
    for round in 0..20 {
        let span = Duration::from_micros((n * 37 + round * 911) % 4000);
        let start = Instant::now();
        match (n + round) % 3 {
            0 => {
                let done = async {
                    tokio::time::sleep(span).await;
                    io::Result::Ok(n)
                };
                assert_eq!(done.timeout(LONG).await.unwrap(), n);
            }
            1 => {
                let cut = pending::<io::Result<()>>().timeout(span).await;
                assert!(cut.unwrap_err().is_timed_out());
                // Two clocks: by a millionth they may differ.
                assert!(start.elapsed() + MS / 10 >= span);
            }
            _ => {
                let given_up = pending::<io::Result<()>>().timeout(LONG);
                assert!(tokio::time::timeout(span, given_up).await.is_err());
            }
        }
    }
}

#[test]
fn a_crowd_of_limits_on_many_threads_ends_as_it_should() {
    let runtime = workers(4);
    let tasks: Vec<_> = (0..1000)
        .map(|n| runtime.spawn(one_of_the_crowd(n)))
        .collect();
    runtime.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn runtimes_that_end_amid_their_limits_hold_nobody_up() {
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                for _ in 0..50 {
                    let runtime = workers(2);
                    for n in 0..50 {
                        runtime.spawn(one_of_the_crowd(n));
                    }
                    runtime.block_on(async {
                        let cut = pending::<io::Result<()>>().timeout(MS).await;
                        assert!(cut.unwrap_err().is_timed_out());
                    });
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}
