//! What cannot be started is an error with a kind.

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::*;

async fn refused(command: Command) -> mainstay::process::ProcessError {
    let error = command.run().await.unwrap_err();
    assert!(error.source().is_some() && error.output().is_none());
    assert!(error.to_string().contains(error.program()), "{error}");
    error
}

#[test]
fn each_refusal_has_its_kind() {
    test(async {
        let kind = async |command| refused(command).await.kind();
        let missing = Command::new("no-such-program-anywhere");
        assert_eq!(kind(missing).await, ProcessErrorKind::NotFound);
        let nowhere = Command::new("true").current_dir("/no/such/directory");
        assert_eq!(kind(nowhere).await, ProcessErrorKind::NoDirectory);
        let file = Command::new("true").current_dir("/proc/version");
        assert_eq!(kind(file).await, ProcessErrorKind::NoDirectory);
        let no_program = Command::new("/proc/version");
        assert_eq!(kind(no_program).await, ProcessErrorKind::PermissionDenied);
        for zero in [
            Command::new("tr\0ue"),
            Command::new("true").arg("a\0b"),
            Command::new("true").env("A\0", "b"),
            Command::new("true").env("A", "b\0"),
            Command::new("true").current_dir("/\0"),
        ] {
            assert_eq!(kind(zero).await, ProcessErrorKind::Invalid);
        }
        let long = Command::new("true").arg("x".repeat(3 << 20));
        assert_eq!(kind(long).await, ProcessErrorKind::Invalid);
    });
}

#[test]
fn a_file_that_is_no_program_is_invalid() {
    test(async {
        let dir = tempdir();
        let path = dir.path().join("data");
        fs::write(&path, [0, 1, 2, 3]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let error = refused(Command::new(&path)).await;
        assert_eq!(error.kind(), ProcessErrorKind::Invalid);
        assert!(!error.is_transient());
    });
}

fn tempdir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// At every number of descriptors that are left: an error or a success, and nothing leaks.
#[test]
fn too_few_descriptors_are_too_many_children() {
    alone(|| {
        let runtime = runtime();
        runtime.block_on(async {
            let (soft, hard) = rlimit::Resource::NOFILE.get().unwrap();
            let mut refusals = 0;
            for spare in 0..14 {
                let most = descriptors() as u64 + spare;
                rlimit::Resource::NOFILE.set(most, hard).unwrap();
                let result = Command::shell("echo x").stdin("y").run().await;
                rlimit::Resource::NOFILE.set(soft, hard).unwrap();
                match result {
                    Ok(output) => assert_eq!(output.stdout.text(), "x\n"),
                    Err(error) => {
                        assert_eq!(error.kind(), ProcessErrorKind::TooMany, "{error}");
                        assert!(error.is_transient());
                        refusals += 1;
                    }
                }
            }
            assert!((2..14).contains(&refusals), "{refusals}");
        });
    });
}

/// What a pipeline sees: a failure that it counts and tries again, with the output in it.
#[test]
fn a_pipeline_retries_what_failed() {
    test(async {
        let dir = tempdir();
        let script = "echo x >> tries; test $(wc -l < tries) -ge 3 || exit 9; echo done";
        let command = Command::shell(script).current_dir(dir.path());
        let pipeline = mainstay::Pipeline::builder("script")
            .retry(mainstay::Retry::builder().max_attempts(3))
            .build()
            .unwrap();
        let run = || async { command.run().await?.into_result() };
        let output = pipeline.call(run).await;
        assert_eq!(output.unwrap().stdout.text(), "done\n");
    });
}

/// What happened, how long it took, what it said last.
#[test]
fn each_end_is_told_in_words() {
    test(async {
        let error = async |command: Command| {
            let output = command.run().await.unwrap();
            output.into_result().unwrap_err()
        };
        let failed = error(Command::shell("echo so >&2; exit 3")).await;
        assert_eq!(failed.kind(), ProcessErrorKind::Failed);
        let text = failed.to_string();
        assert!(
            text.contains("exited with 3 after ") && text.ends_with(": so"),
            "{text}"
        );
        let mute = error(Command::shell("exit 3")).await.to_string();
        assert!(
            !mute.ends_with(':') && mute.contains("exited with 3"),
            "{mute}"
        );
        let signalled = error(Command::shell("kill -9 $$")).await;
        assert_eq!(signalled.kind(), ProcessErrorKind::Signalled);
        let text = signalled.to_string();
        assert!(
            text.contains("ended by signal 9 from elsewhere after "),
            "{text}"
        );
        let late = error(Command::shell("sleep 60").time_limit(10 * MS)).await;
        assert_eq!(late.kind(), ProcessErrorKind::TimedOut);
        let text = late.to_string();
        assert!(text.contains("its time limit was over after "), "{text}");

        let mut process = Command::shell("sleep 60").spawn().unwrap();
        assert!(process.cancel());
        let cancelled = process.wait().await.unwrap().into_result().unwrap_err();
        assert_eq!(cancelled.kind(), ProcessErrorKind::Cancelled);
        let text = cancelled.to_string();
        assert!(text.contains("cancelled after "), "{text}");
    });
}

/// Who is told of a refusal in a log also learns what to do about it.
#[test]
fn a_start_without_a_runtime_says_so() {
    beside(|| {
        let error = Command::new("true").spawn().unwrap_err();
        assert_eq!(error.kind(), ProcessErrorKind::NoRuntime);
        let text = error.to_string();
        assert!(text.contains("there is no tokio runtime here"), "{text}");
    });
}

#[test]
fn a_child_shows_its_program_and_state_and_not_its_secrets() {
    test(async {
        // A shell could be met between fork and exec, and is not seen to stop there.
        let command = Command::new("sleep").arg("60").env("TOKEN", "hunter2");
        let process = command.spawn().unwrap();
        let handle = process.handle();
        assert_eq!(handle.program(), "sleep");
        let text = format!("{process:?}");
        assert!(text.starts_with("Process(Child {"), "{text}");
        assert!(text.contains("state: Running"), "{text}");
        assert!(process.pause());
        until_async(|| state_of(process.pid()) == Some('T'), "the pause").await;
        assert!(format!("{process:?}").contains("state: Paused"));
        assert!(process.resume());
        until_async(|| state_of(process.pid()) != Some('T'), "the end of it").await;
        assert_eq!(process.id().to_string(), handle.id().to_string());
        assert!(!format!("{process:?} {handle:?}").contains("hunter2"));

        let pool = ProcessPool::builder(1).build().unwrap();
        let text = format!("{pool:?}");
        assert!(text.starts_with("ProcessPool {"), "{text}");
        assert!(text.contains("is_closed: false"), "{text}");
    });
}
