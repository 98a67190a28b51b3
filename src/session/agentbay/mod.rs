//! Sessions at AgentBay: its wire, spoken as its own clients speak it.
//!
//! What is asked, what came back and what it means are pure (`request`, `reply`, `failure`,
//! `tool`, `output`, `files`, `poll`); `transport` is the only one that has a connection.

mod builder;
mod calls;
mod extras;
mod failure;
mod files;
mod json;
mod links;
mod output;
mod poll;
mod provider;
mod reply;
mod request;
mod reuse;
mod secret;
mod sessions;
mod tool;
mod tools;
mod transport;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::Url;

use self::builder::Settings;
use self::links::Links;
use self::secret::Secret;
use self::transport::Transport;
use crate::config::ConfigError;

pub use self::builder::AgentBayBuilder;
pub use self::extras::SessionLink;
pub use self::links::Tool;

/// Has sessions at AgentBay. Cheap to clone; clones share their connections.
///
/// It does each thing once: time limits for whole operations, retries and limits are the
/// client's. Requests use connections again: `n` calls at once need at most `n` connections. For
/// that, a call right after the end of a reply waits for the connection of that reply, which is
/// about to be free: for 100 ms at most, and one call for each reply. A machine so busy that
/// this takes longer opens one more connection; behind a server that closes its connections
/// without saying so, each call waits in vain.
///
/// | setting | default | why |
/// |---|---|---|
/// | [`api_key`](AgentBayBuilder::api_key) | `AGENTBAY_API_KEY` | none can be guessed |
/// | [`endpoint`](AgentBayBuilder::endpoint) | `AGENTBAY_ENDPOINT`, else by region, else `https://wuyingai.cn-shanghai.aliyuncs.com` | the service's own |
/// | [`region`](AgentBayBuilder::region) | `AGENTBAY_REGION_ID`, else none | the service chooses |
/// | [`request_limit`](AgentBayBuilder::request_limit) | `AGENTBAY_TIMEOUT_MS`, else 60 s | the service's own clients' |
/// | [`connect_limit`](AgentBayBuilder::connect_limit) | 10 s | three lost packets, and nothing was sent yet |
/// | [`direct_limit`](AgentBayBuilder::direct_limit) | 900 s | the service's own clients' |
/// | [`delete_poll`](AgentBayBuilder::delete_poll) | 300 s, every 1 s | the service's own clients' |
/// | [`pause_poll`](AgentBayBuilder::pause_poll) | 600 s, every 2 s | the service's own clients' |
/// | [`max_reply`](AgentBayBuilder::max_reply) | 16 MiB | much output; about four times that is held while it is read |
/// | [`max_file`](AgentBayBuilder::max_file) | 64 MiB | 1300 requests; longer ones in ranges |
/// | [`max_known`](AgentBayBuilder::max_known) | 1024 sessions | a few kilobytes each |
///
/// What is set in the code beats the environment, which beats the defaults.
///
/// # Secrets
///
/// The API key and the tokens of direct links show in no `Debug`, log or error, not even where
/// the service repeats them. They are sent only over `https`, or to this machine. Redirects are
/// not followed, and the environment's proxies are not used: the key goes where it was told to.
///
/// # Commands, code and files
///
/// A command may run for 50 s at most, code for 60 s; both are the service's limits, and a
/// longer one is refused. Code is in python, javascript, r or java. Files are read as they are,
/// in pieces of 50 KiB. They are written as text in pieces of 51 KiB at most, never cut inside
/// of a character: content that is not UTF-8 is refused, since the wire has no form for it.
/// Writing is neither atomic nor safe to repeat, and an error says whether a part was written.
///
/// # Errors
///
/// Each failure is a [`SessionError`](super::SessionError), whose
/// [`effect`](super::SessionError::effect) says whether the thing may have happened:
///
/// | what | kind | effect |
/// |---|---|---|
/// | no connection | `Connection` | `None` |
/// | the connection broke, no answer in time | `Connection` | `Unknown` |
/// | 429, or a code of throttling | `Throttled` | `None` |
/// | 5xx, also as a page of HTML | `Unavailable` | `Unknown`; `None` where a quota is used up |
/// | 401, 403, or a code about the key | `Denied` | `None` |
/// | other 4xx with a code | `Invalid`, or `NotFound` of a session | `None` |
/// | what is not HTTP or not the service's JSON, redirects, too long an answer | `Protocol` | `Unknown` |
/// | the tool in the session failed | `Tool`, or `NotFound` of a file | `Unknown`; `None` |
///
/// # Cancel safety
///
/// Each future can be dropped at any point. A connection whose reply was not read to its end
/// is closed, so nobody reads another's reply. What was asked for may still happen: a `write_file`
/// that was dropped may have written a part, a `delete` goes on at the service.
///
/// # Examples
///
/// ```
/// use mainstay::session::AgentBay;
///
/// # fn main() -> Result<(), mainstay::ConfigError> {
/// let provider = AgentBay::builder()
///     .api_key("akm-...")
///     .endpoint("http://127.0.0.1:8080")
///     .build()?;
/// assert!(!format!("{provider:?}").contains("akm-"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AgentBay {
    inner: Arc<Inner>,
}

struct Inner {
    key: Secret,
    endpoint: Url,
    region: Option<String>,
    settings: Settings,
    transport: Transport,
    links: Mutex<Links>,
}

impl AgentBay {
    /// Begins to build one.
    pub fn builder() -> AgentBayBuilder {
        AgentBayBuilder::new()
    }

    /// One that is told all by the environment.
    ///
    /// # Errors
    ///
    /// If `AGENTBAY_API_KEY` is not set, or another variable makes no sense.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::builder().build()
    }

    /// Where its requests go.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.inner.endpoint.as_str()
    }
}

impl Inner {
    /// What is known of sessions; never held over an await.
    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for AgentBay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentBay")
            .field("endpoint", &self.endpoint())
            .field("region", &self.inner.region)
            .field("settings", &self.inner.settings)
            .finish_non_exhaustive()
    }
}
