//! Sessions that are real: on this machine, and at a local AgentBay server. Commands run,
//! files are read and written, sessions end; others end them, the provider closes, the server
//! stops.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use mainstay::session::{
    AgentBay, Code, Command, CreateSession, EmbeddedProvider, FileRange, ListSessions, SessionId,
    SessionProvider, WriteMode,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::yield_now;

use crate::agentbay_server::{Config, DEFAULT_KEY, Handle, serve};
use crate::trial::{Clock, LONG, MS, Trial, trial, until};

type Acting = Pin<Box<dyn Future<Output = ()>>>;
type Calling = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A provider with one session, which has a file and a directory.
struct House<P> {
    provider: P,
    id: SessionId,
    is_closed: AtomicBool,
    below: Below,
}

/// What the sessions are made of.
enum Below {
    Root(TempDir),
    Server(Mutex<Option<Handle>>),
}

async fn furnished(provider: &impl SessionProvider) -> SessionId {
    let id = provider.create(&CreateSession::new()).await.unwrap().id;
    let write = provider.write_file(&id, "d/f", b"text", WriteMode::Overwrite);
    write.await.unwrap();
    id
}

impl House<EmbeddedProvider> {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let builder = EmbeddedProvider::builder().root(root.path());
        let provider = builder.grace(5 * MS).max_commands(1).command_queue(4);
        let provider = provider.build().unwrap();
        Self {
            id: furnished(&provider).await,
            provider,
            is_closed: AtomicBool::new(false),
            below: Below::Root(root),
        }
    }

    /// The next session works; at the end no directory is left.
    async fn is_whole(&self) {
        if !self.is_closed.load(SeqCst) {
            works(&self.provider).await;
        }
        self.provider.close().await.unwrap();
        assert!(self.provider.is_empty());
        let Below::Root(root) = &self.below else {
            unreachable!("it is this machine's")
        };
        let is_empty = || std::fs::read_dir(root.path()).unwrap().count() == 0;
        until("the empty root", is_empty).await;
    }
}

impl House<AgentBay> {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = serve(listener, Config::default()).unwrap();
        let provider = AgentBay::builder()
            .api_key(DEFAULT_KEY)
            .endpoint(server.url())
            .request_limit(LONG)
            .delete_poll(LONG, 4 * MS)
            .pause_poll(LONG, 4 * MS);
        let provider = provider.build().unwrap();
        Self {
            id: furnished(&provider).await,
            provider,
            is_closed: AtomicBool::new(false),
            below: Below::Server(Mutex::new(Some(server))),
        }
    }

    fn server(&self) -> &Mutex<Option<Handle>> {
        let Below::Server(server) = &self.below else {
            unreachable!("it is a server's")
        };
        server
    }

    /// The next session works; the server can end them all.
    async fn is_whole(&self) {
        if !self.is_closed.load(SeqCst) {
            works(&self.provider).await;
        }
        if let Some(server) = self.server().lock().await.take() {
            assert_eq!(server.stop().await.left, 0);
        }
        let refused = self.provider.create(&CreateSession::new()).await;
        assert!(refused.is_err());
    }
}

/// A session can be made, used and ended.
async fn works(provider: &impl SessionProvider) {
    let id = provider.create(&CreateSession::new()).await.unwrap().id;
    let done = provider.run(&id, &"echo next".into()).await.unwrap();
    assert_eq!(done.stdout_text(), "next\n");
    assert!(!provider.delete(&id).await.unwrap().already_gone);
}

type Neighbour<P> = fn(Arc<House<P>>) -> Acting;
type Call<P> = fn(Arc<House<P>>) -> Calling;

/// What somebody else does on this machine.
const HERE: [(&str, Neighbour<EmbeddedProvider>); 3] = [
    ("others run", |house| {
        Box::pin(async move {
            let run = house.provider.run(&house.id, &"echo other".into()).await;
            run.map(drop).ok();
        })
    }),
    ("the session is ended", |house| {
        Box::pin(async move {
            yield_now().await;
            house.provider.delete(&house.id).await.map(drop).ok();
        })
    }),
    ("the provider is closed", |house| {
        Box::pin(async move {
            house.is_closed.store(true, SeqCst);
            yield_now().await;
            house.provider.close().await.unwrap();
        })
    }),
];

/// What somebody else does at the server.
const THERE: [(&str, Neighbour<AgentBay>); 2] = [
    ("the session is ended", |house| {
        Box::pin(async move {
            yield_now().await;
            house.provider.delete(&house.id).await.map(drop).ok();
        })
    }),
    ("the server stops", |house| {
        Box::pin(async move {
            house.is_closed.store(true, SeqCst);
            yield_now().await;
            let server = house.server().lock().await.take();
            assert_eq!(server.unwrap().stop().await.left, 0);
        })
    }),
];

/// What every provider offers, under the name of this one.
macro_rules! calls {
    ($provider:ty, $name:literal; $($what:literal |$house:ident| $call:expr;)*) => {
        [$(({
            const COVERS: &[&str] = &[concat!("session::", $name, "::", $what)];
            COVERS
        }, {
            let call: Call<$provider> = |$house| Box::pin(async move {
                drop($call.await);
            });
            call
        }),)*]
    };
}

macro_rules! offered {
    ($provider:ty, $name:literal) => {
        calls! { $provider, $name;
            "create" |house| house.provider.create(&CreateSession::new().label("a", "b"));
            "get" |house| house.provider.get(&house.id);
            "status" |house| house.provider.status(&house.id);
            "list" |house| house.provider.list(&ListSessions::all());
            "delete" |house| house.provider.delete(&house.id);
            "run" |house| house.provider.run(&house.id, &Command::new("sleep 0.004; echo"));
            "run_code" |house| house.provider.run_code(&house.id, &Code::new("shell", "echo code"));
            "read_file" |house| house.provider.read_file(&house.id, "d/f", FileRange::whole());
            "write_file" |house| house.provider.write_file(&house.id, "g", &[7; 9_000], WriteMode::Append);
            "list_directory" |house| house.provider.list_directory(&house.id, "d");
            "labels" |house| house.provider.labels(&house.id);
            "set_labels" |house| house.provider.set_labels(&house.id, &[("a".into(), "c".into())].into());
        }
    };
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = Vec::new();
    let here = calls! { EmbeddedProvider, "EmbeddedProvider";
        "file_info" |house| house.provider.file_info(&house.id, "d/f");
        "create_directory" |house| house.provider.create_directory(&house.id, "e/e");
        "remove" |house| house.provider.remove(&house.id, "d");
        "move_file" |house| house.provider.move_file(&house.id, "d/f", "m");
        "search_files" |house| house.provider.search_files(&house.id, ".", "*");
        "remove_leftovers" |house| house.provider.remove_leftovers();
        "close" |house| async {
            house.is_closed.store(true, SeqCst);
            house.provider.close().await
        };
        "run" |house| house.provider.run(&house.id, &Command::new("trap '' TERM; sleep 9 & sleep 9").time_limit(6 * MS));
    };
    let calls = offered!(EmbeddedProvider, "EmbeddedProvider");
    // What changes the session, or the provider, is tried beside all neighbours.
    let in_full = ["create", "delete", "run", "close", "write_file"];
    for (n, (covers, call)) in calls.into_iter().chain(here).enumerate() {
        for (m, (what, act)) in HERE.into_iter().enumerate() {
            if n % 3 != m && !in_full.iter().any(|name| covers[0].ends_with(name)) {
                continue;
            }
            all.push(trial(
                format!("{}: {what}", covers[0]),
                covers,
                (Clock::Real, 1),
                move |lab| {
                    lab.beside(
                        House::<EmbeddedProvider>::new,
                        call,
                        act,
                        async |house: &House<EmbeddedProvider>, _| house.is_whole().await,
                    )
                },
            ));
        }
    }
    let there = calls! { AgentBay, "AgentBay";
        "pause" |house| house.provider.pause(&house.id);
        "resume" |house| async {
            house.provider.pause(&house.id).await?;
            house.provider.resume(&house.id).await
        };
        "get_link" |house| house.provider.get_link(&house.id, None, None);
        "tools" |house| house.provider.tools(&house.id);
        "sync_context" |house| house.provider.sync_context(&house.id, None);
    };
    let calls = offered!(AgentBay, "AgentBay");
    for (n, (covers, call)) in calls.into_iter().chain(there).enumerate() {
        // Each call beside one neighbour; a world there takes long to make.
        let (what, act) = THERE[n % 2];
        let one = trial(
            format!("{}: {what}", covers[0]),
            covers,
            (Clock::Real, 1),
            move |lab| {
                lab.beside(
                    House::<AgentBay>::new,
                    call,
                    act,
                    async |house: &House<AgentBay>, _| house.is_whole().await,
                )
            },
        );
        all.push(one.briefly());
    }
    all
}
