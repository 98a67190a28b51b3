//! This crate, its peers and the floor, side by side in one run.
//!
//! ```text
//! cargo run --release -p mainstay-peers              # the table, JSON, docs/PERFORMANCE.md
//! cargo run --release -p mainstay-peers -- --quick   # within a minute, leaves the docs alone
//! cargo run --release -p mainstay-peers -- --check   # an error where a goal is missed
//! cargo run --release -p mainstay-peers -- growth    # how cost grows
//! ```

mod allocations;
mod calls;
mod contended;
mod floor;
mod goals;
mod growth;
mod machine;
mod meter;
mod outcome;
mod plot;
mod report;
mod row;
mod rows;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;
use std::{fs, io};

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

const USAGE: &str = "\
usage: cargo run --release -p mainstay-peers -- [growth] [options]

  --quick           fewer and shorter rounds, within a minute; leaves docs/ alone
  --check           end with an error where a goal is missed; leaves docs/ alone
  --only SUBSTRING  only rows whose name contains it; leaves docs/ alone
  --json PATH       where to write the figures (else target/peers.json)
";

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Options {
    pub(crate) growth: bool,
    pub(crate) quick: bool,
    pub(crate) check: bool,
    pub(crate) only: Option<String>,
    pub(crate) json: Option<PathBuf>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "growth" => options.growth = true,
                "--quick" => options.quick = true,
                "--check" => options.check = true,
                "--only" => options.only = Some(value()?),
                "--json" => options.json = Some(value()?.into()),
                _ => return Err(format!("what is {argument}?")),
            }
        }
        Ok(options)
    }

    /// Only a whole run says enough.
    fn writes_docs(&self) -> bool {
        !self.quick && !self.check && self.only.is_none()
    }
}

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)) {
        Ok(options) if options.growth => match growth::run(&options) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("cannot write the figures: {error}");
                ExitCode::FAILURE
            }
        },
        Ok(options) => peers(&options),
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn peers(options: &Options) -> ExitCode {
    print!("{}", report::table::heading());
    let findings = run::all(options);
    println!("{}", report::table::details(&findings));
    print!("{}", report::table::missed(&findings));
    if let Err(error) = write(options, &findings) {
        eprintln!("cannot write the figures: {error}");
        return ExitCode::FAILURE;
    }
    if options.check && findings.missed().next().is_some() {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn write(options: &Options, findings: &run::Findings) -> io::Result<()> {
    let root = machine::root();
    let path = options.json.clone();
    let path = path.unwrap_or_else(|| root.join("target/peers.json"));
    let figures = report::json::json(findings);
    fs::write(&path, format!("{figures:#}\n"))?;
    println!("figures: {}", path.display());
    if options.writes_docs() {
        let docs = root.join("docs");
        fs::write(docs.join("performance.svg"), report::svg::svg(findings))?;
        let page = report::markdown::page(findings);
        report::markdown::replace(&docs.join("PERFORMANCE.md"), "peers", &page)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(String::from))
    }

    #[test]
    fn arguments_are_understood() {
        let options = parse("--quick --only limit --json a.json").expect("good ones");
        assert!(options.quick && !options.check && !options.growth);
        assert_eq!(options.only.as_deref(), Some("limit"));
        assert_eq!(options.json, Some("a.json".into()));
        assert!(parse("growth --quick").expect("good ones").growth);
        assert!(!options.writes_docs());
        assert!(parse("").expect("good ones").writes_docs());
    }

    #[test]
    fn unknown_arguments_are_refused() {
        assert!(parse("--fast").is_err());
        assert!(parse("--only").is_err());
    }
}
