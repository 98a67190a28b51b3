//! A cache in Redis that goes away in the middle: what the program notices of it.
//!
//! With `REDIS_URL` set it uses that server, and kills nothing. Else it starts a redis-server
//! of its own, kills it, and starts it again.

use std::error::Error;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mainstay::redis::{RedisClient, Source, may_have_acted};

/// A server on a free port; killed when this is dropped.
struct Server {
    port: u16,
    child: Child,
}

impl Server {
    fn start(port: u16) -> std::io::Result<Self> {
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--dir", "/tmp"])
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { port, child })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

fn free_port() -> std::io::Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.port())
}

async fn greet(redis: &RedisClient) {
    let begun = Instant::now();
    let greeting = redis.get_or("greeting", "hello (default)".to_owned()).await;
    let source = match greeting.source {
        Source::Real => "from Redis".to_owned(),
        Source::Missing => "not in Redis".to_owned(),
        Source::Fallback(error) => format!("Redis: {error}"),
        _ => "elsewhere".to_owned(),
    };
    println!(
        "  {:?}, {source}, after {:.0?}",
        greeting.value,
        begun.elapsed()
    );
}

async fn there(redis: &RedisClient) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    while redis.is_away() || redis.exists("greeting").await.is_err() {
        if begun.elapsed() > Duration::from_secs(10) {
            return Err("the server does not come back".into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("  there after {:.0?}", begun.elapsed());
    Ok(())
}

async fn outage(redis: &RedisClient, server: Server) -> Result<Server, Box<dyn Error>> {
    let port = server.port;
    println!("the server is killed:");
    drop(server);
    if let Err(error) = redis.increment("visits", 1).await {
        let counted = if may_have_acted(&error) {
            "perhaps"
        } else {
            "no"
        };
        println!("  a visit is counted: {counted} ({error})");
    }
    for _ in 0..5 {
        greet(redis).await;
    }
    println!("  thought to be away: {}", redis.is_away());

    println!("the server is started again:");
    let server = Server::start(port)?;
    there(redis).await?;
    Ok(server)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let given = std::env::var("REDIS_URL").ok();
    let server = if given.is_some() {
        None
    } else {
        let Ok(server) = Server::start(free_port()?) else {
            println!("there is no redis-server here, and REDIS_URL is not set: nothing to show");
            return Ok(());
        };
        Some(server)
    };
    let port = server.as_ref().map_or(0, |server| server.port);
    let url = given.unwrap_or_else(|| format!("redis://127.0.0.1:{port}"));
    let redis = RedisClient::builder(url)
        .limits(Duration::from_millis(500))
        .probe_every(Duration::from_millis(100))
        .build()?;

    println!("the server is there:");
    there(&redis).await?;
    redis
        .set_for("greeting", "good morning", Duration::from_secs(60))
        .await?;
    greet(&redis).await;
    println!("  visits: {}", redis.increment("visits", 1).await?);

    let server = match server {
        Some(server) => Some(outage(&redis, server).await?),
        None => None,
    };
    redis
        .set_for("greeting", "good evening", Duration::from_secs(60))
        .await?;
    greet(&redis).await;

    let stats = redis.stats();
    println!(
        "{} calls: {} answered, {} failed, {} timed out, {} refused; {} retries, {} connections",
        stats.calls,
        stats.succeeded,
        stats.failed,
        stats.timed_out,
        stats.refused,
        stats.retries,
        stats.connected
    );
    drop(server);
    Ok(())
}
