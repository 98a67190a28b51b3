//! Limits that several real processes share: the test binary starts itself.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mainstay::Refusal;
use mainstay::redis::{SharedBulkhead, SharedRateLimiter, WhenAway};

use super::{MILLI, SECOND, bulkhead, client};
use crate::redis_server::RedisServer;

const TASK: &str = "MAINSTAY_LIMITS_TASK";

/// In another process: whether it has been told to come to an end.
static ENDED: AtomicBool = AtomicBool::new(false);

fn is_to_end() -> bool {
    ENDED.load(Ordering::SeqCst)
}

/// Another process of the test's: killed when this is dropped.
struct Worker {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Worker {
    fn start(task: &str, url: &str, words: &[String]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "limits::processes::worker",
                "--ignored",
                "--nocapture",
            ])
            .env(TASK, format!("{task} {url} {}", words.join(" ")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Its next report, in numbers; `None` when it has ended.
    fn report(&mut self) -> Option<(String, Vec<u64>)> {
        let mut line = String::new();
        while self.lines.read_line(&mut line).unwrap() > 0 {
            // The harness writes the test's name in front of the first.
            if let Some((_, report)) = line.split_once('@') {
                let mut words = report.split_whitespace();
                let name = words.next().unwrap().to_owned();
                return Some((name, words.map(|word| word.parse().unwrap()).collect()));
            }
            line.clear();
        }
        None
    }

    /// Tells it to come to an end.
    fn end(&mut self) {
        drop(self.child.stdin.take());
    }

    fn reports(mut self) -> Vec<(String, Vec<u64>)> {
        std::iter::from_fn(|| self.report()).collect()
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill")
            .args([&format!("-{name}"), &id])
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// What the other processes do; nothing, when it is not one of them.
#[test]
#[ignore = "it is the other process"]
fn worker() {
    let Ok(task) = std::env::var(TASK) else {
        return;
    };
    let words: Vec<&str> = task.split(' ').collect();
    let numbers: Vec<u64> = words[2..]
        .iter()
        .filter_map(|word| word.parse().ok())
        .collect();
    std::thread::spawn(|| {
        let _ended = std::io::stdin().read_to_end(&mut Vec::new());
        ENDED.store(true, Ordering::SeqCst);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    match words[0] {
        "rate" => runtime.block_on(hammer(words[1], &numbers)),
        "slots" => runtime.block_on(crowd(words[1], &numbers)),
        "hold" => runtime.block_on(hold(words[1], &numbers)),
        other => panic!("{other}"),
    }
}

fn micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

/// Takes permits as fast as it gets them: rate, burst, one in so many while away.
async fn hammer(url: &str, numbers: &[u64]) {
    let [rate, burst, one_in] = numbers[..] else {
        panic!("{numbers:?}");
    };
    let choice = match u32::try_from(one_in).unwrap() {
        0 => WhenAway::Refuse,
        one_in => WhenAway::local(one_in),
    };
    let limiter = SharedRateLimiter::builder(&client(url), "rate")
        .rate(u32::try_from(rate).unwrap(), SECOND)
        .burst(u32::try_from(burst).unwrap())
        .when_away(choice)
        // On a busy machine too, only a server that is gone is away.
        .ask_within(5 * SECOND)
        .probe_every(20 * MILLI)
        .build()
        .unwrap();
    let tasks: Vec<_> = (0..8_u32)
        .map(|nth| tokio::spawn(take(limiter.clone(), nth)))
        .collect();
    let (mut granted, mut first, mut last) = (0, u64::MAX, 0);
    for task in tasks {
        let (count, begin, end) = task.await.unwrap();
        (granted, first, last) = (granted + count, first.min(begin), last.max(end));
    }
    println!("@granted {granted} {first} {last}");
}

/// Half of them wait, and half of them try.
async fn take(limiter: SharedRateLimiter, nth: u32) -> (u64, u64, u64) {
    let (mut count, mut first, mut last) = (0, u64::MAX, 0);
    while !is_to_end() {
        let taken = if nth % 2 == 0 {
            limiter.acquire(1).await
        } else {
            limiter.try_acquire(1).await
        };
        match taken {
            Ok(()) => (count, first, last) = (count + 1, first.min(micros()), micros()),
            Err(Refusal::Other { .. }) => tokio::time::sleep(5 * MILLI).await,
            Err(refusal) => {
                tokio::time::sleep(refusal.retry_after().unwrap_or(MILLI).min(20 * MILLI)).await;
            }
        }
    }
    (count, first, last)
}

/// Holds slots for a moment, again and again: slots.
async fn crowd(url: &str, numbers: &[u64]) {
    let [slots] = numbers[..] else {
        panic!("{numbers:?}");
    };
    let shared = SharedBulkhead::builder(&client(url), "slots")
        .max_concurrent(u32::try_from(slots).unwrap())
        .max_queue(100)
        .poll_every(5 * MILLI)
        .ask_within(3 * SECOND)
        .probe_every(20 * MILLI)
        .build()
        .unwrap();
    let tasks: Vec<_> = (0..4)
        .map(|_| tokio::spawn(enter(shared.clone())))
        .collect();
    for task in tasks {
        for (begin, end, token) in task.await.unwrap() {
            println!("@held {begin} {end} {token}");
        }
    }
    // What was dropped last is given back before the process ends.
    while shared.snapshot().held > 0 || shared.snapshot().returning > 0 {
        tokio::time::sleep(MILLI).await;
    }
}

async fn enter(shared: SharedBulkhead) -> Vec<(u64, u64, u64)> {
    let mut held = Vec::new();
    while !is_to_end() {
        match shared.acquire(1).await {
            Ok(permit) => {
                let begin = micros();
                tokio::time::sleep(MILLI * (1 + (begin % 4) as u32)).await;
                let token = permit.fencing_token().unwrap();
                assert!(!permit.is_lost());
                held.push((begin, micros(), token));
                drop(permit);
            }
            Err(_) => tokio::time::sleep(5 * MILLI).await,
        }
    }
    held
}

/// Holds one slot, and says so, until it is lost: milliseconds of the lease.
async fn hold(url: &str, numbers: &[u64]) {
    let shared = SharedBulkhead::builder(&client(url), "slots")
        .max_concurrent(1)
        .lease(Duration::from_millis(numbers[0]))
        .build()
        .unwrap();
    let permit = shared.acquire(1).await.unwrap();
    println!("@held {}", permit.fencing_token().unwrap());
    permit.lost().await;
    println!("@lost {}", permit.fencing_token().unwrap());
}

/// Keeps a log of all that it has done, which a kill does not shorten.
fn logging_server() -> RedisServer {
    RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "no"])
}

/// What the script has booked, by the server's own log: when, and how many permits.
fn booked(server: &RedisServer, cost: u64) -> Vec<(u64, u64)> {
    let mut full = 0;
    let mut booked = Vec::new();
    for line in log(server).lines() {
        let words: Vec<u64> = line
            .split(' ')
            .map_while(|word| word.parse().ok())
            .collect();
        let [after, 0, 1, at] = words[..] else {
            continue;
        };
        let taken = after - at.max(full);
        assert_eq!(taken % cost, 0);
        booked.push((at, taken / cost));
        full = after;
    }
    booked
}

fn log(server: &RedisServer) -> String {
    let directory = server.ask("CONFIG GET dir");
    let directory = directory.lines().last().unwrap();
    let mut files: Vec<PathBuf> = std::fs::read_dir(Path::new(directory).join("appendonlydir"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains(".incr."))
        .collect();
    files.sort();
    let bytes: Vec<u8> = files
        .iter()
        .flat_map(|path| std::fs::read(path).unwrap())
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// At most the burst and what comes in the time, in each window there is.
fn check_windows(booked: &[(u64, u64)], rate: u64, burst: u64) -> u64 {
    for (nth, &(begin, _)) in booked.iter().enumerate() {
        let mut sum = 0;
        for &(at, permits) in &booked[nth..] {
            sum += permits;
            let most = burst * 1_000_000 + rate * (at - begin);
            assert!(sum * 1_000_000 <= most, "{sum} from {begin} to {at}");
        }
    }
    booked.iter().map(|(_, permits)| permits).sum()
}

/// The last token, which follows the clock.
fn server_token(server: &RedisServer) -> Option<u64> {
    let answer = server.ask("HGET {slots}:book fence");
    answer.lines().last()?.parse().ok()
}

#[track_caller]
fn wait_until(what: &str, is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < 20 * SECOND, "{what}: not so");
        std::thread::sleep(5 * MILLI);
    }
}

fn start(count: usize, task: &str, server: &RedisServer, numbers: &[u64]) -> Vec<Worker> {
    let words: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    let start = |_| Worker::start(task, &server.url(), &words);
    (0..count).map(start).collect()
}

/// How many were granted, and within how many microseconds.
fn granted(mut workers: Vec<Worker>) -> (u64, u64) {
    workers.iter_mut().for_each(Worker::end);
    let (mut granted, mut first, mut last) = (0, u64::MAX, 0);
    for worker in workers {
        let reports = worker.reports();
        let (_, numbers) = reports.last().expect("it reports");
        granted += numbers[0];
        (first, last) = (first.min(numbers[1]), last.max(numbers[2]));
    }
    (granted, last.saturating_sub(first))
}

/// Traps 39 and 40: not one permit too many in any window, and hardly one too few.
#[test]
fn four_processes_take_what_the_rate_gives_and_no_more() {
    let server = logging_server();
    // Slow, and with room for a second's stall: the machine may be busy.
    let (rate, burst) = (100, 100);
    let workers = start(4, "rate", &server, &[rate, burst, 0]);
    std::thread::sleep(2500 * MILLI);
    let (granted, _) = granted(workers);
    let booked = booked(&server, 1_000_000 / rate);
    let sum = check_windows(&booked, rate, burst);
    assert_eq!(sum, granted, "all that was booked was used");
    let took = booked.last().unwrap().0 - booked[0].0;
    let could = burst + rate * took / 1_000_000;
    println!(
        "{sum} of {could} in {took} us, in {} questions",
        booked.len()
    );
    assert!(took > 1_000_000);
    assert!(sum * 100 >= could * 95, "{sum} of {could}");
}

/// Killed and started again with its data, the server goes on where it was: exactly.
#[test]
fn a_server_that_is_killed_and_comes_back_gives_no_permit_twice() {
    let mut server = logging_server();
    let (rate, burst) = (500, 50);
    let workers = start(4, "rate", &server, &[rate, burst, 0]);
    for _ in 0..3 {
        wait_until("it goes on", || booked(&server, 2000).len() > 1);
        std::thread::sleep(400 * MILLI);
        server.kill();
        std::thread::sleep(50 * MILLI);
        server.restart();
        let begun = micros();
        let last = || booked(&server, 2000).last().map(|last| last.0);
        wait_until("it goes on", || last() > Some(begun));
    }
    let (granted, _) = granted(workers);
    let booked = booked(&server, 1_000_000 / rate);
    let sum = check_windows(&booked, rate, burst);
    // What was booked and never answered is lost: a question of each process for each kill.
    assert!(granted <= sum && sum - granted < 200, "{granted} of {sum}");
    let gap = booked.windows(2).map(|pair| pair[1].0 - pair[0].0).max();
    println!("{granted} used of {sum}; longest gap {gap:?} us");
}

/// Without its data it has a full bucket again: one burst more, and no more than that.
#[test]
fn a_server_that_comes_back_empty_gives_one_burst_more() {
    let mut server = RedisServer::start();
    let (rate, burst) = (100, 200);
    let workers = start(4, "rate", &server, &[rate, burst, 0]);
    wait_until("they begin", || server.ask("EXISTS rate") == ":1");
    std::thread::sleep(500 * MILLI);
    server.kill();
    server.restart();
    wait_until("it goes on", || server.ask("EXISTS rate") == ":1");
    std::thread::sleep(500 * MILLI);
    let (granted, took) = granted(workers);
    let most = 2 * burst + rate * (took + 500_000) / 1_000_000;
    println!("{granted} of at most {most}");
    assert!(granted <= most && granted > burst, "{granted} of {most}");
}

/// While it is away, the processes keep to the limit by their shares of it.
#[test]
fn four_processes_without_redis_keep_to_their_shares() {
    let mut server = RedisServer::start();
    server.kill();
    let (rate, burst) = (400, 40);
    let workers = start(4, "rate", &server, &[rate, burst, 4]);
    std::thread::sleep(2 * SECOND);
    let (granted, took) = granted(workers);
    let most = burst + rate * (took + 50_000) / 1_000_000;
    println!("{granted} of at most {most}");
    assert!(
        granted <= most && granted * 10 >= most * 7,
        "{granted} of {most}"
    );
}

/// When each slot was held, and under which token.
fn held(mut workers: Vec<Worker>) -> Vec<(u64, u64, u64)> {
    workers.iter_mut().for_each(Worker::end);
    let reports = workers.into_iter().flat_map(Worker::reports);
    reports
        .filter(|(name, _)| name == "held")
        .map(|(_, numbers)| (numbers[0], numbers[1], numbers[2]))
        .collect()
}

/// The most that were inside at one moment.
fn most_at_once(held: &[(u64, u64, u64)]) -> i32 {
    let mut moments: Vec<(u64, i32)> = Vec::new();
    for (begin, end, _) in held {
        moments.extend([(*begin, 1), (*end, -1)]);
    }
    moments.sort_unstable();
    let sums = moments.iter().scan(0, |inside, (_, change)| {
        *inside += change;
        Some(*inside)
    });
    sums.max().unwrap_or(0)
}

#[test]
fn four_processes_are_never_more_than_the_slots() {
    let server = RedisServer::start();
    let workers = start(4, "slots", &server, &[3]);
    let begun = Instant::now();
    while begun.elapsed() < 1500 * MILLI {
        let count: u32 = super::leases(&server)
            .trim_start_matches(':')
            .parse()
            .unwrap();
        assert!(count <= 3, "{count}");
        std::thread::sleep(2 * MILLI);
    }
    let held = held(workers);
    let tokens: std::collections::BTreeSet<u64> = held.iter().map(|held| held.2).collect();
    println!("{} times, {} at once", held.len(), most_at_once(&held));
    assert_eq!(tokens.len(), held.len(), "no token twice");
    assert_eq!(most_at_once(&held), 3);
    assert!(held.len() > 50, "{}", held.len());
    assert_eq!(super::leases(&server), super::NONE);
}

/// As a mutex, tokens are in the order of the holders.
#[test]
fn with_one_slot_tokens_rise_with_time() {
    let server = RedisServer::start();
    let workers = start(3, "slots", &server, &[1]);
    std::thread::sleep(1500 * MILLI);
    let mut held = held(workers);
    held.sort_unstable();
    assert!(
        held.windows(2)
            .all(|pair| pair[0].1 <= pair[1].0 && pair[0].2 < pair[1].2)
    );
    assert!(held.len() > 20, "{}", held.len());
}

#[test]
fn a_server_that_is_killed_and_comes_back_lets_no_one_in_too_many() {
    let server = logging_server();
    let server = std::cell::RefCell::new(server);
    let workers = start(4, "slots", &server.borrow(), &[3]);
    let token = || {
        let answer = server_token(&server.borrow());
        answer.unwrap_or(0)
    };
    for _ in 0..3 {
        wait_until("they begin", || token() > 0);
        std::thread::sleep(400 * MILLI);
        server.borrow_mut().kill();
        std::thread::sleep(50 * MILLI);
        server.borrow_mut().restart();
        let begun = micros();
        wait_until("it goes on", || token() > begun);
    }
    let held = held(workers);
    println!("{} times, {} at once", held.len(), most_at_once(&held));
    assert!(most_at_once(&held) <= 3);
}

/// The slot of a process that is killed comes back with the end of its lease, and not before.
#[tokio::test]
async fn the_slot_of_a_killed_process_comes_back_after_its_lease() {
    let server = RedisServer::start();
    let shared = bulkhead(&server, 1, 900 * MILLI);
    let mut workers = start(1, "hold", &server, &[900]);
    let (_, token) = workers[0].report().unwrap();
    workers[0].signal("KILL");
    let begun = Instant::now();
    let permit = shared.acquire(1).await.unwrap();
    let took = begun.elapsed();
    assert!(took > 500 * MILLI && took < 3 * SECOND, "{took:?}");
    assert!(permit.fencing_token() > Some(token[0]));
}

/// A process that is stopped for longer than its lease finds that it has lost it, and its
/// token is older than that of who has the slot now.
#[tokio::test]
async fn a_process_that_was_stopped_knows_that_its_lease_is_lost() {
    let server = RedisServer::start();
    let shared = bulkhead(&server, 1, 600 * MILLI);
    let mut workers = start(1, "hold", &server, &[600]);
    let (_, token) = workers[0].report().unwrap();
    tokio::time::sleep(SECOND).await;
    assert!(shared.try_acquire(1).await.is_err(), "it is renewed");
    workers[0].signal("STOP");
    let permit = shared.acquire(1).await.unwrap();
    assert!(permit.fencing_token() > Some(token[0]));
    workers[0].signal("CONT");
    let (name, late) = workers[0].report().unwrap();
    assert_eq!((name.as_str(), &late), ("lost", &token));
    assert!(!permit.is_lost());
    assert_eq!(super::leases(&server), ":1");
}
