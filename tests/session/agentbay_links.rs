//! Calls by a session's direct link.

use mainstay::session::{
    AgentBay, CreateSession, Effect, SessionErrorKind as Kind, SessionId, SessionProvider,
};
use serde_json::{Value, json};

use crate::agentbay_peer::{Act, Peer, gone, good, nobody, reply, said, soon};

const TOKEN: &str = "tok-SECRET/1";

/// A service whose sessions have a direct link there, and which itself says `service`.
async fn service(link: String) -> Peer {
    Peer::start(move |asked| match asked.action().as_str() {
        "CallMcpTool" => said("service", false),
        _ => good(json!({
            "SessionId": "s-1", "LinkUrl": format!("{link}/l/"), "Token": TOKEN,
            "ToolList": json!([{"name": "shell", "server": "wuying_shell"}]).to_string(),
        })),
    })
    .await
}

fn answer(text: &str) -> Act {
    let data = json!({"result": {"isError": false, "content": [{"type": "text", "text": text}]}});
    reply(200, &[], &json!({"data": data.to_string()}).to_string())
}

async fn made(service: &Peer) -> (AgentBay, SessionId) {
    let provider = service.provider();
    let info = provider.create(&CreateSession::new()).await.unwrap();
    (provider, info.id)
}

async fn run(
    provider: &AgentBay,
    id: &SessionId,
) -> Result<String, mainstay::session::SessionError> {
    let result = soon(provider.run(id, &"ls".into())).await?;
    Ok(result.stdout_text().into_owned())
}

#[tokio::test]
async fn a_tool_whose_server_is_known_is_called_directly() {
    let link = Peer::always(answer("direct")).await;
    let service = service(link.url()).await;
    let (provider, id) = made(&service).await;
    let result = soon(provider.run(&id, &"ls".into())).await.unwrap();
    assert_eq!(result.stdout_text(), "direct");
    assert_eq!(service.actions(), ["CreateMcpSession"]);

    let asked = &link.asked()[0];
    assert_eq!(asked.target, "/l/callTool");
    assert_eq!(asked.headers["x-access-token"], TOKEN);
    assert_eq!(asked.headers["content-type"], "application/json");
    let body: Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!(body["tool"], "shell");
    assert_eq!(body["server"], "wuying_shell");
    assert_eq!(body["token"], TOKEN);
    assert_eq!(body["args"], json!({"command": "ls", "timeout_ms": 50_000}));
    assert_eq!(body["requestId"], result.request_id);
    let parts: Vec<&str> = result.request_id.split('-').collect();
    assert_eq!((parts[0], parts[2].len()), ("link", 9));
    assert!(
        !asked.body.contains("akm-"),
        "the key has no business there"
    );
}

#[tokio::test]
async fn a_tool_whose_server_is_not_known_is_called_by_the_service() {
    let link = Peer::always(answer("direct")).await;
    let service = service(link.url()).await;
    let (provider, id) = made(&service).await;
    let entries = soon(provider.list_directory(&id, "/")).await.unwrap();
    assert!(entries.is_empty());
    assert_eq!((link.accepted(), service.actions().len()), (0, 2));
}

#[tokio::test]
async fn the_link_is_learnt_by_get_as_well() {
    let link = Peer::always(answer("direct")).await;
    let service = service(link.url()).await;
    let provider = service.provider();
    let id = SessionId::new("s-1");
    assert_eq!(run(&provider, &id).await.unwrap(), "service");
    provider.get(&id).await.unwrap();
    assert_eq!(run(&provider, &id).await.unwrap(), "direct");
    assert_eq!(service.asked()[0].field("Server"), "");
}

#[tokio::test]
async fn the_link_is_forgotten_with_its_session() {
    let link = Peer::always(answer("direct")).await;
    let url = link.url();
    let service = Peer::start(move |asked| match asked.action().as_str() {
        "CallMcpTool" => said("service", false),
        "DeleteSessionAsync" => gone(),
        _ => good(json!({
            "SessionId": "s-1", "LinkUrl": url, "Token": TOKEN,
            "ToolList": [{"name": "shell", "server": "s"}],
        })),
    })
    .await;
    let (provider, id) = made(&service).await;
    assert_eq!(run(&provider, &id).await.unwrap(), "direct");
    provider.delete(&id).await.unwrap();
    assert_eq!(run(&provider, &id).await.unwrap(), "service");
}

#[tokio::test]
async fn a_link_that_is_not_reached_gives_way_to_the_service_and_is_forgotten() {
    let service = service(nobody().await).await;
    let (provider, id) = made(&service).await;
    for _ in 0..2 {
        assert_eq!(run(&provider, &id).await.unwrap(), "service");
    }
    // The server is known all the same.
    assert_eq!(service.asked()[1].field("Server"), "wuying_shell");
    assert_eq!(service.actions().len(), 3);
}

#[tokio::test]
async fn what_was_sent_by_a_link_is_not_sent_again_by_the_service() {
    for act in [
        Act::SayAndClose(Vec::new()),
        Act::SayAndClose(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec()),
        reply(502, &[], "<html>"),
        reply(200, &[], "<html>"),
        reply(302, &[("location", "http://127.0.0.1:1")], ""),
    ] {
        let link = Peer::always(act).await;
        let service = service(link.url()).await;
        let (provider, id) = made(&service).await;
        let error = run(&provider, &id).await.unwrap_err();
        assert_eq!(error.effect(), Effect::Unknown);
        assert!(error.request_id().unwrap().starts_with("link-"), "{error}");
        assert_eq!((link.asked().len(), service.actions().len()), (1, 1));
    }
}

#[tokio::test]
async fn a_link_that_lets_nobody_in_any_more_is_forgotten() {
    for (status, kind, effect) in [
        (401, Kind::Denied, Effect::None),
        (404, Kind::Protocol, Effect::Unknown),
    ] {
        let link = Peer::always(reply(status, &[], TOKEN)).await;
        let service = service(link.url()).await;
        let (provider, id) = made(&service).await;
        let error = run(&provider, &id).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (kind, effect));
        assert_eq!(run(&provider, &id).await.unwrap(), "service");
        assert_eq!(link.asked().len(), 1);
    }
}

#[tokio::test]
async fn a_link_has_a_time_limit_of_its_own() {
    let ms = std::time::Duration::from_millis;
    let link = Peer::always(Act::After(ms(3500), Box::new(answer("late")))).await;
    let service = service(link.url()).await;
    // Longer than a request of the service's may take.
    let provider = service.builder().request_limit(ms(3000)).build().unwrap();
    let id = provider.create(&CreateSession::new()).await.unwrap().id;
    assert_eq!(run(&provider, &id).await.unwrap(), "late");
    let provider = service.builder().direct_limit(ms(100)).build().unwrap();
    let id = provider.create(&CreateSession::new()).await.unwrap().id;
    let error = run(&provider, &id).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (Kind::Connection, Effect::Unknown)
    );
}

#[tokio::test]
async fn a_token_is_not_sent_in_the_clear_to_another_machine() {
    let service = service("http://203.0.113.1".to_owned()).await;
    let (provider, id) = made(&service).await;
    assert_eq!(run(&provider, &id).await.unwrap(), "service");
}

#[tokio::test]
async fn links_are_kept_for_so_many_sessions_at_most() {
    let link = Peer::always(answer("direct")).await;
    let service = service(link.url()).await;
    let provider = service.builder().max_known(2).build().unwrap();
    let ids: Vec<SessionId> = (0..3).map(|n| SessionId::new(format!("s-{n}"))).collect();
    for id in &ids {
        provider.get(id).await.unwrap();
    }
    let mut ways = Vec::new();
    for id in &ids {
        ways.push(run(&provider, id).await.unwrap());
    }
    assert_eq!(ways, ["service", "direct", "direct"]);
}
