//! Tools of the unit tests.

/// How many cases a model test runs: the environment may ask for more.
pub(crate) fn cases() -> u32 {
    std::env::var("MAINSTAY_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(10_000)
}
