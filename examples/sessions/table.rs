//! What a run has come to, as a table.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use mainstay::session::CommandResult;
use mainstay::{Error, session::SessionError};

use super::faulty::Tally;

/// How the commands ended, by name.
#[derive(Default)]
pub(crate) struct Outcomes {
    pub(crate) names: BTreeMap<String, u32>,
    pub(crate) commands: u32,
}

impl Outcomes {
    pub(crate) fn add(&mut self, outcome: &Result<CommandResult, Error<SessionError>>) {
        let name = match outcome {
            Ok(result) if result.success => "done".to_owned(),
            Ok(result) => format!("failed: {}", result.error_message),
            Err(Error::Operation { error, .. }) => format!("error: {}", error.kind()),
            Err(Error::TimedOut { .. }) => "error: timed out".to_owned(),
            Err(Error::Refused { reason, .. }) => format!("refused: {reason}"),
            Err(_) => "given up".to_owned(),
        };
        self.commands += 1;
        *self.names.entry(name).or_default() += 1;
    }

    pub(crate) fn as_text(&self) -> String {
        let mut text = format!("{:<44}{:>6}\n", "commands", self.commands);
        for (name, count) in &self.names {
            let _ = writeln!(text, "  {name:<42}{count:>6}");
        }
        text
    }
}

pub(crate) fn calls(tallies: &BTreeMap<&'static str, Tally>) -> String {
    let mut text = format!(
        "{:<8}{:>7}{:>10}{:>13}{:>6}{:>6}{:>10}{:>10}\n",
        "calls", "made", "throttled", "unavailable", "lost", "slow", "mean", "longest"
    );
    for (kind, tally) in tallies {
        let mean = tally.took / u32::try_from(tally.answered.max(1)).unwrap_or(u32::MAX);
        let _ = writeln!(
            text,
            "  {kind:<6}{:>7}{:>10}{:>13}{:>6}{:>6}{:>10}{:>10}",
            tally.calls,
            tally.throttled,
            tally.unavailable,
            tally.lost,
            tally.slow,
            span(mean),
            span(tally.longest),
        );
    }
    text
}

fn span(span: Duration) -> String {
    format!("{:.1}ms", span.as_secs_f64() * 1000.0)
}
