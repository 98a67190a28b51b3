//! What all handlers share, and what every call goes through.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::http::Response;
use mainstay::scope::ScopeHandle;
use mainstay::session::SessionId;
use tokio::time::Instant;

use super::Provider;
use super::book::{Book, Record, Status};
use super::config::Config;
use super::faults::{Decision, Faults};
use super::stats::Stats;
use super::wire::{self, Failure, Page};

pub(crate) struct Server {
    pub(crate) config: Config,
    pub(crate) provider: Provider,
    /// Where it is reached, such as `http://127.0.0.1:8080`.
    pub(crate) base: String,
    pub(crate) stats: Stats,
    /// What goes on although the caller has left.
    pub(crate) work: ScopeHandle,
    book: Mutex<Book>,
    faults: Mutex<Faults>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Server");
        shown.field("base", &self.base).finish_non_exhaustive()
    }
}

impl Server {
    pub(crate) fn new(
        mut config: Config,
        provider: Provider,
        base: String,
        work: ScopeHandle,
    ) -> Self {
        let rules = std::mem::take(&mut config.rules);
        Self {
            book: Mutex::new(Book::new(config.transition)),
            faults: Mutex::new(Faults::new(rules, config.seed)),
            stats: Stats::default(),
            config,
            provider,
            base,
            work,
        }
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the caller has one of the keys.
    pub(crate) fn check_key(&self, authorization: Option<&str>) -> Result<(), Failure> {
        let given = authorization.ok_or_else(|| Failure::missing("Authorization"))?;
        let key = given.strip_prefix("Bearer ").unwrap_or_default();
        if self.config.keys.iter().any(|known| known == key) {
            return Ok(());
        }
        let message = "The specified API key is not valid.";
        Err(Failure::http(
            axum::http::StatusCode::UNAUTHORIZED,
            "InvalidApiKey",
            message,
        ))
    }

    /// A session, its record and its state.
    pub(crate) fn find(&self, id: &str) -> Result<(Record, Status), Failure> {
        let found = self.book().find(id, Instant::now());
        found.ok_or_else(|| Failure::no_session(id))
    }

    /// A session that takes calls of its tools.
    pub(crate) fn find_running(&self, id: &str) -> Result<(SessionId, Record), Failure> {
        match self.find(id)? {
            (record, Status::Running) => Ok((SessionId::new(id), record)),
            (_, status) => {
                let message = format!("The specified session is {}.", status.text());
                Err(Failure::said("InvalidMcpSession.Status", message))
            }
        }
    }

    /// Takes a call through whatever goes wrong with it. What was begun is done to its end,
    /// also when the caller leaves.
    pub(crate) async fn answer<F>(
        &self,
        names: &[&'static str],
        request_id: &str,
        call: impl FnOnce(Decision) -> F,
    ) -> Response<Body>
    where
        F: Future<Output = Page> + Send + 'static,
    {
        let action = names.first().copied().unwrap_or("unknown");
        self.stats.call(action);
        if let Some(tool) = names.get(1) {
            self.stats.tool(tool);
        }
        let decision = self.faults().decide(names);
        let fault = decision.fault.clone();
        let rule = fault.as_ref();
        if let Some(response) = rule.and_then(|rule| wire::instead(rule, action, request_id)) {
            return response;
        }
        let page = self.to_its_end(action, request_id, call(decision)).await;
        wire::afterwards(rule, page).await
    }

    async fn to_its_end<F>(&self, action: &'static str, request_id: &str, call: F) -> Page
    where
        F: Future<Output = Page> + Send + 'static,
    {
        let call = async move { Ok::<_, std::convert::Infallible>(call.await) };
        let Ok(task) = self.work.spawn(action, call) else {
            return Failure::internal("The server is about to end.").page(request_id);
        };
        let failed = |error| Failure::internal(format!("{error}")).page(request_id);
        task.await.unwrap_or_else(failed)
    }
}
