//! Requests of the service, and calls of tools: what all operations are made of.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::super::error::{Effect, SessionError, SessionErrorKind as Kind};
use super::super::types::SessionId;
use super::Inner;
use super::builder::may_go;
use super::failure::failure;
use super::links::{Known, Link};
use super::reply::{Envelope, read, with_id};
use super::request::{Action, VERSION};
use super::secret::Secret;
use super::tool::{Answer, read_direct, read_tool};

impl Inner {
    /// Does an action of the service, within the limit of a request.
    pub(super) async fn act(&self, action: &Action) -> Result<Envelope, SessionError> {
        self.act_within(action, self.settings.request_limit).await
    }

    pub(super) async fn act_within(
        &self,
        action: &Action,
        limit: Duration,
    ) -> Result<Envelope, SessionError> {
        let timestamp = humantime::format_rfc3339_seconds(date()).to_string();
        let parts = action.parts(&self.key, &timestamp, fastrand::u128(..));
        let client = &self.transport.client;
        let request = client
            .post(self.endpoint.clone())
            .query(&parts.query)
            .header("x-acs-version", VERSION)
            .header("x-acs-action", action.name())
            .form(&parts.form);
        read(&self.transport.send(request, limit).await?)
    }

    /// The same result, in whose error the key does not show, not even where a server repeats
    /// it. All that fails goes through here before it leaves.
    pub(super) fn clean<T>(&self, result: Result<T, SessionError>) -> Result<T, SessionError> {
        result.map_err(|error| without(error, &self.key))
    }

    /// Calls a tool of a session: by its direct link where that is known, else by the service.
    pub(super) async fn tool(
        &self,
        id: &SessionId,
        name: &str,
        args: &Value,
        limit: Duration,
    ) -> Result<Answer, SessionError> {
        let known = self.links().get(id);
        let server = known.as_deref().and_then(|known| known.server(name));
        if let (Some(known), Some(server)) = (&known, server) {
            if let Some(link) = &known.link {
                let direct = self.tool_directly(link, server, name, args).await;
                if !self.goes_by_the_service(id, known, &direct) {
                    return direct;
                }
            }
        }
        let action = Action::new("CallMcpTool")
            .field("Args", Some(args))
            .field("AutoGenSession", Some(false))
            .field("Name", Some(name))
            .field("Server", Some(server.unwrap_or_default()))
            .field("SessionId", Some(id.as_str()));
        read_tool(self.act_within(&action, limit).await?)
    }

    /// Whether a call that failed by its link is made by the service instead: only when nothing
    /// was sent, so that nothing is done twice. A link that was not reached, that no longer lets
    /// us in or leads nowhere, is forgotten.
    fn goes_by_the_service(
        &self,
        id: &SessionId,
        known: &Arc<Known>,
        direct: &Result<Answer, SessionError>,
    ) -> bool {
        let Err(error) = direct else { return false };
        let unreached = error.kind() == Kind::Connection && error.effect() == Effect::None;
        let leads_nowhere = matches!(error.status(), Some(404 | 410));
        if unreached || leads_nowhere || error.kind() == Kind::Denied {
            self.links().unlink(id, known);
        }
        unreached
    }

    async fn tool_directly(
        &self,
        link: &Link,
        server: &str,
        name: &str,
        args: &Value,
    ) -> Result<Answer, SessionError> {
        let request_id = link_id(date(), fastrand::u32(..1_000_000_000));
        let body = json!({
            "args": args,
            "server": server,
            "requestId": request_id,
            "tool": name,
            "token": link.token.expose(),
        });
        let mut token = reqwest::header::HeaderValue::from_str(link.token.expose())
            .map_err(|_| failure(Kind::Connection, Effect::None, "the link's token is odd"))?;
        token.set_sensitive(true);
        let request = self
            .transport
            .client
            .post(link.url.clone())
            .header("x-access-token", token)
            .header("content-type", "application/json")
            .body(body.to_string());
        let sent = self.transport.send(request, self.settings.direct_limit);
        let mut answer = sent
            .await
            .map_err(|error| with_id(error, &request_id))
            .and_then(|raw| read_direct(&raw, &request_id))
            .map_err(|error| without(error, &link.token))?;
        if answer.is_error {
            answer.text = link.token.scrub(&answer.text);
        }
        Ok(answer)
    }

    /// Remembers what a reply told of a session.
    pub(super) fn learn(&self, id: &SessionId, data: &serde_json::Map<String, Value>) -> Known {
        let plain_http = self.settings.plain_http;
        let known = Known::read(data, |url| may_go(url, plain_http));
        self.links().learn(id, known.clone());
        known
    }
}

/// The date, which requests carry; the crate's own clock knows none.
#[expect(
    clippy::disallowed_methods,
    reason = "the wire wants a date, and nothing here waits by it"
)]
fn date() -> SystemTime {
    SystemTime::now()
}

/// Our name for a request by a link: `link-<ms>-<9 digits>`.
fn link_id(date: SystemTime, number: u32) -> String {
    let since = date.duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.unwrap_or_default().as_millis();
    format!("link-{millis}-{number:09}")
}

/// The same error without a secret in its texts.
fn without(error: SessionError, secret: &Secret) -> SessionError {
    let source = std::error::Error::source(&error).map(ToString::to_string);
    let texts = [
        Some(error.message()),
        error.code(),
        error.request_id(),
        source.as_deref(),
    ];
    if texts
        .into_iter()
        .flatten()
        .all(|text| secret.scrub(text) == text)
    {
        return error;
    }
    let mut clean = failure(error.kind(), error.effect(), &secret.scrub(error.message()));
    if let Some(code) = error.code() {
        clean = clean.with_code(secret.scrub(code));
    }
    if let Some(id) = error.request_id() {
        clean = clean.with_request_id(secret.scrub(id));
    }
    if let Some(status) = error.status() {
        clean = clean.with_status(status);
    }
    match error.retry_after() {
        Some(span) => clean.with_retry_after(span),
        None => clean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_by_a_link_has_a_name_of_its_own() {
        let date = SystemTime::UNIX_EPOCH + Duration::from_millis(1_763_608_287_123);
        assert_eq!(link_id(date, 42), "link-1763608287123-000000042");
        assert_eq!(
            link_id(SystemTime::UNIX_EPOCH - Duration::from_secs(1), 0),
            "link-0-000000000"
        );
    }

    #[test]
    fn an_error_loses_its_secrets_and_nothing_else() {
        let secret = Secret::new("akm-1");
        let error = failure(Kind::Throttled, Effect::None, "akm-1 is slow")
            .with_code("For.akm-1")
            .with_request_id("R-akm-1")
            .with_status(429)
            .with_retry_after(Duration::from_secs(1));
        let error = without(error, &secret);
        assert_eq!(
            error.to_string(),
            "throttled: *** is slow (For.***, status 429, request R-***; try again in 1s)"
        );
        assert_eq!(error.effect(), Effect::None);
        let source = failure(Kind::Connection, Effect::Unknown, "broke")
            .with_source(std::io::Error::other("at akm-1"));
        assert!(!format!("{:?}", without(source, &secret)).contains("akm-1"));
    }
}
