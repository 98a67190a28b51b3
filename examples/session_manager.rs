//! Sessions that are deleted whatever happens to their users.
//!
//! Rebuilds "Async Context Managers: Basic Pattern" and "Proper Cleanup Pattern" of the
//! `AgentBay` async guide. Their `__aexit__` and `finally` do not run to the end when the task is
//! cancelled once more meanwhile. Here a session is held by a task of a scope: whoever uses it
//! may return, fail, panic or be dropped; the task deletes it, and the scope waits for that.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use mainstay::scope::Scope;
use mainstay::{BoxError, Refusal, prelude::*};
use tokio::sync::oneshot;
use tokio::time::sleep;

/// A stand-in for a client of a service with sessions.
#[derive(Clone, Default)]
struct Client {
    open: Arc<AtomicI32>,
}

struct Session(u32);

impl Client {
    async fn create(&self, id: u32) -> Session {
        sleep(Duration::from_millis(20)).await;
        self.open.fetch_add(1, Ordering::Relaxed);
        Session(id)
    }

    async fn delete(&self, session: &Session) {
        sleep(Duration::from_millis(20)).await;
        self.open.fetch_sub(1, Ordering::Relaxed);
        println!("  session {} deleted", session.0);
    }
}

impl Session {
    async fn execute(&self, command: &str) -> Result<String, BoxError> {
        sleep(Duration::from_millis(30)).await;
        match command {
            "false" => Err("exit status 1".into()),
            command => Ok(format!("session {}: {command}", self.0)),
        }
    }
}

/// Creates a session, lends it to `body`, and has it deleted, however the body ends.
async fn with_session<T, F: Future<Output = Result<T, BoxError>>>(
    sessions: &Scope,
    client: &Client,
    id: u32,
    body: impl FnOnce(Arc<Session>) -> F,
) -> Result<T, BoxError> {
    let (lend, borrow) = oneshot::channel();
    let (release, released) = oneshot::channel::<Infallible>();
    let client = client.clone();
    sessions.spawn(format!("session {id}"), async move {
        let session = Arc::new(client.create(id).await);
        let _ = lend.send(Arc::clone(&session));
        // Ends when the user has gone, in whatever way: the sender is dropped.
        let _ = released.await;
        client.delete(&session).await;
        Ok::<_, Infallible>(())
    })?;
    let session = borrow.await.map_err(|_| Refusal::ShutDown)?;
    let _release = release;
    body(session).await
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let client = Client::default();
    let sessions = Scope::new();
    let with = |id, command: &'static str| {
        with_session(&sessions, &client, id, move |session| async move {
            assert_ne!(command, "panic", "in the middle of it");
            session.execute(command).await
        })
    };

    println!("returns, fails:");
    println!("  {:?}", with(1, "echo Hello").await);
    println!("  {:?}", with(2, "false").await);

    println!("three at once, one is dropped by its time limit:");
    let hurried = with(4, "sleep 9").timeout(Duration::from_millis(35));
    let (a, b, c) = tokio::join!(with(3, "echo a"), hurried, with(5, "echo c"));
    println!(
        "  {a:?}\n  {}\n  {c:?}",
        b.unwrap_or_else(|error| error.to_string())
    );

    println!("panics:");
    std::panic::set_hook(Box::new(|panic| println!("  {panic}")));
    let users = Scope::new();
    let (owner, own) = (client.clone(), Arc::new(sessions));
    let held = Arc::clone(&own);
    let user = users.spawn("user", async move {
        let body = async |_| Result::<(), BoxError>::Err(explode());
        with_session(&held, &owner, 6, body).await
    })?;
    println!("  {:?}", user.await.map_err(|error| error.to_string()));

    println!("the scope waits for every deletion:");
    println!("  {}", own.join().await);
    println!(
        "  {} sessions left open",
        client.open.load(Ordering::Relaxed)
    );
    Ok(())
}

fn explode() -> BoxError {
    panic!("the user of session 6")
}
