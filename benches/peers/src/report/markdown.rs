//! `docs/PERFORMANCE.md`: what a reader needs to believe the figures, and to get them again.

use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use super::{or_dash, short};
use crate::goals::{self, Verdict};
use crate::outcome::Outcome;
use crate::row::Role;
use crate::run::Findings;

const TITLE: &str = "# Performance\n";

/// Replaces what stands between the marks of that name, or adds it at the end. What others wrote
/// into the page stays.
pub(crate) fn replace(path: &Path, name: &str, text: &str) -> io::Result<()> {
    let page = fs::read_to_string(path).unwrap_or_else(|_| TITLE.into());
    fs::write(path, replaced(&page, name, text))
}

fn replaced(page: &str, name: &str, text: &str) -> String {
    let (begin, end) = (
        format!("<!-- {name}: begin -->"),
        format!("<!-- {name}: end -->"),
    );
    let block = format!("{begin}\n{}\n{end}", text.trim_end());
    match (page.split_once(&begin), page.split_once(&end)) {
        (Some((before, _)), Some((_, after))) => format!("{before}{block}{after}"),
        _ => format!("{}\n\n{block}\n", page.trim_end()),
    }
}

/// The part of the page that comes from this run.
pub(crate) fn page(findings: &Findings) -> String {
    let mut text = String::from(INTRODUCTION);
    summary(&mut text, findings);
    text.push_str("\n![Bars: floor, best peer, this crate](performance.svg)\n");
    for (threads, heading) in [(1, ONE_THREAD), (2, TWO_THREADS)] {
        let _ = write!(text, "\n{heading}\n");
        table(&mut text, findings, threads);
    }
    machine(&mut text, findings);
    text.push_str(RULE);
    unlike(&mut text, findings);
    entrants(&mut text, findings);
    text
}

const INTRODUCTION: &str = "\
This page is written by

```text
cargo run --release -p mainstay-peers               # all of it: a minute, on a quiet machine
cargo run --release -p mainstay-peers -- --quick    # within a minute; leaves this page alone
cargo run --release -p mainstay-peers -- --check    # ends with an error where a goal is missed
cargo run --release -p mainstay-peers -- --only pool
```

One run measures this crate, its peers and the floor side by side: the entrants of a row take turns, \
round by round, in one process. The floor is a prototype that does only what must be done \
(`benches/peers/src/floor/`); nobody could use it. Every call succeeds at once unless the row says \
otherwise. What a row calls is in `benches/peers/src/rows/`.

";

const ONE_THREAD: &str = "\
## One thread

Nanoseconds for one call. *Goal* is what was asked for, on this machine (see \"How it is judged\").
";

const TWO_THREADS: &str = "\
## Two threads on one object

Wall time for one operation of either thread, in nanoseconds. The goal is to be no slower than the \
best peer.
";

const RULE: &str = "
## How it is judged

- **One thread.** A body runs in rounds, in a task of a current-thread runtime, and the thread's CPU \
time is taken around each. What noise there is only adds, so the figure is the tenth percentile of \
the rounds, for every entrant alike. Allocations are counted in a round of their own.
- **Goals.** They were set in nanoseconds on a reference machine, on which the same peers, floors and \
primitive operations were measured. Each of these tells how many times as long something takes here; \
the median of those in the row, with the machine's primitives as one more, is the row's scale, and a \
goal is met if our figure is at most the goal times the scale. No code of ours is among them, and one \
entrant that became faster or slower by itself does not move the median.
- **Two threads.** Each is pinned to a core and has a runtime of its own; both start together. Only \
rounds count in which both were at work for nine tenths of the time and kept their cores; the figure \
is their median. The goal is the best peer's figure in the same run, and two figures within a \
twentieth of each other are held to be equal.
- **Again.** A row that misses its goal is measured again, all entrants of it, up to four times (three \
in a quick run), and each entrant keeps its better figure.
- **Aside.** Entrants that do something else are shown, but are nobody's best peer.
- **Build.** The workspace's release profile, the same for all. tower-resilience is built without its \
`metrics` and `tracing`, tokio without its test clock and with its driver for sockets.
";

fn summary(text: &mut String, findings: &Findings) {
    let count = |verdict| {
        let outcomes = findings.outcomes.iter();
        outcomes
            .filter(|one| findings.verdict(one) == verdict)
            .count()
    };
    let (met, missed) = (count(Verdict::Met), count(Verdict::Missed));
    let _ = writeln!(
        text,
        "Of {} goals {met} are met.",
        met + missed + count(Verdict::Unclear)
    );
    for outcome in findings.missed() {
        let judgements = goals::judge(outcome, findings.machine.scale());
        for one in judgements.iter().filter(|one| !one.met()) {
            let _ = writeln!(
                text,
                "- missed: {}, {}: {} where at most {} was asked for ({})",
                outcome.name,
                threads(outcome.threads),
                short(one.measured),
                short(one.limit),
                one.goal,
            );
        }
    }
}

fn threads(threads: usize) -> &'static str {
    if threads == 1 {
        "one thread"
    } else {
        "two threads"
    }
}

fn table(text: &mut String, findings: &Findings, threads: usize) {
    text.push_str(
        "\n| row | floor | best peer | ours | ours / best peer | ours / floor | goal | | allocations |\n\
         |---|---:|---:|---:|---:|---:|---:|---|---:|\n",
    );
    for outcome in findings
        .outcomes
        .iter()
        .filter(|one| one.threads == threads)
    {
        let _ = writeln!(text, "{}", line(outcome, findings));
    }
}

fn line(outcome: &Outcome, findings: &Findings) -> String {
    let judgements = goals::judge(outcome, findings.machine.scale());
    let peer = outcome.best(Role::Peer).map_or_else(
        || "–".into(),
        |peer| format!("{} {}", peer.who.by, short(outcome.figure(peer))),
    );
    let ours = outcome.best(Role::Ours);
    format!(
        "| {} | {} | {peer} | {} | {} | {} | {} | {} | {} |",
        outcome.name,
        or_dash(outcome.least(Role::Floor)),
        or_dash(ours.map(|ours| outcome.figure(ours))),
        or_dash(outcome.ratio_to(Role::Peer)),
        or_dash(outcome.ratio_to(Role::Floor)),
        or_dash(judgements.first().map(|one| one.limit)),
        findings.verdict(outcome).name(),
        or_dash(ours.map(|ours| ours.sample.allocations)),
    )
}

fn machine(text: &mut String, findings: &Findings) {
    let machine = &findings.machine;
    let versions = machine.versions.iter();
    let versions: Vec<_> = versions
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    let _ = write!(
        text,
        "\n## Where and when\n\n{} with {} cores, {}, {}, on {}. Next to this crate: {}.\n\n\
         | primitive operation | here, ns | reference, ns |\n|---|---:|---:|\n",
        machine.processor,
        machine.cores,
        machine.system,
        machine.rustc,
        machine.date,
        versions.join(", "),
    );
    for one in &machine.primitives {
        let _ = writeln!(
            text,
            "| {} | {} | {} |",
            one.name,
            short(one.here),
            one.there
        );
    }
    let _ = writeln!(
        text,
        "\nBy their median this machine takes {:.2} times as long.",
        machine.scale()
    );
}

fn unlike(text: &mut String, findings: &Findings) {
    text.push_str("\n## Where entrants are not alike\n\n");
    for outcome in findings.outcomes.iter().filter(|one| one.threads == 1) {
        if !outcome.notes.is_empty() {
            let _ = writeln!(text, "- *{}.* {}", outcome.name, outcome.notes.join(" "));
        }
    }
}

fn entrants(text: &mut String, findings: &Findings) {
    text.push_str("\n## Every entrant\n");
    for outcome in &findings.outcomes {
        let _ = write!(
            text,
            "\n**{}, {}**\n\n| | entrant | {} | median | allocations | bytes | |\n\
             |---|---|---:|---:|---:|---:|---|\n",
            outcome.name,
            threads(outcome.threads),
            outcome.unit.name(),
        );
        for figure in &outcome.figures {
            let (who, sample) = (&figure.who, &figure.sample);
            let by = if who.role == Role::Floor {
                String::new()
            } else {
                format!("{}: ", who.by)
            };
            let _ = writeln!(
                text,
                "| {} | {by}{} | {} | {} | {} | {} | {} |",
                who.role.name(),
                who.how,
                short(outcome.figure(figure)),
                short(sample.median),
                short(sample.allocations),
                short(sample.bytes),
                who.note.unwrap_or(""),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::findings;

    #[test]
    fn what_others_wrote_stays() {
        let page = replaced("# Performance\n\nmine\n", "peers", "one\n");
        let page = replaced(&page, "growth", "two");
        assert_eq!(
            replaced(&page, "peers", "three"),
            "# Performance\n\nmine\n\n<!-- peers: begin -->\nthree\n<!-- peers: end -->\n\n\
             <!-- growth: begin -->\ntwo\n<!-- growth: end -->\n"
        );
    }

    #[test]
    fn a_page_has_the_table_the_notes_and_what_is_missed() {
        let page = page(&findings());
        for part in [
            "| some row | 5.00 | tokio 40.0 | 10.0 | 0.25 | 2.00 | 12.0 | met | – |",
            "- missed: slow row, one thread: 90.0 where at most 12.0 was asked for",
            "- *some row.* Not alike.",
            "tokio 1.0.0",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
    }
}
