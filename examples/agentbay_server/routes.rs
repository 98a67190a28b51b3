//! Paths, and the way from a request to an action.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Response, StatusCode};
use axum::middleware::{self, Next};
use axum::routing::{get, post};

use super::actions::Action;
use super::server::Server;
use super::wire::{Call, Failure, new_request_id};
use super::{admin, link, tools};

/// A connection, and whether it has had a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connection(Arc<AtomicBool>);

pub(crate) fn router(server: Arc<Server>) -> Router {
    let calls = Router::new()
        .route("/", post(api))
        .route("/link/{session}/callTool", post(link::call_tool))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn_with_state(
            server.clone(),
            count_connection,
        ));
    let admin = Router::new().route("/stats", get(admin::stats)).route(
        "/faults",
        get(admin::faults)
            .post(admin::set_faults)
            .delete(admin::clear_faults),
    );
    let limit = DefaultBodyLimit::max(server.config.body_limit);
    calls.merge(admin).layer(limit).with_state(server)
}

async fn count_connection(
    State(server): State<Arc<Server>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let connection = request.extensions().get::<Connection>();
    if connection.is_some_and(|Connection(called)| !called.swap(true, Ordering::Relaxed)) {
        server.stats.connection();
    }
    next.run(request).await
}

async fn no_such_path(request: Request) -> Response<Body> {
    let failure = Failure::no_action(request.uri().path());
    failure.page(&new_request_id()).into_response()
}

async fn no_such_method() -> Response<Body> {
    let message = "The specified method is not supported.";
    let failure = Failure::http(
        StatusCode::METHOD_NOT_ALLOWED,
        "UnsupportedHTTPMethod",
        message,
    );
    failure.page(&new_request_id()).into_response()
}

/// All actions: `POST /?Action=...` with a form.
async fn api(State(server): State<Arc<Server>>, request: Request) -> Response<Body> {
    let request_id = new_request_id();
    let call = Call::read(&request_id, request, server.config.body_time).await;
    let known = call.and_then(|call| Ok((Action::find(call.action()?)?, call)));
    let (action, call) = match known {
        Ok(known) => known,
        Err(failure) => {
            server.stats.call("unknown");
            return failure.page(&request_id).into_response();
        }
    };
    let tool = call.field("Name").filter(|_| action == Action::CallMcpTool);
    let names = [Some(action.name()), tool.and_then(tools::known)];
    let names: Vec<_> = names.into_iter().flatten().collect();
    let shared = Arc::clone(&server);
    server
        .answer(&names, &request_id, |decision| async move {
            let done = action.run(&shared, &call, decision.delete_delay).await;
            let page = |failure: Failure| failure.page(&call.request_id);
            done.map_or_else(page, |good| good.page(&call.request_id))
        })
        .await
}
