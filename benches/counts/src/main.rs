//! Instructions per call of every hot path, held to the stored baseline: `scripts/counts`.
//!
//! An instruction count does not depend on what else the machine does, so it can be a gate where
//! a time cannot. This program starts itself under callgrind, which writes down a total whenever
//! `laps::lap` is entered; see there how a row becomes a number.
//!
//! ```text
//! scripts/counts            compare with benches/counts/baseline.txt; fails above 3 % either way
//! scripts/counts --bless    write the baseline anew
//! scripts/counts --all      compare, and print every row
//! ```
//!
//! Counts depend on the compiler, the C library and the emulated processor. The baseline says
//! which ones it was made with; with others nothing is compared, which is said and counted, and
//! fails where the environment variable `CI` is set. A dependency's version is not among them:
//! it is chosen by `Cargo.lock`, so what it costs is a change like any other.

mod baseline;
mod callgrind;
mod laps;
mod rows;
mod setting;

use std::path::Path;
use std::process::ExitCode;

use baseline::{Baseline, Verdict};

/// How far a row may move, in either direction, before the commit has to explain it.
const TOLERANCE_PERCENT: f64 = 3.0;

const USAGE: &str = "usage: scripts/counts [--bless | --all]";

type AnyError = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let outcome = match std::env::args().nth(1).as_deref() {
        None => check(false),
        Some("--all") => check(true),
        Some("--bless") => bless(),
        Some(callgrind::INSIDE) => rows::run().map(|()| true),
        Some(_) => Err(USAGE.into()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("counts: {error}");
            ExitCode::FAILURE
        }
    }
}

fn baseline_file() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.txt"))
}

fn measure() -> Result<Baseline, AnyError> {
    let measured = callgrind::measure()?;
    Ok(Baseline {
        setting: setting::Setting::here(&measured.processor)?,
        rows: measured.rows,
    })
}

fn bless() -> Result<bool, AnyError> {
    let measured = measure()?;
    std::fs::write(baseline_file(), measured.to_string())?;
    println!("counts: wrote {} rows", measured.rows.len());
    Ok(true)
}

fn check(all: bool) -> Result<bool, AnyError> {
    let stored: Baseline = std::fs::read_to_string(baseline_file())?.parse()?;
    let measured = measure()?;
    let verdicts = stored.compare(&measured, TOLERANCE_PERCENT);
    let moved: Vec<_> = verdicts.iter().filter(|v| v.fails()).collect();
    if all {
        verdicts.iter().for_each(|verdict| println!("{verdict}"));
    }
    let other = measured.setting.differences(&stored.setting);
    if !other.is_empty() {
        return Ok(not_compared(&other, verdicts.len()));
    }
    if !all {
        moved.iter().for_each(|verdict| println!("{verdict}"));
    }
    Ok(summary(&moved, verdicts.len()))
}

/// Loud, and no false alarm for a contributor; but where changes are let in it must be settled.
fn not_compared(differences: &[String], rows: usize) -> bool {
    println!("counts: NOT COMPARED: {rows} of {rows} rows. The baseline was made with");
    differences.iter().for_each(|line| println!("    {line}"));
    let strict = std::env::var_os("CI").is_some();
    if strict {
        println!(
            "CI is set, so this fails: run scripts/counts --bless and name the cause in the commit."
        );
    }
    !strict
}

fn summary(moved: &[&Verdict], rows: usize) -> bool {
    if moved.is_empty() {
        println!("counts: all {rows} rows within {TOLERANCE_PERCENT} % of the baseline");
        return true;
    }
    println!(
        "counts: {} of {rows} rows moved by more than {TOLERANCE_PERCENT} %.\n\
         If that is meant, run scripts/counts --bless, commit the baseline together with the\n\
         change, and say in the commit why; a gain is written down the same way.",
        moved.len()
    );
    false
}
