//! A public future of an adapter that no trial polls fails this test.

use crate::proof;
use crate::sources::public_futures;

/// Public futures that have no trial here, and why.
const EXCEPTIONS: [(&str, &str); 0] = [];

const ADAPTERS: [&str; 4] = ["process", "redis", "session", "websocket"];

#[test]
fn every_public_future_of_an_adapter_is_on_trial() {
    let futures = public_futures(|module| ADAPTERS.contains(&module));
    let trials = crate::all();
    let mut missing = Vec::new();
    for (future, file) in &futures {
        let tried = trials.iter().any(|one| one.covers.contains(&&**future));
        let excepted = EXCEPTIONS.iter().any(|(name, _)| name == future);
        assert!(!(tried && excepted), "{future} is no exception any more");
        if !tried && !excepted {
            missing.push(format!("{future} (src/{file}.rs)"));
        }
    }
    assert!(
        missing.is_empty(),
        "without a trial in tests/lab_adapters:\n{}",
        missing.join("\n")
    );
    let named = trials.iter().flat_map(|one| one.covers);
    let known = |name: &&str| futures.contains_key(*name);
    let strangers: Vec<_> = named.filter(|name| !known(name)).collect();
    assert!(strangers.is_empty(), "not in the sources: {strangers:?}");
    assert!(
        EXCEPTIONS
            .iter()
            .all(|(name, _)| futures.contains_key(*name))
    );
    let only_briefly = futures.keys().filter(|name| {
        let mut of_it = trials.iter().filter(|one| one.covers.contains(&&***name));
        of_it.all(|one| one.is_brief)
    });
    proof::count("lab.briefly", only_briefly.count() as u64);
    proof::count("lab.futures", (futures.len() - EXCEPTIONS.len()) as u64);
}
