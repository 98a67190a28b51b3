//! A command that is run to its end.

use crate::support::*;

async fn shell(script: &str) -> Output {
    Command::shell(script).run().await.unwrap()
}

#[test]
fn each_end_is_told_as_it_is() {
    test(async {
        let output = shell("echo out; echo err >&2").await;
        assert!(output.success());
        assert_eq!(
            (output.stdout.text(), output.stderr.text()),
            ("out\n".into(), "err\n".into())
        );
        assert_eq!(shell("exit 7").await.end, End::Exited(7));
        assert_eq!(shell("kill -9 $$").await.end, End::Signalled(9));
        assert_eq!(shell("kill -TERM $$").await.end, End::Signalled(15));
    });
}

/// Trap 86.
#[test]
fn a_mebibyte_on_each_stream_does_not_hang() {
    test(async {
        let fill = "head -c 1048576 /dev/zero";
        let output = shell(&format!("{fill} >&2; {fill}; {fill} >&2; {fill}")).await;
        assert!(output.success());
        for stream in [output.stdout, output.stderr] {
            assert_eq!((stream.total, stream.bytes.len()), (2 << 20, 1 << 20));
        }
    });
}

/// Trap 87.
#[test]
fn a_mebibyte_line_with_bytes_that_are_not_utf8_is_kept() {
    test(async {
        let script = "printf 'a\\377b'; head -c 1048576 /dev/zero | tr '\\0' x; printf '\\376'";
        let command = Command::shell(script).output_limit(2 << 20);
        let stdout = command.run().await.unwrap().stdout;
        assert_eq!(stdout.bytes.len(), (1 << 20) + 4);
        assert!(stdout.bytes.starts_with(b"a\xffbx") && stdout.bytes.ends_with(b"x\xfe"));
        assert!(!stdout.is_truncated());
        assert!(stdout.text().starts_with("a\u{fffd}b"));
    });
}

#[test]
fn what_is_too_long_keeps_its_beginning_and_its_end() {
    test(async {
        let command = Command::shell("echo 0123456789; echo ok >&2").output_limit(6);
        let Output { stdout, stderr, .. } = command.run().await.unwrap();
        assert_eq!(
            (&stdout.bytes[..], stdout.total, stdout.cut_at),
            (&b"01289\n"[..], 11, Some(3))
        );
        assert_eq!((stdout.is_truncated(), stdout.cut()), (true, 5));
        assert_eq!(stdout.text(), "012\n[5 bytes cut]\n89\n");
        assert_eq!(
            (stderr.text(), stderr.is_truncated()),
            ("ok\n".into(), false)
        );
        let nothing = Command::shell("echo abc")
            .output_limit(0)
            .run()
            .await
            .unwrap();
        assert_eq!((nothing.stdout.total, nothing.stdout.cut_at), (4, Some(0)));
    });
}

#[test]
fn endless_output_is_bounded_and_ends_with_the_time_limit() {
    test(async {
        let command = Command::new("yes").time_limit(200 * MS).output_limit(1000);
        let output = command.run().await.unwrap();
        assert!(matches!(output.end, End::TimedOut { after, .. } if after == 200 * MS));
        assert!(output.stdout.total > 100_000, "{}", output.stdout.total);
        assert_eq!(output.stdout.bytes.len(), 1000);
    });
}

/// On one thread: a child that always writes leaves the others their turns.
#[test]
fn endless_output_does_not_starve_the_thread() {
    beside(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        runtime.block_on(async {
            let loud = Command::new("yes").time_limit(LONG);
            let mut loud = tokio::spawn(async move { loud.run().await });
            let other = Command::new("true");
            tokio::select! {
                biased;
                _ = &mut loud => panic!("it has starved all others"),
                output = other.run() => assert!(output.unwrap().success()),
            }
            loud.abort();
            assert!(loud.await.unwrap_err().is_cancelled());
        });
    });
}

#[test]
fn a_time_limit_keeps_the_output() {
    test(async {
        let command = Command::shell("echo some; sleep 60").time_limit(100 * MS);
        let output = command.run().await.unwrap();
        assert!(matches!(output.end, End::TimedOut { .. }) && !output.forced);
        assert_eq!(output.stdout.text(), "some\n");
        assert!(output.elapsed >= 100 * MS && output.elapsed < LONG);
        let error = output.into_result().unwrap_err();
        assert_eq!(error.kind(), ProcessErrorKind::TimedOut);
        assert_eq!(error.into_output().unwrap().stdout.text(), "some\n");
    });
}

#[test]
fn what_ends_within_its_grace_says_how() {
    test(async {
        let script = "trap 'echo saved; exit 3' TERM; echo up; while :; do sleep 0.01; done";
        let output = Command::shell(script)
            .time_limit(150 * MS)
            .run()
            .await
            .unwrap();
        assert!(matches!(output.end, End::TimedOut { .. }));
        assert_eq!((output.code(), output.forced), (Some(3), false));
        assert_eq!(output.stdout.text(), "up\nsaved\n");
    });
}

#[test]
fn input_larger_than_a_pipe_goes_through() {
    test(async {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let command = Command::new("cat")
            .stdin(bytes.clone())
            .output_limit(4 << 20);
        let (a, b) = tokio::join!(command.run(), command.run());
        assert!(a.unwrap().stdout.bytes == bytes && b.unwrap().stdout.bytes == bytes);
    });
}

#[test]
fn input_that_nobody_reads_is_no_error() {
    test(async {
        let input = vec![b'x'; 1 << 20];
        let output = Command::new("true")
            .stdin(input.clone())
            .run()
            .await
            .unwrap();
        assert!(output.success());
        // It closes its input, lives on, and is found when it ends.
        let closes = Command::shell("exec <&-; sleep 0.1; echo end").stdin(input);
        assert_eq!(closes.run().await.unwrap().stdout.text(), "end\n");
        let none = Command::new("cat").run().await.unwrap();
        assert_eq!((none.end, none.stdout.total), (End::Exited(0), 0));
        let empty = Command::new("cat").stdin("").run().await.unwrap();
        assert_eq!(empty.end, End::Exited(0));
    });
}

#[test]
fn a_child_that_closes_its_pipes_is_waited_for() {
    test(async {
        let output = shell("echo out; exec >&- 2>&-; sleep 0.2; exit 4").await;
        assert_eq!(
            (output.end, output.stdout.text()),
            (End::Exited(4), "out\n".into())
        );
        assert!(output.elapsed >= 200 * MS);
    });
}

#[test]
fn arguments_environment_and_directory_arrive() {
    test(async {
        let command = Command::new("sh")
            .args([
                "-c",
                "echo \"$1\" \"$HERE\" \"${HOME-none}\" $PWD",
                "name",
                "a b; $(false)",
            ])
            .env("HERE", "yes")
            .env_remove("HOME")
            .current_dir("/proc");
        let output = command.run().await.unwrap();
        assert_eq!(output.stdout.text(), "a b; $(false) yes none /proc\n");
        let output = Command::new("env")
            .env("A", "1")
            .env_clear()
            .env("B", "2")
            .run()
            .await;
        assert_eq!(output.unwrap().stdout.text(), "B=2\n");
    });
}

#[test]
fn a_debug_form_holds_no_secrets() {
    let command = Command::new("login")
        .env("TOKEN", "hunter2")
        .stdin("hunter2");
    let debug = format!("{command:?}");
    assert!(
        debug.contains("TOKEN") && !debug.contains("hunter2"),
        "{debug}"
    );
}

#[test]
fn an_error_says_what_it_was() {
    test(async {
        let failed = shell("echo working; echo 'no disk' >&2; echo >&2; exit 5").await;
        let error = failed.into_result().unwrap_err();
        assert_eq!(error.kind(), ProcessErrorKind::Failed);
        let text = error.to_string();
        assert!(
            text.starts_with("`sh`: exited with 5 after ") && text.ends_with(": no disk"),
            "{text}"
        );
        let signalled = shell("kill -9 $$").await.into_result().unwrap_err();
        assert_eq!(signalled.kind(), ProcessErrorKind::Signalled);
        assert!(shell("true").await.into_result().is_ok());
    });
}

#[test]
fn nothing_captured_is_nothing() {
    let nothing = Captured::default();
    assert_eq!(
        (nothing.text(), nothing.is_truncated(), nothing.cut()),
        ("".into(), false, 0)
    );
}
