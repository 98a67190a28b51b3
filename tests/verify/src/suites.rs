//! What there is to prove: the suites, and the rows of the scorecard.

/// A script in `scripts/proof`.
pub struct Suite {
    pub name: &'static str,
    pub proves: &'static str,
}

/// In the order in which they run: the quick ones first.
pub const SUITES: &[Suite] = &[
    Suite {
        name: "security",
        proves: "licences, sources, advisories; no unsafe code; secrets stay hidden; hostile input stays bounded",
    },
    Suite {
        name: "lab",
        proves: "every public future, cut at every poll, in the states of its policy: by a drop, a wake-up and a drop, a time limit, an abort; those of a remote service by a drop and an abort",
    },
    Suite {
        name: "faults",
        proves: "a panic in everything that users supply; refused sizes; clock jumps",
    },
    Suite {
        name: "models",
        proves: "random histories, with a clock that jumps and goes back, against slow references",
    },
    Suite {
        name: "storm",
        proves: "a whole house under outages, brown-outs, cancellations and panics, from seeds",
    },
    Suite {
        name: "loom",
        proves: "schedules of what threads share in the core: all of two threads, or bounded; tests/loom.txt has the reason for what has no model",
    },
    Suite {
        name: "shuttle",
        proves: "random schedules at await points, with tokio's real primitives",
    },
    Suite {
        name: "miri",
        proves: "no undefined behaviour, no data race, no leak; all unit tests with one seed, those of what is shared with several",
    },
    Suite {
        name: "tsan",
        proves: "no data race between real threads",
    },
    Suite {
        name: "traps",
        proves: "each known trap has tests that fail when it is put back",
    },
    Suite {
        name: "mutants",
        proves: "the tests of the pure states notice every change",
    },
    Suite {
        name: "coverage",
        proves: "which lines the tests reach",
    },
    Suite {
        name: "flakes",
        proves: "the tests pass every time, also on busy processors",
    },
];

/// How a figure is judged.
#[derive(Clone, Copy)]
pub enum Aim {
    AtLeast(u64),
    AtMost(u64),
    /// A figure that is told, not judged.
    Told,
}

/// A line of the scorecard: what all facts whose key is `key`, or begins with `key.`, come to.
pub struct Row {
    pub measure: &'static str,
    pub suite: &'static str,
    pub key: &'static str,
    pub short: Aim,
    pub deep: Aim,
    pub unit: Unit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Count,
    /// Hundredths of a percent.
    Percent,
}

const fn row(
    measure: &'static str,
    suite: &'static str,
    key: &'static str,
    short: Aim,
    deep: Aim,
) -> Row {
    Row {
        measure,
        suite,
        key,
        short,
        deep,
        unit: Unit::Count,
    }
}

use Aim::{AtLeast, AtMost, Told};

const CASES_SHORT: Aim = AtLeast(10_000);
const CASES_DEEP: Aim = AtLeast(1_000_000);

const fn model(measure: &'static str, key: &'static str) -> Row {
    row(measure, "models", key, CASES_SHORT, CASES_DEEP)
}

pub const ROWS: &[Row] = &[
    row(
        "cancellation points tried",
        "lab",
        "lab.points",
        AtLeast(10_000),
        AtLeast(10_000),
    ),
    row(
        "public futures in the laboratory",
        "lab",
        "lab.futures",
        Told,
        Told,
    ),
    row(
        "of them tried in two ways only",
        "lab",
        "lab.briefly",
        Told,
        Told,
    ),
    row("states of their policies", "lab", "lab.states", Told, Told),
    row(
        "loom: types and protocols modelled",
        "loom",
        "loom.models",
        Told,
        Told,
    ),
    row(
        "loom: interleavings",
        "loom",
        "loom.interleavings",
        Told,
        AtLeast(10_000_000),
    ),
    row(
        "shuttle: schedules",
        "shuttle",
        "shuttle.schedules",
        AtLeast(100_000),
        AtLeast(1_000_000),
    ),
    row("Miri: tests run", "miri", "miri.tests", Told, Told),
    row(
        "Miri: tests left out",
        "miri",
        "miri.skipped_tests",
        Told,
        Told,
    ),
    row(
        "Miri: seeds of the tests of what is shared",
        "miri",
        "miri.seeds",
        AtLeast(1),
        AtLeast(16),
    ),
    row(
        "ThreadSanitizer: tests run",
        "tsan",
        "tsan.tests",
        Told,
        Told,
    ),
    model("model cases: circuit breaker", "models.cases.breaker"),
    model("model cases: rate limiter", "models.cases.limiter"),
    model("model cases: retry budget", "models.cases.budget"),
    model("model cases: bulkhead", "models.cases.bulkhead"),
    model("model cases: pool", "models.cases.pool"),
    model("model cases: queue", "models.cases.queue"),
    model("model cases: back-off", "models.cases.backoff"),
    row(
        "sites of user code where a panic was injected",
        "faults",
        "faults.sites",
        Told,
        Told,
    ),
    row(
        "faults in the storm",
        "storm",
        "storm.faults",
        Told,
        AtLeast(1_000_000),
    ),
    row(
        "seeds of the storm",
        "storm",
        "storm.seeds",
        AtLeast(16),
        AtLeast(16),
    ),
    row(
        "traps put back and found by their tests",
        "traps",
        "traps.proved",
        AtLeast(3),
        AtLeast(92),
    ),
    row("traps that cannot arise", "traps", "traps.none", Told, Told),
    row("mutants tried", "mutants", "mutants.tried", Told, Told),
    row(
        "of them stopped, since their tests did not end",
        "mutants",
        "mutants.stopped",
        Told,
        Told,
    ),
    row(
        "mutants that do not build",
        "mutants",
        "mutants.unviable",
        Told,
        Told,
    ),
    row(
        "mutants that no test notices, with no reason written",
        "mutants",
        "mutants.survived",
        AtMost(0),
        AtMost(0),
    ),
    row(
        "mutants that change nothing, with the reason written",
        "mutants",
        "mutants.excused",
        Told,
        Told,
    ),
    Row {
        measure: "lines covered",
        suite: "coverage",
        key: "coverage.lines",
        short: Told,
        deep: AtLeast(9_800),
        unit: Unit::Percent,
    },
    row(
        "runs of each binary of tests, at least",
        "flakes",
        "flakes.runs",
        AtLeast(3),
        AtLeast(1_000),
    ),
    row(
        "runs that failed",
        "flakes",
        "flakes.failed",
        AtMost(0),
        AtMost(0),
    ),
    row(
        "checks of security",
        "security",
        "security.checks",
        Told,
        Told,
    ),
];
