//! So many operations at once, and what each takes in memory.
//!
//! An operation is a call through the whole of the client (limits, retry, breaker) that takes
//! one second at the other end. Each case runs in a process of its own.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use mainstay::gather;
use mainstay::session::{SessionClient, SessionId, blocking};

use crate::page::Page;
use crate::resident::{mark_kib, peak_kib};
use crate::slow::Slow;
use crate::{Failure, runtime};

const CROWDS: [usize; 2] = [1_000, 10_000];
const FORMS: [(&str, &str); 3] = [
    ("gather", "async, `gather` in one task"),
    ("tasks", "async, a task for each"),
    ("threads", "the blocking side, a thread for each"),
];

pub(crate) fn measure(page: &mut Page) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for (form, name) in FORMS {
        for crowd in CROWDS {
            let said = in_a_process(form, crowd)?;
            let (span, bytes) = said.trim().split_once(' ').ok_or("not what a child says")?;
            rows.push([name.into(), crowd.to_string(), span.into(), bytes.into()]);
        }
    }
    page.section(
        "Many operations at once",
        "Each takes 1 s at the other end, behind all that the session client puts around a call. The\n\
         bytes are the growth of the resident size, its highest point, for each operation.",
    );
    page.table(
        ["form", "operations", "all done after, s", "bytes each"],
        &rows,
    );
    Ok(())
}

fn in_a_process(form: &str, crowd: usize) -> Result<String, Failure> {
    let output = Command::new(std::env::current_exe()?)
        .args(["crowd", form, &crowd.to_string()])
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

pub(crate) fn child(form: &str, crowd: &str) -> Result<(), Failure> {
    let crowd: usize = crowd.parse()?;
    let run = match form {
        "gather" => gathered,
        "tasks" => in_tasks,
        "threads" => in_threads,
        _ => return Err("no such form".into()),
    };
    // What is there once for all is made before.
    run(1, Duration::ZERO)?;
    let before = mark_kib()?;
    let begun = Instant::now();
    run(crowd, Duration::from_secs(1))?;
    let span = begun.elapsed();
    let each = (peak_kib()? - before) * 1024 / crowd as u64;
    println!("{:.2} {each}", span.as_secs_f64());
    Ok(())
}

fn client(answer: Duration) -> Result<SessionClient<Slow>, Failure> {
    Ok(SessionClient::builder(Slow(answer)).build()?)
}

fn gathered(crowd: usize, answer: Duration) -> Result<(), Failure> {
    let client = client(answer)?;
    let id = SessionId::new("s");
    runtime()?.block_on(async {
        let calls = (0..crowd).map(|_| async { client.status(&id).await });
        let done = gather(calls).limit(crowd).await.flatten();
        done.into_result()?;
        Ok(())
    })
}

fn in_tasks(crowd: usize, answer: Duration) -> Result<(), Failure> {
    let client = client(answer)?;
    runtime()?.block_on(async {
        let calls = (0..crowd).map(|_| {
            let client = client.clone();
            async move { client.status(&SessionId::new("s")).await }
        });
        let calls: Vec<_> = calls.map(tokio::spawn).collect();
        for call in calls {
            call.await??;
        }
        Ok(())
    })
}

fn in_threads(crowd: usize, answer: Duration) -> Result<(), Failure> {
    let client = client(answer)?;
    let client = &blocking::SessionClient::new(client);
    thread::scope(|scope| {
        let threads = (0..crowd).map(|_| {
            thread::Builder::new().spawn_scoped(scope, || client.status(&SessionId::new("s")))
        });
        let threads = threads.collect::<Result<Vec<_>, _>>()?;
        for thread in threads {
            thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok(())
    })
}
