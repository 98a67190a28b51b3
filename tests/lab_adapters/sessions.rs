//! The session client and its pool, at a provider that does what it is told: late, not at all,
//! or without a reply; while others call, end sessions, close.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use futures_util::{FutureExt as _, StreamExt};
use mainstay::CircuitBreaker;
use mainstay::pool::Pooled;
use mainstay::retry::Backoff;
use mainstay::session::{
    Code, CreateSession, FileRange, ListSessions, OperationKind, PooledSessions, Session,
    SessionClient, SessionErrorKind as Kind, SessionId, SessionList, SessionPool, SessionProvider,
    SessionStatus, WriteMode,
};
use mainstay::shutdown::Component;
use tokio::sync::Mutex;
use tokio::task::yield_now;

use crate::scripted::{Fault, Scripted, error, not_done};
use crate::trial::{Clock, LONG, MS, Trial, trial, until};

type Acting = Pin<Box<dyn Future<Output = ()>>>;
type Calling = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A client with one session, and one session that is nobody's.
struct Agency {
    provider: Scripted,
    client: SessionClient<Scripted>,
    session: Mutex<Option<Session<Scripted>>>,
    id: SessionId,
    nobodys: SessionId,
    is_closed: AtomicBool,
}

/// A session that no client answers for.
async fn made(provider: &Scripted) -> SessionId {
    let made = provider.create(&CreateSession::new()).await;
    made.unwrap().id
}

fn client(provider: &Scripted) -> SessionClient<Scripted> {
    let gentle = CircuitBreaker::builder().consecutive_failures(1_000_000);
    let mut builder = SessionClient::builder(provider.clone())
        .no_create_rate()
        .backoff(Backoff::constant(MS))
        .reaper_backoff(Backoff::constant(MS))
        .reaper_attempts(1_000_000)
        .circuit_breaker(gentle.no_failure_rate());
    for kind in [
        OperationKind::Create,
        OperationKind::Get,
        OperationKind::Status,
        OperationKind::List,
        OperationKind::Labels,
        OperationKind::Run,
        OperationKind::Code,
        OperationKind::Read,
        OperationKind::Write,
        OperationKind::Delete,
    ] {
        builder = builder.time_limit(kind, 20 * MS);
    }
    builder.late_limit(40 * MS).build().unwrap()
}

impl Agency {
    async fn new(state: State, operation: &'static str) -> Self {
        let provider = Scripted::new();
        let client = client(&provider);
        let session = client.create(CreateSession::new()).await.unwrap();
        let written = session.write_file("f", b"text", WriteMode::Overwrite);
        written.await.unwrap();
        let nobodys = made(&provider).await;
        state(&provider, operation);
        Self {
            id: session.id().clone(),
            session: Mutex::new(Some(session)),
            nobodys,
            provider,
            client,
            is_closed: AtomicBool::new(false),
        }
    }

    /// The next call succeeds; and at the end there is no session, and nobody works at one.
    async fn is_whole(&self) {
        self.provider.calm();
        if !self.is_closed.load(SeqCst) {
            let next = self.client.create(CreateSession::new()).await.unwrap();
            let done = next.run("next").await.unwrap();
            assert_eq!(done.stdout_text(), "next");
            next.close().await.unwrap();
        }
        drop(self.session.lock().await.take());
        is_over(&self.client).await;
        self.provider.delete(&self.nobodys).await.unwrap();
        self.provider.until_empty().await;
        // One that hung may have been overtaken by another.
        self.provider.until(|world| world.deleting == 0).await;
    }
}

/// The client has given everything back.
async fn is_over(client: &SessionClient<Scripted>) {
    let report = client.close_within(LONG).await;
    assert!(report.is_drained, "{report:?}");
    assert_eq!(report.sessions.in_flight(), 0, "{report:?}");
    assert_eq!(client.creating(), 0);
    let refused = client.create(CreateSession::new()).await.err();
    assert!(refused.is_some_and(|error| error.refusal().is_some()));
}

type State = fn(&Scripted, &'static str);

/// What the provider does with the operation on trial.
const STATES: [(&str, State); 6] = [
    QUIET[0],
    QUIET[1],
    QUIET[2],
    QUIET[3],
    QUIET[4],
    ("by a panic", |provider, operation| {
        provider.script(operation, [Fault::Panic]);
    }),
];

/// Those in which it says what it has to say.
const QUIET: [(&str, State); 5] = [
    ("at once", |_, _| ()),
    ("late", |provider, operation| {
        provider.always(operation, Fault::Slow(3 * MS));
    }),
    ("at the third time", |provider, operation| {
        let fails = || Fault::Fail(not_done(Kind::Unavailable));
        provider.script(operation, [fails(), fails()]);
    }),
    ("without a reply", |provider, operation| {
        let lost = Fault::LoseReply(error(Kind::Connection));
        provider.script(operation, [lost]);
    }),
    ("never", |provider, operation| {
        provider.always(operation, Fault::Hang);
    }),
];

/// A provider's panic is its own business: it goes on to whoever has called.
async fn caught<Fut: Future<Output = ()>>(call: Fut) {
    AssertUnwindSafe(call).catch_unwind().await.ok();
}

type Neighbour = fn(Arc<Agency>) -> Acting;

/// What somebody else does meanwhile.
const NEIGHBOURS: [(&str, Neighbour); 4] = [
    ("others call", |agency| {
        Box::pin(async move {
            if let Ok(other) = agency.client.create(CreateSession::new()).await {
                other.run("other").await.ok();
            }
        })
    }),
    ("the client is closed", |agency| {
        Box::pin(async move {
            agency.is_closed.store(true, SeqCst);
            yield_now().await;
            agency.client.close();
        })
    }),
    ("all is ended", |agency| {
        Box::pin(async move {
            agency.is_closed.store(true, SeqCst);
            yield_now().await;
            agency.client.end_all();
        })
    }),
    ("the session is gone", |agency| {
        Box::pin(async move {
            yield_now().await;
            agency.provider.world().alive.remove(&agency.id);
            yield_now().await;
        })
    }),
];

type Call = fn(Arc<Agency>) -> Calling;

/// A call, its name at the provider, and its own.
macro_rules! calls {
    ($($operation:literal $covers:literal |$agency:ident| $call:expr;)*) => {
        [$(($operation, &[$covers], {
            let call: Call = |$agency| Box::pin(caught(async move {
                $call;
            }));
            call
        }),)*]
    };
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = Vec::new();
    of_calls(&mut all);
    of_lists(&mut all);
    of_monitors(&mut all);
    of_ends(&mut all);
    of_pools(&mut all);
    all
}

/// With the session of the agency, when nobody else has it.
macro_rules! on {
    ($agency:ident, |$session:ident| $call:expr) => {{
        let held = $agency.session.lock().await;
        let $session = held.as_ref().unwrap();
        drop($call.await)
    }};
}

fn of_calls(all: &mut Vec<Trial>) {
    #[rustfmt::skip]
    let all_calls: [(&'static str, &'static [&'static str; 1], Call); 16] = calls! {
        "create" "session::SessionClient::create" |agency| agency.client.create(CreateSession::new()).await.map(drop).ok();
        "get" "session::SessionClient::get" |agency| agency.client.get(&agency.id).await.map(drop).ok();
        "status" "session::SessionClient::status" |agency| agency.client.status(&agency.id).await.map(drop).ok();
        "get" "session::SessionClient::attach" |agency| agency.client.attach(&agency.nobodys).await.map(drop).ok();
        "delete" "session::SessionClient::delete" |agency| agency.client.delete(&agency.id).await.map(drop).ok();
        "status" "session::Session::status" |agency| on!(agency, |session| session.status());
        "run" "session::Session::run" |agency| on!(agency, |session| session.run("work"));
        "run" "session::Session::run" |agency| on!(agency, |session| session.run_many(["a", "b", "c"]));
        "code" "session::Session::run_code" |agency| on!(agency, |session| session.run_code(Code::python("1")));
        "read" "session::Session::read_file" |agency| on!(agency, |session| session.read_file("f", FileRange::whole()));
        "write" "session::Session::write_file" |agency| on!(agency, |session| session.write_file("g", b"more", WriteMode::Append));
        "directory" "session::Session::list_directory" |agency| on!(agency, |session| session.list_directory("."));
        "labels" "session::Session::labels" |agency| on!(agency, |session| session.labels());
        "set_labels" "session::Session::set_labels" |agency| on!(agency, |session| session.set_labels(&[("a".into(), "b".into())].into()));
        "delete" "session::Session::close" |agency| {
            let session = agency.session.lock().await.take().unwrap();
            session.close().await.map(drop).ok()
        };
        "create" "session::SessionClient::close_within" |agency| {
            agency.is_closed.store(true, SeqCst);
            let making = agency.client.create(CreateSession::new());
            let end = agency.client.close_within(10 * MS);
            drop(futures_util::future::join(making, end).await);
        };
    };
    // What makes, changes or ends a session is tried beside all neighbours.
    let in_full = ["create", "attach", "delete", "run", "close", "close_within"];
    for (n, (operation, covers, start)) in all_calls.into_iter().enumerate() {
        let tries_all = in_full.iter().any(|name| covers[0].ends_with(name));
        for (m, (state, does)) in STATES.into_iter().enumerate() {
            for (l, (what, act)) in NEIGHBOURS.into_iter().enumerate() {
                if !tries_all && (n + m) % 4 != l {
                    continue;
                }
                all.push(trial(
                    format!("{}: answered {state}, {what}", covers[0]),
                    covers,
                    (Clock::Paused, 1),
                    move |lab| {
                        lab.beside(
                            async move || Agency::new(does, operation).await,
                            move |agency| caught(start(agency)),
                            move |agency| caught(act(agency)),
                            async |agency: &Agency, _| agency.is_whole().await,
                        )
                    },
                ));
            }
        }
    }
}

/// A list of three pages, which is read on where it was cut: no page is lost.
#[expect(clippy::too_many_lines, reason = "a list of what is tried")]
fn of_lists(all: &mut Vec<Trial>) {
    struct Lists {
        provider: Scripted,
        client: SessionClient<Scripted>,
        list: Mutex<SessionList<Scripted>>,
        seen: std::sync::Mutex<Vec<SessionId>>,
    }
    async fn lists(state: State) -> Lists {
        let provider = Scripted::new();
        for _ in 0..3 {
            made(&provider).await;
        }
        let client = client(&provider);
        state(&provider, "list");
        let list = Mutex::new(client.list(ListSessions::all().page_size(1)));
        let seen = std::sync::Mutex::default();
        Lists {
            provider,
            client,
            list,
            seen,
        }
    }
    impl Lists {
        fn note(&self, id: SessionId) {
            self.seen.lock().unwrap().push(id);
        }

        async fn is_whole(&self, wants_all: bool) {
            self.provider.calm();
            let mut list = self.list.lock().await;
            while let Some(page) = SessionList::next(&mut list).await {
                // One that was under way may still fail; it is asked for again.
                for info in page.into_iter().flat_map(|page| page.sessions) {
                    self.note(info.id);
                }
            }
            let seen = self.seen.lock().unwrap().clone();
            let everyone: Vec<_> = self.provider.world().alive.keys().cloned().collect();
            assert!(!wants_all || seen == everyone, "{seen:?} of {everyone:?}");
            assert!(self.client.close_within(LONG).await.is_drained);
        }
    }
    for (state, does) in QUIET {
        let closes = |lists: Arc<Lists>| async move {
            yield_now().await;
            lists.client.close();
        };
        all.push(trial(
            format!("list.next: answered {state}"),
            &["session::SessionList::next"],
            (Clock::Paused, 1),
            move |lab| {
                lab.beside(
                    async move || lists(does).await,
                    |lists: Arc<Lists>| async move {
                        let mut list = lists.list.lock().await;
                        for _ in 0..4 {
                            let Some(Ok(page)) = SessionList::next(&mut list).await else {
                                return;
                            };
                            page.sessions
                                .into_iter()
                                .for_each(|info| lists.note(info.id));
                        }
                    },
                    closes,
                    async |lists: &Lists, _| lists.is_whole(true).await,
                )
            },
        ));
        all.push(trial(
            format!("list as a stream: answered {state}"),
            &["session::SessionList"],
            (Clock::Paused, 1),
            move |lab| {
                lab.beside(
                    async move || lists(does).await,
                    |lists: Arc<Lists>| async move {
                        let mut list = lists.list.lock().await;
                        while let Some(Ok(page)) = StreamExt::next(&mut *list).await {
                            page.sessions
                                .into_iter()
                                .for_each(|info| lists.note(info.id));
                        }
                    },
                    closes,
                    async |lists: &Lists, _| lists.is_whole(true).await,
                )
            },
        ));
        all.push(trial(
            format!("list.collect: answered {state}"),
            &["session::SessionList::collect"],
            (Clock::Paused, 1),
            move |lab| {
                lab.beside(
                    async move || lists(does).await,
                    |lists: Arc<Lists>| async move {
                        let found = SessionList::collect(&mut *lists.list.lock().await, 9).await;
                        found.map(drop).ok();
                    },
                    closes,
                    // What it had gathered is lost with it, as it says.
                    async |lists: &Lists, _| lists.is_whole(false).await,
                )
            },
        ));
    }
}

/// The changes of a session, which somebody else makes.
fn of_monitors(all: &mut Vec<Trial>) {
    use mainstay::session::Monitor;
    struct Watch {
        provider: Scripted,
        monitor: Mutex<Monitor<Scripted>>,
        seen: std::sync::Mutex<Vec<SessionStatus>>,
        id: SessionId,
    }
    async fn watch(state: State) -> Watch {
        let provider = Scripted::new();
        let id = made(&provider).await;
        state(&provider, "status");
        let monitor = Mutex::new(client(&provider).monitor(&id, 2 * MS));
        let seen = std::sync::Mutex::default();
        Watch {
            provider,
            monitor,
            seen,
            id,
        }
    }
    impl Watch {
        fn note(&self, status: SessionStatus) {
            self.seen.lock().unwrap().push(status);
        }

        /// Whoever waits on is told the end, once.
        async fn is_whole(&self) {
            self.provider.calm();
            self.provider.set_status(&self.id, SessionStatus::Deleted);
            let mut monitor = self.monitor.lock().await;
            while let Some(change) = Monitor::next(&mut monitor).await {
                if let Ok(status) = change {
                    self.note(status);
                }
            }
            let seen = self.seen.lock().unwrap();
            let ends = seen.iter().filter(|status| status.is_final());
            assert_eq!(ends.count(), 1, "{seen:?}");
            let mut pairs = seen.windows(2);
            assert!(pairs.all(|pair| pair[0] != pair[1]), "{seen:?}");
        }
    }
    let changes = |watch: Arc<Watch>| async move {
        watch.provider.set_status(&watch.id, SessionStatus::Paused);
        tokio::time::sleep(3 * MS).await;
        watch.provider.set_status(&watch.id, SessionStatus::Deleted);
    };
    for (state, does) in QUIET {
        all.push(trial(
            format!("monitor.next: answered {state}"),
            &["session::Monitor::next"],
            (Clock::Paused, 1),
            move |lab| {
                lab.beside(
                    async move || watch(does).await,
                    |watch: Arc<Watch>| async move {
                        let mut monitor = watch.monitor.lock().await;
                        for _ in 0..3 {
                            let Some(change) = Monitor::next(&mut monitor).await else {
                                return;
                            };
                            if let Ok(status) = change {
                                watch.note(status);
                            }
                        }
                    },
                    changes,
                    async |watch: &Watch, _| watch.is_whole().await,
                )
            },
        ));
        all.push(trial(
            format!("monitor as a stream: answered {state}"),
            &["session::Monitor"],
            (Clock::Paused, 1),
            move |lab| {
                lab.beside(
                    async move || watch(does).await,
                    |watch: Arc<Watch>| async move {
                        let mut monitor = watch.monitor.lock().await;
                        for _ in 0..3 {
                            let Some(change) = StreamExt::next(&mut *monitor).await else {
                                return;
                            };
                            if let Ok(status) = change {
                                watch.note(status);
                            }
                        }
                    },
                    changes,
                    async |watch: &Watch, _| watch.is_whole().await,
                )
            },
        ));
    }
}

/// `drained` and `close_within`, while a session is held and deletions go wrong.
fn of_ends(all: &mut Vec<Trial>) {
    for (state, does) in STATES {
        let lets_go = |agency: Arc<Agency>| async move {
            agency.is_closed.store(true, SeqCst);
            agency.client.close();
            yield_now().await;
            drop(agency.session.lock().await.take());
            tokio::time::sleep(5 * MS).await;
            agency.provider.calm();
        };
        let check = async |agency: &Agency, _: &_| agency.is_whole().await;
        all.push(trial(
            format!("drained: deletions are answered {state}"),
            &["session::ClientDrained"],
            (Clock::Paused, 1),
            move |lab| {
                lab.beside(
                    async move || Agency::new(does, "delete").await,
                    |agency: Arc<Agency>| async move { agency.client.drained().await },
                    lets_go,
                    check,
                )
            },
        ));
        all.push(trial(
            format!("drained, as a component: deletions are answered {state}"),
            &["session::SessionClient::drained"],
            (Clock::Paused, 1),
            move |lab| {
                lab.beside(
                    async move || Agency::new(does, "delete").await,
                    |agency: Arc<Agency>| async move { Component::drained(&agency.client).await },
                    lets_go,
                    check,
                )
            },
        ));
        all.push(trial(
            format!("close_within: deletions are answered {state}"),
            &["session::SessionClient::close_within"],
            (Clock::Paused, 1),
            move |lab| {
                lab.beside(
                    async move || Agency::new(does, "delete").await,
                    |agency: Arc<Agency>| async move {
                        agency.is_closed.store(true, SeqCst);
                        agency.client.close_within(10 * MS).await;
                    },
                    lets_go,
                    check,
                )
            },
        ));
    }
}

type Lent = Pooled<'static, PooledSessions<Scripted>>;

/// A pool of two sessions, of which so many are lent.
struct Lodge {
    provider: Scripted,
    pool: SessionPool<Scripted>,
    lent: std::sync::Mutex<Vec<Lent>>,
}

impl Lodge {
    async fn new(lent: usize, does: State, operation: &'static str) -> Self {
        let provider = Scripted::new();
        let pool = SessionPool::builder(&client(&provider)).max_size(2);
        let pool = pool.build().unwrap();
        let mut held = Vec::new();
        for _ in 0..lent {
            held.push(Pooled::into_owned(pool.get().await.unwrap()));
        }
        does(&provider, operation);
        let lent = std::sync::Mutex::new(held);
        Self {
            provider,
            pool,
            lent,
        }
    }

    fn release(&self) {
        let lent = self.lent.lock().unwrap().pop();
        drop(lent);
    }

    async fn is_whole(&self) {
        self.provider.calm();
        self.lent.lock().unwrap().clear();
        // What goes on in the background would be the next caller's.
        let seen = || self.pool.snapshot();
        until("the background", || seen().creating + seen().closing == 0).await;
        if !seen().is_closed {
            let (one, two) = (
                self.pool.get().await.unwrap(),
                self.pool.get().await.unwrap(),
            );
            assert!(one.is_intact() && two.is_intact());
            drop((one, two));
            // Of one that has gone behind its back the pool learns by a command.
            let mut next = self.pool.run("next").await;
            for _ in 0..2 {
                if next.is_err() {
                    next = self.pool.run("next").await;
                }
            }
            assert_eq!(next.unwrap().stdout_text(), "next");
        }
        let report = self.pool.close_within(LONG).await;
        assert!(report.is_drained, "{report:?}");
        is_over(self.pool.client()).await;
        self.provider.until_empty().await;
        assert_eq!(self.provider.world().overlaps, 0);
    }
}

type Guest = fn(Arc<Lodge>) -> Acting;

const GUESTS: [(&str, Guest); 3] = [
    ("others come and go", |lodge| {
        Box::pin(async move {
            yield_now().await;
            lodge.release();
            // While one is lent, a creation that fails is no end to the wait.
            let got = tokio::time::timeout(50 * MS, lodge.pool.get()).await;
            drop(got);
            lodge.release();
        })
    }),
    ("it is closed", |lodge| {
        Box::pin(async move {
            yield_now().await;
            lodge.pool.close();
            yield_now().await;
            lodge.release();
            lodge.release();
        })
    }),
    ("its sessions are gone", |lodge| {
        Box::pin(async move {
            yield_now().await;
            lodge.provider.world().alive.clear();
            lodge.release();
            lodge.release();
        })
    }),
];

/// Its pool makes, checks and closes the sessions.
const POOL: &[&str] = &[
    "session::SessionPool::get",
    "session::PooledSessions::create",
    "session::PooledSessions::check",
    "session::PooledSessions::close",
];

type Staying = fn(Arc<Lodge>) -> Calling;

fn of_pools(all: &mut Vec<Trial>) {
    let stays: [(&'static [&'static str], Staying); 5] = [
        (POOL, |lodge| {
            Box::pin(async move { drop(lodge.pool.get().await) })
        }),
        (&["session::SessionPool::run"], |lodge| {
            Box::pin(async move { drop(lodge.pool.run("work").await) })
        }),
        (&["session::SessionPool::run"], |lodge| {
            Box::pin(async move { drop(lodge.pool.run_many(["a", "b", "c"]).await) })
        }),
        (&["session::SessionPool::close_within"], |lodge| {
            Box::pin(async move {
                lodge.pool.close_within(10 * MS).await;
            })
        }),
        (&["session::SessionPool::drained"], |lodge| {
            Box::pin(async move {
                Component::stop(&lodge.pool);
                Component::drained(&lodge.pool).await;
            })
        }),
    ];
    for (n, (covers, stay)) in stays.into_iter().enumerate() {
        for lent in 0..=2 {
            for operation in ["create", "run", "delete"] {
                for (state, does) in STATES {
                    let (what, act) = GUESTS[(n + lent + operation.len() + state.len()) % 3];
                    all.push(trial(
                        format!(
                            "{}: {lent} of 2 lent, {operation} {state}, {what}",
                            covers[0]
                        ),
                        covers,
                        (Clock::Paused, 1),
                        move |lab| {
                            lab.beside(
                                async move || Lodge::new(lent, does, operation).await,
                                move |lodge| caught(stay(lodge)),
                                move |lodge| caught(act(lodge)),
                                async |lodge: &Lodge, _| lodge.is_whole().await,
                            )
                        },
                    ));
                }
            }
        }
    }
}
