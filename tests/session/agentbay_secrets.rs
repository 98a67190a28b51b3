//! The key and the tokens show nowhere.

use std::error::Error;
use std::fmt::{Debug, Display};
use std::time::Duration;

use mainstay::session::{
    AgentBay, CreateSession, FileRange, ListSessions, SessionError, SessionId, SessionProvider,
    WriteMode,
};
use serde_json::json;

use crate::agentbay_peer::{Act, KEY, Peer, good, nobody, reply, said, soon};

const TOKEN: &str = "tok-SECRET/1";

/// The key, the token, and both as they stand in a form.
const SECRETS: [&str; 6] = [
    KEY,
    "akm-0f%2FSECRET%2Bkey",
    TOKEN,
    "tok-SECRET%2F1",
    "SECRET+key",
    "SECRET",
];

fn shows_none(text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{text}");
    }
}

fn shown(value: &(impl Debug + ?Sized)) {
    shows_none(&format!("{value:?}"));
    shows_none(&format!("{value:#?}"));
}

fn all_of(error: &SessionError) {
    fn one(error: &(impl Debug + Display + ?Sized)) {
        shows_none(&error.to_string());
        shown(error);
    }
    one(error);
    let mut source = error.source();
    while let Some(error) = source {
        one(error);
        source = error.source();
    }
}

/// Everything that can fail, at this provider.
async fn errors(provider: &AgentBay) -> Vec<SessionError> {
    let id = SessionId::new("s-1");
    let mut errors = Vec::new();
    macro_rules! add {
        ($($call:expr),* $(,)?) => { $(errors.extend(soon($call).await.err());)* };
    }
    add!(
        provider.create(&CreateSession::new()),
        provider.get(&id),
        provider.status(&id),
        provider.list(&ListSessions::all()),
        provider.run(&id, &"ls".into()),
        provider.run_code(&id, &mainstay::session::Code::python("1")),
        provider.read_file(&id, "/f", FileRange::whole()),
        provider.write_file(&id, "/f", b"x", WriteMode::Overwrite),
        provider.list_directory(&id, "/"),
        provider.labels(&id),
        provider.set_labels(&id, &mainstay::session::Labels::new()),
        provider.delete(&id),
        provider.pause(&id),
        provider.get_link(&id, None, None),
        provider.sync_context(&id, None),
        provider.tools(&id),
    );
    errors
}

/// Servers that repeat the key wherever they can.
fn indiscreet() -> Vec<Act> {
    let both = format!("{KEY} {TOKEN} akm-0f%2FSECRET%2Bkey");
    let body = json!({"RequestId": both, "Code": both, "Message": both}).to_string();
    let polite = json!({"RequestId": both, "Success": false, "Code": both, "Message": both});
    vec![
        reply(400, &[("x-echo", &both)], &body),
        reply(500, &[], &body),
        reply(429, &[], &body),
        reply(200, &[], &polite.to_string()),
        reply(502, &[], &format!("<html>{both}</html>")),
        reply(200, &[], &both),
        said(&both, true),
        good(
            json!({"Success": false, "ErrMsg": both, "content": [{"text": both}], "isError": true}),
        ),
        Act::SayAndClose(format!("{both}\r\n\r\n").into_bytes()),
        Act::SayAndClose(Vec::new()),
        Act::SayAndClose(
            format!("HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{both}").into_bytes(),
        ),
        reply(
            302,
            &[("location", &format!("http://localhost/?k={KEY}"))],
            "",
        ),
        reply(
            200,
            &[],
            &json!({"data": {"result": {"isError": true, "content": [{"text": both}]}}})
                .to_string(),
        ),
        Act::Hang,
    ]
}

#[tokio::test]
async fn neither_shows_in_any_error_whatever_the_server_says() {
    let mut seen = 0;
    for act in indiscreet() {
        // The key alone is known here, so the token would be the server's own words.
        let act = without_token(act);
        let peer = Peer::always(act).await;
        let ms = Duration::from_millis;
        let provider = peer
            .builder()
            .request_limit(ms(50))
            .delete_poll(ms(20), ms(5))
            .pause_poll(ms(20), ms(5))
            .build()
            .unwrap();
        for error in errors(&provider).await {
            all_of(&error);
            seen += 1;
        }
        shown(&provider);
    }
    let provider = AgentBay::builder()
        .api_key(KEY)
        .endpoint(nobody().await)
        .build()
        .unwrap();
    for error in errors(&provider).await {
        all_of(&error);
        seen += 1;
    }
    assert!(seen > 150, "{seen}");
}

fn without_token(act: Act) -> Act {
    let clean = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap();
        text.replace(TOKEN, "x".repeat(TOKEN.len()).as_str())
            .into_bytes()
    };
    match act {
        Act::Say(bytes) => Act::Say(clean(bytes)),
        Act::SayAndClose(bytes) => Act::SayAndClose(clean(bytes)),
        act => act,
    }
}

#[tokio::test]
async fn neither_shows_in_any_error_of_a_direct_link() {
    for act in indiscreet() {
        let link = Peer::always(act).await;
        let url = link.url();
        let service = Peer::start(move |_| {
            good(json!({
                "SessionId": "s-1", "LinkUrl": url, "Token": TOKEN,
                "ToolList": json!([{"name": "shell", "server": "s"}]).to_string(),
            }))
        })
        .await;
        let limit = Duration::from_secs(4);
        let provider = service.builder().direct_limit(limit).build().unwrap();
        let info = provider.create(&CreateSession::new()).await.unwrap();
        shown(&info);
        shown(&provider);
        let error = soon(provider.run(&info.id, &"ls".into())).await;
        all_of(&error.unwrap_err());
        assert_eq!(link.asked().len(), 1);
    }
}

/// What is too long is cut, and may be cut inside of the key.
#[tokio::test]
async fn no_part_of_the_key_shows_where_a_text_was_cut() {
    for shift in 0..=KEY.len() {
        let text = format!("{}{KEY} and more", "x".repeat(1024 - shift));
        let body = json!({"RequestId": "R", "Code": "Odd", "Message": text}).to_string();
        let peer = Peer::always(reply(400, &[], &body)).await;
        let id = SessionId::new("s-1");
        let error = soon(peer.provider().labels(&id)).await.unwrap_err();
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(!shown.contains("akm-"), "{shift}: {shown}");
        }
    }
}

/// Who has such an address is let in.
#[tokio::test]
async fn addresses_that_let_in_are_not_shown() {
    let peer = Peer::always(good(json!({
        "SessionId": "s-1", "ResourceUrl": "https://h/?authcode=SECRET", "Url": "https://h/SECRET",
    })))
    .await;
    let provider = peer.provider();
    let info = provider.create(&CreateSession::new()).await.unwrap();
    shown(&info);
    assert_eq!(
        info.resource_url.as_deref(),
        Some("https://h/?authcode=SECRET")
    );
    let link = provider.get_link(&info.id, None, None).await.unwrap();
    shown(&link);
    assert_eq!(link.url, "https://h/SECRET");
}

#[test]
fn neither_shows_in_what_is_built_or_refused() {
    for endpoint in [format!("https://{KEY}@host"), format!("https://host?{KEY}")] {
        let builder = AgentBay::builder().api_key(KEY).endpoint(endpoint);
        shown(&builder);
        let error = builder.build().unwrap_err();
        shown(&error);
        shows_none(&error.to_string());
    }
    let error = AgentBay::builder()
        .api_key(format!("{KEY} "))
        .build()
        .unwrap_err();
    shown(&error);
    shows_none(&error.to_string());
}

/// Collects all that is told by `tracing`.
#[cfg(feature = "tracing")]
mod told {
    use std::fmt::Write as _;
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    #[derive(Clone, Default)]
    pub(super) struct Told(pub(super) Arc<Mutex<String>>);

    struct Fields<'a>(&'a mut String);

    impl Visit for Fields<'_> {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            let _ = write!(self.0, "{field}={value:?} ");
        }
    }

    impl Subscriber for Told {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, span: &Attributes<'_>) -> Id {
            span.record(&mut Fields(&mut self.0.lock().unwrap()));
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, values: &Record<'_>) {
            values.record(&mut Fields(&mut self.0.lock().unwrap()));
        }
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            event.record(&mut Fields(&mut self.0.lock().unwrap()));
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }
}

#[cfg(feature = "tracing")]
#[tokio::test]
async fn neither_shows_in_what_is_traced() {
    use mainstay::{Pipeline, Retry};

    let told = told::Told::default();
    let guard = tracing::subscriber::set_default(told.clone());
    for act in indiscreet().into_iter().take(8) {
        let peer = Peer::always(without_token(act)).await;
        let provider = peer.provider();
        let pipeline = Pipeline::builder("agentbay")
            .retry(Retry::builder().max_attempts(2))
            .timeout(Duration::from_secs(5))
            .build()
            .unwrap();
        let id = SessionId::new("s-1");
        let result = pipeline.call(|| provider.labels(&id)).await;
        if let Err(error) = result {
            shows_none(&format!("{error} {error:?}"));
        }
    }
    drop(guard);
    shows_none(&told.0.lock().unwrap());
}
