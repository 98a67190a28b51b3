//! A public future that no trial polls fails the build.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::proof;

/// Public futures that have no trial here, and why.
const EXCEPTIONS: [(&str, &str); 0] = [];

/// Whose laboratory is `tests/lab_adapters`.
const ADAPTERS: [&str; 4] = ["process", "redis", "session", "websocket"];

/// Every public future in the sources, by its name: `pool::Get`, `scope::Scope::join`.
fn public_futures() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&root).unwrap().with_extension("");
            let name = name.to_str().unwrap().to_owned();
            let is_test = name.ends_with("tests") || name.contains("tests/");
            let module = name.split('/').next().unwrap_or_default().to_owned();
            if is_test || ADAPTERS.contains(&&*module) || module == "testing" {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let text = text.split("\nmod tests {").next().unwrap();
                for future in futures_in(text) {
                    found.insert(format!("{module}::{future}"), name.clone());
                }
            }
        }
    }
    found
}

/// The public futures of one file: types that are one (or a stream, which is polled by its
/// `next`), and functions that make one without a name.
fn futures_in(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut within = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let is_head = line.starts_with("impl") || line.trim_start().starts_with("pub ");
        let mut head = line.trim().to_owned();
        while is_head && !head.contains(['{', ';']) {
            let Some(more) = lines.next() else { break };
            head.push(' ');
            head.push_str(more.trim());
        }
        if line.starts_with("pub ") {
            // Not of any type.
            within.clear();
        }
        if line.starts_with("impl") {
            let (of, what) = implemented(&head);
            within = what;
            let is_public = text.contains(&format!("pub struct {within}"));
            if is_public && ["Future", "Stream", "IntoFuture"].contains(&&*of) {
                found.push(within.clone());
            }
        } else if let Some(name) = future_of(&head, "pub async fn ") {
            found.push(full(&within, name));
        } else if head.contains("-> impl Future") || head.contains("-> impl Stream") {
            if let Some(name) = future_of(&head, "pub fn ") {
                found.push(full(&within, name));
            }
        }
    }
    found
}

fn full(within: &str, name: &str) -> String {
    match within {
        "" => name.to_owned(),
        _ => format!("{within}::{name}"),
    }
}

/// The name of the function that a line declares.
fn future_of<'a>(head: &'a str, begin: &str) -> Option<&'a str> {
    let rest = head.strip_prefix(begin)?;
    rest.split(['<', '(']).next()
}

/// The last names of the trait and the type of an `impl`; no trait is an empty one.
fn implemented(head: &str) -> (String, String) {
    // What stands in angle brackets says nothing here.
    let mut plain = String::new();
    let mut depth = 0;
    let mut last = ' ';
    for c in head.chars() {
        match c {
            '<' => depth += 1,
            '>' if last != '-' => depth -= 1,
            _ if depth == 0 => plain.push(c),
            _ => {}
        }
        last = c;
    }
    let plain = plain.trim_start_matches("impl").trim();
    let plain = plain.split(" where").next().unwrap_or_default();
    let plain = plain.trim_end_matches(['{', ' ', '}']);
    let name = |path: &str| {
        path.rsplit("::")
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    match plain.split_once(" for ") {
        Some((of, what)) => (name(of), name(what)),
        None => (String::new(), name(plain)),
    }
}

#[test]
fn every_public_future_is_on_trial() {
    let mut futures = public_futures();
    // The tower services' future has no struct of its own.
    futures.insert("tower::ServiceFuture".into(), "tower/mod".into());
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
        "without a trial in tests/lab:\n{}",
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
    proof::count("lab.futures", (futures.len() - EXCEPTIONS.len()) as u64);
}

#[test]
fn the_sources_are_read_as_they_are_written() {
    let text = "\
pub struct Get<'p, M>;
impl<'p, M: Manage> Future for Get<'p, M> {
impl<F, Fut> Manage for F
where
    F: Fn() -> Fut,
{
struct Inner;
impl Future for Inner {
impl<M: Manage> Pool<M> {
    pub async fn use_with<T>(&self) {
    pub fn next(
        &mut self,
    ) -> impl Future<Output = ()> {
    pub fn plain(&self) -> usize {
    async fn private(&self) {
pub struct Ticks;
impl futures_core::Stream for Ticks where Self: Sized {
pub async fn alone() {";
    let expected = ["Get", "Pool::use_with", "Pool::next", "Ticks", "alone"];
    assert_eq!(futures_in(text), expected);
}
