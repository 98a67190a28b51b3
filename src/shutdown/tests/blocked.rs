//! Threads that are blocked, on the real clock: they hold up themselves and no deadline.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::*;

const DEADLINE: Duration = Duration::from_millis(300);
/// A busy machine takes its time.
const IN_TIME: Duration = SECOND;

/// Runs on four threads; what is blocked is freed when the sender is dropped afterwards.
fn on_four_threads<T>(test: impl AsyncFnOnce(Receiver<()>) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    let (free, blocked): (Sender<()>, _) = channel();
    let found = runtime.block_on(test(blocked));
    drop(free);
    found
}

/// Blocks its thread, at most for as long as this test could take.
fn block(blocked: &Receiver<()>) {
    let _ = blocked.recv_timeout(10 * SECOND);
}

fn blocking(told: &Arc<AtomicU64>) -> ShutdownBuilder {
    let told = Arc::clone(told);
    let closing = move || {
        told.fetch_add(1, Ordering::SeqCst);
        async { Ok::<_, Infallible>(()) }
    };
    Shutdown::builder()
        .deadline(DEADLINE)
        .closing("last", closing)
}

/// Trap 85: the thread that drove the timers is the one that blocks.
#[test]
fn a_blocked_thread_does_not_hold_up_the_deadline() {
    let report = on_four_threads(async |blocked| {
        let scope = Scope::new();
        let shutdown = Shutdown::builder()
            .deadline(DEADLINE)
            .component("jobs", scope.handle())
            .build()
            .unwrap();
        let job = async move {
            sleep(DEADLINE / 6).await;
            block(&blocked);
            Ok::<_, Infallible>(())
        };
        scope.spawn("blocks", job).unwrap();
        shutdown.request();
        shutdown.run().await
    });
    assert_eq!(statuses(&report), [Status::TimedOut]);
    assert!(report.duration >= DEADLINE, "{report}");
    assert!(report.duration < IN_TIME, "{report}");
    assert_eq!(report.components[0].counts.in_flight, 1);
}

/// Trap 85: whoever ends a section wakes the shutdown, onto its own thread, and blocks that.
#[test]
fn who_blocks_after_a_protected_section_does_not_hold_up_the_deadline() {
    for owned in [false, true] {
        let report = on_four_threads(async |blocked| {
            let tracker = Arc::new(Tracker::new());
            let shutdown = Shutdown::builder()
                .deadline(DEADLINE)
                .component("tracker", Arc::clone(&tracker))
                .build()
                .unwrap();
            let held = (!owned).then(|| shutdown.protect().unwrap());
            let entered = owned.then(|| tracker.enter_owned().unwrap());
            let other = shutdown.clone();
            tokio::spawn(async move {
                other.requested().await;
                sleep(DEADLINE / 6).await;
                drop((held, entered));
                block(&blocked);
            });
            sleep(DEADLINE / 15).await;
            shutdown.request();
            shutdown.run().await
        });
        assert!(report.duration < IN_TIME, "{report}");
        let left = (report.sections_held, report.components[0].counts.in_flight);
        assert_eq!(left, (0, 0), "counted again at the end: {report}");
    }
}

/// Trap 85: the request wakes whoever runs the shutdown, onto a thread that blocks.
#[test]
fn who_blocks_after_the_request_does_not_hold_up_the_shutdown() {
    let told = Arc::new(AtomicU64::new(0));
    let report = on_four_threads(async |blocked| {
        let shutdown = blocking(&told).build().unwrap();
        let running = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.run().await }
        });
        sleep(DEADLINE / 15).await;
        tokio::spawn(async move {
            shutdown.request();
            block(&blocked);
        });
        tokio::time::timeout(5 * SECOND, running)
            .await
            .map(Result::unwrap)
    });
    let report = report.unwrap();
    assert!(report.duration < IN_TIME, "{report}");
    assert_eq!(statuses(&report), [Status::Completed]);
    assert_eq!(told.load(Ordering::SeqCst), 1);
}

/// Who was polled before the request and dropped has done nothing.
#[test]
fn a_run_that_was_dropped_before_the_request_begins_nothing() {
    let told = Arc::new(AtomicU64::new(0));
    on_four_threads(async |_| {
        let shutdown = blocking(&told).build().unwrap();
        let mut running = Box::pin(shutdown.run());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(running.as_mut().poll(&mut cx).is_pending());
        drop(running);
        shutdown.request();
        sleep(2 * DEADLINE).await;
        assert_eq!(told.load(Ordering::SeqCst), 0);
        assert_eq!(statuses(&shutdown.run().await).len(), 1);
    });
}

/// Whoever requests finds it requested, however many request at once.
#[test]
fn it_is_requested_when_any_request_has_returned() {
    for _ in 0..crate::testing::rounds(2_000) {
        let shutdown = Shutdown::builder().build().unwrap();
        let start = std::sync::Barrier::new(2);
        let request = || {
            start.wait();
            shutdown.request();
            (shutdown.is_requested(), shutdown.protect().is_err())
        };
        thread::scope(|threads| {
            let other = threads.spawn(request);
            assert_eq!(request(), (true, true));
            assert_eq!(other.join().unwrap(), (true, true));
        });
    }
}
