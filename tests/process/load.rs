//! Many children: nothing is left of them, and they take no longer than elsewhere.

use std::time::Instant;

use futures_util::StreamExt;

use crate::support::*;

#[test]
fn a_thousand_in_a_row_leave_nothing() {
    alone(|| {
        runtime().block_on(async {
            let command = Command::new("true");
            for _ in 0..1000 {
                assert!(command.run().await.unwrap().success());
            }
            assert_eq!(children(), [], "each is reaped when its run returns");
        });
    });
}

#[test]
fn a_hundred_at_once_leave_nothing() {
    alone(|| {
        runtime().block_on(async {
            let runs = (0..100).map(|n| async move {
                let command = Command::shell(format!("echo {n}; sleep 0.2; echo {n} >&2"));
                (n, command.run().await.unwrap())
            });
            for (n, output) in futures_util::future::join_all(runs).await {
                assert!(output.success());
                assert_eq!(output.stdout.text(), format!("{n}\n"));
                assert_eq!(output.stderr.text(), format!("{n}\n"));
            }
            assert_eq!(children(), []);
        });
    });
}

/// Trap 89.
#[test]
fn a_thousand_drops_leave_nothing() {
    alone(|| {
        runtime().block_on(async {
            let command = Command::shell("sleep 300 & sleep 300");
            for _ in 0..1000 {
                drop(command.spawn().unwrap());
            }
        });
    });
}

#[test]
fn a_hundred_dropped_at_once_leave_nothing() {
    alone(|| {
        runtime().block_on(async {
            let command = Command::new("sleep").arg("300");
            let all: Vec<_> = (0..100).map(|_| command.spawn().unwrap()).collect();
            drop(all);
        });
    });
}

/// To be run by hand: `cargo test --release --features process --test process -- --ignored
/// --nocapture`.
#[test]
#[ignore = "measures"]
fn children_in_a_second() {
    const ROUNDS: usize = 1000;
    alone(|| {
        runtime().block_on(async {
            for round in 0..3 {
                let ours = Command::new("true");
                let per_second = |begun: Instant| ROUNDS as f64 / begun.elapsed().as_secs_f64();
                let begun = Instant::now();
                for _ in 0..ROUNDS {
                    ours.run().await.unwrap();
                }
                let row = per_second(begun);
                let begun = Instant::now();
                for _ in 0..ROUNDS {
                    bare().await;
                }
                let bare_row = per_second(begun);
                let begun = Instant::now();
                let runs = (0..ROUNDS).map(|_| async { ours.run().await.unwrap() });
                futures_util::stream::iter(runs)
                    .buffer_unordered(100)
                    .count()
                    .await;
                let crowd = per_second(begun);
                let begun = Instant::now();
                let runs = (0..ROUNDS).map(|_| bare());
                futures_util::stream::iter(runs)
                    .buffer_unordered(100)
                    .count()
                    .await;
                let bare_crowd = per_second(begun);
                println!(
                    "{round}: in a row {row:.0}/s (tokio {bare_row:.0}/s), \
                     100 at once {crowd:.0}/s (tokio {bare_crowd:.0}/s)"
                );
            }
        });
    });
}

/// What tokio alone does, without limits or groups.
async fn bare() {
    let mut command = tokio::process::Command::new("true");
    let output = command.stdin(std::process::Stdio::null()).output().await;
    assert!(output.unwrap().status.success());
}
