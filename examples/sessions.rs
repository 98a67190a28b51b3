//! 200 commands over a pool of 5 sessions on this machine, while the provider throttles, fails,
//! loses replies and is slow to delete. In the end there is a table, and no session is left:
//! also after ctrl-c in the middle.
//!
//! `cargo run --release --example sessions`; `SEED=7` makes it another run. A second ctrl-c ends
//! it at once: what is left then, the next run takes away.

#[path = "sessions/faulty.rs"]
mod faulty;
#[path = "sessions/table.rs"]
mod table;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use faulty::{Faulty, Tallies, Tally};
use indicatif::{ProgressBar, ProgressStyle};
use mainstay::circuit_breaker::StateChange;
use mainstay::retry::Backoff;
use mainstay::session::{Command, CreateSession, EmbeddedProvider, SessionClient, SessionPool};
use mainstay::shutdown::Shutdown;
use mainstay::{CircuitBreaker, Error, Refusal};
use table::Outcomes;

const COMMANDS: usize = 200;
const SESSIONS: usize = 5;
const MS: Duration = Duration::from_millis(1);

type Failure = Box<dyn std::error::Error>;
type Changes = Arc<Mutex<Vec<StateChange>>>;

/// Each takes a little; each fortieth fails, and one in eight must not be run twice.
fn command(number: usize) -> Command {
    let line = match number % 40 {
        39 => "echo 'no such part' >&2; exit 7".to_owned(),
        _ => format!(
            "sleep 0.0{}; echo part {number} >> parts; wc -l < parts",
            number % 7
        ),
    };
    let command = Command::new(line).time_limit(Duration::from_secs(5));
    match number % 8 {
        0 => command,
        _ => command.repeatable(),
    }
}

fn client(
    provider: &EmbeddedProvider,
    tallies: &Tallies,
    changes: &Changes,
) -> Result<SessionClient<Faulty>, Failure> {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let faulty = Faulty::new(provider.clone(), seed.unwrap_or(1), Arc::clone(tallies));
    let changes = Arc::clone(changes);
    let breaker = CircuitBreaker::builder()
        .consecutive_failures(3)
        .open_for(100 * MS)
        .on_state_change(move |change| {
            lock(&changes).push(*change);
        });
    let client = SessionClient::builder(faulty)
        .circuit_breaker(breaker)
        .backoff(Backoff::exponential(20 * MS))
        .reaper_backoff(Backoff::exponential(20 * MS).max_delay(500 * MS))
        .build()?;
    Ok(client)
}

/// A bar, or a line now and then where nobody looks.
struct Progress {
    bar: Option<ProgressBar>,
    done: usize,
}

impl Progress {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} commands, {elapsed}");
        let bar = ProgressBar::new(COMMANDS as u64);
        let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self {
            bar: std::io::stderr().is_terminal().then_some(bar),
            done: 0,
        }
    }

    fn one_more(&mut self) {
        self.done += 1;
        match &self.bar {
            Some(bar) => bar.inc(1),
            None if self.done % 20 == 0 => {
                say(format_args!("{}/{COMMANDS} commands", self.done));
            }
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

/// Runs all of them; those that an open breaker has refused come again in the next round.
async fn work(pool: &SessionPool<Faulty>, outcomes: &Mutex<Outcomes>) {
    let mut progress = Progress::new();
    let mut left: Vec<usize> = (0..COMMANDS).collect();
    while !left.is_empty() {
        let commands = left.iter().map(|number| command(*number));
        let mut finished = pool.run_many(commands).limit(SESSIONS).as_finished();
        let mut refused = Vec::new();
        let mut pause = Duration::ZERO;
        while let Some((index, outcome)) = finished.next().await {
            if let Err(Error::Refused {
                reason: Refusal::CircuitOpen { retry_after, .. },
                ..
            }) = outcome
            {
                pause = pause.max(retry_after.unwrap_or_default());
                refused.push(left[index]);
                continue;
            }
            lock(outcomes).add(&outcome);
            progress.one_more();
        }
        drop(finished);
        left = refused;
        tokio::time::sleep(pause).await;
    }
}

/// Nobody need be there to read it (`| head`).
fn say(text: impl Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let since = Instant::now();
    let (tallies, changes) = (Tallies::default(), Changes::default());
    let provider = EmbeddedProvider::builder().build()?;
    let client = client(&provider, &tallies, &changes)?;
    let pool = SessionPool::builder(&client)
        .request(CreateSession::new().label("for", "the example"))
        .max_size(SESSIONS)
        .build()?;
    let shutdown = Shutdown::builder()
        .deadline(Duration::from_secs(20))
        .component("pool", pool.clone())
        .component("sessions", client.clone())
        .build()?;
    shutdown.on_signals()?;
    let process = std::process::id();
    say(format_args!(
        "{COMMANDS} commands over {SESSIONS} sessions; ctrl-c ends it (process {process})"
    ));
    match provider.remove_leftovers().await {
        Ok(0) => {}
        Ok(runs) => say(format_args!("removed what {runs} run(s) had left")),
        Err(error) => say(format_args!("what another run has left stays: {error}")),
    }

    let outcomes = Mutex::default();
    let all = tokio::select! {
        () = work(&pool, &outcomes) => true,
        () = shutdown.requested() => false,
    };
    shutdown.request();
    let report = shutdown.run().await;
    let left = provider.len();
    provider.close().await?;

    tell(&lock(&outcomes), &lock(&tallies), &lock(&changes), all);
    let sessions = client.snapshot();
    say(format_args!(
        "sessions: {} deleted, {} of them found by the reaper after a lost reply, {left} left",
        sessions.deleted, sessions.found
    ));
    let end = if all { "done" } else { "interrupted" };
    say(format_args!("{end} after {:.1?}", since.elapsed()));
    if left > 0 || !report.is_orderly() {
        say(&report);
        std::process::exit(1);
    }
    std::process::exit(report.exit_code());
}

/// The table.
fn tell(
    outcomes: &Outcomes,
    tallies: &BTreeMap<&'static str, Tally>,
    changes: &[StateChange],
    all: bool,
) {
    say(format_args!("\n{}", outcomes.as_text()));
    say(table::calls(tallies));
    for change in changes {
        say(format_args!(
            "breaker: {} -> {} ({:?})",
            change.from, change.to, change.cause
        ));
    }
    // Cut short, some calls belong to commands that have no outcome.
    if all {
        let calls = tallies.get("run").map_or(0, |tally| tally.calls);
        let retries = calls.saturating_sub(outcomes.commands.into());
        say(format_args!("retries of run: {retries}"));
    }
}
