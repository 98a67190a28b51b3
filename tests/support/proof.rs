//! What a proof counts: printed, and kept where `scripts/verify` asks for it.

use std::fs::OpenOptions;
use std::io::Write;

/// Adds `number` to the fact `key` (`suite.what`); lines with the same key are added up.
///
/// The line goes to the file that the environment variable `MAINSTAY_PROOF` names, if there is
/// one: what a test prints is lost when it passes.
#[allow(dead_code, reason = "not every binary of tests counts")]
pub(crate) fn count(key: &str, number: u64) {
    println!("proof: {key} {number}");
    let Some(path) = std::env::var_os("MAINSTAY_PROOF") else {
        return;
    };
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.to_string_lossy()));
    // One write: several processes may append at once.
    file.write_all(format!("{key}\t{number}\n").as_bytes())
        .unwrap();
}
