//! The example: to its end, and cut short by ctrl-c.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

const BOUND: Duration = Duration::from_secs(60);

/// The example as it is now. Cargo builds the examples before it runs all tests, but not before
/// it runs this binary alone: then one that is missing, or older than its sources, is built here.
fn example() -> &'static Path {
    static EXAMPLE: OnceLock<PathBuf> = OnceLock::new();
    EXAMPLE.get_or_init(|| {
        let tests = std::env::current_exe().unwrap();
        let profile = tests.parent().unwrap().parent().unwrap();
        let example = profile.join("examples/sessions");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let sources = changed(&root.join("src")).max(changed(&root.join("examples")));
        if changed(&example) < sources {
            build(profile);
        }
        example
    })
}

/// When a file, or the youngest in a folder, was changed.
fn changed(path: &Path) -> Option<SystemTime> {
    let within = std::fs::read_dir(path).into_iter().flatten().flatten();
    let youngest = within.filter_map(|entry| changed(&entry.path())).max();
    youngest.or_else(|| path.metadata().ok()?.modified().ok())
}

fn build(profile: &Path) {
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    build.args(["build", "--example", "sessions"]);
    build.args(["--features", "session,signal"]);
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    build.arg("--target-dir").arg(profile.parent().unwrap());
    if profile.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success());
}

fn start(directory: &Path) -> Child {
    let mut example = Command::new(example());
    example.env("TMPDIR", directory);
    example.stdout(Stdio::piped()).stderr(Stdio::null());
    example.spawn().unwrap()
}

/// What it wrote, when it has ended in time.
fn end(mut child: Child) -> Output {
    let since = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if since.elapsed() > BOUND {
            child.kill().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

/// Processes that know of the directory: the sessions' own.
fn processes(directory: &Path) -> usize {
    let wanted = directory.to_str().unwrap();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| std::fs::read(entry.path().join("environ")).ok())
        .filter(|environment| String::from_utf8_lossy(environment).contains(wanted))
        .count()
}

fn assert_nothing_left(directory: &Path, text: &str) {
    assert!(text.contains(", 0 left\n"), "{text}");
    assert_eq!(entries(directory), 0, "{text}");
    assert_eq!(processes(directory), 0, "{text}");
}

#[test]
fn the_example_runs_all_commands_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let output = end(start(directory.path()));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("200/200 commands\n"), "{text}");
    assert!(
        text.contains("failed: exit code 7                            5\n"),
        "{text}"
    );
    assert!(text.contains("breaker: closed -> open"), "{text}");
    assert!(text.contains("\ndone after"), "{text}");
    assert_nothing_left(directory.path(), &text);
}

#[test]
fn the_example_leaves_nothing_after_ctrl_c_in_the_middle() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = start(directory.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while line != "60/200 commands\n" {
        line.clear();
        assert!(
            lines.read_line(&mut line).unwrap() > 0,
            "it ended too early"
        );
    }
    // It stands still meanwhile: to look at every process takes long where there are many.
    let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    assert!(processes(directory.path()) > 0);
    kill_process(pid, Signal::INT).unwrap();
    kill_process(pid, Signal::CONT).unwrap();
    let mut text = String::new();
    // Its end closes the pipe; should it not come, `end` says so.
    let reading = std::thread::spawn(move || {
        lines.read_to_string(&mut text).unwrap();
        text
    });
    let output = end(child);
    let text = reading.join().unwrap();
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(text.contains("\ninterrupted after"), "{text}");
    assert!(!text.contains("200/200"), "{text}");
    assert_nothing_left(directory.path(), &text);
}

/// As `| head` does it.
#[test]
fn the_example_goes_on_when_nobody_reads_what_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = start(directory.path());
    let mut line = String::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    lines.read_line(&mut line).unwrap();
    drop(lines);
    assert_eq!(end(child).status.code(), Some(0));
    assert_nothing_left(directory.path(), ", 0 left\n");
}

/// As a second ctrl-c does it: nothing can be done then, but later.
#[test]
fn the_example_takes_away_what_one_that_was_killed_has_left() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = start(directory.path());
    let since = Instant::now();
    while processes(directory.path()) == 0 || entries(directory.path()) == 0 {
        assert!(since.elapsed() < BOUND, "no session comes");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(entries(directory.path()), 1);
    let output = end(start(directory.path()));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("removed what 1 run"), "{text}");
    assert_nothing_left(directory.path(), &text);
}

fn entries(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}
