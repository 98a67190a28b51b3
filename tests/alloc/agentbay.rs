//! What a hostile server can make the AgentBay provider hold at once.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use allocation_counter::measure;
use mainstay::session::{AgentBay, SessionErrorKind as Kind, SessionId, SessionProvider};

const MOST: usize = 1 << 20;

/// The address of a server that answers with this and then, again and again, with that. It has
/// a thread of its own, whose allocations are not counted.
fn server(head: Vec<u8>, then: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&head);
            while !then.is_empty() && stream.write_all(&then).is_ok() {}
            let _ = stream.read(&mut [0; 4096]);
        }
    });
    format!("http://{address}")
}

/// What a call with such a limit fails with, and the most bytes that it held at once.
fn held(most: usize, head: Vec<u8>, then: Vec<u8>) -> (Kind, u64) {
    let provider = AgentBay::builder()
        .api_key("akm")
        .endpoint(server(head, then))
        .max_reply(most)
        .build()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut kind = None;
    let counted = measure(|| {
        let error = runtime.block_on(provider.labels(&SessionId::new("s")));
        kind = Some(error.unwrap_err().kind());
    });
    (kind.unwrap(), counted.bytes_max)
}

fn reply(body: &str) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    format!("{head}{body}").into_bytes()
}

#[test]
fn a_reply_that_is_too_long_takes_little_memory() {
    let told = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n".to_vec();
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    let head = b"HTTP/1.1 200 OK\r\n".to_vec();
    let piece = format!("8000\r\n{}\r\n", "x".repeat(0x8000)).into_bytes();
    let line = b"x-pad: yyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(1000);
    for (head, then) in [
        (told, piece.clone()),
        (chunked, piece.clone()),
        (endless, piece),
        (head, line),
    ] {
        let (kind, bytes) = held(MOST, head, then);
        assert_eq!(kind, Kind::Protocol);
        assert!(bytes < 4 * MOST as u64, "{bytes}");
    }
}

/// JSON of many small values is many times larger when it has been read: so more of them than
/// 128 MiB hold are not.
#[test]
fn a_reply_of_many_small_values_takes_a_bounded_memory() {
    for unit in ["0,", "[],", "{\"\":0},", "{\"\":{}},"] {
        let many = unit.repeat((16 << 20) / unit.len() - 100);
        let body = format!("{{\"Success\":true,\"Data\":{{\"Labels\":[{many}0]}}}}");
        let (kind, bytes) = held(16 << 20, reply(&body), Vec::new());
        assert_eq!(kind, Kind::Protocol);
        assert!(bytes < 256 << 20, "{unit} {bytes}");
    }
}

/// A long output is held a few times over, while it is taken out of its wrappings.
#[test]
fn a_long_output_takes_a_few_times_its_memory() {
    let output = "x".repeat(MOST - 1000);
    let body = format!("{{\"Success\":true,\"Data\":{{\"Labels\":[\"{output}\"]}}}}");
    let (kind, bytes) = held(MOST, reply(&body), Vec::new());
    eprintln!("{kind} {} KiB", bytes >> 10);
    assert_eq!(kind, Kind::Protocol);
    assert!(bytes < 5 * MOST as u64, "{bytes}");
}
