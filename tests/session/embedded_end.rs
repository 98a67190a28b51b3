//! The embedded provider's ends: nothing of a session stays, however it ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command as Program, Stdio};
use std::time::{Duration, Instant};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use mainstay::session::{
    Code, CreateSession, Effect, EmbeddedProvider, FileRange, ListSessions, SessionErrorKind,
    SessionId, SessionProvider, SessionStatus, WriteMode,
};

use super::embedded::{MS, Place, is, nap, output, processes, session, until};

const ALONE: &str = "MAINSTAY_ALONE";
/// Somebody who is not root, everywhere.
const NOBODY: u32 = 65_534;

/// This binary, to run one of its tests.
fn this_test(name: &str) -> Program {
    let mut program = Program::new(std::env::current_exe().unwrap());
    let name = format!("embedded_end::{name}");
    program.args(["--exact", &name, "--nocapture", "--test-threads=1"]);
    program
}

/// Runs the test in a process of its own: what it counts is then its own. Whether it is that.
fn is_alone(name: &str) -> bool {
    if std::env::var(ALONE).is_ok() {
        return true;
    }
    let status = this_test(name).env(ALONE, "1").status().unwrap();
    assert!(status.success());
    false
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Also those that are dead and not reaped.
fn children() -> usize {
    let all = fs::read_dir("/proc/self/task").unwrap().flatten();
    all.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default())
        .map(|children| children.split_whitespace().count())
        .sum()
}

/// Starts three processes that no group holds: children of children, without pipes.
async fn stay(provider: &EmbeddedProvider, id: &SessionId, nap: &str) {
    let line = format!(
        "command -v setsid >/dev/null || {{ echo setsid is missing: install util-linux; exit; }}
         setsid sh -c 'sleep {nap} & sleep {nap} & : > on1; wait' </dev/null >/dev/null 2>&1 &
         (setsid setsid -f sh -c ': > on2; exec sleep {nap}' </dev/null >/dev/null 2>&1 &)
         until [ -e on1 ] && [ -e on2 ]; do sleep .02; done; rm on1 on2"
    );
    assert_eq!(output(provider, id, &line).await, "");
    until("those that stay", || sleepers(nap) == 3).await;
}

/// Those that sleep so long; not those that are about to start one.
fn sleepers(nap: &str) -> usize {
    let line = format!("sleep\0{nap}\0");
    let lines = processes(nap).into_iter();
    lines
        .filter_map(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok())
        .filter(|own| own == line.as_bytes())
        .count()
}

#[tokio::test]
async fn what_has_left_its_group_is_killed_when_its_session_is_deleted() {
    let place = Place::new();
    let provider = place.provider();
    let (id, other) = (session(&provider).await, session(&provider).await);
    let (nap, others) = (nap(), nap());
    stay(&provider, &id, &nap).await;
    stay(&provider, &other, &others).await;
    provider.delete(&id).await.unwrap();
    assert!(processes(&nap).is_empty());
    assert_eq!(processes(&others).len(), 3);
    drop(provider);
    assert!(processes(&others).is_empty());
    assert!(place.is_empty());
}

/// Trap 89.
#[tokio::test]
async fn a_command_that_runs_is_killed_when_its_session_is_deleted() {
    let place = Place::new();
    let provider = place.provider();
    let id = session(&provider).await;
    let nap = nap();
    let line = format!("trap '' TERM; sh -c 'trap \"\" TERM; sleep {nap} & sleep {nap}' & wait");
    let command = line.as_str().into();
    let running = provider.run(&id, &command);
    let deleting = async {
        until("its children", || processes(&nap).len() == 2).await;
        let twice = tokio::join!(provider.delete(&id), provider.delete(&id));
        assert!(!twice.0.unwrap().already_gone && !twice.1.unwrap().already_gone);
        assert!(processes(&nap).is_empty());
    };
    let since = Instant::now();
    let (run, ()) = tokio::join!(running, deleting);
    assert!(since.elapsed() < Duration::from_secs(10));
    let error = run.unwrap_err();
    is(SessionErrorKind::NotFound, &error);
    assert_eq!(error.effect(), Effect::Partial);
    assert!(provider.is_empty());
}

#[tokio::test]
async fn a_command_that_waits_for_its_turn_ends_with_its_session() {
    let place = Place::new();
    let provider = place.builder().max_commands(1).build().unwrap();
    let id = session(&provider).await;
    let (long, never) = ("sleep 100".into(), "touch /never".into());
    let home = provider.directory(&id).unwrap();
    let deleting = async {
        tokio::time::sleep(50 * MS).await;
        provider.delete(&id).await.unwrap();
    };
    let (first, second, ()) = tokio::join!(
        provider.run(&id, &long),
        provider.run(&id, &never),
        deleting
    );
    is(SessionErrorKind::NotFound, &first.unwrap_err());
    let second = second.unwrap_err();
    is(SessionErrorKind::NotFound, &second);
    assert_eq!(second.effect(), Effect::None);
    assert!(!home.exists());
}

/// Nobody polls the call that holds the command: it is killed all the same.
#[tokio::test]
async fn a_call_that_nobody_polls_does_not_hold_a_deletion() {
    let place = Place::new();
    let provider = place.provider();
    let id = session(&provider).await;
    let nap = nap();
    let command = format!("sleep {nap}").as_str().into();
    let mut run = Box::pin(provider.run(&id, &command));
    tokio::select! {
        _ = &mut run => panic!("it sleeps"),
        () = until("the command", || !processes(&nap).is_empty()) => {}
    }
    provider.delete(&id).await.unwrap();
    assert!(place_is_empty_but_for_the_root(&place));
    is(SessionErrorKind::NotFound, &run.await.unwrap_err());
    assert!(processes(&nap).is_empty());
}

fn place_is_empty_but_for_the_root(place: &Place) -> bool {
    let root = fs::read_dir(place.root.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    fs::read_dir(root.path()).unwrap().count() == 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_removed_while_somebody_writes_into_it() {
    let place = Place::new();
    let provider = place.provider();
    for _ in 0..5 {
        let id = session(&provider).await;
        let line = "(setsid sh -c 'n=0; while :; do n=$((n+1)); mkdir -p d$((n%9))/e; echo > d$((n%9))/$n; done' \
             </dev/null >/dev/null 2>&1 &) ; until [ -e d1/1 ]; do :; done";
        output(&provider, &id, line).await;
        let content = vec![1; 1 << 20];
        let writing = async {
            for number in 0.. {
                let path = format!("w{number}");
                let written = provider
                    .write_file(&id, &path, &content, WriteMode::Overwrite)
                    .await;
                if written.is_err() {
                    break;
                }
            }
        };
        let deleting = async {
            tokio::time::sleep(20 * MS).await;
            provider.delete(&id).await.unwrap();
        };
        tokio::join!(writing, deleting);
        assert!(place_is_empty_but_for_the_root(&place));
    }
}

#[tokio::test]
async fn a_directory_is_removed_however_deep_it_goes() {
    let place = Place::new();
    let provider = place.provider();
    let id = session(&provider).await;
    // Deeper than any path can be long, and links and many files beside.
    let mut deep =
        Dir::open_ambient_dir(provider.directory(&id).unwrap(), ambient_authority()).unwrap();
    for _ in 0..4000 {
        deep.create_dir("dd").unwrap();
        deep = deep.open_dir("dd").unwrap();
    }
    drop(deep);
    output(&provider, &id, "mkdir ..moved-1 ..moved-2; ln -s / ..moved-3; mkdir w; cd w; seq 3000 | xargs touch; ln -s .. up").await;
    provider.delete(&id).await.unwrap();
    assert!(place_is_empty_but_for_the_root(&place));
    assert!(Path::new("/etc").exists());
}

/// Root may do anything, so it is done by somebody else.
#[test]
fn a_directory_that_permits_nothing_is_removed() {
    let root = rustix::process::geteuid().is_root();
    if root {
        let home = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(home.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        let mut again = this_test("a_directory_that_permits_nothing_is_removed");
        again.uid(NOBODY).gid(NOBODY).env("TMPDIR", home.path());
        assert!(again.status().unwrap().success());
        return;
    }
    runtime().block_on(async {
        let place = Place::new();
        let provider = place.provider();
        let id = session(&provider).await;
        let line = "mkdir -p a/b/c a/r a/x; touch a/b/c/f a/r/f a/x/f; mkdir a/none; \
             chmod 0 a/b/c a/none; chmod 500 a/r; chmod 100 a/x; chmod 300 a/b; chmod 0 a tmp; chmod 500 .";
        output(&provider, &id, line).await;
        is(SessionErrorKind::Denied, &provider.list_directory(&id, "a").await.unwrap_err());
        let denied = provider.write_file(&id, "new", b"", WriteMode::Overwrite).await;
        is(SessionErrorKind::Denied, &denied.unwrap_err());
        provider.delete(&id).await.unwrap();
        assert!(place_is_empty_but_for_the_root(&place));
        let id = session(&provider).await;
        output(&provider, &id, line).await;
        drop(provider);
        assert!(place.is_empty());
    });
}

#[tokio::test]
async fn a_session_whose_directory_was_taken_away_can_be_deleted() {
    let place = Place::new();
    let provider = place.provider();
    let outside = place.root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("x"), "mine").unwrap();
    let link = format!(
        "cd ../..; mv s-* gone; ln -s {} $(basename $(dirname $HOME))",
        outside.display()
    );
    for line in [
        "rm -rf $HOME",
        "cd ../..; rm -rf s-*",
        "cd ../..; mv s-* gone; touch $(basename $(dirname $HOME))",
        &link,
    ] {
        let id = session(&provider).await;
        output(&provider, &id, line).await;
        is(
            SessionErrorKind::NotFound,
            &provider.run(&id, &"true".into()).await.unwrap_err(),
        );
        let written = provider
            .write_file(&id, "a", b"", WriteMode::Overwrite)
            .await;
        assert!(written.is_err() || line.contains("mv"));
        provider.delete(&id).await.unwrap();
    }
    assert_eq!(fs::read(outside.join("x")).unwrap(), b"mine");
    fs::remove_dir_all(outside).unwrap();
    drop(provider);
    assert!(place.is_empty());
}

#[test]
fn dropping_the_last_handle_leaves_nothing_also_without_a_runtime() {
    let place = Place::new();
    let provider = place.provider();
    let naps = [nap(), nap(), nap()];
    let runtime = runtime();
    runtime.block_on(async {
        for nap in &naps {
            let id = session(&provider).await;
            stay(&provider, &id, nap).await;
        }
    });
    let other = provider.clone();
    drop(provider);
    assert_eq!(other.len(), 3);
    drop(runtime);
    drop(other);
    assert!(place.is_empty());
    assert!(naps.iter().all(|nap| processes(nap).is_empty()));
}

#[tokio::test]
async fn a_closed_provider_has_nothing_and_makes_nothing() {
    let place = Place::new();
    let provider = place.provider();
    let id = session(&provider).await;
    let nap = nap();
    stay(&provider, &id, &nap).await;
    session(&provider).await;
    provider.close().await.unwrap();
    assert!(provider.is_empty() && place.is_empty());
    assert!(processes(&nap).is_empty());
    let error = provider.create(&CreateSession::new()).await.unwrap_err();
    is(SessionErrorKind::Unavailable, &error);
    assert!(provider.delete(&id).await.unwrap().already_gone);
    provider.close().await.unwrap();
}

/// Its tasks are dropped wherever they are, and the provider with them.
#[test]
fn a_runtime_that_ends_takes_everything_along() {
    let place = Place::new();
    let nap = nap();
    let runtime = runtime();
    runtime.block_on(async {
        let provider = place.builder().idle_timeout(MS * 100_000).build().unwrap();
        let (id, other) = (session(&provider).await, session(&provider).await);
        stay(&provider, &id, &nap).await;
        let command = format!("trap '' TERM; sleep {nap}; true").as_str().into();
        let running = provider.clone();
        tokio::spawn(async move { running.run(&id, &command).await });
        until("the command", || sleepers(&nap) == 4).await;
        tokio::spawn(async move { provider.delete(&other).await });
    });
    drop(runtime);
    assert!(place.is_empty());
    assert!(processes(&nap).is_empty());
}

/// Who is not root cannot remove what root has put into it.
#[test]
fn a_leftover_that_cannot_be_removed_does_not_keep_the_others() {
    let name = "a_leftover_that_cannot_be_removed_does_not_keep_the_others";
    if rustix::process::geteuid().is_root() {
        let place = tempfile::tempdir().unwrap();
        let own = |path: &Path| std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY));
        own(place.path()).unwrap();
        for number in 0..10 {
            let left = place.path().join(format!("mainstay-sessions-{number}"));
            fs::create_dir(&left).unwrap();
            own(&left).unwrap();
            fs::create_dir(left.join("in")).unwrap();
            if number % 5 != 4 {
                own(&left.join("in")).unwrap();
            }
            fs::write(left.join("in/file"), "").unwrap();
        }
        let mut again = this_test(name);
        again.uid(NOBODY).gid(NOBODY).env("TMPDIR", place.path());
        assert!(again.status().unwrap().success());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
    } else if std::env::temp_dir().join("mainstay-sessions-4").exists() {
        runtime().block_on(async {
            let provider = EmbeddedProvider::builder().build().unwrap();
            let error = provider.remove_leftovers().await.unwrap_err();
            is(SessionErrorKind::Denied, &error);
        });
    }
}

/// Every call is dropped after each number of polls, many times over.
#[test]
fn a_call_dropped_at_any_poll_leaves_nothing() {
    if !is_alone("a_call_dropped_at_any_poll_leaves_nothing") {
        return;
    }
    let place = Place::new();
    // What tokio keeps for all runtimes to come is made with the first child.
    runtime().block_on(async {
        let provider = place.provider();
        let id = session(&provider).await;
        output(&provider, &id, "true").await;
        // And so are the three that `cap-std` keeps of `/proc`, to change permissions.
        for _ in 0..2 {
            let written = provider
                .write_file(&id, "a", b"", WriteMode::Overwrite)
                .await;
            written.unwrap();
        }
    });
    let before = descriptors();
    let runtime = runtime();
    let nap = nap();
    runtime.block_on(async {
        let provider = place.provider();
        for polls in 1..12 {
            for pause in [0, 1, 3] {
                drop_each(&provider, polls, pause * MS, &nap).await;
            }
        }
        // All seats are free again: none was lost.
        let ids = provider.list(&ListSessions::default()).await.unwrap();
        for info in ids.sessions {
            provider.delete(&info.id).await.unwrap();
        }
        until("the end of the last", || provider.is_empty()).await;
        until("no directory", || place_is_empty_but_for_the_root(&place)).await;
        let all = (0..100).map(|_| session(&provider));
        futures_util::future::join_all(all).await;
    });
    drop(runtime);
    assert!(place.is_empty());
    assert!(processes(&nap).is_empty());
    // What reaps them may be about to.
    let since = Instant::now();
    while (descriptors() != before || children() > 0) && since.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(10 * MS);
    }
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let open: Vec<_> = open.map(|it| fs::read_link(it.path())).collect();
    assert_eq!((descriptors(), children()), (before, 0), "{open:?}");
}

/// Polls a future so many times, if there is reason to, and drops it.
async fn polled<F: Future>(future: F, times: usize) {
    let _ = tokio::time::timeout(50 * MS, super::embedded::polled(future, times)).await;
}

/// Polls a future once, leaves it alone for a while, and drops it: what it has begun is done
/// meanwhile, and nobody takes the result.
async fn held<F: Future>(future: F, pause: Duration) {
    let mut future = std::pin::pin!(future);
    let waker = std::task::Waker::noop();
    let _ = future
        .as_mut()
        .poll(&mut std::task::Context::from_waker(waker));
    tokio::time::sleep(pause).await;
}

async fn drop_each(provider: &EmbeddedProvider, polls: usize, pause: Duration, nap: &str) {
    let request = CreateSession::new();
    polled(provider.create(&request), polls).await;
    held(provider.create(&request), pause).await;
    let id = session(provider).await;
    tokio::time::sleep(pause).await;
    let command = format!("sleep .002; (sleep {nap} &) ; echo 1; sleep {nap}")
        .as_str()
        .into();
    polled(provider.run(&id, &command), polls).await;
    let timed = tokio::time::timeout(pause, provider.run(&id, &command)).await;
    assert!(timed.is_err());
    let code = Code::python(format!("import time\ntime.sleep({nap})"));
    let timed = tokio::time::timeout(pause, provider.run_code(&id, &code)).await;
    assert!(timed.is_err());
    polled(provider.run_code(&id, &code), polls).await;
    let write = provider.write_file(&id, "a/b", b"whole", WriteMode::Overwrite);
    polled(write, polls).await;
    held(provider.run(&id, &command), pause).await;
    let write = provider.write_file(&id, "a/b", b"whole", WriteMode::Overwrite);
    held(write, pause).await;
    let written = provider.read_file(&id, "a/b", FileRange::whole()).await;
    assert!(written.is_err() || written.is_ok_and(|content| content == b"whole"));
    held(provider.delete(&id), pause).await;
    polled(provider.delete(&id), polls).await;
    // What was begun goes on.
    until("the deletion", || provider.directory(&id).is_none()).await;
    assert!(provider.delete(&id).await.is_ok());
}

/// What a killed program leaves is found by its name, and is nobody's.
#[test]
fn what_a_killed_program_has_left_is_removed_and_what_lives_stays() {
    if let Ok(root) = std::env::var(ALONE) {
        return be_killed(&root);
    }
    let place = Place::new();
    let living = place.provider();
    let runtime = runtime();
    let id = runtime.block_on(session(&living));
    let mut child = this_test("what_a_killed_program_has_left_is_removed_and_what_lives_stays");
    let child = child.env(ALONE, place.root.path()).stdout(Stdio::piped());
    let mut child: Child = child.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let nap = lines
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("nap=")?.1.to_owned()));
    let nap = nap.unwrap();
    let finder = place.provider();
    let found = runtime.block_on(finder.remove_leftovers());
    assert_eq!(found.unwrap(), 0, "it lives");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(processes(&nap).len(), 4);
    assert_eq!(fs::read_dir(place.root.path()).unwrap().count(), 2);
    let found = runtime.block_on(finder.remove_leftovers());
    assert_eq!(found.unwrap(), 1);
    assert!(processes(&nap).is_empty());
    assert_eq!(fs::read_dir(place.root.path()).unwrap().count(), 1);
    let status = runtime.block_on(living.status(&id));
    assert_eq!(status.unwrap(), SessionStatus::Running);
}

fn be_killed(root: &str) {
    runtime().block_on(async {
        let provider = EmbeddedProvider::builder().root(root).build().unwrap();
        let id = session(&provider).await;
        let nap = nap();
        stay(&provider, &id, &nap).await;
        let line = format!("sleep {nap}").as_str().into();
        let told = async {
            until("all", || processes(&nap).len() == 4).await;
            println!("\nnap={nap}");
        };
        let _ = tokio::join!(provider.run(&id, &line), told);
    });
}
