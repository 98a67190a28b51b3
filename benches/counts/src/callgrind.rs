//! Starts this program under callgrind and reads the totals.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::process::{Command, Stdio};

use crate::AnyError;
use crate::laps::{Iterations, LAPS, per_call};

/// The argument that makes this program run the rows.
pub(crate) const INSIDE: &str = "--inside";

/// Instructions per call of each row.
pub(crate) type Counts = BTreeMap<String, f64>;

#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) rows: Counts,
    /// What valgrind emulates: the C library picks its copying loops by it.
    pub(crate) processor: String,
}

/// One line that the inner program prints for each row it has run.
pub(crate) fn announce(name: &str, row: Iterations) {
    println!("{name}\t{}\t{}\t{}", row.few, row.many, row.calls);
}

pub(crate) fn measure() -> Result<Measured, AnyError> {
    let file = std::env::temp_dir().join(format!("mainstay-counts-{}", std::process::id()));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--combine-dumps=yes"])
        .arg("--dump-before=mainstay_counts::laps::lap")
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(std::env::current_exe()?)
        .arg(INSIDE)
        // The size of the environment moves the stack.
        .env_clear()
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => "valgrind is missing: apt-get install valgrind".into(),
            _ => AnyError::from(error),
        })?;
    let written = fs::read_to_string(&file);
    let _ = fs::remove_file(&file);
    if !output.status.success() {
        return Err(format!("callgrind ended with {}", output.status).into());
    }
    read(&String::from_utf8(output.stdout)?, &written?)
}

/// The first line is the processor, the others are rows.
fn read(announced: &str, written: &str) -> Result<Measured, AnyError> {
    let mut lines = announced.lines();
    let processor = lines.next().ok_or("nothing was run")?.to_owned();
    let totals = totals(written)?;
    let chunks: Vec<_> = totals.chunks_exact(LAPS).collect();
    let rows: Result<Counts, AnyError> = lines
        .enumerate()
        .map(|(n, line)| {
            let (name, row) = row(line).ok_or_else(|| format!("not a row: {line}"))?;
            let totals = chunks.get(n).ok_or("callgrind wrote too few laps")?;
            Ok((name.to_owned(), per_call(totals, row)))
        })
        .collect();
    let rows = rows?;
    if rows.len() != chunks.len() {
        return Err("as many rows as laps by four, with names of their own".into());
    }
    Ok(Measured { rows, processor })
}

/// What was executed before each lap, and after the last.
fn totals(written: &str) -> Result<Vec<u64>, AnyError> {
    let totals = written.lines().filter_map(|l| l.strip_prefix("totals: "));
    Ok(totals.map(str::parse).collect::<Result<_, _>>()?)
}

fn row(line: &str) -> Option<(&str, Iterations)> {
    let mut fields = line.split('\t');
    let name = fields.next()?;
    let mut number = || fields.next()?.parse().ok();
    let row = Iterations {
        warm: 0,
        few: number()?,
        many: number()?,
        calls: number()?,
    };
    Some((name, row))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = "part: 1\ntotals: 900\n\npart: 2\ntotals: 50\npart: 3\ntotals: 30\n\
        fn=(1) x\npart: 4\ntotals: 70\npart: 5\ntotals: 8\n";

    #[test]
    fn rows_get_their_laps() {
        let measured = read("avx2\nfirst\t1\t5\t1\n", WRITTEN).expect("well formed");
        assert_eq!(measured.processor, "avx2");
        assert_eq!(measured.rows["first"], 10.0);
    }

    #[test]
    fn a_lap_too_few_or_a_row_too_many_is_an_error() {
        assert!(read("avx2\nfirst\t1\t5\t1\nsecond\t1\t5\t1\n", WRITTEN).is_err());
        assert!(read("avx2\n", WRITTEN).is_err());
        assert!(read("", WRITTEN).is_err());
    }
}
