//! Models of the locks: see `model`.

use std::sync::Arc;

use super::atomic::{AtomicU32, Ordering};
use super::model::{bounded, exhaustive, spawn};
use super::*;

/// A lock, and who is inside: a plain counter could not be seen to be raced.
struct Inside<L> {
    lock: L,
    inside: AtomicU32,
}

impl<L> Inside<L> {
    fn new(lock: L) -> Arc<Self> {
        let inside = AtomicU32::new(0);
        Arc::new(Self { lock, inside })
    }
}

fn add(at: &Inside<Lock<u32>>) {
    let mut sum = at.lock.lock();
    assert_eq!(at.inside.fetch_add(1, Ordering::Relaxed), 0);
    *sum += 1;
    at.inside.fetch_sub(1, Ordering::Relaxed);
}

#[test]
fn a_lock_lets_one_in() {
    exhaustive(|| {
        let at = Inside::new(Lock::new(0));
        let other = spawn(&at, add);
        add(&at);
        add(&at);
        other.join().unwrap();
        assert_eq!(*at.lock.lock(), 3);
    });
}

#[test]
fn a_lock_lets_one_of_three_in() {
    bounded(3, || {
        let at = Inside::new(Lock::new(0));
        let others = [spawn(&at, add), spawn(&at, add)];
        add(&at);
        let _ = others.map(|other| other.join().unwrap());
        assert_eq!(*at.lock.lock(), 3);
    });
}

fn set(at: &Inside<SharedLock<(u32, u32)>>) {
    let mut pair = at.lock.write();
    assert_eq!(at.inside.fetch_add(1, Ordering::Relaxed), 0);
    pair.0 += 1;
    // Here a reader could come in between.
    at.inside.fetch_sub(1, Ordering::Relaxed);
    pair.1 += 1;
}

fn read(at: &Inside<SharedLock<(u32, u32)>>) -> u32 {
    let pair = at.lock.read();
    assert_eq!(at.inside.load(Ordering::Relaxed), 0);
    assert_eq!(pair.0, pair.1);
    pair.0
}

#[test]
fn a_reader_never_sees_half_of_what_is_written() {
    exhaustive(|| {
        let at = Inside::new(SharedLock::new((0, 0)));
        let other = spawn(&at, |at| (read(at), read(at)));
        set(&at);
        set(&at);
        let (first, second) = other.join().unwrap();
        assert!(first <= second);
    });
}

#[test]
fn two_readers_and_a_writer_agree() {
    bounded(3, || {
        let at = Inside::new(SharedLock::new((0, 0)));
        let others = [spawn(&at, read), spawn(&at, read)];
        set(&at);
        let _ = others.map(|other| other.join().unwrap());
        assert_eq!(read(&at), 1);
    });
}

/// One who waits for a sign: in the list, or past it.
#[derive(Default)]
struct Line {
    given: u32,
    waiting: WaitList<u32>,
}

fn wait(line: &Lock<Line>, name: u32) -> Option<Key> {
    let mut line = line.lock();
    if line.given > 0 {
        line.given -= 1;
        return None;
    }
    Some(line.waiting.push_back(name))
}

fn give(line: &Lock<Line>) -> Option<u32> {
    let mut line = line.lock();
    let first = line.waiting.front();
    let woken = first.and_then(|first| line.waiting.remove(first));
    line.given += u32::from(woken.is_none());
    woken
}

/// One leaves the list while another is taken from it: nobody is taken twice, and a sign for
/// one who has gone finds the next.
#[test]
fn a_list_behind_a_lock_loses_nobody() {
    bounded(3, || {
        let line = Arc::new(Lock::new(Line::default()));
        let first = wait(&line, 1).unwrap();
        let second = wait(&line, 2).unwrap();
        let leaver = spawn(&line, move |line| {
            line.lock().waiting.remove(first).is_some()
        });
        let giver = spawn(&line, give);
        let third = wait(&line, 3).unwrap();
        let (left, woken) = (leaver.join().unwrap(), giver.join().unwrap());
        assert_eq!(woken, Some(if left { 2 } else { 1 }));
        let mut line = line.lock();
        assert_eq!(line.waiting.get_mut(first), None);
        assert_eq!(line.waiting.get_mut(second).is_some(), !left);
        assert_eq!(line.waiting.get_mut(third), Some(&mut 3));
    });
}
