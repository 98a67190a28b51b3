//! Output while the child runs.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use futures_util::{Stream, StreamExt};

use crate::support::*;

/// What `seq` writes.
fn numbers(count: u32) -> String {
    (1..=count).map(|n| format!("{n}\n")).collect()
}

#[test]
fn chunks_come_while_it_runs() {
    test(async {
        let mut process = Command::shell("echo one; echo two >&2; sleep 60")
            .spawn()
            .unwrap();
        let mut seen = [process.next().await.unwrap(), process.next().await.unwrap()];
        seen.sort_by_key(|chunk| chunk.source == Source::Stderr);
        assert_eq!(
            (seen[0].source, &seen[0].bytes[..]),
            (Source::Stdout, &b"one\n"[..])
        );
        assert_eq!(
            (seen[1].source, &seen[1].bytes[..]),
            (Source::Stderr, &b"two\n"[..])
        );
        process.cancel();
        assert_eq!(process.next().await, None);
        assert_eq!(process.next().await, None, "also when it is asked again");
        let output = process.wait().await.unwrap();
        assert_eq!(
            (output.end, output.stdout.total),
            (End::Cancelled, 0),
            "it was handed out"
        );
    });
}

#[test]
fn lines_come_whole_and_from_both_streams() {
    test(async {
        let script = "printf 'a\\r\\nb'; sleep 0.05; printf 'c\\n\\nend'; printf 'e\\377\\n' >&2";
        let mut process = Command::shell(script).spawn().unwrap();
        let lines: Vec<_> = process.lines().collect().await;
        let of = |source| lines.iter().filter(move |line| line.source == source);
        let stdout: Vec<_> = of(Source::Stdout).map(|line| line.text()).collect();
        assert_eq!(stdout, ["a", "bc", "", "end"]);
        let stderr: Vec<_> = of(Source::Stderr).map(|line| &line.bytes[..]).collect();
        assert_eq!(stderr, [b"e\xff"]);
        assert!(lines.iter().all(|line| !line.partial));
    });
}

/// Trap 87.
#[test]
fn a_line_of_a_mebibyte_comes_in_flagged_pieces() {
    test(async {
        let script = "head -c 1048576 /dev/zero; echo; echo next";
        let mut process = Command::shell(script).line_limit(100_000).spawn().unwrap();
        let (mut sizes, mut lines) = (Vec::new(), process.lines());
        while let Some(line) = lines.line().await {
            sizes.push((line.bytes.len(), line.partial));
        }
        let mut expected = vec![(100_000, true); 10];
        expected.extend([(48_576, false), (4, false)]);
        assert_eq!(sizes, expected);
    });
}

/// The rule is back-pressure: a child whose output is not taken waits, and loses nothing.
#[test]
fn a_slow_reader_holds_the_child_and_loses_nothing() {
    test(async {
        let script = "head -c 1000000 /dev/zero; echo written >&2";
        let mut process = Command::shell(script)
            .output_limit(2 << 20)
            .spawn()
            .unwrap();
        let first = process.chunk().await.unwrap();
        assert_eq!(first.source, Source::Stdout);
        tokio::time::sleep(100 * MS).await;
        assert_eq!(process.state(), State::Running, "its pipe is full");
        let output = process.wait().await.unwrap();
        let rest = usize::try_from(output.stdout.total).unwrap();
        assert_eq!(first.bytes.len() + rest, 1_000_000);
        assert_eq!(output.stderr.text(), "written\n");
    });
}

#[test]
fn what_is_held_back_of_a_line_is_not_lost() {
    test(async {
        let mut process = Command::shell("printf 'a\\nbc'; sleep 60").spawn().unwrap();
        let mut lines = process.lines();
        assert_eq!(lines.line().await.unwrap().text(), "a");
        process.kill();
        let output = process.wait().await.unwrap();
        assert_eq!(output.stdout.text(), "bc");

        let mut process = Command::shell("printf 'a\\nbc'; sleep 60").spawn().unwrap();
        assert_eq!(process.lines().line().await.unwrap().text(), "a");
        assert_eq!(process.chunk().await.unwrap().bytes, b"bc");
    });
}

/// Polls `future` once, and drops it.
fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut cx) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

#[test]
fn a_future_dropped_at_every_poll_loses_nothing() {
    test(async {
        let command = Command::new("seq").arg("50000").output_limit(1 << 20);
        let mut process = command.spawn().unwrap();
        let output = loop {
            match poll_once(process.wait()) {
                Some(output) => break output.unwrap(),
                None => tokio::task::yield_now().await,
            }
        };
        assert_eq!(output.stdout.text(), numbers(50_000));

        let (mut process, mut all) = (command.spawn().unwrap(), Vec::new());
        loop {
            match poll_once(process.chunk()) {
                Some(Some(chunk)) => all.extend(chunk.bytes),
                Some(None) => break,
                None => tokio::task::yield_now().await,
            }
        }
        assert_eq!(String::from_utf8(all).unwrap(), numbers(50_000));

        let (mut process, mut all) = (command.spawn().unwrap(), String::new());
        loop {
            match poll_once(process.lines().line()) {
                Some(Some(line)) => all += &format!("{}\n", line.text()),
                Some(None) => break,
                None => tokio::task::yield_now().await,
            }
        }
        assert_eq!(all, numbers(50_000));
    });
}

#[test]
fn what_was_written_is_there_after_the_end() {
    test(async {
        for _ in 0..50 {
            let mut process = Command::shell("echo out; echo err >&2").spawn().unwrap();
            process.handle().ended().await;
            let output = process.wait().await.unwrap();
            assert_eq!(
                (output.stdout.text(), output.stderr.text()),
                ("out\n".into(), "err\n".into())
            );
        }
    });
}

#[test]
fn types_are_send_and_streams_are_streams() {
    fn is_send<T: Send>(_: &T) {}
    fn is_shared<T: Send + Sync + 'static>() {}
    fn is_stream<S: Stream + Unpin>() {}
    is_shared::<Process>();
    is_shared::<ProcessHandle>();
    is_shared::<ProcessPool>();
    is_shared::<Command>();
    is_stream::<Process>();
    is_stream::<mainstay::process::Lines<'_>>();
    let command = Command::new("true");
    is_send(&command.run());
    let _: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(async move { command.run().await });
}
