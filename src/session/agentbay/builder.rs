//! Settings, where they come from, and their checks.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Url;

use super::links::Links;
use super::request::is_private;
use super::secret::Secret;
use super::transport::Transport;
use super::{AgentBay, Inner};
use crate::config::{ConfigError, Value};

const SECOND: Duration = Duration::from_secs(1);

/// Where requests go unless told otherwise.
const ENDPOINT: &str = "https://wuyingai.cn-shanghai.aliyuncs.com";

/// Builds an [`AgentBay`]; its text has the table of defaults.
#[derive(Clone)]
#[must_use = "a builder does nothing before `build`"]
pub struct AgentBayBuilder {
    api_key: Option<Secret>,
    endpoint: Option<String>,
    region: Option<String>,
    request_limit: Option<Duration>,
    plain_http: bool,
    settings: Settings,
}

/// What is the same for all requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) request_limit: Duration,
    pub(super) connect_limit: Duration,
    pub(super) direct_limit: Duration,
    pub(super) delete_limit: Duration,
    pub(super) delete_interval: Duration,
    pub(super) turn_limit: Duration,
    pub(super) turn_interval: Duration,
    pub(super) max_reply: usize,
    pub(super) max_file: u64,
    pub(super) max_known: usize,
    pub(super) plain_http: bool,
}

/// Where to go and who asks.
#[derive(Clone, Debug)]
struct Place {
    key: Secret,
    endpoint: Url,
    region: Option<String>,
    request_limit: Duration,
}

impl AgentBayBuilder {
    pub(super) fn new() -> Self {
        Self {
            api_key: None,
            endpoint: None,
            region: None,
            request_limit: None,
            plain_http: false,
            settings: Settings {
                request_limit: 60 * SECOND,
                connect_limit: 10 * SECOND,
                direct_limit: 900 * SECOND,
                delete_limit: 300 * SECOND,
                delete_interval: SECOND,
                turn_limit: 600 * SECOND,
                turn_interval: 2 * SECOND,
                max_reply: 16 << 20,
                max_file: 64 << 20,
                max_known: 1024,
                plain_http: false,
            },
        }
    }

    /// The key of the account. It shows in no text of this crate.
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.api_key = Some(Secret::new(key.into()));
        self
    }

    /// Where requests go, as a URL; without a scheme it is `https`. It beats a region.
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = Some(url.into());
        self
    }

    /// The region whose service is asked, and where sessions are made, such as
    /// `ap-southeast-1`.
    pub fn region(mut self, id: impl Into<String>) -> Self {
        self.region = Some(id.into());
        self
    }

    /// Allows `http` to other machines, which everybody on the way can read, key and all.
    pub fn plain_http(mut self, allow: bool) -> Self {
        self.plain_http = allow;
        self
    }

    /// How long a request may take, from its connection to the last byte of its reply.
    pub fn request_limit(mut self, limit: Duration) -> Self {
        self.request_limit = Some(limit);
        self
    }

    /// How long a connection may take to be made.
    pub fn connect_limit(mut self, limit: Duration) -> Self {
        self.settings.connect_limit = limit;
        self
    }

    /// How long a call by a session's direct link may take.
    pub fn direct_limit(mut self, limit: Duration) -> Self {
        self.settings.direct_limit = limit;
        self
    }

    /// How long a deletion is waited for, and how often it is asked whether it is done.
    pub fn delete_poll(mut self, limit: Duration, interval: Duration) -> Self {
        self.settings.delete_limit = limit;
        self.settings.delete_interval = interval;
        self
    }

    /// How long a pause or a resumption is waited for, and how often it is asked whether it is
    /// done.
    pub fn pause_poll(mut self, limit: Duration, interval: Duration) -> Self {
        self.settings.turn_limit = limit;
        self.settings.turn_interval = interval;
        self
    }

    /// The longest reply that is read, in bytes. However long it may be, one of more values than
    /// 128 MiB hold is not read.
    pub fn max_reply(mut self, bytes: usize) -> Self {
        self.settings.max_reply = bytes;
        self
    }

    /// The most of a file that is read into memory by one call, in bytes.
    pub fn max_file(mut self, bytes: u64) -> Self {
        self.settings.max_file = bytes;
        self
    }

    /// Of how many sessions the tools and the direct link are remembered.
    pub fn max_known(mut self, sessions: usize) -> Self {
        self.settings.max_known = sessions;
        self
    }

    /// Builds it. What was not set is looked up in the environment.
    ///
    /// # Errors
    ///
    /// If there is no key, or a setting is out of range.
    pub fn build(self) -> Result<AgentBay, ConfigError> {
        let place = self.place(|name| std::env::var(name).ok())?;
        let settings = Settings {
            request_limit: place.request_limit,
            plain_http: self.plain_http,
            ..self.settings
        };
        settings.check()?;
        let transport = Transport::new(settings.connect_limit, settings.max_reply);
        let transport = transport.map_err(|_| {
            ConfigError::new("tls", Value::Missing, "usable: no certificates were found")
        })?;
        Ok(AgentBay {
            inner: Arc::new(Inner {
                key: place.key,
                endpoint: place.endpoint,
                region: place.region,
                settings,
                transport,
                links: Mutex::new(Links::new(settings.max_known)),
            }),
        })
    }

    /// Code beats environment beats defaults; and on each level an endpoint beats a region.
    fn place(&self, environment: impl Fn(&str) -> Option<String>) -> Result<Place, ConfigError> {
        let look = |name: &str| {
            let text = environment(name)?.trim().to_owned();
            (!text.is_empty()).then_some(text)
        };
        let env_region = look("AGENTBAY_REGION_ID");
        let region = self.region.clone().or(env_region);
        let of_region = |region: &Option<String>| region.as_deref().map(endpoint_of);
        let endpoint = self
            .endpoint
            .clone()
            .or_else(|| of_region(&self.region))
            .or_else(|| look("AGENTBAY_ENDPOINT"))
            .or_else(|| of_region(&region))
            .unwrap_or_else(|| ENDPOINT.to_owned());
        let key = self.api_key.clone();
        let key = key.or_else(|| look("AGENTBAY_API_KEY").map(Secret::new));
        Ok(Place {
            key: check_key(key)?,
            endpoint: check_endpoint(&endpoint, self.plain_http)?,
            region: region.map(check_region).transpose()?,
            request_limit: match self.request_limit {
                Some(limit) => limit,
                None => check_millis(look("AGENTBAY_TIMEOUT_MS"))?
                    .unwrap_or(self.settings.request_limit),
            },
        })
    }
}

fn endpoint_of(region: &str) -> String {
    match region {
        "cn-shanghai" | "ap-southeast-1" => format!("https://wuyingai.{region}.aliyuncs.com"),
        region => format!("https://agentbay.{region}.aliyuncs.com"),
    }
}

fn check_key(key: Option<Secret>) -> Result<Secret, ConfigError> {
    const ALLOWED: &str = "an API key, in the code or in AGENTBAY_API_KEY";
    let key = key.ok_or_else(|| ConfigError::new("api_key", Value::Missing, ALLOWED))?;
    let is_visible = key.expose().bytes().all(|byte| byte.is_ascii_graphic());
    if key.expose().is_empty() || !is_visible {
        return Err(ConfigError::new("api_key", Value::Malformed, ALLOWED));
    }
    Ok(key)
}

fn check_endpoint(text: &str, plain_http: bool) -> Result<Url, ConfigError> {
    let refused = |allowed| ConfigError::new("endpoint", Value::Malformed, allowed);
    let with_scheme = if text.contains("://") {
        text.to_owned()
    } else {
        format!("https://{text}")
    };
    let url = Url::parse(&with_scheme).map_err(|_| refused("a URL"))?;
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !url.has_host() || !url.username().is_empty() || url.password().is_some() || !is_bare {
        return Err(refused("a URL of nothing but a host and a port"));
    }
    if !may_go(&url, plain_http) {
        return Err(refused(
            "an https URL, or http on this machine, or with plain_http allowed",
        ));
    }
    Ok(url)
}

/// Whether secrets may be sent there.
pub(super) fn may_go(url: &Url, plain_http: bool) -> bool {
    is_private(url) || (plain_http && url.scheme() == "http")
}

/// A region becomes a part of a host's name.
fn check_region(region: String) -> Result<String, ConfigError> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if region.is_empty() || !region.bytes().all(is_plain) {
        let allowed = "small letters, digits and dashes";
        return Err(ConfigError::new("region", Value::Malformed, allowed));
    }
    Ok(region)
}

fn check_millis(text: Option<String>) -> Result<Option<Duration>, ConfigError> {
    let Some(text) = text else { return Ok(None) };
    let millis = text.parse().map_err(|_| {
        let allowed = "a whole number of milliseconds in AGENTBAY_TIMEOUT_MS";
        ConfigError::new("request_limit", Value::Malformed, allowed)
    })?;
    Ok(Some(Duration::from_millis(millis)))
}

impl Settings {
    fn check(&self) -> Result<(), ConfigError> {
        let spans = [
            ("request_limit", self.request_limit),
            ("connect_limit", self.connect_limit),
            ("direct_limit", self.direct_limit),
            ("delete_poll", self.delete_limit),
            ("delete_poll", self.delete_interval),
            ("pause_poll", self.turn_limit),
            ("pause_poll", self.turn_interval),
        ];
        if let Some((field, span)) = spans.into_iter().find(|(_, span)| span.is_zero()) {
            return Err(ConfigError::new(field, span, "longer than zero"));
        }
        let counts = [
            ("max_reply", self.max_reply as u64),
            ("max_file", self.max_file),
            ("max_known", self.max_known as u64),
        ];
        match counts.into_iter().find(|(_, count)| *count == 0) {
            Some((field, count)) => Err(ConfigError::new(field, count, "at least 1")),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for AgentBayBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentBayBuilder")
            .field("api_key", &self.api_key)
            .field("region", &self.region)
            .field("request_limit", &self.request_limit)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "builder_tests.rs"]
mod tests;
