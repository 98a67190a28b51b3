//! A child ends with its owner, wherever and whenever that is dropped.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::support::*;

fn sleeper() -> Command {
    Command::shell("sleep 300 & sleep 300")
}

/// The leader reaped, and its group gone.
fn is_gone(pid: u32) {
    until(|| state_of(pid).is_none(), "the leader to be reaped");
    until(|| members(pid).is_empty(), "the group to be gone");
}

#[test]
fn a_dropped_process_takes_its_group_with_it() {
    test(async {
        let process = sleeper().spawn().unwrap();
        let (pid, handle) = (process.pid(), process.handle());
        drop(process);
        handle.ended().await;
        assert_eq!(
            (handle.state(), handle.end()),
            (State::Ended, Some(End::Cancelled))
        );
        is_gone(pid);
    });
}

#[test]
fn a_paused_process_can_be_dropped() {
    test(async {
        let process = ready(&Command::shell("echo up; sleep 300")).await;
        process.pause();
        let pid = process.pid();
        drop(process);
        is_gone(pid);
    });
}

#[test]
fn a_plain_thread_can_drop_it() {
    beside(|| {
        let runtime = runtime();
        let process = runtime.block_on(async { sleeper().spawn().unwrap() });
        let pid = process.pid();
        std::thread::spawn(move || drop(process)).join().unwrap();
        is_gone(pid);
    });
}

#[test]
fn it_can_be_dropped_after_its_runtime() {
    beside(|| {
        let runtime = runtime();
        let process = runtime.block_on(async { sleeper().spawn().unwrap() });
        let pid = process.pid();
        drop(runtime);
        is_gone(pid);
        drop(process);
    });
}

/// A runtime on one thread that is never driven again reaps nothing by itself.
#[test]
fn it_can_be_dropped_where_no_runtime_is_driven() {
    beside(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        let process = runtime.block_on(async { sleeper().spawn().unwrap() });
        let pid = process.pid();
        drop(process);
        is_gone(pid);
        drop(runtime);
    });
}

#[test]
fn without_its_runtime_it_is_killed_and_others_may_wait() {
    beside(|| {
        let first = runtime();
        let command = Command::shell("echo up; sleep 300");
        let mut process = first.block_on(async { command.spawn().unwrap() });
        first.shutdown_background();
        let output = runtime().block_on(process.wait()).unwrap();
        assert_eq!((output.end, output.forced), (End::Cancelled, true));
        is_gone(process.pid());
    });
}

#[test]
fn a_panic_takes_it_along() {
    test(async {
        let process = sleeper().spawn().unwrap();
        let pid = process.pid();
        let task = tokio::spawn(async move {
            let _process = process;
            panic!("on purpose");
        });
        assert!(task.await.unwrap_err().is_panic());
        is_gone(pid);
    });
}

/// Nothing is left after `k` polls, whatever `k` is.
#[test]
fn a_run_can_be_dropped_after_every_poll() {
    alone(|| {
        runtime().block_on(async {
            let command = Command::shell("echo a; sleep 0.01 & echo b >&2; sleep 0.01; echo c");
            for polls in 0..40 {
                let mut run = pin!(command.run());
                let mut cx = Context::from_waker(Waker::noop());
                for _ in 0..polls {
                    if run.as_mut().poll(&mut cx).is_ready() {
                        break;
                    }
                    tokio::time::sleep(MS).await;
                }
            }
        });
    });
}

#[test]
fn a_run_can_be_dropped_at_any_time() {
    alone(|| {
        runtime().block_on(async {
            let command =
                Command::shell("echo a; (sleep 0.01; echo b) & exit 3").pipe_grace(5 * MS);
            for n in 0..200_u32 {
                let limit = MS / 20 * (n % 100);
                let _ = tokio::time::timeout(limit, command.run()).await;
            }
        });
    });
}

#[test]
fn a_runtime_can_go_at_any_time() {
    alone(|| {
        for n in 0..20 {
            let runtime = runtime();
            for _ in 0..5 {
                let command =
                    Command::shell("echo a; sleep 0.01; echo b").stdin(vec![b'x'; 1 << 20]);
                runtime.spawn(async move { command.run().await });
            }
            std::thread::sleep(MS * n / 2);
            match n % 2 {
                0 => runtime.shutdown_background(),
                _ => drop(runtime),
            }
        }
    });
}

#[test]
fn outside_of_a_runtime_nothing_is_started() {
    alone(|| {
        let error = Command::new("true").spawn().unwrap_err();
        assert_eq!(error.kind(), ProcessErrorKind::NoRuntime);
    });
}

#[test]
fn a_runtime_without_io_or_time_leaves_nothing_behind() {
    use tokio::runtime::Builder;
    alone(|| {
        let refuses = |builder: &mut Builder| {
            let runtime = builder.build().unwrap();
            runtime.block_on(async {
                let spawned = catch_unwind(AssertUnwindSafe(|| sleeper().spawn()));
                assert!(spawned.is_err(), "tokio panics, as it says");
            });
        };
        refuses(&mut Builder::new_current_thread());
        refuses(Builder::new_current_thread().enable_time());
        refuses(Builder::new_current_thread().enable_io());
    });
}

/// Its waker is called by the thread that reaps.
#[test]
fn a_waker_that_panics_does_not_end_the_reaper() {
    struct Panics;
    impl std::task::Wake for Panics {
        fn wake(self: std::sync::Arc<Self>) {
            panic!("on purpose");
        }
    }
    beside(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        let process = runtime.block_on(async { sleeper().spawn().unwrap() });
        let (pid, handle) = (process.pid(), process.handle());
        let waker = Waker::from(std::sync::Arc::new(Panics));
        let mut ended = pin!(handle.ended());
        let polled = ended.as_mut().poll(&mut Context::from_waker(&waker));
        assert_eq!(polled, Poll::Pending);
        drop(process);
        is_gone(pid);
        let process = runtime.block_on(async { sleeper().spawn().unwrap() });
        let pid = process.pid();
        drop(process);
        is_gone(pid);
    });
}
