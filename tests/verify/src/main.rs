//! Runs the proofs in `scripts/proof`, keeps what they count, and writes the scorecard.
//!
//! `scripts/verify` is the way in. Each suite is a script of its own which appends facts (a key
//! and a value) to the file that `MAINSTAY_PROOF` names. The facts of the last run of each suite,
//! short and at full strength, are kept in `docs/reliability.tsv`; `docs/RELIABILITY.md` is made
//! of them and of nothing else.

#![expect(
    clippy::disallowed_methods,
    reason = "times whole scripts, by the real clock"
)]

mod page;
mod readme;
mod record;
mod run;
mod suites;

use std::path::Path;
use std::process::ExitCode;

use record::Record;
use run::Depth;
use suites::SUITES;

const USAGE: &str = "usage: scripts/verify [--deep] [--page] [SUITE...]

Runs every proof in its short form (or those named), then writes docs/RELIABILITY.md. Tools that a
proof needs are installed by rustup and cargo (nightly with miri, cargo-mutants, cargo-deny, ..).
  --deep   at full strength: many hours for all of them
  --page   runs nothing: writes the page again from docs/reliability.tsv";

const FACTS: &str = "docs/reliability.tsv";
const PAGE: &str = "docs/RELIABILITY.md";

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match verify(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// What the command line asks for.
struct Asked<'a> {
    depth: Depth,
    runs: bool,
    suites: Vec<&'a str>,
}

impl<'a> Asked<'a> {
    fn of(args: &'a [String]) -> Result<Self, Failure> {
        let mut asked = Self {
            depth: Depth::Short,
            runs: true,
            suites: Vec::new(),
        };
        for arg in args {
            match arg.as_str() {
                "--deep" => asked.depth = Depth::Deep,
                "--page" => asked.runs = false,
                name if SUITES.iter().any(|suite| suite.name == name) => asked.suites.push(name),
                _ => return Err(USAGE.into()),
            }
        }
        if asked.suites.is_empty() {
            asked.suites = SUITES.iter().map(|suite| suite.name).collect();
        }
        Ok(asked)
    }
}

/// Whether everything that ran has passed.
fn verify(args: &[String]) -> Result<bool, Failure> {
    let asked = Asked::of(args)?;
    let mut record = Record::read(Path::new(FACTS))?;
    let mut failed = Vec::new();
    if asked.runs {
        for name in &asked.suites {
            let outcome = run::suite(name, asked.depth)?;
            if !outcome.passed {
                failed.push(format!("scripts/proof/{name}"));
            }
            failed.extend(page::missed(name, asked.depth, &outcome.facts));
            record.put(name, asked.depth, outcome.facts);
            // A run that is cut off keeps what it has found so far.
            record.write(Path::new(FACTS))?;
        }
    }
    let page = page::of(&record);
    std::fs::write(PAGE, &page)?;
    println!("\n{PAGE} is written");
    for what in &failed {
        println!("FAILED: {what}");
    }
    readme::check(&std::fs::read_to_string("README.md")?, &page)?;
    Ok(failed.is_empty())
}
