//! Where the run took place, and how fast that machine is.

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::calls::LONG;
use crate::goals::median;
use crate::meter::{Effort, time_sync};

/// Who is measured next to this crate.
pub(crate) const PEERS: [&str; 16] = [
    "async-channel",
    "backon",
    "bb8",
    "deadpool",
    "failsafe",
    "futures",
    "futures-buffered",
    "futures-concurrency",
    "governor",
    "leaky-bucket",
    "recloser",
    "tokio",
    "tokio-retry2",
    "tokio-util",
    "tower",
    "tower-resilience",
];

const LOCK: &str = include_str!("../../../Cargo.lock");

/// A primitive operation, here and on the reference machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Primitive {
    pub(crate) name: &'static str,
    pub(crate) here: f64,
    pub(crate) there: f64,
}

#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) system: String,
    pub(crate) rustc: String,
    pub(crate) date: String,
    pub(crate) versions: Vec<(String, String)>,
    pub(crate) primitives: Vec<Primitive>,
}

impl Machine {
    pub(crate) fn look(effort: Effort) -> Self {
        Self {
            processor: processor().unwrap_or_else(|| "unknown".into()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            system: said_by("uname", &["-srm"]),
            rustc: said_by("rustc", &["--version"]),
            date: date(),
            versions: versions(LOCK, &PEERS),
            primitives: primitives(effort),
        }
    }

    /// How many times as long its primitive operations take as on the reference machine.
    pub(crate) fn scale(&self) -> f64 {
        median(
            self.primitives
                .iter()
                .map(|one| one.here / one.there)
                .collect(),
        )
    }
}

fn primitives(effort: Effort) -> Vec<Primitive> {
    let of = |name, there, sample: crate::meter::Sample| Primitive {
        name,
        here: sample.p10,
        there,
    };
    let clock = quanta::Clock::new();
    let word = AtomicU64::new(0);
    let lock = Mutex::new(0_u64);
    let shared = Arc::new(1_u64);
    vec![
        of("clock of std", 19.8, time_sync(effort, Instant::now)),
        of(
            "processor's counter",
            8.6,
            time_sync(effort, move || clock.raw()),
        ),
        of("atomic read-modify-write", 4.7, {
            time_sync(effort, move || black_box(&word).fetch_add(1, Relaxed))
        }),
        of("lock and unlock of a std Mutex", 9.6, {
            time_sync(effort, move || {
                *black_box(&lock).lock().expect("no panic") += 1;
            })
        }),
        of("clone and drop of an Arc", 9.5, {
            time_sync(effort, move || drop(Arc::clone(black_box(&shared))))
        }),
        of(
            "box of 64 bytes",
            6.0,
            time_sync(effort, || Box::new(black_box([1_u64; 8]))),
        ),
        of("tokio Sleep, made and dropped", 31.9, {
            time_sync(effort, || drop(black_box(tokio::time::sleep(LONG))))
        }),
    ]
}

pub(crate) fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package).into()
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(": ")?.1.trim().into())
}

fn said_by(program: &str, arguments: &[&str]) -> String {
    let said = Command::new(program).args(arguments).output().ok();
    let said = said.and_then(|said| String::from_utf8(said.stdout).ok());
    said.map_or_else(|| "unknown".into(), |text| text.trim().to_owned())
}

/// The version of each of these crates. Of several versions, the latest: it is what is asked for.
fn versions(lock: &str, crates: &[&str]) -> Vec<(String, String)> {
    let field = |package: &str, name: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim_matches([' ', '=', '"']).to_owned())
    };
    let packages = lock.split("[[package]]").filter_map(|package| {
        let name = field(package, "name")?;
        crates
            .contains(&name.as_str())
            .then_some((name, field(package, "version")?))
    });
    let mut found: Vec<_> = packages.collect();
    found.reverse();
    found.dedup_by(|one, other| one.0 == other.0);
    found.reverse();
    found
}

/// Today, by the calendar.
fn date() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    day(since.map_or(0, |since| since.as_secs() / 86_400))
}

/// The date of a day since 1970.
fn day(mut days: u64) -> String {
    let by = |year: u64, years| year.is_multiple_of(years);
    let leap = |year| by(year, 4) && !by(year, 100) || by(year, 400);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_dates() {
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(11_016), "2000-02-29");
        assert_eq!(day(20_818), "2026-12-31");
        assert_eq!(day(20_819), "2027-01-01");
    }

    #[test]
    fn every_peer_has_a_version() {
        let versions = versions(LOCK, &PEERS);
        let names: Vec<_> = versions.iter().map(|one| one.0.as_str()).collect();
        assert_eq!(names, PEERS);
    }

    #[test]
    fn of_two_versions_the_latest_counts() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \
                    \"a\"\nversion = \"2.0.0\"\n";
        assert_eq!(versions(lock, &["a"]), [("a".into(), "2.0.0".into())]);
    }
}
