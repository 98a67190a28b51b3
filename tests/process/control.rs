//! Pause, resume, cancel and kill.

use std::time::Instant;

use crate::support::*;

/// Says `tick` every 10 ms.
fn ticking() -> Command {
    Command::shell("while :; do echo tick; sleep 0.01; done")
}

/// A shell that has just forked is not stopped itself (`D`): it waits for a child that is.
async fn stands_still(group: u32) {
    let is_stopped = |seen: &Seen| matches!(seen.state, 'T' | 'D');
    until_async(
        || members(group).iter().all(is_stopped),
        "the whole group to stop",
    )
    .await;
}

#[test]
fn a_paused_group_stands_still_and_goes_on() {
    test(async {
        let mut process = ready(&ticking()).await;
        let handle = process.handle();
        assert_eq!(handle.state(), State::Running);
        assert!(handle.pause() && handle.pause());
        assert_eq!(handle.state(), State::Paused);
        stands_still(handle.pid()).await;
        // What is in the pipe; and then nothing more.
        while tokio::time::timeout(100 * MS, process.chunk())
            .await
            .is_ok()
        {}
        assert!(handle.resume());
        assert_eq!(handle.state(), State::Running);
        assert!(process.chunk().await.is_some());
        process.kill();
        assert_eq!(process.wait().await.unwrap().end, End::Cancelled);
        assert_eq!(
            (handle.state(), handle.end()),
            (State::Ended, Some(End::Cancelled))
        );
        assert!(!handle.pause() && !handle.resume() && !handle.cancel() && !handle.kill());
    });
}

/// Trap 91.
#[test]
fn a_paused_child_hears_the_cancel() {
    test(async {
        let script = "trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.01; done";
        let mut process = ready(&Command::shell(script).grace(LONG)).await;
        let pid = process.pid();
        process.pause();
        stands_still(pid).await;
        assert!(process.cancel());
        assert!(!process.pause(), "it must run to end");
        let output = process.wait().await.unwrap();
        assert_eq!(
            (output.end, output.code(), output.forced),
            (End::Cancelled, Some(0), false)
        );
        assert_eq!(output.stdout.text(), "saved\n");
        assert!(output.elapsed < LONG);
    });
}

#[test]
fn a_paused_child_is_ended_by_its_time_limit() {
    test(async {
        let mut process = ready(&Command::shell("echo up; sleep 60").time_limit(200 * MS)).await;
        process.pause();
        let output = process.wait().await.unwrap();
        assert!(matches!(output.end, End::TimedOut { .. }) && !output.forced);
    });
}

#[test]
fn who_does_not_listen_is_killed_after_the_grace() {
    test(async {
        let mut process = ready(&stubborn().grace(150 * MS)).await;
        let begun = Instant::now();
        assert!(process.cancel());
        assert!(!process.cancel(), "it is ending");
        let output = process.wait().await.unwrap();
        assert!(begun.elapsed() >= 150 * MS && begun.elapsed() < LONG);
        assert_eq!((output.end, output.forced), (End::Cancelled, true));
    });
}

#[test]
fn a_second_cancel_can_shorten_the_grace() {
    test(async {
        let mut process = ready(&stubborn().grace(100 * LONG)).await;
        let handle = process.handle();
        assert!(handle.cancel());
        assert!(!handle.cancel_within(50 * MS));
        assert_eq!(process.wait().await.unwrap().end, End::Cancelled);
    });
}

#[test]
fn a_long_grace_does_not_outlast_the_time_limit() {
    test(async {
        let command = stubborn().time_limit(200 * MS).grace(50 * MS);
        let mut process = ready(&command).await;
        process.handle().cancel_within(100 * LONG);
        let output = process.wait().await.unwrap();
        assert_eq!((output.end, output.forced), (End::Cancelled, true));
        assert!(output.elapsed >= 250 * MS);
    });
}

#[test]
fn a_cancel_from_elsewhere_reaches_one_who_waits() {
    test(async {
        let mut process = Command::new("sleep").arg("60").spawn().unwrap();
        let handle = process.handle();
        let waits = tokio::spawn(async move { process.wait().await });
        let plain = handle.clone();
        std::thread::spawn(move || assert!(plain.cancel()))
            .join()
            .unwrap();
        assert_eq!(waits.await.unwrap().unwrap().end, End::Cancelled);
        handle.ended().await;
    });
}

/// The limits are kept by the supervisor, not by whoever polls.
#[test]
fn limits_hold_while_nobody_polls() {
    test(async {
        let deaf = "trap '' TERM; echo x; while :; do sleep 0.01; done";
        let command = Command::shell(deaf).time_limit(100 * MS).grace(100 * MS);
        let mut process = command.spawn().unwrap();
        let handle = process.handle();
        until_async(|| handle.state() == State::Ended, "the end").await;
        assert_eq!(state_of(process.pid()), None, "it is reaped");
        let output = process.wait().await.unwrap();
        assert!(matches!(output.end, End::TimedOut { .. }) && output.forced);
        assert_eq!(
            output.stdout.text(),
            "x\n",
            "what it wrote is there nevertheless"
        );
    });
}

#[test]
fn a_cancel_after_the_end_does_not_rewrite_it() {
    test(async {
        let mut process = Command::shell("exit 6").spawn().unwrap();
        let pid = process.pid();
        until_async(|| matches!(state_of(pid), None | Some('Z')), "the end").await;
        assert!(!process.cancel() && !process.kill());
        assert_eq!(process.wait().await.unwrap().end, End::Exited(6));
        assert_eq!(
            process.wait().await.unwrap().end,
            End::Exited(6),
            "also the second time"
        );
    });
}

#[test]
fn everyone_at_once_does_no_harm() {
    test(async {
        for round in 0..30 {
            let mut process = ticking().grace(20 * MS).spawn().unwrap();
            let threads: Vec<_> = (0..4)
                .map(|n| {
                    let handle = process.handle();
                    std::thread::spawn(move || match (n + round) % 4 {
                        0 => handle.pause(),
                        1 => handle.resume(),
                        2 => handle.cancel(),
                        _ => handle.kill(),
                    })
                })
                .collect();
            assert_eq!(process.wait().await.unwrap().end, End::Cancelled);
            for thread in threads {
                thread.join().unwrap();
            }
        }
    });
}
