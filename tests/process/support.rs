//! What the system knows of our children.

use std::fs;
use std::future::Future;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

pub(crate) use mainstay::process::{
    Captured, Command, End, Output, Process, ProcessErrorKind, ProcessHandle, ProcessPool, Source,
    State,
};

pub(crate) const MS: Duration = Duration::from_millis(1);
/// What may take long on a busy machine, and must not take for ever.
pub(crate) const LONG: Duration = Duration::from_secs(10);

/// Children and descriptors are counted for the whole process: who counts must be alone.
static ALONE: RwLock<()> = RwLock::new(());

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

async fn bounded<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(4 * LONG, test)
        .await
        .expect("the test hangs")
}

/// Runs a test beside others.
pub(crate) fn test<T>(test: impl Future<Output = T>) -> T {
    beside(|| runtime().block_on(bounded(test)))
}

/// As `test`, without a runtime.
pub(crate) fn beside<T>(test: impl FnOnce() -> T) -> T {
    let _guard = ALONE.read().unwrap_or_else(PoisonError::into_inner);
    test()
}

/// Runs a test while no other runs, and checks that it leaves no child and no descriptor.
pub(crate) fn alone(test: impl FnOnce()) {
    let _guard = ALONE.write().unwrap_or_else(PoisonError::into_inner);
    // What every process opens once: signals, the runtime's own.
    runtime().block_on(async { Command::new("true").run().await.unwrap() });
    until(|| children().is_empty(), "the children of others");
    let before = descriptors();
    test();
    until(|| children().is_empty(), "children and zombies to be gone");
    until(|| descriptors() <= before, "descriptors to be closed");
}

/// Waits for something that must come soon.
pub(crate) fn until(mut is_so: impl FnMut() -> bool, what: &str) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LONG, "waited in vain for {what}");
        std::thread::sleep(2 * MS);
    }
}

/// As `until`, in a task.
pub(crate) async fn until_async(mut is_so: impl FnMut() -> bool, what: &str) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LONG, "waited in vain for {what}");
        tokio::time::sleep(2 * MS).await;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) pid: u32,
    pub(crate) state: char,
    parent: u32,
    group: u32,
}

fn seen(pid: u32) -> Option<Seen> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some(Seen {
        pid,
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
        group: fields.next()?.parse().ok()?,
    })
}

fn everyone() -> Vec<Seen> {
    let entries = fs::read_dir("/proc").unwrap();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| seen(name.parse().ok()?)).collect()
}

/// The state of a process, such as `T` for a stopped one.
pub(crate) fn state_of(pid: u32) -> Option<char> {
    seen(pid).map(|seen| seen.state)
}

/// Our children, zombies too.
pub(crate) fn children() -> Vec<Seen> {
    let mut all = everyone();
    all.retain(|seen| seen.parent == std::process::id());
    all
}

/// Who lives in a group. Zombies are dead.
pub(crate) fn members(group: u32) -> Vec<Seen> {
    let mut all = everyone();
    all.retain(|seen| seen.group == group && !matches!(seen.state, 'Z' | 'X'));
    all
}

pub(crate) async fn group_is_gone(group: u32) {
    until_async(|| members(group).is_empty(), "the group to be gone").await;
}

pub(crate) fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A child that does not listen to SIGTERM, once it has said so.
pub(crate) fn stubborn() -> Command {
    Command::shell("trap '' TERM; echo ready; while :; do sleep 0.02; done")
}

/// A child that has said something: its traps are set.
pub(crate) async fn ready(command: &Command) -> Process {
    let mut process = command.spawn().unwrap();
    process.chunk().await.unwrap();
    process
}
