//! What AgentBay offers beyond what every provider does.

use std::fmt;

use super::super::error::{Effect, SessionError, SessionErrorKind as Kind};
use super::super::types::{SessionId, SessionInfo};
use super::failure::failure;
use super::links::Tool;
use super::poll::{Poll, Turn, Turned, may_ask_again};
use super::reply::{lacks, text, with_id};
use super::request::Action;
use super::sessions::fields;
use super::transport::{sleep, within};
use super::{AgentBay, Inner};
use crate::time::now;

/// Ports that a link may lead to.
const PORTS: std::ops::RangeInclusive<u16> = 30_100..=30_199;

/// An address by which something inside of a session is reached. It does not show in `Debug`.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionLink {
    /// The address. Whoever has it is let in.
    pub url: String,
    /// The provider's name for the request.
    pub request_id: String,
}

impl fmt::Debug for SessionLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLink")
            .field("request_id", &self.request_id)
            .finish_non_exhaustive()
    }
}

impl AgentBay {
    /// Pauses a session, and waits until it is paused.
    ///
    /// # Errors
    ///
    /// As the service says; and of the kind [`Unavailable`](Kind::Unavailable) when it goes to
    /// another state, or takes longer than [`pause_poll`](super::AgentBayBuilder::pause_poll).
    ///
    /// # Cancel safety
    ///
    /// Dropped, it stops to wait; the session may pause all the same.
    pub async fn pause(&self, id: &SessionId) -> Result<SessionInfo, SessionError> {
        let turn = self.inner.turn(id, "PauseSessionAsync", Turn::pause());
        self.inner.clean(turn.await)
    }

    /// Lets a session run again, and waits until it does.
    ///
    /// # Errors
    ///
    /// As of [`pause`](Self::pause).
    ///
    /// # Cancel safety
    ///
    /// As of [`pause`](Self::pause).
    pub async fn resume(&self, id: &SessionId) -> Result<SessionInfo, SessionError> {
        let turn = self.inner.turn(id, "ResumeSessionAsync", Turn::resume());
        self.inner.clean(turn.await)
    }

    /// Asks for an address of something in a session: of a page to look at, or of what listens
    /// at a port from 30100 to 30199 by a protocol such as `https`.
    ///
    /// # Errors
    ///
    /// As the service says; of the kind [`Invalid`](Kind::Invalid) for another port.
    pub async fn get_link(
        &self,
        id: &SessionId,
        protocol: Option<&str>,
        port: Option<u16>,
    ) -> Result<SessionLink, SessionError> {
        self.inner.clean(self.inner.link(id, protocol, port).await)
    }

    /// The tools of a session. Those that are known are told without asking.
    ///
    /// # Errors
    ///
    /// As of [`get`](crate::session::SessionProvider::get).
    pub async fn tools(&self, id: &SessionId) -> Result<Vec<Tool>, SessionError> {
        self.inner.clean(self.inner.tools(id).await)
    }

    /// Writes what a session keeps beyond its life to where it is kept, or reads it from there
    /// (`upload`, `download`). The service goes on with it after the answer.
    ///
    /// # Errors
    ///
    /// As the service says.
    pub async fn sync_context(
        &self,
        id: &SessionId,
        mode: Option<&str>,
    ) -> Result<(), SessionError> {
        let action = Action::new("SyncContext")
            .field("Mode", mode)
            .field("SessionId", Some(id.as_str()));
        self.inner.clean(self.inner.act(&action).await.map(drop))
    }
}

impl Inner {
    async fn turn(
        &self,
        id: &SessionId,
        action: &'static str,
        mut turn: Turn,
    ) -> Result<SessionInfo, SessionError> {
        let settings = &self.settings;
        let poll = Poll::new(now(), settings.turn_interval, settings.turn_limit);
        let action = Action::new(action).field("SessionId", Some(id.as_str()));
        self.act(&action).await?;
        loop {
            let state = within(poll.time(now()), self.get(id)).await;
            let hint = match state {
                Some(Ok(info)) => match turn.learn(&info.status) {
                    Turned::Done => return Ok(info),
                    Turned::NotYet => None,
                    Turned::Failed => return Err(went_astray(&turn, &info)),
                },
                Some(Err(error)) if may_ask_again(&error) => error.retry_after(),
                Some(Err(error)) => return Err(error.with_effect(Effect::Unknown)),
                None => None,
            };
            match poll.next(now(), hint) {
                Some(time) => sleep(time).await,
                None => return Err(still_on_the_way(&turn, settings.turn_limit)),
            }
        }
    }

    async fn link(
        &self,
        id: &SessionId,
        protocol: Option<&str>,
        port: Option<u16>,
    ) -> Result<SessionLink, SessionError> {
        if port.is_some_and(|port| !PORTS.contains(&port)) {
            let message = "the port of a link is one from 30100 to 30199";
            return Err(SessionError::new(Kind::Invalid, message));
        }
        let action = Action::new("GetLink")
            .field("Port", port)
            .field("ProtocolType", protocol)
            .field("SessionId", Some(id.as_str()));
        let mut envelope = self.act(&action).await?;
        let url = text(&fields(&mut envelope), "Url");
        if url.is_empty() {
            return Err(lacks("link", &envelope.request_id));
        }
        let request_id = envelope.request_id;
        Ok(SessionLink { url, request_id })
    }

    async fn tools(&self, id: &SessionId) -> Result<Vec<Tool>, SessionError> {
        let known = self.links().get(id);
        if let Some(known) = known.filter(|known| !known.tools.is_empty()) {
            return Ok(known.tools.clone());
        }
        self.get(id).await?;
        let known = self.links().get(id);
        Ok(known.map(|known| known.tools.clone()).unwrap_or_default())
    }
}

fn went_astray(turn: &Turn, info: &SessionInfo) -> SessionError {
    let message = format!(
        "the session shall be {:?} and is {:?}",
        turn.goal(),
        info.status
    );
    with_id(
        failure(Kind::Unavailable, Effect::Unknown, &message),
        &info.request_id,
    )
}

fn still_on_the_way(turn: &Turn, limit: std::time::Duration) -> SessionError {
    let message = format!("the session is not {:?} after {limit:?}", turn.goal());
    failure(Kind::Unavailable, Effect::Unknown, &message)
}
