//! Many keys, one deadline.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt};
use mainstay::redis::{RedisClient, may_have_acted};

use crate::client;
use crate::redis_server::{Faults, Proxy, RedisServer};

const KEYS: usize = 100_000;

async fn filled(server: &RedisServer) -> RedisClient {
    let client = RedisClient::builder(server.url())
        .limits(4 * crate::BOUND)
        .build()
        .unwrap();
    for part in 0..10 {
        let mut batch = ::redis::pipe();
        for key in 0..KEYS / 10 {
            batch.set(format!("key:{part}:{key}"), key).ignore();
        }
        client.batch(batch).fetch::<()>().await.unwrap();
    }
    client
}

#[tokio::test]
async fn a_scan_finds_every_key_within_its_limit() {
    let server = RedisServer::start();
    let client = filled(&server).await;
    client.set("other", 1).await.unwrap();
    let scan = client.scan("key:*").within(4 * crate::BOUND);
    let found: HashSet<Vec<u8>> = scan.try_collect().await.unwrap();
    assert_eq!(found.len(), KEYS);
    let found: Vec<Vec<u8>> = client
        .scan("oth?r")
        .page(0)
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
    assert_eq!(found, [b"other".to_vec()]);
}

#[tokio::test]
async fn a_scan_is_cut_off_by_one_deadline_for_all_of_its_pages() {
    let server = RedisServer::start();
    drop(filled(&server).await);
    let proxy = Proxy::to(&server);
    proxy.set(Faults {
        delay: Duration::from_millis(30),
        ..Faults::default()
    });
    let client = client(&proxy.url());
    client.ping().await.unwrap();
    let limit = Duration::from_millis(400);
    let begun = Instant::now();
    let mut scan = client.scan("*").within(limit);
    let mut keys = 0;
    let error = loop {
        match scan.next().await {
            Some(Ok(_)) => keys += 1,
            Some(Err(error)) => break error,
            None => panic!("100 pages of 30 ms in {:?}", begun.elapsed()),
        }
    };
    assert!(begun.elapsed() >= limit);
    assert!(begun.elapsed() < limit * 5, "{:?}", begun.elapsed());
    assert!(keys >= 1000, "several pages came: {keys}");
    assert!(
        matches!(&error, mainstay::Error::TimedOut { after, .. } if *after == limit),
        "{error}"
    );
    assert!(scan.next().await.is_none());
}

#[tokio::test]
async fn a_reader_that_is_slow_uses_up_the_same_deadline() {
    let server = RedisServer::start();
    let client = filled(&server).await;
    let mut scan = client.scan("*").within(Duration::from_millis(200));
    let _first = scan.next().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(250)).await;
    let error = loop {
        match scan.next().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("the first page was not all"),
        }
    };
    assert!(error.is_timed_out() && !may_have_acted(&error));
}

#[tokio::test]
async fn a_batch_has_one_time_limit_however_many_commands_it_holds() {
    let server = RedisServer::start();
    let client = RedisClient::builder(server.url())
        .limits(Duration::from_millis(300))
        .build()
        .unwrap();
    client.ping().await.unwrap();
    server.sleep(Duration::from_millis(2500));
    let mut batch = ::redis::pipe();
    (0..1000).for_each(|n| {
        batch.incr("n", n).ignore();
    });
    let begun = Instant::now();
    let error = client.batch(batch).fetch::<()>().await.unwrap_err();
    assert!(error.is_timed_out() && may_have_acted(&error), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(2));
}
