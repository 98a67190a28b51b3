//! Real child processes, real signals, the real clock.
//!
//! The binary runs itself: with a scenario in its environment it is the child.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

use std::convert::Infallible;
use std::future::pending;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mainstay::scope::Scope;
use mainstay::shutdown::Shutdown;

const SCENARIO: &str = "MAINSTAY_SCENARIO";
const MS: Duration = Duration::from_millis(1);
/// No child lives longer, and what it ends with then.
const LIMIT: Duration = Duration::from_secs(10);
const OVERDUE: i32 = 99;

/// The child: what it does, under each name.
mod child {
    use mainstay::scope::Tracker;
    use mainstay::shutdown::ShutdownBuilder;

    use super::{Arc, Duration, Infallible, LIMIT, MS, OVERDUE, Scope, Shutdown, pending, thread};

    /// Longer than any child lives.
    const LONG: Duration = Duration::from_secs(20);

    fn say(line: &str) {
        println!("{line}");
    }

    fn runtime(threads: usize) -> tokio::runtime::Runtime {
        let mut builder = match threads {
            0 => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        builder
            .worker_threads(threads.max(1))
            .enable_all()
            .build()
            .unwrap()
    }

    /// Jobs that drain after `drain`, and a client that is closed at the end.
    fn shutdown(jobs: &Scope, deadline: Duration) -> ShutdownBuilder {
        Shutdown::builder()
            .deadline(deadline)
            .component("jobs", jobs.handle())
            .closing("client", || async {
                say("client closed");
                Ok::<_, Infallible>(())
            })
    }

    async fn job(span: Duration) -> Result<(), Infallible> {
        tokio::time::sleep(span).await;
        say("job done");
        Ok(())
    }

    async fn run_and_exit(shutdown: Shutdown) {
        say("ready");
        let report = shutdown.run().await;
        say(&report.to_string());
        std::process::exit(report.exit_code());
    }

    pub(super) fn run(scenario: &str) {
        // Whatever becomes of the test: no child outlives it for long.
        thread::spawn(|| {
            thread::sleep(LIMIT);
            std::process::exit(OVERDUE);
        });
        match scenario {
            "drains" => runtime(2).block_on(drains()),
            "slow drain" => runtime(2).block_on(slow_drain()),
            "blocked" => runtime(0).block_on(blocked()),
            "afterwards" => runtime(2).block_on(afterwards()),
            "handled" => runtime(2).block_on(handled()),
            "ignored" => runtime(2).block_on(ignored()),
            "dropped" => dropped(),
            "no signal" => runtime(2).block_on(no_signal()),
            "ends in time" => runtime(2).block_on(ends_in_time()),
            "never ends" => runtime(2).block_on(never_ends()),
            "blocks at the deadline" => runtime(0).block_on(blocks_at_the_deadline()),
            other => panic!("no scenario {other}"),
        }
    }

    async fn drains() {
        let jobs = Scope::new();
        let shutdown = shutdown(&jobs, 10_000 * MS).build().unwrap();
        shutdown.on_signals().unwrap();
        shutdown.on_signals().unwrap();
        jobs.spawn("job", job(300 * MS)).unwrap();
        run_and_exit(shutdown).await;
    }

    async fn slow_drain() {
        let jobs = Scope::new();
        let shutdown = shutdown(&jobs, LONG).build().unwrap();
        shutdown.on_signals().unwrap();
        jobs.spawn("job", job(LONG)).unwrap();
        let token = shutdown.token();
        tokio::spawn(async move {
            token.cancelled().await;
            say("requested");
        });
        run_and_exit(shutdown).await;
    }

    #[expect(clippy::unused_async, reason = "it blocks its runtime")]
    async fn blocked() {
        let shutdown = Shutdown::builder().build().unwrap();
        shutdown.on_signals().unwrap();
        let watch = shutdown.clone();
        thread::spawn(move || {
            while !watch.is_requested() {
                thread::sleep(MS);
            }
            say("requested");
        });
        say("ready");
        // The only thread of the runtime.
        thread::sleep(LONG);
    }

    /// Twice: handlers that were given back can be taken again.
    async fn afterwards() {
        for _ in 0..2 {
            let shutdown = shutdown(&Scope::new(), 1_000 * MS).build().unwrap();
            shutdown.on_signals().unwrap();
            shutdown.request();
            shutdown.run().await;
            shutdown.on_signals().unwrap();
        }
        say("ready");
        tokio::time::sleep(LONG).await;
    }

    /// The program had a handler of its own, before.
    async fn handled() {
        let signals = [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT];
        let mut own = signal_hook::iterator::Signals::new(signals).unwrap();
        thread::spawn(move || {
            for signal in own.forever() {
                say(&format!("own {signal}"));
            }
        });
        let shutdown = shutdown(&Scope::new(), 1_000 * MS).build().unwrap();
        shutdown.on_signals().unwrap();
        shutdown.request();
        shutdown.run().await;
        say("ready");
        tokio::time::sleep(LONG).await;
    }

    /// Started with SIGINT ignored.
    async fn ignored() {
        let shutdown = shutdown(&Scope::new(), 1_000 * MS).build().unwrap();
        shutdown.on_signals().unwrap();
        say("ready");
        let report = shutdown.run().await;
        say(&report.to_string());
        say("done");
        tokio::time::sleep(LONG).await;
    }

    fn dropped() {
        let shutdown = Shutdown::builder().build().unwrap();
        shutdown.on_signals().unwrap();
        drop(shutdown);
        say("ready");
        thread::sleep(LONG);
    }

    async fn no_signal() {
        let jobs = Scope::new();
        let shutdown = shutdown(&jobs, 10_000 * MS).build().unwrap();
        shutdown.on_signals().unwrap();
        jobs.spawn("job", job(50 * MS)).unwrap();
        shutdown.request();
        run_and_exit(shutdown).await;
    }

    async fn ends_in_time() {
        let shutdown = shutdown(&Scope::new(), 200 * MS).exit_at_deadline();
        let shutdown = shutdown.build().unwrap();
        shutdown.request();
        shutdown.run().await;
        tokio::time::sleep(400 * MS).await;
        std::process::exit(7);
    }

    async fn never_ends() {
        let jobs = Scope::new();
        let tracker = Arc::new(Tracker::new());
        let _held = tracker.enter_owned().unwrap();
        let shutdown = Shutdown::builder()
            .deadline(500 * MS)
            // A busy machine takes its time to drop what was aborted.
            .shares(0.2, 0.2, 0.6)
            .component("tracker", Arc::clone(&tracker))
            .component("jobs", jobs.handle())
            .build()
            .unwrap();
        shutdown.on_signals().unwrap();
        let blocks = async {
            thread::sleep(LONG);
            Ok::<_, Infallible>(())
        };
        jobs.spawn("blocks a thread", blocks).unwrap();
        let never = pending::<Result<(), Infallible>>();
        jobs.spawn("never ends", never).unwrap();
        run_and_exit(shutdown).await;
    }

    #[expect(clippy::unused_async, reason = "it blocks its runtime")]
    async fn blocks_at_the_deadline() {
        let shutdown = Shutdown::builder()
            .deadline(500 * MS)
            .exit_at_deadline()
            .build()
            .unwrap();
        shutdown.on_signals().unwrap();
        say("ready");
        // Not even the standard error must hold it up.
        let _held = std::io::stderr().lock();
        thread::sleep(LONG);
    }
}

#[test]
fn child() {
    if let Ok(scenario) = std::env::var(SCENARIO) {
        child::run(&scenario);
    }
}

/// The child, seen from outside; it is killed with its test.
struct Process {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Process {
    fn start(scenario: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        // Whoever runs the tests in the background has it ignored.
        if cfg!(target_os = "linux") {
            command = Command::new("env");
            let what = if scenario == "ignored" {
                "ignore"
            } else {
                "default"
            };
            command.arg(format!("--{what}-signal=INT"));
            command.arg("--default-signal=TERM");
            command.arg(std::env::current_exe().unwrap());
        }
        let mut child = command
            .args(["child", "--exact", "--nocapture", "--test-threads=1"])
            .env(SCENARIO, scenario)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    /// Reads on until a line says so.
    fn until(&mut self, expected: &str) {
        let mut line = String::new();
        while !line.trim_end().ends_with(expected) {
            line.clear();
            let read = self.out.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "ended before {expected:?}");
        }
    }

    fn ready(scenario: &str) -> Self {
        let mut process = Self::start(scenario);
        process.until("ready");
        process
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let kill = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &id])
            .status();
        assert!(kill.unwrap().success());
    }

    /// How it ended, what it said, and after how long.
    fn end(mut self, since: Instant) -> (ExitStatus, String, Duration) {
        let mut said = String::new();
        self.out.read_to_string(&mut said).unwrap();
        let status = self.child.wait().unwrap();
        assert_ne!(status.code(), Some(OVERDUE), "not ended: {said}");
        (status, said, since.elapsed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A busy machine may stall one process for seconds, but not three in a row: there is a
/// further attempt only where the machine itself was late.
fn in_time(limit: Duration, attempt: impl Fn() -> Duration) {
    let mut took = Vec::new();
    while took.len() < 3 {
        let watch = Watch::start();
        let one = attempt();
        if one < limit {
            return;
        }
        took.push(one);
        assert!(watch.was_late(), "{took:?}, and the machine was not late");
    }
    panic!("{took:?}");
}

/// A thread beside an attempt that only sleeps, and sees how late it wakes up.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Duration>,
}

impl Watch {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut latest = Duration::ZERO;
            while !told.load(Ordering::Relaxed) {
                let start = Instant::now();
                thread::sleep(5 * MS);
                latest = latest.max(start.elapsed());
            }
            latest
        });
        Self { stop, thread }
    }

    fn was_late(self) -> bool {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap() > 50 * MS
    }
}

#[test]
fn sigterm_drains_and_exits_in_order_with_the_report() {
    let process = Process::ready("drains");
    process.signal("TERM");
    let (status, said, _) = process.end(Instant::now());
    assert_eq!(status.code(), Some(143));
    let order = [
        "job done",
        "client closed",
        "shutdown (SIGTERM): 2 of 2 components in order",
    ];
    let found: Vec<_> = order.iter().map(|line| said.find(line)).collect();
    assert!(
        found.iter().all(Option::is_some) && found.is_sorted(),
        "{said}"
    );
    assert!(said.contains("jobs    completed"), "{said}");
}

/// Trap 82.
#[test]
fn a_second_sigint_during_a_slow_drain_ends_at_once() {
    in_time(1_000 * MS, || {
        let mut process = Process::ready("slow drain");
        process.signal("INT");
        process.until("requested");
        assert!(process.child.try_wait().unwrap().is_none(), "it drains");
        let start = Instant::now();
        process.signal("INT");
        let (status, _, took) = process.end(start);
        assert_eq!(status.code(), Some(130));
        took
    });
}

/// Trap 82: of whatever kind, and the status is that of the second.
#[test]
fn a_sigterm_after_a_sigint_ends_at_once() {
    let mut process = Process::ready("slow drain");
    process.signal("INT");
    process.until("requested");
    process.signal("TERM");
    assert_eq!(process.end(Instant::now()).0.code(), Some(143));
}

/// Traps 81 and 82: the request is seen at once, and the second signal ends.
#[test]
fn signals_work_while_the_runtime_is_blocked() {
    in_time(1_000 * MS, || {
        let mut process = Process::ready("blocked");
        process.signal("TERM");
        process.until("requested");
        let start = Instant::now();
        process.signal("INT");
        let (status, _, took) = process.end(start);
        assert_eq!(status.code(), Some(130));
        took
    });
}

/// Handling is given back: the process is ended by the signal itself, as by default.
#[test]
fn a_signal_after_the_end_has_its_default_effect() {
    for (scenario, name, number) in [
        ("afterwards", "TERM", 15),
        ("afterwards", "INT", 2),
        ("dropped", "TERM", 15),
    ] {
        let process = Process::ready(scenario);
        process.signal(name);
        let (status, ..) = process.end(Instant::now());
        assert_eq!(status.signal(), Some(number), "{scenario}: {status}");
    }
}

/// Handling is given back to whoever had it: a handler of the program's own has it again.
#[cfg(target_os = "linux")]
#[test]
fn a_handler_from_before_has_the_signal_to_itself_afterwards() {
    let mut process = Process::ready("handled");
    for (name, line) in [("TERM", "own 15"), ("INT", "own 2")] {
        process.signal(name);
        process.until(line);
    }
    assert!(process.child.try_wait().unwrap().is_none(), "it goes on");
}

/// What was ignored stays so, before and after; the other signal is caught as ever.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_was_ignored_stays_ignored() {
    let mut process = Process::ready("ignored");
    process.signal("INT");
    process.signal("TERM");
    process.until("of 1s");
    process.until("done");
    process.signal("INT");
    process.signal("TERM");
    let (status, ..) = process.end(Instant::now());
    assert_eq!(status.signal(), Some(15), "{status}");
}

#[test]
fn without_a_signal_nothing_is_different() {
    let process = Process::ready("no signal");
    let (status, said, _) = process.end(Instant::now());
    assert_eq!(status.code(), Some(0));
    assert!(
        said.contains("shutdown (request): 2 of 2 components in order"),
        "{said}"
    );
}

#[test]
fn who_has_ended_in_time_is_not_ended_at_the_deadline() {
    let (status, ..) = Process::start("ends in time").end(Instant::now());
    assert_eq!(status.code(), Some(7));
}

/// Traps 81 and 85: a thread that is blocked and a future that never ends.
#[test]
fn the_process_ends_at_the_deadline_and_not_at_twice_of_it() {
    in_time(900 * MS, || {
        let process = Process::ready("never ends");
        let start = Instant::now();
        process.signal("TERM");
        let (status, said, took) = process.end(start);
        assert_eq!(status.code(), Some(143));
        assert!(took >= 490 * MS, "{took:?}");
        assert!(said.contains("tracker  timed out"), "{said}");
        assert!(said.contains("jobs     timed out"), "{said}");
        assert!(
            said.contains("2 at start: 1 aborted, 1 in flight"),
            "{said}"
        );
        took
    });
}

/// Traps 81 and 85: not even the shutdown itself can run.
#[test]
fn the_process_ends_at_the_deadline_although_the_runtime_is_blocked() {
    in_time(900 * MS, || {
        let process = Process::ready("blocks at the deadline");
        let start = Instant::now();
        process.signal("TERM");
        let (status, _, took) = process.end(start);
        assert_eq!(status.code(), Some(143));
        assert!(took >= 490 * MS, "{took:?}");
        took
    });
}
