//! The client around sessions that are real: their directories and processes are counted.

use std::future::Future;
use std::time::Duration;

use mainstay::observe::Event;
use mainstay::retry::Backoff;
use mainstay::session::{
    Code, CreateSession, EmbeddedProvider, FileRange, Labels, ListSessions, Session, SessionClient,
    SessionErrorKind as Kind, SessionPool, SessionStatus, WriteMode, blocking,
};
use mainstay::{CircuitBreaker, Refusal, Shutdown};

use crate::embedded::{MS, Place, nap, polled, processes, until};

const SOON: Duration = Duration::from_secs(20);

fn client(provider: &EmbeddedProvider) -> SessionClient<EmbeddedProvider> {
    let breaker = CircuitBreaker::builder()
        .consecutive_failures(1_000_000)
        .no_failure_rate();
    SessionClient::builder(provider.clone())
        .no_create_rate()
        .backoff(Backoff::constant(MS))
        .circuit_breaker(breaker)
        .build()
        .unwrap()
}

async fn created(client: &SessionClient<EmbeddedProvider>) -> Session<EmbeddedProvider> {
    client.create(CreateSession::new()).await.unwrap()
}

/// Cut off after so many polls, or when nothing moves any more.
async fn cut<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let polled = tokio::time::timeout(60 * MS, polled(future, polls));
    polled.await.ok().flatten()
}

/// Nothing of it is left: no session, no process, no directory.
async fn ends(
    place: &Place,
    provider: EmbeddedProvider,
    client: SessionClient<EmbeddedProvider>,
    word: &str,
) {
    let report = client.close_within(SOON).await;
    assert!(report.is_drained, "{report:?}");
    assert_eq!(report.sessions.in_flight(), 0);
    assert!(provider.is_empty(), "{provider:?}");
    assert_eq!(processes(word), [0_u32; 0]);
    drop(client);
    drop(provider);
    until("the empty root", || place.is_empty()).await;
}

/// Trap 17.
#[tokio::test]
async fn a_creation_that_is_dropped_at_any_poll_leaves_no_directory() {
    let place = Place::new();
    let provider = place.provider();
    let client = client(&provider);
    let mut whole = 0;
    for polls in 0..12 {
        let session = cut(client.create(CreateSession::new()), polls).await;
        whole += usize::from(session.is_some());
        drop(session);
        until("the end", || {
            client.creating() == 0 && client.snapshot().in_flight() == 0
        })
        .await;
        assert!(provider.is_empty());
    }
    assert!((1..12).contains(&whole), "{whole}");
    ends(&place, provider, client, "none").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_is_dropped_at_any_poll_leaves_no_process() {
    let place = Place::new();
    let provider = place.provider();
    let client = client(&provider);
    let nap = nap();
    for polls in 0..8 {
        let session = created(&client).await;
        let line = format!("sleep {nap} & sleep {nap}");
        assert!(cut(session.run(line), polls).await.is_none());
        assert_eq!(session.is_intact(), polls == 0, "{polls}");
        until("their end", || processes(&nap).is_empty()).await;
        drop(session);
    }
    ends(&place, provider, client, &nap).await;
}

#[tokio::test]
async fn a_close_that_is_dropped_at_any_poll_ends_all_that_runs() {
    let place = Place::new();
    let provider = place.provider();
    let client = client(&provider);
    let nap = nap();
    for polls in 0..8 {
        let session = created(&client).await;
        let left = session.run(format!("setsid sleep {nap} >/dev/null 2>&1 &"));
        assert!(left.await.unwrap().success);
        let _deleted = cut(session.close(), polls).await;
        until("the end", || client.snapshot().in_flight() == 0).await;
        assert!(provider.is_empty());
        assert_eq!(processes(&nap), [0_u32; 0]);
    }
    ends(&place, provider, client, &nap).await;
}

#[tokio::test]
async fn a_session_does_all_that_it_should() {
    let place = Place::new();
    let provider = place.provider();
    let client = client(&provider);
    let session = created(&client).await;
    let failed = session.run("echo out; echo err >&2; exit 3").await.unwrap();
    assert_eq!((failed.exit_code, failed.success), (Some(3), false));
    assert_eq!(
        (&*failed.stdout_text(), &*failed.stderr_text()),
        ("out\n", "err\n")
    );
    let written = session.write_file("a/b", b"c", WriteMode::Overwrite).await;
    assert_eq!(written.unwrap().bytes, 1);
    let read = session.read_file("a/b", FileRange::whole()).await.unwrap();
    assert_eq!(read, b"c");
    assert_eq!(session.list_directory("a").await.unwrap()[0].name, "b");
    let shell = session.run_code(Code::new("shell", "echo $((6 * 7))"));
    assert_eq!(shell.await.unwrap().stdout_text(), "42\n");
    let unknown = session.run_code(Code::new("cobol", "")).await.unwrap_err();
    assert_eq!(unknown.last().unwrap().kind(), Kind::Unsupported);
    let page = client.list(ListSessions::all()).next().await;
    assert_eq!(page.unwrap().unwrap().sessions.len(), 1);

    let mut monitor = session.monitor(MS);
    let seen = monitor.next().await.unwrap().unwrap();
    assert_eq!(seen, SessionStatus::Running);
    assert!(!session.close().await.unwrap().already_gone);
    let seen = monitor.next().await.unwrap().unwrap();
    assert_eq!(seen, SessionStatus::Deleted);
    assert!(monitor.next().await.is_none());
    drop(monitor);
    ends(&place, provider, client, "none").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_commands_that_are_cut_off_leave_nothing_in_the_pool() {
    let place = Place::new();
    let provider = place.provider();
    let client = client(&provider);
    let pool = SessionPool::builder(&client).max_size(3).build().unwrap();
    let outcomes = pool.run_many((0..30).map(|n| format!("echo {n}"))).limit(6);
    let outcomes = outcomes.await;
    let texts = outcomes.successes().map(|ran| ran.stdout_text());
    let expected: Vec<_> = (0..30).map(|n| format!("{n}\n")).collect();
    assert_eq!(texts.collect::<Vec<_>>(), expected);

    let nap = nap();
    for patience in [0, 1, 3, 10, 30] {
        let naps = (0..6).map(|_| format!("sleep {nap}"));
        let many = pool.run_many(naps).limit(6).into_future();
        assert!(tokio::time::timeout(patience * MS, many).await.is_err());
    }
    assert_eq!(pool.run("echo again").await.unwrap().stdout, b"again\n");
    until("their end", || processes(&nap).is_empty()).await;
    assert!(provider.len() <= 3, "{provider:?}");
    assert!(pool.close_within(SOON).await.is_drained);
    drop(pool);
    ends(&place, provider, client, &nap).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_in_the_middle_of_many_commands_leaves_nothing() {
    let place = Place::new();
    let provider = place.provider();
    let client = client(&provider);
    let pool = SessionPool::builder(&client).max_size(3).build().unwrap();
    let shutdown = Shutdown::builder()
        .deadline(SOON)
        .shares(0.02, 0.9, 0.08)
        .component("sessions", client.clone())
        .component("pool", pool.clone())
        .build()
        .unwrap();
    let nap = nap();
    let naps: Vec<_> = (0..50).map(|_| format!("sleep {nap}")).collect();
    let many = tokio::spawn({
        let pool = pool.clone();
        async move { pool.run_many(naps).limit(10).await }
    });
    until("three of them", || processes(&nap).len() >= 3).await;
    shutdown.request();
    let report = shutdown.run().await;
    let outcomes = many.await.unwrap();
    assert_eq!((outcomes.len(), outcomes.successes().count()), (50, 0));
    assert_eq!(client.snapshot().given_up, 0, "{report}");
    drop((pool, shutdown));
    ends(&place, provider, client, &nap).await;
}

#[tokio::test]
async fn a_guard_that_is_never_dropped_is_ended_with_all() {
    let place = Place::new();
    let provider = place.provider();
    let client = client(&provider);
    let session = created(&client).await;
    let id = session.id().clone();
    // As one in a `static` is.
    std::mem::forget(session);
    let report = client.close_within(10 * MS).await;
    assert_eq!((report.is_drained, report.sessions.held), (false, 1));
    client.end_all();
    assert!(client.close_within(SOON).await.is_drained);
    assert!(provider.is_empty() && provider.directory(&id).is_none());
}

/// Trap 24.
#[test]
fn a_session_outlives_its_runtime_and_is_ended_in_the_next_one() {
    let place = Place::new();
    let provider = place.provider();
    let client = client(&provider);
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    };
    let first = runtime();
    let (kept, dropped) =
        first.block_on(async { (created(&client).await, created(&client).await) });
    drop(first);
    drop(dropped);
    assert_eq!((client.snapshot().stranded, provider.len()), (1, 2));
    let second = runtime();
    second.block_on(async {
        let ran = kept.run("echo here").await;
        assert_eq!(ran.unwrap().stdout, b"here\n");
        until("its end", || provider.len() == 1).await;
        drop(kept);
        ends(&place, provider, client, "none").await;
    });
}

#[test]
fn the_blocking_names_work_also_when_the_runtime_has_gone() {
    let place = Place::new();
    let provider = place.provider();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    let client = runtime.block_on(async { client(&provider) });
    let old = runtime.block_on(created(&client));
    drop(runtime);
    let client = blocking::SessionClient::new(client);
    let session = client.create(CreateSession::new()).unwrap();
    assert_eq!(session.run("echo 1").unwrap().stdout, b"1\n");
    session.write_file("a", b"b", WriteMode::Overwrite).unwrap();
    assert_eq!(session.read_file("a", FileRange::whole()).unwrap(), b"b");
    let outcomes = session.run_many(["echo 1", "exit 1"], 2).unwrap();
    assert_eq!(outcomes.successes().filter(|ran| ran.success).count(), 1);
    let pool = blocking::SessionPool::of(&client, 2).unwrap();
    let outcomes = pool.run_many((0..8).map(|n| format!("echo {n}")), 4);
    assert_eq!(outcomes.unwrap().successes().count(), 8);
    let lent = pool.get().unwrap();
    assert_eq!(lent.run("echo 2").unwrap().stdout, b"2\n");
    assert_eq!(lent.status().unwrap(), SessionStatus::Running);
    assert_eq!(lent.run_many(["echo 3"], 1).unwrap().len(), 1);
    assert!(lent.list_directory(".").is_ok() && lent.is_intact());
    let labels = Labels::from([("a".to_owned(), "b".to_owned())]);
    lent.set_labels(&labels).unwrap();
    assert_eq!(lent.labels().unwrap(), labels);
    assert_eq!(lent.info().id, *lent.id());
    let first = lent.monitor(Duration::from_millis(1)).next();
    assert_eq!(first.unwrap().unwrap().unwrap(), SessionStatus::Running);
    assert_ne!(lent.id(), session.id());
    drop(lent);
    assert!(pool.close_within(SOON).unwrap().is_drained);
    drop(old);
    assert!(!session.close().unwrap().already_gone);
    let report = client.close_within(SOON).unwrap();
    assert!(report.is_drained, "{report:?}");
    assert!(provider.is_empty(), "{provider:?}");
}

/// Trap 83.
#[tokio::test]
async fn a_blocking_name_in_a_runtime_is_refused_and_loses_nothing() {
    let place = Place::new();
    let provider = place.provider();
    let client = client(&provider);
    let facade = blocking::SessionClient::new(client.clone());
    let refused = facade.create(CreateSession::new()).unwrap_err();
    assert_eq!(refused.refusal(), Some(Refusal::InsideRuntime));
    assert!(provider.is_empty());
    let made = facade.clone();
    let made = tokio::task::spawn_blocking(move || made.create(CreateSession::new()));
    let session = made.await.unwrap();
    match session {
        Ok(session) => drop(session),
        Err(refused) => assert_eq!(refused.refusal(), Some(Refusal::InsideRuntime)),
    }
    drop(facade);
    ends(&place, provider, client, "none").await;
}

#[tokio::test]
async fn what_is_out_of_the_ordinary_is_told() {
    let place = Place::new();
    let provider = place.builder().max_sessions(1).build().unwrap();
    let (told, events) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let client = SessionClient::builder(provider)
        .create_rate(mainstay::RateLimiter::per_second(1).max_wait(Duration::ZERO))
        .observe(move |event: &Event<'_>| {
            let _unheard = told.lock().unwrap().send(event.pipeline.to_owned());
        })
        .build()
        .unwrap();
    let session = created(&client).await;
    assert!(client.create(CreateSession::new()).await.is_err());
    assert_eq!(events.try_recv().unwrap(), "session.embedded.create");
    drop(session);
    assert!(client.close_within(SOON).await.is_drained);
}
