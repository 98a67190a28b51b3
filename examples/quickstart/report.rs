//! The figures of a run, the table of both, and the verdict.

use std::time::Duration;

use crate::client::PATIENCE;
use crate::load::{Outcome, Record};
use crate::server::{OUTAGE_END, PLAN, PLAN_END};

/// A good call succeeds within half of its caller's patience.
const GOOD: Duration = Duration::from_millis(PATIENCE.as_secs() * 500);
/// Back to normal: so many in a hundred of a whole second's calls are good.
const NORMAL: usize = 95;
const SECOND: Duration = Duration::from_secs(1);
/// Of the curves: two columns for each second.
const HALF: Duration = Duration::from_millis(500);
const STEP: Duration = Duration::from_millis(100);
/// The most requests that a call may cost the server on average.
const MAX_REQUESTS_PER_CALL: f64 = 1.2;

/// The figures of one run.
pub(crate) struct Figures {
    title: &'static str,
    calls: usize,
    succeeded: usize,
    good: usize,
    failed: usize,
    refused_at_once: usize,
    p50: Duration,
    p99: Duration,
    requests_per_call: f64,
    /// From the end of the outage; `None`: not before the end of the run.
    recovery: Option<Duration>,
    curve: String,
}

impl Figures {
    pub(crate) fn of(title: &'static str, mut records: Vec<Record>, requests: u64) -> Self {
        records.sort_by_key(|record| record.took);
        let count = |outcome| records.iter().filter(|r| r.outcome == outcome).count();
        Self {
            title,
            calls: records.len(),
            succeeded: count(Outcome::Succeeded),
            good: records.iter().filter(|r| is_good(r)).count(),
            failed: count(Outcome::Failed),
            refused_at_once: count(Outcome::RefusedAtOnce),
            p50: percentile(&records, 50),
            p99: percentile(&records, 99),
            requests_per_call: ratio(requests, records.len()),
            recovery: recovery(&records),
            curve: curve(&records),
        }
    }

    /// One line about the run.
    pub(crate) fn summary(&self) -> String {
        format!("{} of {} calls succeeded", self.succeeded, self.calls)
    }
}

fn is_good(record: &Record) -> bool {
    record.outcome == Outcome::Succeeded && record.took <= GOOD
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

/// How many of the calls due in a span are good, in a hundred.
fn good_percent(records: &[Record], from: Duration, span: Duration) -> usize {
    let due = records
        .iter()
        .filter(|r| (from..from + span).contains(&r.at));
    let (good, all) = due.fold((0, 0), |(good, all), r| {
        (good + usize::from(is_good(r)), all + 1)
    });
    good * 100 / all.max(1)
}

fn steps(from: Duration, step: Duration, to: Duration) -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(from), move |at| Some(*at + step)).take_while(move |at| *at < to)
}

fn recovery(records: &[Record]) -> Option<Duration> {
    steps(OUTAGE_END, STEP, PLAN_END.saturating_sub(SECOND))
        .find(|from| good_percent(records, *from, SECOND) >= NORMAL)
        .map(|from| from.saturating_sub(OUTAGE_END))
}

fn curve(records: &[Record]) -> String {
    steps(Duration::ZERO, HALF, PLAN_END)
        .map(|from| match good_percent(records, from, HALF) {
            0..2 => '.',
            2..15 => '▁',
            15..30 => '▂',
            30..45 => '▃',
            45..60 => '▄',
            60..75 => '▅',
            75..90 => '▆',
            90..98 => '▇',
            _ => '█',
        })
        .collect()
}

/// Prints both runs side by side.
pub(crate) fn print(plain: &Figures, piped: &Figures) {
    let row = |name: &str, cell: &dyn Fn(&Figures) -> String| {
        println!("{name:<30}{:>15}{:>15}", cell(plain), cell(piped));
    };
    println!();
    row("", &|f| f.title.to_owned());
    row("calls", &|f| f.calls.to_string());
    row("succeeded", &|f| f.succeeded.to_string());
    row(&format!("  within {}", span(GOOD)), &|f| f.good.to_string());
    row("failed", &|f| f.failed.to_string());
    row("refused at once, nothing sent", &|f| {
        f.refused_at_once.to_string()
    });
    row("latency of all calls, p50", &|f| span(f.p50));
    row("latency of all calls, p99", &|f| span(f.p99));
    row("requests sent per call", &|f| {
        format!("{:.2}", f.requests_per_call)
    });
    row("time to recover", &recovery_of);
    print_curves(&[plain, piped]);
}

fn print_curves(runs: &[&Figures]) {
    println!("\nSuccess within {}, each half second:", span(GOOD));
    println!("{:<15}{}", "", ruler().trim_end());
    for run in runs {
        println!("{:<15}{}", run.title, run.curve);
    }
}

/// The fault plan over the curves.
fn ruler() -> String {
    let mut from = 0;
    let marks = PLAN.map(|(until, fault)| {
        let width = usize::try_from((until - from) * 2).unwrap_or(0);
        from = until;
        format!("{:<width$}", format!("|{}", fault.short()))
    });
    marks.concat()
}

fn span(span: Duration) -> String {
    if span < SECOND {
        format!("{} ms", span.as_millis())
    } else {
        format!("{:.1} s", span.as_secs_f64())
    }
}

fn recovery_of(figures: &Figures) -> String {
    figures.recovery.map_or("not in this run".into(), span)
}

/// What the pipeline did not do better; nothing, if all is well. The margins are such that
/// two runs of the same client do not meet them by chance.
pub(crate) fn shortcomings(plain: &Figures, piped: &Figures) -> Vec<&'static str> {
    let recovery = |f: &Figures| f.recovery.unwrap_or(PLAN_END);
    let checks = [
        (
            piped.succeeded >= plain.succeeded + plain.calls / 20,
            "of all calls 5 % more must succeed",
        ),
        (
            piped.p99 <= plain.p99.mul_f64(0.9),
            "the p99 latency must be lower by 10 %",
        ),
        (
            recovery(piped) <= recovery(plain) / 2,
            "it must recover in half of the time",
        ),
        (
            piped.requests_per_call <= MAX_REQUESTS_PER_CALL,
            "at most 1.2 requests may be sent per call",
        ),
    ];
    let unmet = checks.iter().filter(|(met, _)| !met);
    unmet.map(|(_, criterion)| *criterion).collect()
}

/// What happened, in two sentences.
pub(crate) fn story(plain: &Figures, piped: &Figures) -> String {
    format!(
        "The server works off all that it has accepted, also for callers who have left.\n\
         The plain client kept it busy with that: back to normal after {}.\n\
         The pipeline stopped sending: {} calls refused at once, back after {}.",
        recovery_of(plain),
        piped.refused_at_once,
        recovery_of(piped),
    )
}
