//! What the service does not have: counters, and faults that are switched while it runs.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::FromRequest as _;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::faults::Rule;
use super::server::Server;

/// `GET /stats`.
pub(crate) async fn stats(State(server): State<Arc<Server>>) -> Response<Body> {
    let mut stats = server.stats.report();
    stats["faults"] = json!(server.faults().given());
    stats["sessions"] = server.provider.len().into();
    reply(StatusCode::OK, &stats)
}

/// `GET /faults`.
pub(crate) async fn faults(State(server): State<Arc<Server>>) -> Response<Body> {
    reply(StatusCode::OK, &json!({ "rules": server.faults().rules() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    rules: Vec<Rule>,
    #[serde(default)]
    seed: Option<u64>,
}

/// `POST /faults`: `{"seed": 1, "rules": [{"kind": "throttle", "next": 2}]}` replaces all.
pub(crate) async fn set_faults(
    State(server): State<Arc<Server>>,
    request: Request,
) -> Response<Body> {
    let new = match Json::<New>::from_request(request, &()).await {
        Ok(Json(new)) => new,
        Err(rejection) => return reply(rejection.status(), &wrong(&rejection.body_text())),
    };
    let set = server.faults().set(new.rules, new.seed);
    match set {
        Ok(()) => faults(State(server)).await,
        Err(why) => reply(StatusCode::UNPROCESSABLE_ENTITY, &wrong(&why)),
    }
}

/// `DELETE /faults`.
pub(crate) async fn clear_faults(State(server): State<Arc<Server>>) -> Response<Body> {
    let none = server.faults().set(Vec::new(), None);
    debug_assert!(none.is_ok(), "no rule is wrong");
    faults(State(server)).await
}

fn wrong(why: &str) -> Value {
    json!({ "error": why })
}

fn reply(status: StatusCode, body: &Value) -> Response<Body> {
    super::wire::Page::json(status, body).into_response()
}
