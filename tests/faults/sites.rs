//! Where a user's code gets in, found in the sources, and held against the table.
//!
//! A site is a public function with a bound on `Fn`, `FnMut`, `FnOnce` or an async closure, or
//! a public trait. What comes in without either (drops, clones, wakers, keys) has rows without a
//! site.

use std::collections::BTreeSet;
use std::path::Path;

use crate::proof;

/// Sites that need no row, and why.
const NEEDS_NONE: [(&str, &str); 3] = [
    (
        "scope/tracker trait Holder",
        "sealed: a reference or an `Arc`",
    ),
    (
        "session/client/blocking trait Holds",
        "sealed: the client's own types",
    ),
    (
        "session/client/many trait Runs",
        "sealed: sessions and pools of them",
    ),
];

fn of_file(module: &str, text: &str, sites: &mut BTreeSet<String>) {
    let text = text.split("\nmod tests {").next().unwrap_or_default();
    let mut lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default().trim());
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("pub trait ") {
            sites.insert(format!("{module} trait {}", word(name)));
        }
        let Some(function) = ["pub fn ", "pub const fn ", "pub async fn "]
            .iter()
            .find_map(|start| line.strip_prefix(start))
        else {
            continue;
        };
        let mut signature = String::from(function);
        while !signature.ends_with(['{', ';', '}']) {
            let Some(more) = lines.next() else { break };
            signature.push(' ');
            signature.push_str(more);
        }
        let closures = ["Fn(", "FnMut(", "FnOnce("];
        if closures.iter().any(|bound| signature.contains(bound)) {
            sites.insert(format!("{module} {}", word(function)));
        }
    }
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

fn of_folder(folder: &Path, root: &Path, sites: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        // `testing` is for tests: what panics there is meant to.
        if matches!(name, "tests" | "model" | "testing" | "loom" | "models") {
            continue;
        }
        if path.is_dir() {
            of_folder(&path, root, sites);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = path.strip_prefix(root).unwrap().with_extension("");
            let text = std::fs::read_to_string(&path).unwrap();
            of_file(module.to_str().unwrap(), &text, sites);
        }
    }
}

#[test]
fn each_place_where_a_users_code_gets_in_has_a_row() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sites = BTreeSet::new();
    of_folder(&root, &root, &mut sites);
    let rows = crate::table();
    let mut covered: BTreeSet<&str> = rows.iter().flat_map(|row| row.sites).copied().collect();
    covered.extend(NEEDS_NONE.iter().map(|(site, _)| *site));
    let found: BTreeSet<&str> = sites.iter().map(String::as_str).collect();
    let missing: Vec<_> = found.difference(&covered).collect();
    let stale: Vec<_> = covered.difference(&found).collect();
    assert!(missing.is_empty(), "no row for {missing:#?}");
    assert!(stale.is_empty(), "not in the sources: {stale:#?}");
    proof::count("faults.sites", found.len() as u64);
}
