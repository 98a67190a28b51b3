//! Panics in what the session adapter is given: the only adapter with code of the user's in it.

use std::time::Duration;

use mainstay::CircuitBreaker;
use mainstay::retry::Backoff;
use mainstay::session::{
    Code, CreateSession, FileRange, Labels, ListSessions, Session, SessionClient,
    SessionClientBuilder, SessionPool, WriteMode,
};

use crate::{Fuse, caught, caught_now};

#[path = "../support/sessions.rs"]
mod scripted;
use scripted::{Fault, Scripted};

const MINUTE: Duration = Duration::from_secs(60);

fn builder(provider: &Scripted) -> SessionClientBuilder<Scripted> {
    let pause = Backoff::constant(Duration::from_millis(1));
    SessionClient::builder(provider.clone())
        .no_create_rate()
        .backoff(pause)
        .reaper_backoff(pause)
        .circuit_breaker(CircuitBreaker::builder().minimum_calls(50))
}

async fn use_all(client: &SessionClient<Scripted>, session: &Session<Scripted>) {
    let _ = caught(client.get(session.id())).await;
    let _ = caught(session.status()).await;
    let mut list = client.list(ListSessions::all());
    let _ = caught(list.next()).await;
    let _ = caught(session.run("echo").into_future()).await;
    let _ = caught(session.run_code(Code::python("1"))).await;
    let _ = caught(session.write_file("a", b"b", WriteMode::Overwrite)).await;
    let _ = caught(session.read_file("a", FileRange::default())).await;
    let _ = caught(session.list_directory("/")).await;
    let _ = caught(session.labels()).await;
    let _ = caught(session.set_labels(&Labels::default())).await;
}

/// A provider that panics once: the session is not lost at the other end, and the next call
/// is served.
async fn provided(fuse: Fuse, operation: &'static str) {
    let provider = Scripted::new();
    let client = builder(&provider).build().unwrap();
    provider.script(operation, [Fault::Panic]);
    let session = match caught(client.create(CreateSession::new())).await {
        Ok(Ok(session)) => session,
        _ => client.create(CreateSession::new()).await.unwrap(),
    };
    use_all(&client, &session).await;
    let again = client.create(CreateSession::new()).await.unwrap();
    assert_eq!(again.run("echo").await.unwrap().stdout_text(), "echo");
    drop((session, again));
    let report = client.close_within(MINUTE).await;
    assert!(report.is_drained, "{operation}: {report:?}");
    provider.until_empty().await;
    assert_eq!((client.creating(), client.snapshot().in_flight()), (0, 0));
    assert!(provider.calls(operation) > 0, "{operation} was never asked");
    fuse.count();
}

crate::rows! {
    "session", "provider: create", ["session/provider trait SessionProvider"], |fuse| { provided(fuse, "create").await; }
    "session", "provider: get", ["session/provider trait SessionProvider"], |fuse| { provided(fuse, "get").await; }
    "session", "provider: status", ["session/provider trait SessionProvider"], |fuse| { provided(fuse, "status").await; }
    "session", "provider: list", ["session/provider trait SessionProvider"], |fuse| { provided(fuse, "list").await; }
    "session", "provider: delete", ["session/provider trait SessionProvider"], |fuse| { provided(fuse, "delete").await; }
    "session", "provider: run", ["session/provider trait SessionProvider"], |fuse| { provided(fuse, "run").await; }
    "session", "provider: run_code", ["session/provider trait SessionProvider"], |fuse| { provided(fuse, "code").await; }
    "session", "provider: read_file", ["session/provider trait SessionProvider"], |fuse| { provided(fuse, "read").await; }
    "session", "provider: write_file", ["session/provider trait SessionProvider"], |fuse| { provided(fuse, "write").await; }
    "session", "provider: list_directory", ["session/provider trait SessionProvider"], |fuse| { provided(fuse, "directory").await; }
    "session", "provider: labels", ["session/provider trait SessionProvider"], |fuse| { provided(fuse, "labels").await; }
    "session", "provider: set_labels", ["session/provider trait SessionProvider"], |fuse| { provided(fuse, "set_labels").await; }
    "session", "on_reaper_event", ["session/client/builder on_reaper_event"], |fuse| {
        let provider = Scripted::new();
        let f = fuse.clone();
        let client = builder(&provider).on_reaper_event(move |_| f.blow()).build().unwrap();
        fuse.arm();
        drop(client.create(CreateSession::new()).await.unwrap());
        provider.until_empty().await;
        drop(client.create(CreateSession::new()).await.unwrap());
        let report = client.close_within(MINUTE).await;
        assert!(report.is_drained);
        provider.until_empty().await;
    }
    "session", "pool settings", ["session/client/pool settings"], |fuse| {
        let provider = Scripted::new();
        let client = builder(&provider).build().unwrap();
        let f = fuse.clone();
        fuse.arm();
        let pool = SessionPool::builder(&client).max_size(1).settings(move |pool| { f.blow(); pool });
        assert!(caught_now(|| pool.build()).is_err());
        let pool = SessionPool::builder(&client).max_size(1).build().unwrap();
        assert_eq!(pool.run("works").await.unwrap().stdout, b"works");
        drop(pool);
        assert!(client.close_within(MINUTE).await.is_drained);
    }
}
