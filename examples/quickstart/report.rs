//! The figures of a run, the table of both, and the verdict.

use std::time::Duration;

use crate::client::{Outcome, Record};
use crate::server::{OUTAGE_END, PLAN_END};

/// Back to normal: of the calls of a whole second so many in a hundred are answered well,
/// each within a second.
const GOOD_SHARE: usize = 95;
const SECOND: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(100);
/// The most requests that a call may cost the server on average.
const MAX_REQUESTS_PER_CALL: f64 = 1.2;

/// The figures of one run.
pub(crate) struct Figures {
    calls: usize,
    succeeded: usize,
    failed: usize,
    refused_at_once: usize,
    p50: Duration,
    p99: Duration,
    requests_per_call: f64,
    /// From the end of the outage; `None`: not before the end of the run.
    recovery: Option<Duration>,
    /// Of each second's calls, the share that succeeded.
    success: Vec<f64>,
}

impl Figures {
    pub(crate) fn of(mut records: Vec<Record>, requests: u64) -> Self {
        records.sort_by_key(|record| record.took);
        let count = |outcome| records.iter().filter(|r| r.outcome == outcome).count();
        Self {
            calls: records.len(),
            succeeded: count(Outcome::Succeeded),
            failed: count(Outcome::Failed),
            refused_at_once: count(Outcome::RefusedAtOnce),
            p50: percentile(&records, 50),
            p99: percentile(&records, 99),
            requests_per_call: ratio(requests, records.len()),
            recovery: recovery(&records),
            success: success(&records),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a few thousand")]
fn ratio(part: u64, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Of all calls, however they ended: how long a caller waits to know.
fn percentile(sorted: &[Record], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map_or(Duration::ZERO, |r| r.took)
}

fn due_in(records: &[Record], from: Duration) -> impl Iterator<Item = &Record> {
    records
        .iter()
        .filter(move |r| (from..from + SECOND).contains(&r.at))
}

fn recovery(records: &[Record]) -> Option<Duration> {
    let good = |r: &&Record| r.outcome == Outcome::Succeeded && r.took < SECOND;
    let recovered = |from: &Duration| {
        let all = due_in(records, *from).count();
        due_in(records, *from).filter(good).count() * 100 >= all * GOOD_SHARE
    };
    let mut starts = (0..)
        .map(|step| OUTAGE_END + STEP * step)
        .take_while(|from| *from + SECOND <= PLAN_END);
    starts.find(recovered).map(|from| from - OUTAGE_END)
}

fn success(records: &[Record]) -> Vec<f64> {
    let seconds = 0..PLAN_END.as_secs();
    seconds
        .map(|second| {
            let from = Duration::from_secs(second);
            let good = due_in(records, from).filter(|r| r.outcome == Outcome::Succeeded);
            ratio(good.count() as u64, due_in(records, from).count())
        })
        .collect()
}

/// Prints both runs side by side.
pub(crate) fn print(plain: &Figures, piped: &Figures) {
    let row = |name: &str, cell: &dyn Fn(&Figures) -> String| {
        println!("{name:<34}{:>14}{:>14}", cell(plain), cell(piped));
    };
    row("", &|f| {
        let name = if std::ptr::eq(f, plain) {
            "plain client"
        } else {
            "pipeline"
        };
        name.to_owned()
    });
    row("calls", &|f| f.calls.to_string());
    row("succeeded", &|f| f.succeeded.to_string());
    row("failed", &|f| f.failed.to_string());
    row("refused at once, nothing sent", &|f| {
        f.refused_at_once.to_string()
    });
    row("latency p50, all calls", &|f| span(f.p50));
    row("latency p99, all calls", &|f| span(f.p99));
    row("requests to the server per call", &|f| {
        format!("{:.2}", f.requests_per_call)
    });
    row("time to recover", &|f| {
        f.recovery.map_or("not in the run".into(), span)
    });
    println!("\n{}", curve(&plain.success));
    println!("{}", curve(&piped.success));
}

fn span(span: Duration) -> String {
    if span < SECOND {
        format!("{} ms", span.as_millis())
    } else {
        format!("{:.1} s", span.as_secs_f64())
    }
}

fn curve(shares: &[f64]) -> String {
    shares.iter().map(|s| format!("{:.0} ", s * 100.)).collect()
}

/// What the pipeline did not do better; nothing, if all is well.
pub(crate) fn shortcomings(plain: &Figures, piped: &Figures) -> Vec<&'static str> {
    let recovery = |f: &Figures| f.recovery.unwrap_or(Duration::MAX);
    let checks = [
        (piped.succeeded > plain.succeeded, "more calls must succeed"),
        (piped.p99 < plain.p99, "the p99 latency must be lower"),
        (recovery(piped) < recovery(plain), "it must recover sooner"),
        (
            piped.requests_per_call <= MAX_REQUESTS_PER_CALL,
            "it must not send the server more than 1.2 requests per call",
        ),
    ];
    let failed = checks.iter().filter(|(met, _)| !met);
    failed.map(|(_, criterion)| *criterion).collect()
}
