//! A redis-server of the test's own: started, killed, restarted, stopped, slowed down.

#![allow(dead_code, reason = "each binary uses a part of it")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const BINARY: &str = "redis-server";
const MISSING: &str = "redis-server is missing: install it (Debian: `apt-get install \
                       redis-server`; scripts/test does)";

/// How long a server may take to be there, on a machine that is busy.
const START: Duration = Duration::from_secs(20);

/// A server on a free port, with data in a directory of its own. Killed when this is dropped,
/// also by a panic, also while it is stopped.
pub(crate) struct RedisServer {
    port: u16,
    /// It never listens. As long as it has the port, the system gives it to nobody else, before
    /// the server is there and while it is not.
    held: tokio::net::TcpSocket,
    directory: PathBuf,
    arguments: Vec<String>,
    child: Option<Child>,
    /// Kills it when this process has gone without a word, as by SIGKILL.
    watchdog: Option<Child>,
}

impl RedisServer {
    /// Starts one that keeps nothing on disk.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one that has written each command to disk before it answers: a kill loses
    /// nothing that was answered.
    #[track_caller]
    pub(crate) fn start_durable() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Starts one with more arguments.
    #[track_caller]
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        // Another process may take the port between the look and the start.
        for _ in 0..20 {
            let held = held_port();
            let mut server = Self {
                port: held.local_addr().unwrap().port(),
                held,
                directory: fresh_directory(),
                arguments: arguments.iter().map(ToString::to_string).collect(),
                child: None,
                watchdog: None,
            };
            if server.spawn() {
                return server;
            }
        }
        panic!("redis-server does not start");
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        // First, while the number is still the server's.
        if let Some(mut watchdog) = self.watchdog.take() {
            let _gone = watchdog.kill();
            let _status = watchdog.wait();
        }
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _status = child.wait();
        }
    }

    /// Starts it again on the same port, with the same data.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        self.kill();
        for _ in 0..50 {
            if self.spawn() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("redis-server does not start again on port {}", self.port);
    }

    /// SIGSTOP: it takes connections, by the kernel, and answers nothing.
    #[track_caller]
    pub(crate) fn stop(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    #[track_caller]
    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    /// Answers nothing for so long: `DEBUG SLEEP`, sent on a connection of its own.
    pub(crate) fn sleep(&self, span: Duration) {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        let line = format!("DEBUG SLEEP {}\r\n", span.as_secs_f64());
        stream.write_all(line.as_bytes()).unwrap();
        // The server reads it before it sleeps; nobody waits for the answer.
        std::thread::sleep(Duration::from_millis(30));
    }

    /// Sends one line and yields what is answered at once: a look past every client.
    #[track_caller]
    pub(crate) fn ask(&self, line: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream.write_all(format!("{line}\r\n").as_bytes()).unwrap();
        let mut answer = [0; 4096];
        let len = stream.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..len]).trim().to_owned()
    }

    fn spawn(&mut self) -> bool {
        let child = Command::new(BINARY)
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--enable-debug-command", "yes"])
            .arg("--dir")
            .arg(&self.directory)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect(MISSING);
        self.watchdog = Some(self.watched(child.id()));
        self.child = Some(child);
        self.is_there()
    }

    /// It waits for the end of a pipe that only this process holds.
    fn watched(&self, server: u32) -> Child {
        Command::new("sh")
            .args(["-c", "read -r _; kill -9 \"$0\"; rm -rf \"$1\""])
            .arg(server.to_string())
            .arg(&self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell")
    }

    fn is_there(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < START {
            let child = self.child.as_mut().expect("it was spawned");
            if child.try_wait().unwrap().is_some() {
                self.kill();
                return false;
            }
            // One that asks for a password is there too.
            if self.answers() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("redis-server does not answer within {START:?}");
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) else {
            return false;
        };
        let mut answer = [0; 16];
        let limit = Some(Duration::from_secs(5));
        stream.set_read_timeout(limit).is_ok()
            && stream.write_all(b"PING\r\n").is_ok()
            && stream.read(&mut answer).is_ok_and(|len| {
                let answer = &answer[..len];
                answer.starts_with(b"+PONG") || answer.starts_with(b"-NOAUTH")
            })
    }

    #[track_caller]
    fn signal(&self, name: &str) {
        let child = self.child.as_ref().expect("it runs");
        let status = Command::new("kill")
            .args([&format!("-{name}"), &child.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        let _gone = std::fs::remove_dir_all(&self.directory);
    }
}

fn fresh_directory() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "mainstay-redis-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    let directory = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

/// A port of this machine's that is given to nobody who asks for any; a listener that names it
/// may share it.
pub(crate) fn held_port() -> tokio::net::TcpSocket {
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.set_reuseaddr(true).unwrap();
    held.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    held
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// What a [`Proxy`] does to what passes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Each piece of an answer is kept for so long.
    pub(crate) delay: Duration,
    /// Answers are thrown away, and the connection is closed when one comes.
    pub(crate) lose_answers: bool,
    /// Answers are kept back for ever; the connection stays open.
    pub(crate) swallow_answers: bool,
}

/// A TCP proxy in front of a server, whose faults can be changed at any time. It ends with
/// the value.
pub(crate) struct Proxy {
    port: u16,
    faults: Arc<Mutex<Faults>>,
    accepted: Arc<AtomicU64>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Proxy {
    pub(crate) fn to(server: &RedisServer) -> Self {
        let target = server.port();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .block_on_here(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .unwrap();
        let port = listener.local_addr().unwrap().port();
        let (faults, accepted) = (Arc::default(), Arc::default());
        let proxy = Self {
            port,
            faults: Arc::clone(&faults),
            accepted: Arc::clone(&accepted),
            runtime: Some(runtime),
        };
        proxy.runtime.as_ref().unwrap().spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(pass(near, target, Arc::clone(&faults)));
            }
        });
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// From now on, for connections that are there too.
    pub(crate) fn set(&self, faults: Faults) {
        *self.faults.lock().unwrap() = faults;
    }

    /// How many connections were made to it.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// `block_on` panics inside of a runtime, where tests are.
trait BlockOnHere {
    fn block_on_here<F>(&self, future: F) -> F::Output
    where
        F: Future + Send,
        F::Output: Send;
}

impl BlockOnHere for tokio::runtime::Runtime {
    fn block_on_here<F>(&self, future: F) -> F::Output
    where
        F: Future + Send,
        F::Output: Send,
    {
        std::thread::scope(|scope| scope.spawn(|| self.block_on(future)).join().unwrap())
    }
}

async fn pass(near: tokio::net::TcpStream, target: u16, faults: Arc<Mutex<Faults>>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let Ok(far) = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else {
        return;
    };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let there = async {
        let _ended = tokio::io::copy(&mut near_in, &mut far_out).await;
    };
    let back = async {
        let mut piece = vec![0; 16 * 1024];
        while let Ok(len) = far_in.read(&mut piece).await {
            let now = *faults.lock().unwrap();
            if len == 0 || now.lose_answers {
                return;
            }
            if now.swallow_answers {
                continue;
            }
            tokio::time::sleep(now.delay).await;
            if near_out.write_all(&piece[..len]).await.is_err() {
                return;
            }
        }
    };
    // Whichever ends first closes both.
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}
