//! The shutdown's shell, on a paused clock.

mod blocked;
mod lost;
mod plan;
mod report;

use std::convert::Infallible;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use super::*;
use crate::scope::Scope;
use crate::testing::{drop_at_every_poll, drop_beside, sleep};
use crate::time::now;

const SECOND: Duration = Duration::from_secs(1);

type Log = Arc<Mutex<Vec<String>>>;

/// A component that is told what to do by the test, and tells what it was told.
#[derive(Default)]
struct Puppet {
    name: &'static str,
    log: Log,
    begin: Option<Instant>,
    work: Tracker,
    /// Ends by itself so long after it was stopped, cancelled, aborted.
    ends: [Option<Duration>; 3],
    panics_in: Option<&'static str>,
    told: AtomicU64,
    changed: tokio::sync::Notify,
}

impl Puppet {
    fn tell(&self, what: &'static str, n: u64) {
        let after = self.begin.map_or(0, |begin| now().since(begin).as_millis());
        let line = format!("{} {what} {after}", self.name);
        self.log.lock().unwrap().push(line);
        self.told.store(n, Ordering::SeqCst);
        self.changed.notify_waiters();
        assert_ne!(self.panics_in, Some(what), "puppet");
    }

    async fn drain(&self) {
        assert_ne!(self.panics_in, Some("poll"), "puppet");
        loop {
            let changed = self.changed.notified();
            let told = self.told.load(Ordering::SeqCst);
            let step = usize::try_from(told.max(1) - 1).unwrap();
            match self.ends[step] {
                Some(after) => return sleep(after).await,
                None => changed.await,
            }
        }
    }
}

impl Component for Puppet {
    fn stop(&self) {
        self.tell("stop", 1);
    }

    fn drained(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        assert_ne!(self.panics_in, Some("drained"), "puppet");
        Box::pin(self.drain())
    }

    fn cancel(&self) {
        self.tell("cancel", 2);
    }

    fn abort(&self) {
        self.tell("abort", 3);
    }

    fn counts(&self) -> Counts {
        assert_ne!(self.panics_in, Some("counts"), "puppet");
        Counts::new(self.work.in_flight() as u64 + 1)
    }
}

fn puppet(name: &'static str, log: &Log) -> Puppet {
    Puppet {
        name,
        log: Arc::clone(log),
        begin: Some(now()),
        ..Puppet::default()
    }
}

fn ending(name: &'static str, log: &Log, ends: [Option<Duration>; 3]) -> Puppet {
    Puppet {
        ends,
        ..puppet(name, log)
    }
}

fn ten() -> ShutdownBuilder {
    Shutdown::builder().deadline(10 * SECOND)
}

fn statuses(report: &ShutdownReport) -> Vec<Status> {
    report.components.iter().map(|one| one.status).collect()
}

async fn run(shutdown: &Shutdown) -> ShutdownReport {
    shutdown.request();
    shutdown.run().await
}

#[tokio::test(start_paused = true)]
async fn stages_close_one_after_another_and_side_by_side_within() {
    let log = Log::default();
    let ends = |after| [Some(after), None, None];
    let shutdown = ten()
        .component("http", ending("http", &log, ends(SECOND)))
        .stage(|stage| {
            stage
                .component("a", ending("a", &log, ends(2 * SECOND)))
                .component("b", ending("b", &log, ends(SECOND)))
        })
        .component("db", ending("db", &log, ends(Duration::ZERO)))
        .build()
        .unwrap();
    let report = run(&shutdown).await;
    log.lock().unwrap()[1..3].sort();
    assert_eq!(
        *log.lock().unwrap(),
        ["http stop 0", "a stop 1000", "b stop 1000", "db stop 3000"]
    );
    assert_eq!(statuses(&report), [Status::Completed; 4]);
    assert_eq!(report.duration, 3 * SECOND);
    let durations: Vec<_> = report.components.iter().map(|one| one.duration).collect();
    assert_eq!(durations, [SECOND, 2 * SECOND, SECOND, Duration::ZERO]);
    assert!(report.is_orderly());
    assert_eq!((report.cause, report.exit_code()), (Cause::Request, 0));
}

/// Trap 85: one hard deadline for all phases and components, never twice.
#[tokio::test(start_paused = true)]
async fn the_whole_takes_the_deadline_at_most_whatever_components_do() {
    let log = Log::default();
    let shutdown = ten()
        .component("never", puppet("never", &log))
        .component(
            "when asked",
            ending("when asked", &log, [None, Some(SECOND), None]),
        )
        .component(
            "when aborted",
            ending("when aborted", &log, [None, None, Some(SECOND / 10)]),
        )
        .component("never too", puppet("never too", &log))
        .build()
        .unwrap();
    let start = now();
    let report = run(&shutdown).await;
    assert_eq!(
        (now().since(start), report.duration),
        (10 * SECOND, 10 * SECOND)
    );
    let expected = [
        Status::TimedOut,
        Status::Cancelled,
        Status::Aborted,
        Status::TimedOut,
    ];
    assert_eq!(statuses(&report), expected);
    let expected = [
        "never stop 0",
        "never cancel 8000",
        "when asked stop 8000",
        "when asked cancel 8000",
        "when aborted stop 8000",
        "when aborted cancel 8000",
        "never too stop 8000",
        "never too cancel 8000",
        "never abort 9500",
        "when aborted abort 9500",
        "never too abort 9500",
    ];
    let mut found = log.lock().unwrap().clone();
    found.sort();
    let mut expected = expected.map(String::from).to_vec();
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(report.components[0].counts.in_flight, 1, "what remains");
    assert_eq!((report.is_orderly(), report.exit_code()), (false, 1));
}

#[tokio::test(start_paused = true)]
async fn what_has_nothing_under_way_is_completed_however_late_its_turn() {
    let log = Log::default();
    let shutdown = ten()
        .component("never", puppet("never", &log))
        .component(
            "idle",
            ending("idle", &log, [Some(Duration::ZERO), None, None]),
        )
        .build()
        .unwrap();
    let report = run(&shutdown).await;
    assert_eq!(statuses(&report), [Status::TimedOut, Status::Completed]);
    assert!(!log.lock().unwrap().contains(&"idle cancel 8000".into()));
}

/// Trap 76.
#[tokio::test(start_paused = true)]
async fn a_component_that_panics_is_reported_and_holds_nobody_up() {
    let log = Log::default();
    let ends = [Some(SECOND), None, Some(SECOND / 4)];
    let mut builder = ten();
    let all = ["stop", "drained", "poll", "counts"];
    for name in all {
        let panics_in = Some(name);
        builder = builder.component(
            name,
            Puppet {
                panics_in,
                ..ending(name, &log, ends)
            },
        );
    }
    for name in ["cancel", "abort"] {
        let puppet = Puppet {
            panics_in: Some(name),
            ..puppet(name, &log)
        };
        builder = builder.component(name, puppet);
    }
    let shutdown = builder.build().unwrap();
    let report = run(&shutdown).await;
    assert_eq!(report.duration, 10 * SECOND);
    let failures: Vec<_> = report
        .components
        .iter()
        .map(|one| one.failure.as_deref().unwrap_or(""))
        .collect();
    for (failure, what) in failures
        .iter()
        .zip(["stop", "drained", "drained", "counts", "cancel", "abort"])
    {
        assert!(
            failure.starts_with(&format!("{what} panicked: ")),
            "{failure}"
        );
    }
    assert_eq!(statuses(&report)[..4], [Status::Failed; 4]);
    assert_eq!(statuses(&report)[4..], [Status::TimedOut; 2]);
    let took: Vec<_> = report.components.iter().map(|one| one.duration).collect();
    assert_eq!(
        took[..4],
        [SECOND, Duration::ZERO, Duration::ZERO, SECOND],
        "not waited for"
    );
    assert!(
        log.lock().unwrap().contains(&"drained abort 1000".into()),
        "but ended"
    );
}

#[tokio::test(start_paused = true)]
async fn a_closing_runs_when_its_turn_comes() {
    let log = Log::default();
    let (fine, late) = (Arc::clone(&log), Arc::clone(&log));
    let start = now();
    let say = move |log: &Log, what: &str| {
        let line = format!("{what} {}", now().since(start).as_millis());
        log.lock().unwrap().push(line);
    };
    let shutdown = ten()
        .closing("fine", move || async move {
            sleep(SECOND).await;
            say(&fine, "fine");
            Ok::<_, Infallible>(())
        })
        .closing("fails", || async { Err("no route to host") })
        .closing("panics", || async { oh() })
        .stage(|stage| stage.closing("hangs", pending::<Result<(), Infallible>>))
        .closing("late", move || async move {
            sleep(SECOND).await;
            say(&late, "late");
            Ok::<_, Infallible>(())
        })
        .build()
        .unwrap();
    let report = run(&shutdown).await;
    assert_eq!(*log.lock().unwrap(), ["fine 1000", "late 9000"]);
    let expected = [
        Status::Completed,
        Status::Failed,
        Status::Failed,
        Status::Aborted,
        Status::Completed,
    ];
    assert_eq!(statuses(&report), expected);
    assert_eq!(report.duration, 9 * SECOND + SECOND / 2);
    let text = report.to_string();
    let expected = "\
shutdown (request): 2 of 5 components in order, 9.5s of 10s
  fine    completed  in 1s      1 at start: 1 completed
  fails   failed     in 0s      1 at start: 1 failed (no route to host)
  panics  failed     in 0s      1 at start: 1 panicked (panicked: oh)
  hangs   aborted    in 8.5s    1 at start: 1 aborted
  late    completed  in 1s      1 at start: 1 completed";
    assert_eq!(text, expected);
}

fn oh() -> Result<(), Infallible> {
    panic!("oh")
}

#[tokio::test(start_paused = true)]
async fn a_scope_drains_is_asked_and_is_aborted() {
    let scope = Scope::builder().grace(Duration::ZERO).build().unwrap();
    for after in [1, 3] {
        scope
            .spawn("drains", async move {
                sleep(after * SECOND).await;
                Ok::<_, Infallible>(())
            })
            .unwrap();
    }
    let token = scope.token();
    let polite = async move {
        token.cancelled().await;
        sleep(SECOND).await;
        Ok::<_, Infallible>(())
    };
    scope.spawn("polite", polite).unwrap();
    scope
        .spawn("stubborn", pending::<Result<(), Infallible>>())
        .unwrap();
    let tracker = Arc::new(Tracker::new());
    let held = tracker.enter_owned().unwrap();
    let shutdown = ten()
        .component("jobs", scope)
        .component("requests", Arc::clone(&tracker))
        .build()
        .unwrap();
    let report = run(&shutdown).await;
    assert_eq!(statuses(&report), [Status::Aborted, Status::TimedOut]);
    let jobs = &report.components[0];
    assert_eq!(
        (jobs.at_start, jobs.counts.completed, jobs.counts.aborted),
        (4, 3, 1)
    );
    assert_eq!(jobs.duration, 9 * SECOND + SECOND / 2);
    assert!(tracker.is_closed() && tracker.track(pending::<()>()).is_err());
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_protected_section_is_waited_for_and_none_is_begun_later() {
    let log = Log::default();
    let shutdown = ten()
        .component("it", ending("it", &log, [Some(SECOND); 3]))
        .build()
        .unwrap();
    let held = shutdown.protect().unwrap();
    let token = shutdown.token();
    let running = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { shutdown.run().await }
    });
    tokio::task::yield_now().await;
    assert!(!shutdown.is_requested() && !token.is_cancelled());
    shutdown.request();
    shutdown.requested().await;
    assert!(shutdown.is_requested() && token.is_cancelled());
    assert_eq!(shutdown.protect().unwrap_err(), Refusal::ShutDown);
    sleep(2 * SECOND).await;
    assert!(log.lock().unwrap().is_empty());
    drop(held);
    let report = running.await.unwrap();
    assert_eq!(*log.lock().unwrap(), ["it stop 2000"]);
    assert_eq!((report.sections_held, report.duration), (0, 3 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_protected_section_that_never_ends_costs_the_time_to_drain() {
    let log = Log::default();
    let shutdown = ten()
        .component("it", ending("it", &log, [None, Some(SECOND), None]))
        .build()
        .unwrap();
    let held = shutdown.protect().unwrap();
    let report = run(&shutdown).await;
    assert_eq!((report.sections_held, report.duration), (1, 9 * SECOND));
    assert_eq!(*log.lock().unwrap(), ["it stop 8000", "it cancel 8000"]);
    assert!(
        report
            .to_string()
            .contains("; 1 protected sections still held")
    );
    assert!(!report.is_orderly());
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_runs_from_the_request_on() {
    let log = Log::default();
    let shutdown = ten()
        .component("never", puppet("never", &log))
        .build()
        .unwrap();
    shutdown.request();
    sleep(9 * SECOND).await;
    shutdown.request();
    let report = shutdown.run().await;
    assert_eq!(report.duration, 10 * SECOND);
    assert_eq!(log.lock().unwrap()[0], "never stop 9000");
    let late = ten()
        .component("never", puppet("never", &log))
        .build()
        .unwrap();
    late.request();
    sleep(99 * SECOND).await;
    let start = now();
    assert_eq!(statuses(&late.run().await), [Status::TimedOut]);
    assert!(now().since(start) <= conductor_slack(), "no time is left");
    assert_eq!(
        log.lock().unwrap()[3..].len(),
        3,
        "stopped, cancelled and aborted still"
    );
}

fn conductor_slack() -> Duration {
    Duration::from_millis(3)
}

#[tokio::test(start_paused = true)]
async fn zero_and_endless_deadlines_and_no_component_at_all() {
    let log = Log::default();
    let none = Shutdown::builder()
        .deadline(Duration::ZERO)
        .component("it", puppet("it", &log))
        .build()
        .unwrap();
    assert_eq!(statuses(&run(&none).await), [Status::TimedOut]);
    let endless = Shutdown::builder()
        .deadline(Duration::MAX)
        .component("it", ending("it", &log, [Some(1000 * SECOND); 3]))
        .build()
        .unwrap();
    assert_eq!(statuses(&run(&endless).await), [Status::Completed]);
    let empty = Shutdown::builder().build().unwrap();
    let report = run(&empty).await;
    assert_eq!(
        (report.duration, report.is_orderly()),
        (Duration::ZERO, true)
    );
    assert_eq!(
        report.to_string(),
        "shutdown (request): 0 of 0 components in order, 0s of 30s"
    );
}

/// Trap 33.
#[test]
fn shares_that_are_none_are_refused() {
    let build = |shares: [f64; 3]| {
        let [drain, cancel, abort] = shares;
        let built = Shutdown::builder().shares(drain, cancel, abort).build();
        built.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(build([1.0, 0.0, 0.0]), Ok(()));
    assert_eq!(build([0.1, 0.2, 0.7]), Ok(()));
    let wrong = [
        (
            [-0.5, 1.0, 0.5],
            "shares is -0.5, but must be at least 0 each",
        ),
        (
            [f64::NAN, 0.5, 0.5],
            "shares is NaN, but must be at least 0 each",
        ),
        ([0.5, 0.5, 0.5], "shares is 1.5, but must be 1 together"),
        (
            [f64::INFINITY, 0.0, 0.0],
            "shares is inf, but must be 1 together",
        ),
    ];
    for (shares, text) in wrong {
        assert_eq!(build(shares), Err(text.into()));
    }
}

/// Dropped at any point, it goes on, and running it again gives the report.
#[tokio::test(start_paused = true)]
async fn run_can_be_dropped_at_every_poll_and_run_again() {
    let shutdowns = Mutex::new(Vec::new());
    let log = Log::default();
    let start = || {
        let shutdown = ten()
            .component("it", ending("it", &log, [Some(SECOND); 3]))
            .build()
            .unwrap();
        shutdown.request();
        shutdowns.lock().unwrap().push(shutdown.clone());
        async move { shutdown.run().await }
    };
    let drops = drop_at_every_poll(start, async |polls| {
        let shutdown = shutdowns.lock().unwrap().pop().unwrap();
        sleep(5 * SECOND).await;
        let report = shutdown.run().await;
        // It went on meanwhile, unless it had never been polled.
        let expected = if polls == 0 { 6 * SECOND } else { SECOND };
        assert_eq!(
            (statuses(&report), report.duration),
            (vec![Status::Completed], expected)
        );
        assert_eq!(shutdown.run().await, report);
    })
    .await;
    assert!(drops >= 3, "{drops}");
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_request_can_be_dropped_at_every_poll() {
    let shutdowns = Mutex::new(Vec::new());
    let start = || {
        let shutdown = ten().build().unwrap();
        shutdowns.lock().unwrap().push(shutdown.clone());
        let other = shutdown.clone();
        let actor = async move {
            let held = other.protect();
            tokio::task::yield_now().await;
            other.request();
            tokio::task::yield_now().await;
            drop(held);
        };
        let wait = async move {
            let held = shutdown.protect();
            shutdown.requested().await;
            drop(held);
            shutdown.run().await
        };
        (wait, actor)
    };
    drop_beside(start, async |_| {
        let shutdown = shutdowns.lock().unwrap().pop().unwrap();
        shutdown.requested().await;
        let report = shutdown.run().await;
        assert_eq!((report.sections_held, report.is_orderly()), (0, true));
    })
    .await;
}

/// The runtime goes away in the middle: what is left is aborted, and nobody waits for ever.
#[test]
fn a_shutdown_ends_with_its_runtime() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().unwrap()
    };
    for polled in [false, true] {
        let log = Log::default();
        let first = runtime();
        let shutdown = first.block_on(async {
            let shutdown = ten()
                .component("it", puppet("it", &log))
                .closing("last", pending::<Result<(), Infallible>>)
                .build()
                .unwrap();
            shutdown.request();
            let again = shutdown.clone();
            let mut running = Box::pin(again.run());
            let mut cx = Context::from_waker(Waker::noop());
            assert!(running.as_mut().poll(&mut cx).is_pending());
            if polled {
                sleep(SECOND).await;
            }
            shutdown
        });
        drop(first);
        let report = runtime().block_on(shutdown.run());
        assert_eq!(statuses(&report), [Status::TimedOut, Status::Aborted]);
        assert!(log.lock().unwrap().last().unwrap().contains("abort"));
    }
}

/// Trap 81: a component that blocks its thread is reported, on a runtime with others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_blocks_is_reported_and_not_waited_for() {
    struct Blocks(Lock<Option<std::sync::mpsc::Receiver<()>>>);
    impl Component for Blocks {
        fn stop(&self) {
            let blocked = self.0.lock().take().unwrap();
            let _ = blocked.recv();
        }

        fn drained(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
            Box::pin(std::future::ready(()))
        }

        fn cancel(&self) {}

        fn abort(&self) {}

        fn counts(&self) -> Counts {
            Counts::new(5)
        }
    }
    let (release, blocked) = std::sync::mpsc::channel();
    let deadline = Duration::from_millis(100);
    let shutdown = Shutdown::builder()
        .deadline(deadline)
        .component("blocks", Blocks(Lock::new(Some(blocked))))
        .closing("next", || async { Ok::<_, Infallible>(()) })
        .build()
        .unwrap();
    let report = run(&shutdown).await;
    assert_eq!(statuses(&report), [Status::TimedOut, Status::Completed]);
    assert_eq!(
        (
            report.components[0].at_start,
            report.components[0].counts.in_flight
        ),
        (5, 5)
    );
    assert!(report.duration < 2 * deadline, "{:?}", report.duration);
    drop(release);
}

/// A waker that looks at the shutdown when it is woken and when it is dropped.
struct Reentrant(Shutdown);

impl Reentrant {
    fn look(&self) {
        let _ = (
            self.0.is_requested(),
            self.0.protect(),
            format!("{:?}", self.0),
        );
        self.0.request();
    }
}

impl Wake for Reentrant {
    fn wake(self: Arc<Self>) {
        self.look();
    }
}

impl Drop for Reentrant {
    fn drop(&mut self) {
        self.look();
    }
}

/// Trap 77.
#[tokio::test(start_paused = true)]
async fn wakers_and_components_may_call_the_shutdown_itself() {
    struct Nosy(Lock<Option<Shutdown>>);
    impl Nosy {
        fn look(&self) {
            let shutdown = self.0.lock().clone();
            Reentrant(shutdown.unwrap()).look();
        }
    }
    impl Component for Nosy {
        fn stop(&self) {
            self.look();
        }

        fn drained(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
            self.look();
            Box::pin(pending())
        }

        fn cancel(&self) {
            self.look();
        }

        fn abort(&self) {
            self.look();
        }

        fn counts(&self) -> Counts {
            self.look();
            Counts::default()
        }
    }
    let nosy = Arc::new(Nosy(Lock::new(None)));
    let shutdown = ten().component("nosy", Arc::clone(&nosy)).build().unwrap();
    *nosy.0.lock() = Some(shutdown.clone());
    let running = shutdown.clone();
    let mut running = Box::pin(running.run());
    for _ in 0..2 {
        let waker = Waker::from(Arc::new(Reentrant(shutdown.clone())));
        assert!(
            running
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
    }
    shutdown.request();
    assert_eq!(statuses(&running.await), [Status::TimedOut]);
    *nosy.0.lock() = None;
}

#[test]
fn what_users_spawn_can_be_sent() {
    fn sent<T: Send>(_: T) {}
    fn shared<T: Send + Sync + fmt::Debug>() {}
    let shutdown = Shutdown::builder().build().unwrap();
    sent(shutdown.run());
    sent(shutdown.requested());
    shared::<Shutdown>();
    shared::<ShutdownReport>();
    shared::<Protected>();
}
