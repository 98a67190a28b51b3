//! Files, piece by piece.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use mainstay::session::{
    AgentBay, Effect, FileRange, SessionErrorKind as Kind, SessionId, SessionProvider, WriteMode,
};
use serde_json::json;

use crate::agentbay_peer::{Act, Asked, Peer, refused, reply, said, soon};

const READ: usize = 50 * 1024;
const WRITE: usize = 51 * 1024;

fn id() -> SessionId {
    SessionId::new("s-1")
}

type File = Arc<Mutex<Vec<u8>>>;

/// What a server with one file does.
fn on_file(file: &File, asked: &Asked) -> Act {
    let args = asked.args();
    let mut file = file.lock().unwrap();
    match asked.field("Name").as_str() {
        "get_file_info" => said(
            format!("size: {}\nisDirectory: false\nisFile: true", file.len()),
            false,
        ),
        "read_file" => {
            assert_eq!(args["format"], "binary");
            let number = |name: &str| usize::try_from(args[name].as_u64().unwrap()).unwrap();
            let (from, length) = (number("offset"), number("length"));
            assert!(length <= READ);
            let end = file.len().min(from + length);
            said(
                base64::engine::general_purpose::STANDARD.encode(&file[from..end]),
                false,
            )
        }
        "write_file" => {
            let content = args["content"].as_str().unwrap();
            assert!(content.len() <= WRITE);
            if args["mode"] == "overwrite" {
                file.clear();
            }
            file.extend_from_slice(content.as_bytes());
            said("ok", false)
        }
        name => panic!("{name}"),
    }
}

async fn with_file(content: &[u8]) -> (Peer, AgentBay, File) {
    let file: File = Arc::new(Mutex::new(content.to_vec()));
    let its = file.clone();
    let peer = Peer::start(move |asked| on_file(&its, asked)).await;
    let provider = peer.provider();
    (peer, provider, file)
}

#[tokio::test]
async fn a_file_of_any_bytes_is_read_in_pieces() {
    let content: Vec<u8> = (0..3 * READ + 17)
        .map(|n| u8::try_from(n * 31 % 251).unwrap())
        .collect();
    let (peer, provider, _) = with_file(&content).await;
    let read = soon(provider.read_file(&id(), "/f", FileRange::whole()))
        .await
        .unwrap();
    assert!(read == content);
    let asked: Vec<_> = peer.asked().iter().map(Asked::args).collect();
    assert_eq!(asked.len(), 5);
    assert_eq!(asked[0], json!({"path": "/f"}));
    let last = json!({"path": "/f", "offset": 3 * READ, "length": 17, "format": "binary"});
    assert_eq!(asked[4], last);
    assert_eq!(peer.accepted(), 1);
}

#[tokio::test]
async fn a_range_is_read_and_no_more() {
    let content: Vec<u8> = (0..2 * READ)
        .map(|n| u8::try_from(n % 256).unwrap())
        .collect();
    let (peer, provider, _) = with_file(&content).await;
    for (offset, length) in [
        (0, 0),
        (5, 3),
        (READ - 1, 2),
        (2 * READ - 1, 9),
        (3 * READ, 1),
    ] {
        let range = FileRange::new(offset as u64, length as u64);
        let read = soon(provider.read_file(&id(), "/f", range)).await.unwrap();
        let end = content.len().min(offset + length);
        assert_eq!(read, content.get(offset..end).unwrap_or_default());
    }
    // Empty ranges ask for the facts alone.
    assert_eq!(peer.asked().len(), 5 + 3);
}

#[tokio::test]
async fn a_file_is_written_in_pieces_first_as_told_and_then_behind() {
    // Each length of a character across each border.
    for letter in ["a", "\u{e9}", "\u{20ac}", "\u{1f600}"] {
        for shift in 0..4 {
            let content = format!(
                "{}{}",
                "x".repeat(shift),
                letter.repeat(2 * WRITE / letter.len() + 9)
            );
            let (peer, provider, file) = with_file(b"old").await;
            let id = id();
            let written = provider.write_file(&id, "/f", content.as_bytes(), WriteMode::Overwrite);
            let written = soon(written).await.unwrap();
            assert_eq!(written.bytes, content.len() as u64);
            assert_eq!(written.request_id, "R-1");
            assert!(*file.lock().unwrap() == content.as_bytes());
            let modes: Vec<_> = peer
                .asked()
                .iter()
                .map(|asked| asked.args()["mode"].clone())
                .collect();
            assert_eq!(modes, ["overwrite", "append", "append"]);
        }
    }
}

#[tokio::test]
async fn what_is_appended_is_appended_from_the_first_piece() {
    let (peer, provider, file) = with_file(b"old").await;
    soon(provider.write_file(&id(), "/f", b" new", WriteMode::Append))
        .await
        .unwrap();
    assert_eq!(*file.lock().unwrap(), b"old new");
    // An empty file comes to be as well.
    soon(provider.write_file(&id(), "/f", b"", WriteMode::Overwrite))
        .await
        .unwrap();
    assert_eq!(*file.lock().unwrap(), b"");
    assert_eq!(peer.asked().len(), 2);
}

#[tokio::test]
async fn bytes_that_are_no_text_are_not_written() {
    let (peer, provider, file) = with_file(b"old").await;
    let id = id();
    let write = provider.write_file(&id, "/f", b"a\xff", WriteMode::Overwrite);
    let error = soon(write).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (Kind::Unsupported, Effect::None)
    );
    assert_eq!(*file.lock().unwrap(), b"old");
    assert_eq!(peer.accepted(), 0);
}

/// What writing four pieces fails with where the piece of this number fails so.
async fn fails_at(piece: usize, act: Act) -> (Effect, usize) {
    let (file, count) = (File::default(), Mutex::new(0));
    let peer = Peer::start(move |asked| {
        let mut count = count.lock().unwrap();
        *count += 1;
        if *count == piece + 1 {
            act.clone()
        } else {
            on_file(&file, asked)
        }
    })
    .await;
    let content = "x".repeat(3 * WRITE + 1);
    let provider = peer.provider();
    let id = id();
    let write = provider.write_file(&id, "/f", content.as_bytes(), WriteMode::Overwrite);
    let error = soon(write).await.unwrap_err();
    (error.effect(), peer.asked().len())
}

#[tokio::test]
async fn a_half_written_file_is_called_partial_and_not_written_again() {
    let lost = || Act::SayAndClose(Vec::new());
    let busy = || refused(429, "Throttling", "m");
    assert_eq!(fails_at(0, busy()).await, (Effect::None, 1));
    assert_eq!(fails_at(0, lost()).await, (Effect::Unknown, 1));
    assert_eq!(
        fails_at(0, said("disk full", true)).await,
        (Effect::Unknown, 1)
    );
    for piece in 1..4 {
        assert_eq!(fails_at(piece, busy()).await, (Effect::Partial, piece + 1));
        assert_eq!(fails_at(piece, lost()).await, (Effect::Partial, piece + 1));
        let page = reply(502, &[], "<html>");
        assert_eq!(fails_at(piece, page).await, (Effect::Partial, piece + 1));
    }
}

#[tokio::test]
async fn a_file_that_shrinks_while_it_is_read_ends_there() {
    let file: File = Arc::new(Mutex::new(vec![1; 2 * READ]));
    let its = file.clone();
    let peer = Peer::start(move |asked| {
        let act = on_file(&its, asked);
        if asked.field("Name") == "read_file" {
            its.lock().unwrap().truncate(READ);
        }
        act
    })
    .await;
    let provider = peer.provider();
    let read = soon(provider.read_file(&id(), "/f", FileRange::whole()))
        .await
        .unwrap();
    assert_eq!(read.len(), READ);
}

#[tokio::test]
async fn a_file_that_is_none_or_odd_is_an_error() {
    let info = said("size: 10\nisDirectory: false", false);
    let rows = [
        (
            vec![said("ENOENT: no such file or directory", true)],
            Kind::NotFound,
        ),
        (
            vec![said("size: 4096\nisDirectory: true", false)],
            Kind::Invalid,
        ),
        (vec![said("what?", false)], Kind::Protocol),
        (
            vec![info.clone(), said("not base64!", false)],
            Kind::Protocol,
        ),
        // More than was asked for.
        (
            vec![info.clone(), said("QUFBQUFBQUFBQUFBQUFB", false)],
            Kind::Protocol,
        ),
        (vec![info, said("permission denied", true)], Kind::Tool),
    ];
    for (acts, kind) in rows {
        let peer = Peer::in_turn(acts).await;
        let provider = peer.provider();
        let error = soon(provider.read_file(&id(), "/f", FileRange::whole()))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[tokio::test]
async fn a_file_that_is_too_large_is_not_read_into_memory() {
    let (peer, _, _) = with_file(&[7; 1000]).await;
    let provider = peer.builder().max_file(100).build().unwrap();
    let error = soon(provider.read_file(&id(), "/f", FileRange::whole()))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (Kind::Invalid, Effect::None)
    );
    assert_eq!(peer.asked().len(), 1);
    let read = soon(provider.read_file(&id(), "/f", FileRange::new(900, 500)))
        .await
        .unwrap();
    assert_eq!(read.len(), 100);
}
