//! Commands, scripts and batches.

use mainstay::redis::RedisClient;

use crate::redis_server::RedisServer;

#[tokio::test]
async fn a_script_is_run_also_where_the_server_does_not_know_it_yet() {
    let server = RedisServer::start();
    let client = RedisClient::builder(server.url()).build().unwrap();
    let script = ::redis::Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    for n in 1..=3 {
        let value = client.script(&script, &["n"], &[5]).await.unwrap();
        assert_eq!(value, ::redis::Value::Int(5 * n));
    }
    assert!(!client.is_away());
    assert_eq!(client.stats().succeeded, 3);
}
