//! Children: run, waited for, read, started in a pool; killed, stopped, asked to end meanwhile.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt as _;
use mainstay::Refusal;
use mainstay::process::{Command, Process, ProcessErrorKind, ProcessHandle, ProcessPool, State};
use mainstay::shutdown::Component;
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::trial::{Clock, Lab, MS, Tally, Trial, trial, until};

type Acting = Pin<Box<dyn Future<Output = ()>>>;

/// A child, what was read from it, and somebody else's hand on it.
struct Ward {
    child: tokio::sync::Mutex<Option<Process>>,
    handle: ProcessHandle,
    read: Mutex<String>,
}

impl Ward {
    fn of(command: &Command) -> Self {
        let child = command.spawn().unwrap();
        Self {
            handle: child.handle(),
            child: tokio::sync::Mutex::new(Some(child)),
            read: Mutex::default(),
        }
    }

    fn note(&self, bytes: &[u8]) {
        let text = std::str::from_utf8(bytes).unwrap();
        self.read.lock().unwrap().push_str(text);
    }

    /// The child can still be read and waited for; then it is gone.
    async fn is_whole(&self) -> String {
        let rest = self.child.lock().await.take();
        if let Some(mut child) = rest {
            let output = child.wait().await.unwrap();
            self.note(&output.stdout.bytes);
        }
        self.handle.ended().await;
        assert_eq!(self.handle.state(), State::Ended);
        next_runs().await;
        std::mem::take(&mut *self.read.lock().unwrap())
    }
}

async fn next_runs() {
    let next = Command::shell("echo next").run().await.unwrap();
    assert_eq!(next.stdout.text(), "next\n");
}

fn sleeper() -> Command {
    Command::shell("sleep 60 & sleep 60").grace(5 * MS)
}

/// Says so when it listens to SIGTERM no more.
fn stubborn() -> Command {
    Command::shell("trap '' TERM; sleep 60 & echo ready; while :; do sleep 0.02; done")
        .grace(8 * MS)
}

fn talker() -> Command {
    Command::shell("for n in 1 2 3; do echo a $n; sleep 0.002; done")
}

const SAID: &str = "a 1\na 2\na 3\n";

type Hand = fn(ProcessHandle) -> Acting;

/// What somebody else does with a child.
const HANDS: [(&str, Hand); 3] = [
    ("killed", |child| {
        Box::pin(async move {
            yield_now().await;
            child.kill();
        })
    }),
    ("asked to end", |child| {
        Box::pin(async move {
            yield_now().await;
            child.cancel_within(6 * MS);
        })
    }),
    ("stopped, and asked to end", |child| {
        Box::pin(async move {
            child.pause();
            yield_now().await;
            child.resume();
            child.pause();
            yield_now().await;
            child.cancel_within(4 * MS);
        })
    }),
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = Vec::new();
    of_runs(&mut all);
    of_waits(&mut all);
    of_reads(&mut all);
    of_places(&mut all);
    of_ends(&mut all);
    all
}

/// `Command::run`, whose child nobody else knows.
fn of_runs(all: &mut Vec<Trial>) {
    type Made = fn() -> Command;
    let states: [(&str, usize, Made); 7] = [
        ("quick", 1, || Command::new("true")),
        ("that says something", 2, talker),
        ("that is fed and echoes", 2, || {
            Command::new("cat").stdin(vec![b'x'; 300_000])
        }),
        ("that does not read", 1, || {
            Command::shell("sleep 0.01").stdin(vec![b'x'; 300_000])
        }),
        ("that takes too long", 2, || sleeper().time_limit(6 * MS)),
        ("that does not listen", 2, || stubborn().time_limit(6 * MS)),
        ("whose grandchild keeps its pipe", 2, || {
            Command::shell("sleep 60 & echo left").pipe_grace(5 * MS)
        }),
    ];
    for (state, least, command) in states {
        all.push(trial(
            format!("run: a child {state}"),
            &["process::Command::run"],
            (Clock::Real, least),
            move |lab| {
                lab.alone(
                    async || (),
                    move |_| async move {
                        command().run().await.map(drop).ok();
                    },
                    async |(), _| next_runs().await,
                )
            },
        ));
    }
    all.push(trial(
        "run: there is no such program",
        &["process::Command::run"],
        (Clock::Real, 1),
        |lab| {
            lab.alone(
                async || (),
                |_| async {
                    let error = Command::new("/no/such/program").run().await.unwrap_err();
                    assert_eq!(error.kind(), ProcessErrorKind::NotFound);
                },
                async |(), _| next_runs().await,
            )
        },
    ));
}

/// `wait` and `ended`, with somebody else's hand on the child.
fn of_waits(all: &mut Vec<Trial>) {
    for (hand, act) in HANDS {
        for (kind, command) in [
            ("sleeping", sleeper as fn() -> Command),
            ("stubborn", stubborn),
        ] {
            all.push(trial(
                format!("wait: a {kind} child is {hand}"),
                &["process::Process::wait"],
                (Clock::Real, 1),
                move |lab| {
                    lab.beside(
                        async move || Ward::of(&command()),
                        |ward| async move {
                            let mut child = ward.child.lock().await;
                            let output = child.as_mut().unwrap().wait().await.unwrap();
                            ward.note(&output.stdout.bytes);
                        },
                        move |ward| act(ward.handle.clone()),
                        async |ward, _| drop(ward.is_whole().await),
                    )
                },
            ));
        }
        all.push(trial(
            format!("wait: a child that is owned is {hand}"),
            &["process::Process::wait"],
            (Clock::Real, 1),
            move |lab| {
                lab.beside(
                    async || Ward::of(&sleeper()),
                    |ward| async move {
                        let child = ward.child.lock().await.take();
                        child.unwrap().wait().await.unwrap();
                    },
                    move |ward| act(ward.handle.clone()),
                    async |ward, _| drop(ward.is_whole().await),
                )
            },
        ));
        all.push(trial(
            format!("ended: a child is {hand}"),
            &["process::ProcessHandle::ended"],
            (Clock::Real, 1),
            move |lab| {
                lab.beside(
                    async || Ward::of(&sleeper()),
                    |ward| async move { ward.handle.ended().await },
                    move |ward| act(ward.handle.clone()),
                    async |ward, _| drop(ward.is_whole().await),
                )
            },
        ));
    }
}

/// What is read in pieces is whole, wherever a reader was cut.
fn of_reads(all: &mut Vec<Trial>) {
    let world = async || Ward::of(&talker());
    let is_whole = async |ward: &Ward, _: &_| assert_eq!(ward.is_whole().await, SAID);
    all.push(trial(
        "wait: cut, and asked again",
        &["process::Process::wait"],
        (Clock::Real, 2),
        move |lab| {
            lab.alone(
                world,
                |ward| async move {
                    let mut child = ward.child.lock().await;
                    let output = child.as_mut().unwrap().wait().await.unwrap();
                    ward.note(&output.stdout.bytes);
                },
                is_whole,
            )
        },
    ));
    all.push(trial(
        "chunk: piece by piece",
        &["process::Process::chunk"],
        (Clock::Real, 2),
        move |lab| {
            lab.alone(
                world,
                |ward| async move {
                    let mut child = ward.child.lock().await;
                    while let Some(chunk) = child.as_mut().unwrap().chunk().await {
                        ward.note(&chunk.bytes);
                    }
                },
                is_whole,
            )
        },
    ));
    all.push(trial(
        "line: line by line",
        &["process::Lines::line"],
        (Clock::Real, 2),
        move |lab| {
            lab.alone(
                world,
                |ward| async move {
                    let mut child = ward.child.lock().await;
                    while let Some(line) = child.as_mut().unwrap().lines().line().await {
                        ward.note(&line.bytes);
                        ward.note(b"\n");
                    }
                },
                is_whole,
            )
        },
    ));
    all.push(trial(
        "lines: the stream, of a child that is paused",
        &["process::Lines"],
        (Clock::Real, 2),
        move |lab| {
            lab.beside(
                world,
                |ward| async move {
                    let mut child = ward.child.lock().await;
                    let mut lines = child.as_mut().unwrap().lines();
                    while let Some(line) = lines.next().await {
                        ward.note(&line.bytes);
                        ward.note(b"\n");
                    }
                },
                |ward| async move {
                    ward.handle.pause();
                    yield_now().await;
                    ward.handle.resume();
                },
                is_whole,
            )
        },
    ));
}

/// A pool of two, of which so many are taken.
struct Ranch {
    pool: ProcessPool,
    held: Mutex<Vec<Process>>,
}

impl Ranch {
    async fn new(taken: usize, command: fn() -> Command) -> Self {
        let pool = ProcessPool::builder(2).drain(4 * MS).grace(8 * MS);
        let ranch = Self {
            pool: pool.max_queue(8).build().unwrap(),
            held: Mutex::default(),
        };
        for _ in 0..taken {
            let child = ranch.pool.spawn(&command()).await.unwrap();
            ranch.held.lock().unwrap().push(child);
        }
        ranch
    }

    fn release(&self) {
        let held = self.held.lock().unwrap().pop();
        drop(held);
    }

    /// All places are free, and the next two run; after the end none does.
    async fn is_whole(&self) {
        self.held.lock().unwrap().clear();
        until("the children's end", || self.pool.is_empty()).await;
        if !self.pool.is_closed() {
            let one = self.pool.spawn(&sleeper()).await.unwrap();
            let two = self.pool.spawn(&sleeper()).await.unwrap();
            assert_eq!(self.pool.len(), 2);
            let third = self.pool.try_spawn(&sleeper()).unwrap_err();
            assert!(matches!(
                third.refusal(),
                Some(Refusal::BulkheadFull { .. })
            ));
            drop((one, two));
        }
        let report = self.pool.close().await;
        assert_eq!(report.left, 0);
        let refused = self.pool.run(&talker()).await.unwrap_err();
        assert_eq!(refused.refusal(), Some(Refusal::ShutDown));
    }
}

type Neighbour = fn(Arc<Ranch>) -> Acting;

/// What happens in a pool meanwhile.
const NEIGHBOURS: [(&str, Neighbour); 3] = [
    ("others come and go", |ranch| {
        Box::pin(async move {
            ranch.release();
            let other = Command::shell("sleep 0.002");
            let run = ranch.pool.run(&other);
            ranch.release();
            run.await.map(drop).ok();
        })
    }),
    ("it is closed", |ranch| {
        Box::pin(async move {
            yield_now().await;
            ranch.pool.close().await;
        })
    }),
    ("children are killed", |ranch| {
        Box::pin(async move {
            for _ in 0..3 {
                for child in ranch.pool.list() {
                    child.kill();
                }
                sleep(MS).await;
            }
        })
    }),
];

/// `spawn` and `run` in a pool that is free, half taken, full.
fn of_places(all: &mut Vec<Trial>) {
    for taken in 0..=2 {
        for (what, act) in NEIGHBOURS {
            let world = async move || Ranch::new(taken, sleeper).await;
            let check = async |ranch: &Ranch, _: &_| ranch.is_whole().await;
            all.push(trial(
                format!("pool.run: {taken} of 2 taken, {what}"),
                &["process::ProcessPool::run"],
                (Clock::Real, 1),
                move |lab| {
                    lab.beside(
                        world,
                        |ranch| async move {
                            let done = ranch.pool.run(&talker()).await;
                            done.map(drop).ok();
                        },
                        act,
                        check,
                    )
                },
            ));
            all.push(trial(
                format!("pool.spawn: {taken} of 2 taken, {what}"),
                &["process::ProcessPool::spawn"],
                (Clock::Real, 1),
                move |lab| {
                    lab.beside(
                        world,
                        |ranch| async move {
                            let child = ranch.pool.spawn(&sleeper()).await;
                            child.map(drop).ok();
                        },
                        act,
                        check,
                    )
                },
            ));
        }
    }
}

/// `close`, with children that end, and some that do not want to.
fn of_ends(all: &mut Vec<Trial>) {
    let drained = |lab: Lab, command: fn() -> Command, act: Neighbour| {
        lab.beside(
            async move || Ranch::new(2, command).await,
            |ranch| async move {
                Component::stop(&ranch.pool);
                Component::drained(&ranch.pool).await;
                assert!(ranch.pool.is_empty());
            },
            act,
            async |ranch: &Ranch, _| ranch.is_whole().await,
        )
    };
    for (what, act) in NEIGHBOURS {
        all.push(trial(
            format!("pool.drained: 2 sleeping children, {what}"),
            &["process::ProcessPool::drained"],
            (Clock::Real, 1),
            move |lab| drained(lab, sleeper, act),
        ));
    }
    let close = |lab: Lab,
                 taken,
                 command: fn() -> Command,
                 act: Neighbour|
     -> Pin<Box<dyn Future<Output = Tally>>> {
        Box::pin(lab.beside(
            async move || Ranch::new(taken, command).await,
            |ranch| async move {
                let report = ranch.pool.close().await;
                assert_eq!(report.left, 0);
            },
            act,
            async |ranch: &Ranch, _| ranch.is_whole().await,
        ))
    };
    for (kind, command) in [
        ("sleeping", sleeper as fn() -> Command),
        ("stubborn", stubborn),
        ("quick", talker),
    ] {
        for (what, act) in NEIGHBOURS {
            for taken in [0, 2] {
                if taken == 0 && kind != "quick" {
                    continue;
                }
                all.push(trial(
                    format!("pool.close: {taken} {kind} children, {what}"),
                    &["process::ProcessPool::close"],
                    (Clock::Real, 1),
                    move |lab| close(lab, taken, command, act),
                ));
            }
        }
    }
}
