//! The embedded provider: commands, code and the life of sessions.

use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, Instant};

use mainstay::session::{
    Code, Command, CreateSession, Effect, EmbeddedBuilder, EmbeddedProvider, Labels, ListSessions,
    SessionError, SessionErrorKind, SessionId, SessionProvider, SessionStatus,
};
use tempfile::TempDir;

pub(crate) const MS: Duration = Duration::from_millis(1);
/// Nothing that a test waits for takes longer.
const BOUND: Duration = Duration::from_secs(30);

/// A provider in a root of its own, which is empty at the end.
pub(crate) struct Place {
    pub(crate) root: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self { root }
    }

    pub(crate) fn builder(&self) -> EmbeddedBuilder {
        EmbeddedProvider::builder().root(self.root.path())
    }

    pub(crate) fn provider(&self) -> EmbeddedProvider {
        self.builder().build().unwrap()
    }

    pub(crate) fn is_empty(&self) -> bool {
        std::fs::read_dir(self.root.path()).unwrap().count() == 0
    }
}

pub(crate) async fn session(provider: &EmbeddedProvider) -> SessionId {
    provider.create(&CreateSession::new()).await.unwrap().id
}

/// What a command writes that ends well.
pub(crate) async fn output(provider: &EmbeddedProvider, id: &SessionId, line: &str) -> String {
    let result = provider.run(id, &line.into()).await.unwrap();
    assert!(result.success, "{line}: {result:?}");
    result.stdout_text().into_owned()
}

#[track_caller]
pub(crate) fn is(kind: SessionErrorKind, error: &SessionError) {
    assert_eq!(error.kind(), kind, "{error}");
}

/// Waits for what has to come soon.
pub(crate) async fn until(what: &str, mut come: impl FnMut() -> bool) {
    let since = Instant::now();
    while !come() {
        assert!(since.elapsed() < BOUND, "{what} did not come");
        tokio::time::sleep(5 * MS).await;
    }
}

/// Polls a future so many times and drops it.
pub(crate) async fn polled<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return std::task::Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            std::task::Poll::Pending if left == 0 => std::task::Poll::Ready(None),
            poll => poll.map(Some),
        }
    })
    .await
}

/// The processes that have `word` among their arguments.
pub(crate) fn processes(word: &str) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            arguments
                .split(|byte| *byte == 0)
                .any(|own| own == word.as_bytes())
        })
        .collect()
}

/// How long a sleep takes that nobody else sleeps: a word to find it by.
pub(crate) fn nap() -> String {
    format!(
        "{}.{}",
        1000 + std::process::id() % 1000,
        fastrand::u32(1_000_000_000..)
    )
}

#[tokio::test]
async fn a_command_runs_in_the_session_and_its_answer_is_whole() {
    let place = Place::new();
    let provider = place.provider();
    let id = session(&provider).await;
    let line = "pwd; echo oh >&2; echo $((6 * 7)); exit 3";
    let result = provider.run(&id, &line.into()).await.unwrap();
    let home = provider.directory(&id).unwrap();
    assert_eq!(result.stdout_text(), format!("{}\n42\n", home.display()));
    assert_eq!(result.stderr_text(), "oh\n");
    assert_eq!(result.exit_code, Some(3));
    assert_eq!(result.error_message, "exit code 3");
    assert!(!result.success && !result.truncated);
    assert!(!result.request_id.is_empty());
    let good = provider.run(&id, &"true".into()).await.unwrap();
    assert!(good.success && good.error_message.is_empty());
    assert_ne!(good.request_id, result.request_id);
    let killed = provider.run(&id, &"kill -9 $$".into()).await.unwrap();
    assert_eq!(killed.exit_code, None);
    assert_eq!(killed.error_message, "ended by signal 9");
}

#[tokio::test]
async fn nothing_of_this_programs_environment_is_in_a_sessions() {
    let place = Place::new();
    // What cargo sets is in this program's.
    assert!(std::env::vars().any(|(name, _)| name.starts_with("CARGO")));
    let provider = place.builder().env("OURS", "1").build().unwrap();
    let id = session(&provider).await;
    let command = Command::new("env").env("MINE", "a b").env("OURS", "2");
    let result = provider.run(&id, &command).await.unwrap();
    let text = result.stdout_text().into_owned();
    let mut names: Vec<&str> = text
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        .collect();
    names.retain(|name| !["_", "SHLVL", "PWD", "OLDPWD"].contains(name));
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "HOME",
            "LANG",
            "MAINSTAY_SESSION",
            "MINE",
            "OURS",
            "PATH",
            "TMPDIR"
        ]
    );
    assert!(
        text.contains("MINE=a b\n") && text.contains("OURS=2\n"),
        "{text}"
    );
    let home = provider.directory(&id).unwrap();
    assert!(text.contains(&format!("HOME={}\n", home.display())));
    assert!(home.join("tmp").is_dir());
    let input = provider.run(&id, &"cat; echo end".into()).await.unwrap();
    assert_eq!(input.stdout_text(), "end\n");
}

#[tokio::test]
async fn a_command_runs_where_it_is_told_inside_of_the_session() {
    let place = Place::new();
    let provider = place.provider();
    let id = session(&provider).await;
    provider.create_directory(&id, "/a/b").await.unwrap();
    for path in ["a/b", "/a/b", "a/../a/b"] {
        let result = provider
            .run(&id, &Command::new("pwd").directory(path))
            .await
            .unwrap();
        assert!(result.stdout_text().ends_with("/files/a/b\n"), "{result:?}");
    }
    for (path, kind) in [
        ("c", SessionErrorKind::NotFound),
        ("../..", SessionErrorKind::Invalid),
        ("", SessionErrorKind::Invalid),
    ] {
        let error = provider
            .run(&id, &Command::new("pwd").directory(path))
            .await
            .unwrap_err();
        is(kind, &error);
        assert_eq!(error.effect(), Effect::None);
    }
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_ended_and_keeps_what_it_wrote() {
    let place = Place::new();
    let provider = place.builder().grace(50 * MS).build().unwrap();
    let id = session(&provider).await;
    let nap = nap();
    // It does not hear SIGTERM, and neither do its children.
    let line = format!("trap '' TERM; echo begun; sleep {nap}; sleep {nap}");
    let since = Instant::now();
    let command = Command::new(line).time_limit(300 * MS);
    let result = provider.run(&id, &command).await.unwrap();
    assert!(since.elapsed() < BOUND);
    assert_eq!(result.stdout_text(), "begun\n");
    assert_eq!(result.exit_code, None);
    assert_eq!(result.error_message, "stopped after 300ms, its time limit");
    assert!(!result.success);
    until("the end of its child", || processes(&nap).is_empty()).await;
}

#[tokio::test]
async fn no_command_runs_longer_than_the_provider_lets_it() {
    let place = Place::new();
    let provider = place.builder().time_limit(200 * MS).build().unwrap();
    let id = session(&provider).await;
    for command in [
        Command::new("exec sleep 100"),
        Command::new("exec sleep 100").time_limit(Duration::MAX),
    ] {
        let result = provider.run(&id, &command).await.unwrap();
        assert_eq!(result.error_message, "stopped after 200ms, its time limit");
    }
    let code = Code::python("import time\nprint('begun')\ntime.sleep(100)");
    let result = provider.run_code(&id, &code).await.unwrap();
    assert!(!result.success);
    assert_eq!(result.error_message, "stopped after 200ms, its time limit");
}

/// Trap 87.
#[tokio::test]
async fn long_lines_and_bytes_that_are_no_text_come_as_they_are() {
    let place = Place::new();
    let provider = place.builder().output_limit(2 << 20).build().unwrap();
    let id = session(&provider).await;
    let line = "head -c 1048576 /dev/zero | tr '\\0' x; printf '\\377'";
    let result = provider.run(&id, &line.into()).await.unwrap();
    assert!(result.success && !result.truncated);
    assert_eq!(result.stdout.len(), (1 << 20) + 1);
    assert_eq!(result.stdout.last(), Some(&0xff));
}

#[tokio::test]
async fn output_beyond_the_limit_is_flagged_and_its_two_ends_are_kept() {
    let place = Place::new();
    let provider = place.builder().output_limit(1000).build().unwrap();
    let id = session(&provider).await;
    let line = "echo first; head -c 1000000 /dev/zero; echo last";
    let result = provider.run(&id, &line.into()).await.unwrap();
    assert!(result.success && result.truncated);
    assert!(result.stdout.starts_with(b"first\n") && result.stdout.ends_with(b"last\n"));
    assert!(
        result
            .stdout_text()
            .contains("999011 bytes are missing here"),
        "{}",
        result.stdout_text()
    );
    assert!(result.stdout.len() < 1100);
}

#[tokio::test]
async fn a_line_that_no_system_can_run_is_refused() {
    let place = Place::new();
    let provider = place.provider();
    let id = session(&provider).await;
    let long = "true ".repeat(1 << 15);
    for command in [
        Command::new("echo \0"),
        Command::new(long),
        Command::new("true").env("A=B", "1"),
        Command::new("true").env("", "1"),
        Command::new("true").env("A", "\0"),
    ] {
        let error = provider.run(&id, &command).await.unwrap_err();
        is(SessionErrorKind::Invalid, &error);
        assert_eq!(error.effect(), Effect::None);
    }
}

#[tokio::test]
async fn python_answers_with_what_it_wrote_and_what_its_last_line_is_worth() {
    let place = Place::new();
    let provider = place.provider();
    let id = session(&provider).await;
    let run = async |source: &str| provider.run_code(&id, &Code::python(source)).await.unwrap();
    let good = run("import sys\nx = 6\nprint('hello')\nprint('oh', file=sys.stderr)\nx * 7").await;
    assert!(good.success && good.error_message.is_empty(), "{good:?}");
    assert_eq!(good.results, ["42"]);
    assert_eq!(good.stdout_text(), "hello\n");
    assert_eq!(good.stderr, b"oh\n");
    assert!(run("x = 1").await.results.is_empty());
    assert!(run("print(1)").await.results.is_empty());
    assert_eq!(run("'a\\nb'").await.results, ["'a\\nb'"]);
    assert_eq!(
        run("class A: pass\nimport pickle\npickle.loads(pickle.dumps(A())).__class__")
            .await
            .results,
        ["<class '__main__.A'>"]
    );
    assert_eq!(run("").await.results, Vec::<String>::new());

    let bad = run("def f():\n    return 1 / 0\nf()").await;
    assert!(!bad.success);
    assert_eq!(bad.error_message, "ZeroDivisionError: division by zero");
    let trace = bad.stderr_text();
    assert!(
        trace.contains("line 2, in f") && trace.contains("return 1 / 0"),
        "{trace}"
    );
    assert!(
        !trace.contains("exec(") && !trace.contains("<string>"),
        "{trace}"
    );
    let syntax = run("x = = 1").await;
    assert_eq!(syntax.error_message, "SyntaxError: invalid syntax");
    assert!(!syntax.stderr_text().contains("ast.py"), "{syntax:?}");
    let exit = run("import sys\nsys.exit(3)").await;
    assert_eq!(
        (exit.success, exit.error_message.as_str()),
        (false, "exit code 3")
    );
    assert!(run("import sys\nsys.exit(0)").await.success);
    let input = run("input()").await;
    assert!(input.error_message.starts_with("EOFError"), "{input:?}");
    let closed = run("import os\nos.close(1)\n1").await;
    assert!(closed.results.is_empty(), "{closed:?}");
}

#[tokio::test]
async fn a_value_too_long_is_cut_and_flagged() {
    let place = Place::new();
    let provider = place.provider();
    let id = session(&provider).await;
    let result = provider
        .run_code(&id, &Code::python("'x' * 100_000"))
        .await
        .unwrap();
    assert!(result.success && result.truncated);
    assert_eq!(result.results[0].len(), 64 << 10);
    // Output that is cut in its middle keeps the value.
    let long = Code::python("print('x' * 5_000_000)\n7");
    let result = provider.run_code(&id, &long).await.unwrap();
    assert!(result.truncated);
    assert_eq!(result.results, ["7"]);
}

#[tokio::test]
async fn code_that_takes_too_long_keeps_what_it_wrote() {
    let place = Place::new();
    let provider = place.provider();
    let id = session(&provider).await;
    let code = Code::python("import time\nprint('begun')\ntime.sleep(100)").time_limit(1000 * MS);
    let result = provider.run_code(&id, &code).await.unwrap();
    assert_eq!(result.stdout_text(), "begun\n");
    assert_eq!(result.error_message, "stopped after 1s, its time limit");
}

#[tokio::test]
async fn code_runs_in_the_languages_that_are_there() {
    let place = Place::new();
    let provider = place.provider();
    let id = session(&provider).await;
    for (language, source) in [
        ("Python", "print(1 + 1)"),
        ("shell", "echo $((1 + 1))"),
        ("bash", "a=(x y); echo ${#a[@]}"),
        ("javascript", "console.log(1 + 1)"),
    ] {
        let result = provider.run_code(&id, &Code::new(language, source)).await;
        match result {
            Ok(result) => assert_eq!(result.stdout, b"2\n", "{language}: {result:?}"),
            // Not every machine has all of them.
            Err(error) => is(SessionErrorKind::Unsupported, &error),
        }
    }
    let bad = Code::new("shell", "echo no such thing >&2; exit 4");
    let result = provider.run_code(&id, &bad).await.unwrap();
    assert_eq!(result.error_message, "no such thing");
}

#[tokio::test]
async fn a_missing_interpreter_is_told_by_name() {
    let place = Place::new();
    let provider = place.builder().path("").build().unwrap();
    let id = session(&provider).await;
    let error = provider
        .run_code(&id, &Code::python("1"))
        .await
        .unwrap_err();
    is(SessionErrorKind::Unsupported, &error);
    assert_eq!(
        error.message(),
        "there is no python3 nor python in PATH (\"\")"
    );
    let error = provider
        .run_code(&id, &Code::new("cobol", "1"))
        .await
        .unwrap_err();
    is(SessionErrorKind::Unsupported, &error);
    assert!(error.message().contains("cobol"), "{error}");
    // What a shell can do by itself needs no path.
    assert_eq!(output(&provider, &id, "echo on").await, "on\n");
}

#[tokio::test]
async fn one_session_more_than_there_may_be_is_refused() {
    let place = Place::new();
    let provider = place.builder().max_sessions(2).build().unwrap();
    let (first, _second) = (session(&provider).await, session(&provider).await);
    let error = provider.create(&CreateSession::new()).await.unwrap_err();
    is(SessionErrorKind::Unavailable, &error);
    assert_eq!(error.effect(), Effect::None);
    provider.delete(&first).await.unwrap();
    session(&provider).await;
    assert_eq!(provider.len(), 2);
}

#[tokio::test]
async fn commands_of_one_session_wait_for_each_other_and_are_refused_in_the_end() {
    let place = Place::new();
    let provider = place
        .builder()
        .max_commands(2)
        .command_queue(3)
        .build()
        .unwrap();
    let id = session(&provider).await;
    // Each says how many there are.
    let line = "mkdir -p on; touch on/$$; sleep .2; ls on | wc -l; rm on/$$";
    let runs = (0..7).map(|_| async { provider.run(&id, &line.into()).await });
    let results = futures_util::future::join_all(runs).await;
    let (good, bad): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((good.len(), bad.len()), (5, 2));
    for result in good {
        let at_once: u32 = result.unwrap().stdout_text().trim().parse().unwrap();
        assert!(at_once <= 2, "{at_once} at once");
    }
    for error in bad {
        is(SessionErrorKind::Throttled, &error.unwrap_err());
    }
}

#[tokio::test]
async fn a_list_is_in_the_order_of_creation_page_by_page() {
    let place = Place::new();
    let provider = place.provider();
    let mut made = Vec::new();
    for number in 0..7 {
        let request = CreateSession::new().label("odd", (number % 2).to_string());
        made.push(provider.create(&request).await.unwrap().id);
    }
    let mut found = Vec::new();
    let mut request = ListSessions::all().page_size(3);
    for pages in 1.. {
        let page = provider.list(&request).await.unwrap();
        assert_eq!(page.total, Some(7));
        found.extend(page.sessions.into_iter().map(|info| info.id));
        let Some(next) = page.next else {
            assert_eq!(pages, 3);
            break;
        };
        request = request.after(next);
    }
    assert_eq!(found, made);

    let labels = Labels::from([("odd".into(), "1".into())]);
    let odd = provider
        .list(&ListSessions::with_labels(labels))
        .await
        .unwrap();
    assert_eq!(odd.sessions.len(), 3);
    assert_eq!(odd.next, None);
    // A session that goes in between is no reason to skip another.
    let first = provider
        .list(&ListSessions::all().page_size(2))
        .await
        .unwrap();
    provider.delete(&made[0]).await.unwrap();
    provider.delete(&made[1]).await.unwrap();
    let rest = ListSessions::all().page_size(9).after(first.next.unwrap());
    let rest = provider.list(&rest).await.unwrap();
    assert_eq!(rest.sessions[0].id, made[2]);
    let wrong = ListSessions::all().after("x");
    is(
        SessionErrorKind::Invalid,
        &provider.list(&wrong).await.unwrap_err(),
    );
}

#[tokio::test]
async fn labels_are_replaced_and_bounded() {
    let place = Place::new();
    let provider = place.provider();
    let id = provider
        .create(&CreateSession::new().label("a", "1"))
        .await
        .unwrap()
        .id;
    assert_eq!(
        provider.labels(&id).await.unwrap(),
        Labels::from([("a".into(), "1".into())])
    );
    let other = Labels::from([("b".into(), "2".into())]);
    provider.set_labels(&id, &other).await.unwrap();
    assert_eq!(provider.labels(&id).await.unwrap(), other);
    let many: Labels = (0..65).map(|n| (n.to_string(), String::new())).collect();
    let long = Labels::from([("a".into(), "x".repeat(1025))]);
    for labels in [many, long] {
        let error = provider.set_labels(&id, &labels).await.unwrap_err();
        is(SessionErrorKind::Invalid, &error);
    }
    assert_eq!(provider.labels(&id).await.unwrap(), other);
}

#[tokio::test]
async fn a_session_that_is_gone_is_gone_for_every_call() {
    let place = Place::new();
    let provider = place.provider();
    let id = session(&provider).await;
    let home = provider.directory(&id).unwrap();
    assert_eq!(provider.status(&id).await.unwrap(), SessionStatus::Running);
    assert_eq!(provider.get(&id).await.unwrap().id, id);
    assert!(!provider.delete(&id).await.unwrap().already_gone);
    assert!(!home.parent().unwrap().exists());
    assert!(provider.delete(&id).await.unwrap().already_gone);
    let errors = [
        provider.get(&id).await.unwrap_err(),
        provider.status(&id).await.unwrap_err(),
        provider.run(&id, &"true".into()).await.unwrap_err(),
        provider
            .run_code(&id, &Code::python("1"))
            .await
            .unwrap_err(),
        provider.list_directory(&id, "/").await.unwrap_err(),
        provider.labels(&id).await.unwrap_err(),
        provider.set_labels(&id, &Labels::new()).await.unwrap_err(),
    ];
    for error in errors {
        is(SessionErrorKind::NotFound, &error);
        assert_eq!(error.effect(), Effect::None);
    }
    assert_eq!(provider.directory(&id), None);
}

#[tokio::test]
async fn a_session_that_nobody_uses_goes_by_itself() {
    let place = Place::new();
    let provider = place.builder().idle_timeout(150 * MS).build().unwrap();
    let (idle, busy) = (session(&provider).await, session(&provider).await);
    let line = "sleep .6".into();
    let work = provider.run(&busy, &line);
    let gone = async {
        until("the end of the idle one", || provider.len() == 1).await;
        provider.status(&idle).await.unwrap_err()
    };
    let (work, gone) = tokio::join!(work, gone);
    assert!(work.unwrap().success);
    is(SessionErrorKind::NotFound, &gone);
    until("the end of the other", || provider.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_sessions_work_at_once() {
    let place = Place::new();
    let provider = place.provider();
    let one = |number: u32| {
        let provider = provider.clone();
        async move {
            let id = session(&provider).await;
            let line = format!("echo {number} > me; cat me");
            assert_eq!(output(&provider, &id, &line).await, format!("{number}\n"));
            assert!(!provider.delete(&id).await.unwrap().already_gone);
        }
    };
    let tasks: Vec<_> = (0..100).map(|number| tokio::spawn(one(number))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(provider.is_empty());
    provider.close().await.unwrap();
    assert!(place.is_empty());
}

#[test]
fn no_debug_text_tells_what_a_variable_holds() {
    let builder = EmbeddedProvider::builder().env("OURS", "hidden");
    let command = Command::new("true").env("MINE", "hidden");
    let provider = builder.clone().build().unwrap();
    for text in [
        format!("{builder:?}"),
        format!("{provider:?}"),
        format!("{command:?}"),
    ] {
        assert!(!text.contains("hidden"), "{text}");
        assert!(text.contains("OURS") || text.contains("MINE"), "{text}");
    }
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_panic() {
    let place = Place::new();
    let provider = place.provider();
    let waker = std::task::Waker::noop();
    let mut cx = std::task::Context::from_waker(waker);
    let request = CreateSession::new();
    let create = pin!(provider.create(&request)).poll(&mut cx);
    let std::task::Poll::Ready(Err(error)) = create else {
        panic!("it should have failed at once");
    };
    is(SessionErrorKind::Local, &error);
    assert_eq!(error.effect(), Effect::None);
    assert!(place.is_empty());
}

#[tokio::test]
async fn a_root_that_is_not_there_is_told() {
    let place = Place::new();
    let missing: PathBuf = place.root.path().join("missing");
    let provider = EmbeddedProvider::builder().root(missing).build().unwrap();
    let error = provider.create(&CreateSession::new()).await.unwrap_err();
    is(SessionErrorKind::Local, &error);
    assert_eq!(error.effect(), Effect::None);
    assert!(provider.is_empty());
}

#[test]
fn a_setting_of_zero_is_refused_where_it_makes_no_sense() {
    let builder = EmbeddedProvider::builder;
    let errors = [
        builder().max_sessions(0).build().unwrap_err(),
        builder().max_commands(0).build().unwrap_err(),
        builder().time_limit(Duration::ZERO).build().unwrap_err(),
        builder().file_limit(0).build().unwrap_err(),
        builder().max_entries(0).build().unwrap_err(),
        builder().file_threads(0).build().unwrap_err(),
        builder().idle_timeout(Duration::ZERO).build().unwrap_err(),
    ];
    let fields = errors.map(|error| error.field());
    assert_eq!(
        fields,
        [
            "max_sessions",
            "max_commands",
            "time_limit",
            "file_limit",
            "max_entries",
            "file_threads",
            "idle_timeout"
        ]
    );
    assert!(
        builder()
            .command_queue(0)
            .file_queue(0)
            .output_limit(0)
            .build()
            .is_ok()
    );
}
