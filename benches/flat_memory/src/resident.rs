//! The peak of the resident size.

use std::fs;

/// What the process had resident at most while `run` ran.
pub(crate) fn peak_kib_of(run: impl FnOnce()) -> u64 {
    // 5 resets the high-water mark to what is resident now.
    fs::write("/proc/self/clear_refs", "5").expect("Linux, and the right to reset the mark");
    run();
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let mark = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = mark.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    kib.expect("a high-water mark")
}
