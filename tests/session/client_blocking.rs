//! The blocking facade, on plain threads and where it is refused.

use std::time::Duration;

use mainstay::Refusal;
use mainstay::session::blocking::{SessionClient, SessionPool};
use mainstay::session::{Code, CreateSession, FileRange, ListSessions, SessionStatus, WriteMode};

use crate::client::{SOON, client};
use crate::scripted::Scripted;

fn blocking(provider: &Scripted) -> SessionClient<Scripted> {
    SessionClient::new(client(provider))
}

#[test]
fn the_same_names_work_on_a_plain_thread() {
    let provider = Scripted::new();
    let client = blocking(&provider);
    let session = client.create(CreateSession::new()).unwrap();
    assert_eq!(session.run("echo").unwrap().stdout_text(), "echo");
    assert_eq!(session.run_code(Code::python("1")).unwrap().results, ["1"]);
    session.write_file("a", b"b", WriteMode::Overwrite).unwrap();
    assert_eq!(session.read_file("a", FileRange::whole()).unwrap(), b"b");
    assert_eq!(session.list_directory(".").unwrap().len(), 1);
    let outcomes = session.run_many(["x", "y"], 2).unwrap();
    assert_eq!(outcomes.successes().count(), 2);
    assert_eq!(client.status(session.id()).unwrap(), SessionStatus::Running);
    let pages: Vec<_> = client.list(ListSessions::all()).collect();
    assert_eq!(pages.len(), 1);
    assert_eq!(
        pages[0].as_ref().unwrap().as_ref().unwrap().sessions.len(),
        1
    );
    let mut monitor = session.monitor(Duration::from_millis(1));
    assert_eq!(
        monitor.next().unwrap().unwrap().unwrap(),
        SessionStatus::Running
    );
    assert!(!session.close().unwrap().already_gone);
    assert_eq!(
        monitor.next().unwrap().unwrap().unwrap(),
        SessionStatus::Deleted
    );
    assert!(monitor.next().is_none());

    // Dropped on a thread without a runtime.
    drop(client.create(CreateSession::new()).unwrap());
    let kept = client.create(CreateSession::new()).unwrap().detach();
    drop(client.attach(&kept).unwrap());
    assert!(client.close_within(SOON).unwrap().is_drained);
    assert_eq!(provider.alive(), 0);
}

#[test]
fn a_pool_works_on_plain_threads() {
    let provider = Scripted::new();
    provider.unreliable(0, Duration::from_millis(2));
    let client = blocking(&provider);
    let pool = SessionPool::of(&client, 3).unwrap();
    std::thread::scope(|scope| {
        for n in 0..6 {
            let pool = &pool;
            scope.spawn(move || {
                let session = pool.get().unwrap();
                assert_eq!(
                    session.run(n.to_string()).unwrap().stdout_text(),
                    n.to_string()
                );
            });
        }
    });
    let outcomes = pool.run_many((0..20).map(|n| n.to_string()), 5).unwrap();
    assert_eq!(outcomes.successes().count(), 20);
    assert!(provider.world().created <= 3);
    assert_eq!(provider.world().overlaps, 0);
    assert!(pool.close_within(SOON).unwrap().is_drained);
    assert!(client.close_within(SOON).unwrap().is_drained);
    assert_eq!(provider.alive(), 0);
}

/// Trap 83.
#[tokio::test]
async fn inside_of_a_runtime_it_is_refused_and_nothing_is_lost() {
    let provider = Scripted::new();
    let client = blocking(&provider);
    let refused = client.create(CreateSession::new()).unwrap_err();
    assert_eq!(refused.refusal(), Some(Refusal::InsideRuntime));
    let plain = client.clone();
    let session = std::thread::spawn(move || plain.create(CreateSession::new()).unwrap());
    let session = session.join().unwrap();
    let refused = session.run("x").unwrap_err();
    assert_eq!(refused.refusal(), Some(Refusal::InsideRuntime));
    assert!(session.is_intact(), "it has not begun");
    let refused = session.close().unwrap_err();
    assert_eq!(refused.refusal(), Some(Refusal::InsideRuntime));
    provider.until_empty().await;
    assert!(client.close_within(SOON).is_err());
}

#[test]
fn what_a_client_answers_for_is_seen_and_ended_from_a_plain_thread() {
    let provider = Scripted::new();
    let client = blocking(&provider);
    let id = client.create(CreateSession::new()).unwrap().detach();
    assert_eq!(client.get(&id).unwrap().id, id);
    let mut monitor = client.monitor(&id, Duration::from_millis(1));
    let status = monitor.next().unwrap().unwrap().unwrap();
    assert_eq!(status, SessionStatus::Running);
    assert!(!client.delete(&id).unwrap().already_gone);
    assert_eq!(provider.alive(), 0);

    let held = client.create(CreateSession::new()).unwrap();
    assert_eq!(client.snapshot().in_flight(), 1);
    assert_eq!(client.as_async().snapshot().in_flight(), 1);
    client.close();
    let refused = client.create(CreateSession::new()).unwrap_err();
    assert_eq!(refused.refusal(), Some(Refusal::ShutDown));
    client.end_all();
    assert!(client.close_within(SOON).unwrap().is_drained);
    assert_eq!(provider.alive(), 0);
    drop(held);
}

#[test]
fn a_pool_runs_single_commands_and_ends_what_is_not_wanted_back() {
    let provider = Scripted::new();
    let client = blocking(&provider);
    let pool = SessionPool::of(&client, 2).unwrap();
    assert_eq!(pool.run("one").unwrap().stdout_text(), "one");
    assert_eq!(pool.snapshot().idle, 1);
    pool.get().unwrap().discard();
    assert_eq!(pool.as_async().snapshot().idle, 0);
    pool.clone().close();
    let refused = pool.get().unwrap_err();
    assert_eq!(refused.refusal(), Some(Refusal::ShutDown));
    assert!(pool.close_within(SOON).unwrap().is_drained);
    assert!(client.close_within(SOON).unwrap().is_drained);
    assert_eq!(provider.alive(), 0);
}
