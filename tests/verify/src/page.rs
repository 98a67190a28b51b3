//! The page: the scorecard and the suites, made of the facts alone.

use std::fmt::Write as _;

use crate::record::{Facts, Record};
use crate::run::Depth;
use crate::suites::{Aim, ROWS, Row, SUITES, Suite, Unit};

const HEAD: &str = "\
# Reliability, measured

Written by `scripts/verify` from what the proofs counted (`docs/reliability.tsv`), never by hand.
`scripts/verify` runs each suite in its short form, as CI does, `scripts/verify --deep` at full
strength; each suite is a script in `scripts/proof`, and shows its last run here. A figure that misses
its aim is marked **missed**, and fails the run.

## Scorecard

| measure | short | aim | full strength | aim |
|---|---|---|---|---|
";

pub fn of(record: &Record) -> String {
    let mut page = HEAD.to_owned();
    for row in ROWS {
        page.push_str(&line(row, record));
    }
    page.push_str("\n## Suites\n\n| suite | proves | short | full strength |\n|---|---|---|---|\n");
    for suite in SUITES {
        let runs = [Depth::Short, Depth::Deep].map(|depth| run(suite, record, depth));
        let [short, deep] = runs;
        let _ = writeln!(
            page,
            "| `{}` | {} | {short} | {deep} |",
            suite.name, suite.proves
        );
    }
    page.push_str("\n## Figures\n");
    for suite in SUITES {
        for depth in [Depth::Short, Depth::Deep] {
            page.push_str(&figures(suite, record, depth));
        }
    }
    page
}

fn line(row: &Row, record: &Record) -> String {
    let cells = [(Depth::Short, row.short), (Depth::Deep, row.deep)].map(|(depth, aim)| {
        let figure = figure(row, record.facts(row.suite, depth));
        format!("{} | {}", judged(row, figure, aim), aimed(row, aim))
    });
    format!("| {} | {} |\n", row.measure, cells.join(" | "))
}

/// What the facts under the row's key come to; of several, like the models of one primitive, the
/// smallest counts.
fn figure(row: &Row, facts: Option<&Facts>) -> Option<u64> {
    let below = format!("{}.", row.key);
    let facts = facts?
        .iter()
        .filter(|(key, _)| *key == row.key || key.starts_with(&below));
    facts.filter_map(|(_, value)| value.parse().ok()).min()
}

fn judged(row: &Row, figure: Option<u64>, aim: Aim) -> String {
    let Some(figure) = figure else {
        return "not run".to_owned();
    };
    let text = shown(row, figure);
    if is_met(figure, aim) {
        text
    } else {
        format!("{text} **missed**")
    }
}

fn is_met(figure: u64, aim: Aim) -> bool {
    match aim {
        Aim::AtLeast(least) => figure >= least,
        Aim::AtMost(most) => figure <= most,
        Aim::Told => true,
    }
}

/// What a run of a suite still owes: figures that miss their aim, or were not counted at all. A
/// suite that could not run here, and says so, owes nothing.
pub fn missed(suite: &str, depth: Depth, facts: &Facts) -> Vec<String> {
    let is_skipped = facts.contains_key(&format!("{suite}.skipped"));
    let mut missed = Vec::new();
    for row in ROWS.iter().filter(|row| row.suite == suite) {
        let aim = match depth {
            Depth::Short => row.short,
            Depth::Deep => row.deep,
        };
        match figure(row, Some(facts)) {
            Some(figure) if is_met(figure, aim) => {}
            Some(figure) => missed.push(format!(
                "{}: {}, aim {}",
                row.measure,
                shown(row, figure),
                aimed(row, aim)
            )),
            None if is_skipped => {}
            None => missed.push(format!("{}: not counted", row.measure)),
        }
    }
    missed
}

fn aimed(row: &Row, aim: Aim) -> String {
    match aim {
        Aim::AtLeast(least) => format!("≥ {}", shown(row, least)),
        Aim::AtMost(most) => format!("≤ {}", shown(row, most)),
        Aim::Told => String::new(),
    }
}

fn shown(row: &Row, figure: u64) -> String {
    match row.unit {
        Unit::Count => spaced(figure),
        Unit::Percent => format!("{}.{:02} %", figure / 100, figure % 100),
    }
}

/// With a space between the thousands.
fn spaced(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

fn run(suite: &Suite, record: &Record, depth: Depth) -> String {
    let Some(facts) = record.facts(suite.name, depth) else {
        return "not run".to_owned();
    };
    let fact = |key: &str| facts.get(key).map_or("?", String::as_str);
    let skipped = format!("{}.skipped", suite.name);
    let own = format!("{}.", suite.name);
    let result = match (fact("passed"), facts.get(&skipped)) {
        ("1", Some(_)) if facts.keys().filter(|key| key.starts_with(&own)).count() == 1 => {
            return "skipped".to_owned();
        }
        ("1", Some(count)) => format!("passed, {count} skipped"),
        ("1", None) => "passed".to_owned(),
        _ => "**failed**".to_owned(),
    };
    format!(
        "{result}, {} s, {} at {}",
        fact("seconds"),
        fact("date"),
        fact("commit")
    )
}

/// Every fact of one run, and what it ran on.
fn figures(suite: &Suite, record: &Record, depth: Depth) -> String {
    let Some(facts) = record.facts(suite.name, depth) else {
        return String::new();
    };
    let own = format!("{}.", suite.name);
    let (told, about): (Vec<_>, Vec<_>) = facts.iter().partition(|(key, _)| key.starts_with(&own));
    let list = |facts: Vec<(&String, &String)>| {
        let lines: Vec<_> = facts
            .iter()
            .map(|(key, value)| format!("`{key}` {}", number(value)))
            .collect();
        lines.join(", ")
    };
    let name = if depth == Depth::Short {
        "short"
    } else {
        "full strength"
    };
    format!(
        "\n**{}, {name}**: {}.\n({})\n",
        suite.name,
        list(told),
        list(about)
    )
}

fn number(value: &str) -> String {
    value.parse().map_or_else(|_| value.to_owned(), spaced)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::facts_of;

    fn page(suite: &str, depth: Depth, facts: &str) -> String {
        let mut record = Record::default();
        record.put(suite, depth, facts_of(facts).unwrap());
        of(&record)
    }

    #[test]
    fn a_figure_that_misses_its_aim_is_marked() {
        let page = page("lab", Depth::Short, "lab.points\t9999\npassed\t1");
        assert!(
            page.contains("| cancellation points tried | 9 999 **missed** | ≥ 10 000 | not run |")
        );
    }

    #[test]
    fn the_smallest_of_several_models_counts() {
        let facts = "models.cases.pool.a\t2000000\nmodels.cases.pool.b\t1000000\npassed\t1";
        assert!(page("models", Depth::Deep, facts).contains("| 1 000 000 | ≥ 1 000 000 |"));
    }

    #[test]
    fn a_skipped_suite_and_a_failed_one_say_so() {
        let skipped = page("miri", Depth::Short, "miri.skipped\t1\npassed\t1");
        assert!(skipped.contains("| skipped |"));
        let partly = page(
            "miri",
            Depth::Short,
            "miri.skipped\t1\nmiri.tests\t5\npassed\t1",
        );
        assert!(partly.contains("passed, 1 skipped"));
        assert!(page("miri", Depth::Short, "passed\t0").contains("**failed**"));
    }

    #[test]
    fn what_is_missed_or_not_counted_is_owed() {
        let owed = |suite, facts| missed(suite, Depth::Short, &facts_of(facts).unwrap());
        assert_eq!(owed("storm", "storm.faults\t5\nstorm.seeds\t16"), [""; 0]);
        assert_eq!(
            owed("storm", "storm.faults\t5\nstorm.seeds\t15"),
            ["seeds of the storm: 15, aim ≥ 16"]
        );
        assert_eq!(owed("storm", "passed\t1").len(), 2);
        assert_eq!(owed("storm", "storm.skipped\t1"), [""; 0]);
    }

    #[test]
    fn percents_have_two_places() {
        assert!(page("coverage", Depth::Deep, "coverage.lines\t9807").contains("98.07 %"));
    }
}
