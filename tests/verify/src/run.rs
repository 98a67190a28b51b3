//! One suite: its script, its facts, its time.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::Failure;
use crate::record::{Facts, facts_of};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    Short,
    Deep,
}

impl Depth {
    pub fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Deep => "deep",
        }
    }

    pub fn parse(name: &str) -> Result<Self, Failure> {
        [Self::Short, Self::Deep]
            .into_iter()
            .find(|depth| depth.name() == name)
            .ok_or_else(|| format!("no depth: {name:?}").into())
    }
}

pub struct Outcome {
    pub passed: bool,
    pub facts: Facts,
}

/// Runs `scripts/proof/NAME` to its end.
pub fn suite(name: &str, depth: Depth) -> Result<Outcome, Failure> {
    println!("\n== proof: {name} ({})", depth.name());
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
    let folder = std::path::absolute(Path::new(&target).join("proof"))?;
    std::fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{name}.facts"));
    std::fs::write(&file, "")?;
    let begun = Instant::now();
    let status = Command::new(format!("scripts/proof/{name}"))
        .args((depth == Depth::Deep).then_some("--deep"))
        .env("MAINSTAY_PROOF", &file)
        .status()
        .map_err(|error| format!("scripts/proof/{name}: {error}"))?;
    let mut facts = facts_of(&std::fs::read_to_string(&file)?)?;
    let mut tell = |key: &str, value: String| facts.insert(key.to_owned(), value);
    tell("seconds", begun.elapsed().as_secs().to_string());
    tell("passed", u8::from(status.success()).to_string());
    tell("date", line_of("date", &["-u", "+%F"]));
    tell("commit", commit());
    tell("rustc", line_of("rustc", &["--version"]));
    tell("cores", std::thread::available_parallelism()?.to_string());
    Ok(Outcome {
        passed: status.success(),
        facts,
    })
}

/// The commit that was tried, with a `+` if the tree holds more.
fn commit() -> String {
    let commit = line_of("git", &["rev-parse", "--short", "HEAD"]);
    let more = line_of("git", &["status", "--porcelain", "--", ".", ":!docs"]);
    if more.is_empty() {
        commit
    } else {
        commit + "+"
    }
}

/// The first line that a command prints; nothing where there is no such command.
pub fn line_of(command: &str, args: &[&str]) -> String {
    let output = Command::new(command).args(args).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}
