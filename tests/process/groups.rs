//! Groups: nobody stays behind, nobody else is hit.

use std::os::unix::process::CommandExt;
use std::time::Duration;

use crate::support::*;

/// Trap 88.
#[test]
fn a_grandchild_that_holds_the_pipe_does_not_hold_the_call() {
    test(async {
        let mut process = Command::shell("sleep 300 & echo x").spawn().unwrap();
        let output = process.wait().await.unwrap();
        assert_eq!(
            (output.end, output.stdout.text()),
            (End::Exited(0), "x\n".into())
        );
        assert!(
            output.elapsed >= 250 * MS && output.elapsed < LONG,
            "{:?}",
            output.elapsed
        );
        group_is_gone(process.pid()).await;
    });
}

#[test]
fn a_grandchild_has_time_for_its_last_words() {
    test(async {
        let command = Command::shell("(sleep 0.1; echo late) & echo now").pipe_grace(LONG);
        let output = command.run().await.unwrap();
        assert_eq!(output.stdout.text(), "now\nlate\n");
        assert!(output.elapsed < LONG, "it ends when the pipes are free");
    });
}

#[test]
fn a_grandchild_that_holds_no_pipe_is_killed_at_once() {
    test(async {
        let command = Command::shell("sleep 300 >/dev/null 2>&1 & echo x").pipe_grace(LONG);
        let mut process = command.spawn().unwrap();
        assert!(process.wait().await.unwrap().elapsed < LONG);
        group_is_gone(process.pid()).await;
    });
}

#[test]
fn who_has_left_the_group_does_not_hold_the_call_either() {
    test(async {
        let script = "setsid sh -c 'echo $$; exec sleep 300' & sleep 0.2; echo x";
        let output = Command::shell(script)
            .pipe_grace(50 * MS)
            .run()
            .await
            .unwrap();
        let text = output.stdout.text();
        let (stranger, rest) = text.split_once('\n').unwrap();
        assert_eq!((output.end, rest), (End::Exited(0), "x\n"));
        let stranger: i32 = stranger.parse().unwrap();
        assert_eq!(
            state_of(stranger.unsigned_abs()),
            Some('S'),
            "it is none of ours"
        );
        kill(stranger);
    });
}

/// Its own words are taken; the stranger's, which have no end, only as far as they are there.
#[test]
fn a_stranger_that_writes_for_ever_does_not_hold_the_call() {
    test(async {
        let script = "echo mine; setsid yes & sleep 0.05";
        let output = Command::shell(script)
            .pipe_grace(50 * MS)
            .run()
            .await
            .unwrap();
        assert_eq!(output.end, End::Exited(0));
        assert!(output.stdout.bytes.starts_with(b"mine\n"));
        assert!(output.elapsed < LONG);
    });
}

/// Trap 89.
#[test]
fn a_tree_ends_as_a_whole() {
    test(async {
        let script = "sh -c 'sh -c \"echo up; sleep 300; :\"; :'; :";
        for grace in [Duration::ZERO, LONG] {
            let mut process = ready(&Command::shell(script).grace(grace)).await;
            until_async(|| members(process.pid()).len() == 4, "the whole tree").await;
            process.cancel();
            assert_eq!(process.wait().await.unwrap().end, End::Cancelled);
            group_is_gone(process.pid()).await;
        }
    });
}

#[test]
fn a_grandchild_that_does_not_listen_is_killed_with_its_group() {
    test(async {
        let deaf = "(trap '' TERM; echo up; while :; do sleep 0.02; done) & wait";
        let mut process = ready(&Command::shell(deaf).grace(200 * MS)).await;
        process.cancel();
        let output = process.wait().await.unwrap();
        assert_eq!(
            (output.end, output.forced),
            (End::Cancelled, false),
            "the leader listens"
        );
        group_is_gone(process.pid()).await;
    });
}

/// A shell that ends at once does not cost its child what is left of the grace.
#[test]
fn a_grandchild_has_the_whole_grace() {
    test(async {
        let slow = "trap 'sleep 0.6; echo saved; exit' TERM; echo up; while :; do sleep 0.02; done";
        let command = Command::shell(format!("({slow}) & wait"));
        let mut process = ready(&command.grace(LONG).pipe_grace(50 * MS)).await;
        process.cancel();
        let output = process.wait().await.unwrap();
        assert_eq!(output.stdout.text(), "saved\n");
        assert!(output.elapsed < LONG, "it ends when the pipes are free");
    });
}

/// The supervisor sees that the pipes are free, and takes nothing out of them.
#[test]
fn a_group_that_has_ended_is_over_though_nobody_reads() {
    test(async {
        let command = Command::shell("echo up; sleep 300 & echo more; wait");
        let command = command.grace(100 * LONG).pipe_grace(100 * LONG);
        let mut process = ready(&command).await;
        until_async(|| members(process.pid()).len() == 2, "both").await;
        process.cancel();
        process.handle().ended().await;
        assert!(process.wait().await.unwrap().elapsed < LONG);
    });
}

/// A leader may go over to another group, such as ours, and is signalled there alone.
#[test]
fn a_leader_that_leaves_its_group_is_ended_too() {
    test(async {
        let leaves = "setpgrp(0, getpgrp(getppid)); $| = 1; print qq(up\\n); sleep 300";
        let listens = Command::new("perl").args(["-e", leaves]).grace(LONG);
        let mut process = ready(&listens).await;
        process.pause();
        until_async(|| state_of(process.pid()) == Some('T'), "it to stop").await;
        process.cancel();
        let output = process.wait().await.unwrap();
        assert_eq!((output.end, output.forced), (End::Cancelled, false));

        let deaf = format!("$SIG{{TERM}} = 'IGNORE'; {leaves}");
        let deaf = Command::new("perl").args(["-e", &deaf]).grace(20 * MS);
        let mut process = ready(&deaf).await;
        process.cancel();
        assert!(process.wait().await.unwrap().forced);

        let process = ready(&deaf).await;
        let handle = process.handle();
        drop(process);
        handle.ended().await;
        assert_eq!(state_of(handle.pid()), None);
    });
}

/// Trap 90. While anyone of the group may have to be killed, its number is taken.
#[test]
fn a_leader_is_a_zombie_while_its_group_lives() {
    test(async {
        let command = Command::shell("sleep 300 & echo x").pipe_grace(LONG);
        let process = command.spawn().unwrap();
        let pid = process.pid();
        until_async(|| process.state() == State::Ending, "the leader to end").await;
        assert_eq!(state_of(pid), Some('Z'));
        assert_eq!(members(pid).len(), 1);
        assert!(!process.kill(), "the leader has ended; the others end now");
        process.handle().ended().await;
        assert_eq!(state_of(pid), None);
        group_is_gone(pid).await;
    });
}

fn kill(pid: i32) {
    let kill = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status();
    assert!(kill.unwrap().success());
}

/// Makes the system give out `pid` again, if we may (root): a stranger that leads a group.
fn stranger_with(pid: u32) -> Option<std::process::Child> {
    for _ in 0..50 {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).ok()?;
        let mut command = std::process::Command::new("sleep");
        let mut child = command.arg("60").process_group(0).spawn().unwrap();
        if child.id() == pid {
            return Some(child);
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    None
}

/// Trap 90.
#[test]
fn a_number_that_is_used_again_is_not_hit() {
    alone(|| {
        let runtime = runtime();
        let process = runtime.block_on(async {
            let mut process = Command::new("true").spawn().unwrap();
            process.wait().await.unwrap();
            process
        });
        let Some(mut stranger) = stranger_with(process.pid()) else {
            println!("not root: the system does not give the number again");
            return;
        };
        let handle = process.handle();
        assert!(!handle.pause() && !handle.cancel() && !handle.kill() && !handle.resume());
        drop((process, handle, runtime));
        std::thread::sleep(30 * MS);
        assert_eq!(state_of(stranger.id()), Some('S'), "the stranger lives");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    });
}

#[test]
fn a_child_that_somebody_else_reaps_is_an_error() {
    test(async {
        let mut process = Command::shell("exit 3").pipe_grace(LONG).spawn().unwrap();
        let pid = i32::try_from(process.pid()).unwrap();
        let pid = rustix_pid(pid);
        // A thief, as a library that waits for any child.
        let stolen = tokio::task::spawn_blocking(move || {
            rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())
        });
        let stolen = stolen.await.unwrap();
        match process.wait().await {
            Err(error) => assert_eq!(error.kind(), ProcessErrorKind::Lost),
            Ok(output) => assert!(stolen.is_err() && output.end == End::Exited(3)),
        }
    });
}

fn rustix_pid(pid: i32) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(pid).unwrap()
}
