//! This crate, its peers and the floor, side by side in one run.
//!
//! ```text
//! cargo run --release -p mainstay-peers              # the table, JSON, docs/PERFORMANCE.md
//! cargo run --release -p mainstay-peers -- --quick   # within a minute, leaves the docs alone
//! cargo run --release -p mainstay-peers -- --check   # an error where a goal is missed
//! cargo run --release -p mainstay-peers -- growth    # how cost grows
//! ```

mod allocations;
mod growth;
mod meter;

use std::path::PathBuf;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

const USAGE: &str = "\
usage: cargo run --release -p mainstay-peers -- [growth] [options]

  --quick           fewer and shorter rounds, within a minute; leaves docs/ alone
  --check           end with an error where a goal is missed
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
}

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)) {
        Ok(options) if options.growth => {
            growth::run(&options);
            ExitCode::SUCCESS
        }
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
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
    }

    #[test]
    fn unknown_arguments_are_refused() {
        assert!(parse("--fast").is_err());
        assert!(parse("--only").is_err());
    }
}
