//! The public futures in the sources of the crate.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Whose functions are public where they are implemented.
const PUBLIC_TRAITS: [&str; 3] = ["Component", "Manage", "SessionProvider"];

/// How a function says that its future is boxed.
const BOXED: [&str; 2] = ["-> Pin<Box<dyn Future", "-> std::pin::Pin<Box<dyn Future"];

/// Every public future in the modules that are asked for, and its file, by its name:
/// `pool::Get`, `scope::Scope::join`.
pub(crate) fn public_futures(wants: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
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
            if is_test || !wants(&module) {
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
/// `next`), and functions that make one without a name or a boxed one, those of a public trait
/// included.
fn futures_in(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut within = String::new();
    let mut is_of_trait = false;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let begin = line.trim_start();
        let is_head = line.starts_with("impl")
            || ["pub fn ", "fn ", "pub async fn ", "async fn "]
                .iter()
                .any(|word| begin.starts_with(word));
        let mut head = line.trim().to_owned();
        while is_head && !head.contains(['{', ';']) {
            let Some(more) = lines.next() else { break };
            head.push(' ');
            head.push_str(more.trim());
        }
        if ["pub ", "fn ", "async fn "]
            .iter()
            .any(|word| line.starts_with(word))
        {
            // Not of any type.
            within.clear();
            is_of_trait = false;
        }
        if let Some(name) = line.strip_prefix("pub trait ") {
            // Whoever implements it makes the futures without a name.
            let end = name.find([':', '<', ' ', '{']).unwrap_or(name.len());
            name[..end].clone_into(&mut within);
            is_of_trait = true;
        }
        if line.starts_with("impl") {
            let (of, what) = implemented(&head);
            within = what;
            let is_private = ["\nstruct ", "pub(super) struct ", "pub(crate) struct "];
            let is_private = is_private.map(|begin| format!("{begin}{within}"));
            is_of_trait = PUBLIC_TRAITS.contains(&&*of)
                && !is_private.iter().any(|private| text.contains(private));
            let is_public = text.contains(&format!("pub struct {within}"));
            if is_public && ["Future", "Stream", "IntoFuture"].contains(&&*of) {
                found.push(within.clone());
            }
        } else if let Some(name) = future_of(&head, "pub async fn ") {
            found.push(full(&within, name));
        } else if let Some(name) = future_of(&head, "async fn ").filter(|_| is_of_trait) {
            found.push(full(&within, name));
        } else if head.contains("-> impl Future") || head.contains("-> impl Stream") {
            if let Some(name) = future_of(&head, "pub fn ") {
                found.push(full(&within, name));
            }
        } else if BOXED.iter().any(|begin| head.contains(begin)) {
            let of_trait = future_of(&head, "fn ").filter(|_| is_of_trait);
            if let Some(name) = future_of(&head, "pub fn ").or(of_trait) {
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
fn the_sources_are_read_as_they_are_written() {
    let text = "\
pub struct Snapshot {
    pub size: usize,
}
impl Snapshot {
    pub async fn of_one_with_fields(&self) {
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
impl<P> SessionProvider for Real<P> {
    async fn create(&self) {
pub struct Ticks;
impl futures_core::Stream for Ticks where Self: Sized {
pub async fn alone() {
pub fn boxed(
    number: u32,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
pub trait Component: Send {
    fn stop(&self);
    fn drained(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}
fn private_one() -> Pin<Box<dyn Future<Output = ()>>> {
impl<C: Component + ?Sized> Component for Arc<C> {
    fn drained(&self) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>> {
impl Inner {
    fn within(&self) -> Pin<Box<dyn Future<Output = ()>>> {";
    let expected = [
        "Snapshot::of_one_with_fields",
        "Get",
        "Pool::use_with",
        "Pool::next",
        "Real::create",
        "Ticks",
        "alone",
        "boxed",
        "Component::drained",
        "Arc::drained",
    ];
    assert_eq!(futures_in(text), expected);
}
