//! The direct path to a session's tools.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest as _, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use super::server::Server;
use super::tools;
use super::wire::{Failure, Page, new_request_id};

/// `POST {LinkUrl}/callTool`.
pub(crate) async fn call_tool(
    State(server): State<Arc<Server>>,
    Path(session): Path<String>,
    request: Request,
) -> Response<Body> {
    let headers = request.headers().clone();
    let body = read(&server, request).await;
    let (request_id, body) = match body {
        Ok(body) => (own_request_id(&body), body),
        Err(failure) => {
            server.stats.call("unknown");
            return failure.page(&new_request_id()).into_response();
        }
    };
    let tool = body["tool"].as_str().and_then(tools::known);
    let names: Vec<_> = std::iter::once("callTool").chain(tool).collect();
    let shared = Arc::clone(&server);
    let id = request_id.clone();
    server
        .answer(&names, &request_id, |_| async move {
            let done = run(&shared, &session, &headers, &body).await;
            let page = |failure: Failure| failure.page(&id);
            done.map_or_else(page, |data| good(&shared, &id, &data))
        })
        .await
}

/// The caller names its request itself.
fn own_request_id(body: &Value) -> String {
    let id = body["requestId"].as_str().filter(|id| id.len() <= 64);
    id.map_or_else(new_request_id, str::to_owned)
}

async fn read(server: &Server, request: Request) -> Result<Value, Failure> {
    let bytes = Bytes::from_request(request, &());
    let bytes = tokio::time::timeout(server.config.body_time, bytes).await;
    let bytes = bytes.map_err(|_| {
        let message = "The request was not sent in time.";
        Failure::http(StatusCode::REQUEST_TIMEOUT, "RequestTimeout", message)
    })?;
    let bytes = bytes.map_err(|rejection| {
        let message = rejection.body_text();
        Failure::http(rejection.status(), "RequestEntityTooLarge", message)
    })?;
    let wrong = |_| Failure::http(StatusCode::BAD_REQUEST, "MalformedRequest", "not JSON");
    serde_json::from_slice(&bytes).map_err(wrong)
}

async fn run(
    server: &Server,
    session: &str,
    headers: &HeaderMap,
    body: &Value,
) -> Result<Value, Failure> {
    let text = |name: &str| body[name].as_str().ok_or_else(|| Failure::missing(name));
    let (tool, token) = (text("tool")?, text("token")?);
    text("server")?;
    let args = body["args"]
        .as_object()
        .ok_or_else(|| Failure::missing("args"))?;
    let (record, _) = server.find(session)?;
    let header = headers.get("x-access-token").map(HeaderValue::as_bytes);
    if token != record.token || header != Some(token.as_bytes()) {
        let message = "The specified token is not valid.";
        return Err(Failure::http(
            StatusCode::FORBIDDEN,
            "InvalidToken",
            message,
        ));
    }
    let (id, _) = server.find_running(session)?;
    Ok(tools::run(server, &id, tool, args).await.data())
}

fn good(server: &Server, request_id: &str, result: &Value) -> Page {
    let data = json!({ "result": result });
    let data = if server.config.data_as_text {
        data.to_string().into()
    } else {
        data
    };
    let body = json!({ "code": 200, "requestId": request_id, "data": data });
    Page::json(StatusCode::OK, &body)
}
