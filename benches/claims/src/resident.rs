//! The resident size.

use std::fs;

use crate::Failure;

/// Sets the mark of [`peak_kib`] back to what is resident now, which it returns.
pub(crate) fn mark_kib() -> Result<u64, Failure> {
    fs::write("/proc/self/clear_refs", "5")?;
    peak_kib()
}

/// What the process had resident at most since.
pub(crate) fn peak_kib() -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let mark = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = mark.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    kib.ok_or_else(|| "no high-water mark".into())
}
