//! The table in a terminal.

use std::fmt::Write as _;

use super::{or_dash, short};
use crate::goals::{self, Judgement, Verdict};
use crate::outcome::Outcome;
use crate::row::Role;
use crate::run::Findings;

/// One row of it.
pub(crate) fn line(outcome: &Outcome, machine: f64) -> String {
    let judgements = goals::judge(outcome, machine);
    let peer = outcome.best(Role::Peer);
    format!(
        "{:<48} x{} {:>8} {:>8} {:<24} {:>8} {:>6} {:>6} {:>8} {}",
        outcome.name,
        outcome.threads,
        or_dash(outcome.least(Role::Floor)),
        or_dash(outcome.least(Role::Peer)),
        peer.map_or("", |peer| peer.who.by),
        or_dash(outcome.least(Role::Ours)),
        or_dash(outcome.ratio_to(Role::Peer)),
        or_dash(outcome.ratio_to(Role::Floor)),
        or_dash(judgements.first().map(|one| one.limit)),
        goals::verdict(outcome, machine).name(),
    )
}

pub(crate) fn heading() -> String {
    format!(
        "{:<48} {:>2} {:>8} {:>8} {:<24} {:>8} {:>6} {:>6} {:>8}\n",
        "one call, ns", "", "floor", "best", "peer", "ours", "/peer", "/floor", "goal"
    )
}

/// Every entrant of every row.
pub(crate) fn details(findings: &Findings) -> String {
    let mut text = String::new();
    for outcome in &findings.outcomes {
        let unit = outcome.unit.name();
        let _ = writeln!(text, "\n{} (x{})", outcome.name, outcome.threads);
        for figure in &outcome.figures {
            let name = format!("{}, {}", figure.who.by, figure.who.how);
            let _ = writeln!(
                text,
                "  {:<6} {name:<58} {:>9} {unit}  median {:>9}  allocations {:>6}, {:>6} B",
                figure.who.role.name(),
                short(outcome.figure(figure)),
                short(figure.sample.median),
                short(figure.sample.allocations),
                short(figure.sample.bytes),
            );
        }
    }
    text
}

/// What is missed, with the figures, and what could not be told.
pub(crate) fn missed(findings: &Findings) -> String {
    let machine = findings.machine.scale();
    let mut text = String::new();
    for outcome in findings.missed() {
        let judgements = goals::judge(outcome, machine);
        for one in judgements.iter().filter(|one| !one.met()) {
            let Judgement {
                goal,
                limit,
                measured,
            } = one;
            let _ = writeln!(
                text,
                "missed: {} (x{}): {} where at most {} was asked for ({goal}), after {} times",
                outcome.name,
                outcome.threads,
                short(*measured),
                short(*limit),
                outcome.times,
            );
        }
    }
    let outcomes = findings.outcomes.iter();
    for outcome in outcomes.filter(|one| findings.verdict(one) == Verdict::Unclear) {
        let (name, threads) = (&outcome.name, outcome.threads);
        let _ = writeln!(
            text,
            "unclear: {name} (x{threads}): the machine was too busy"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goals::Goal;
    use crate::outcome::tests::{figure, outcome};

    #[test]
    fn a_line_says_who_is_the_best_peer() {
        let mut row = outcome(vec![
            figure(Role::Floor, "floor", 5.0, None),
            figure(Role::Peer, "tokio", 40.0, None),
            figure(Role::Peer, "tower", 50.0, None),
            figure(Role::Ours, "mainstay", 10.0, None),
        ]);
        row.goals = vec![Goal::Nanos(12.0)];
        let line = line(&row, 1.0);
        for part in ["some row", "tokio", "0.25", "2.00", "met"] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(!line.contains("tower"));
    }
}
