//! How much the unit tests do: `tests/mutants` takes this in as well.

/// How many cases a model test runs: the environment may ask for more.
pub(crate) fn cases() -> u32 {
    std::env::var("MAINSTAY_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(10_000)
}

/// How often a test of threads goes round: under Miri, which takes ten thousand times as long but
/// looks at every step, and comes with many seeds, the cube root of it.
pub(crate) const fn rounds(usual: u32) -> u32 {
    if !cfg!(miri) {
        return usual;
    }
    let mut root = 1_u32;
    while (root + 1).pow(3) <= usual {
        root += 1;
    }
    root
}
