//! Settings of a client, and their checks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request as Upgrade;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::http::header::{HOST, HeaderName, HeaderValue};

use super::client::{Client, Handle, OnlyLost};
use super::life::Spans;
use super::shared::Shared;
use crate::config::{ConfigError, Value};
use crate::retry::{Backoff, Delays};
use crate::scope::Tracker;
use crate::{Bulkhead, Retry};

/// Builds a [`Client`]; its text has the table of defaults.
#[must_use = "a builder does nothing before `build`"]
#[derive(Clone)]
pub struct ClientBuilder {
    url: Box<str>,
    headers: Vec<(String, String)>,
    call_timeout: Duration,
    max_in_flight: u32,
    max_waiting: Option<usize>,
    max_message_size: usize,
    max_attempts: u32,
    notifications: usize,
    waits_for_link: bool,
    connect_timeout: Duration,
    close_timeout: Duration,
    spans: Spans,
    seed: Option<u64>,
}

/// What the owner of the socket needs to know.
pub(super) struct Settings {
    pub(super) request: Upgrade,
    pub(super) call_timeout: Duration,
    pub(super) max_message_size: usize,
    pub(super) notifications: usize,
    pub(super) waits_for_link: bool,
    pub(super) connect_timeout: Duration,
    pub(super) close_timeout: Duration,
    pub(super) spans: Spans,
}

/// The largest buffer of notifications: more would be memory, not patience.
const MOST_NOTIFICATIONS: usize = 1 << 20;

impl ClientBuilder {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.into(),
            headers: Vec::new(),
            call_timeout: Duration::from_secs(30),
            max_in_flight: 256,
            max_waiting: None,
            max_message_size: 4 << 20,
            max_attempts: 3,
            notifications: 256,
            waits_for_link: true,
            connect_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            spans: Spans {
                ping_interval: Duration::from_secs(20),
                pong_timeout: Duration::from_secs(10),
                write_timeout: Duration::from_secs(30),
                stable_after: Duration::from_secs(10),
                backoff: Backoff::exponential(Duration::from_millis(500)),
            },
            seed: None,
        }
    }

    /// Adds a header to the request that opens the connection, such as `Authorization`, or
    /// replaces its `Host`. Those of the handshake itself cannot be set, but for
    /// `Sec-WebSocket-Protocol`.
    ///
    /// Its value stands in no error or `Debug`. (`tungstenite` itself logs the whole request, by
    /// the `log` crate, at the level `trace`.)
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// How long a call may take, its waits included; a single call can have its own. Default
    /// 30 s; [`Duration::MAX`] is no limit.
    pub fn call_timeout(mut self, limit: Duration) -> Self {
        self.call_timeout = limit;
        self
    }

    /// How many calls may be under way at once. Default 256; at least 1.
    pub fn max_in_flight(mut self, calls: u32) -> Self {
        self.max_in_flight = calls;
        self
    }

    /// How many more calls may wait to begin. Default: as many as may be in flight; 0 refuses
    /// at once.
    pub fn max_waiting(mut self, calls: usize) -> Self {
        self.max_waiting = Some(calls);
        self
    }

    /// The largest message, in bytes, in both directions. Default 4 MiB; at least 1 KiB and at
    /// most 1 GiB.
    ///
    /// A larger request is refused; a larger message of the server's ends the connection.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = bytes;
        self
    }

    /// How often a repeatable call is sent at most, the first time included. Default 3; at
    /// least 1.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// How many notifications are kept for a reader that lags. Default 256; from 1 to
    /// 1 048 576, and rounded up to a power of two.
    pub fn notification_buffer(mut self, notifications: usize) -> Self {
        self.notifications = notifications;
        self
    }

    /// Refuses calls while there is no connection, instead of letting them wait for it within
    /// their time limit. Those that wait to be sent when it is lost are refused then.
    pub fn refuse_while_down(mut self) -> Self {
        self.waits_for_link = false;
        self
    }

    /// How long one attempt to connect may take, upgrade included. Default 10 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How long the closing handshake may take. Default 5 s; zero waits for nothing.
    pub fn close_timeout(mut self, limit: Duration) -> Self {
        self.close_timeout = limit;
        self
    }

    /// After how long a silence the peer is pinged. Default 20 s; more than zero.
    pub fn ping_interval(mut self, silence: Duration) -> Self {
        self.spans.ping_interval = silence;
        self
    }

    /// How long a pinged peer may stay silent before it counts as dead. Default 10 s; more
    /// than zero.
    ///
    /// Half a message is no sign of life: a single one must come in within this time and
    /// `ping_interval`.
    pub fn pong_timeout(mut self, limit: Duration) -> Self {
        self.spans.pong_timeout = limit;
        self
    }

    /// How long the peer may read nothing of what is to be written, before the connection
    /// counts as dead: a single message must go out in that time. Default 30 s; more than zero.
    pub fn write_timeout(mut self, limit: Duration) -> Self {
        self.spans.write_timeout = limit;
        self
    }

    /// The delays between attempts to connect. Default: exponential from 500 ms, at most 30 s,
    /// with full jitter, so that the clients of a server that restarts come back spread out.
    /// Each is 10 ms at least.
    ///
    /// A server that refuses the upgrade and says `Retry-After`, in seconds, is left alone for
    /// that long besides, and for 5 minutes at most.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.spans.backoff = backoff;
        self
    }

    /// How long a connection must have lasted for the back-off to begin anew after it. Default
    /// 10 s.
    pub fn stable_after(mut self, span: Duration) -> Self {
        self.spans.stable_after = span;
        self
    }

    /// Makes the jitter the same in each run.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Checks every setting. Nothing is connected before the first call, or
    /// [`Client::connect`].
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for a URL that is not one of `ws://` or `wss://` with a host, for a
    /// header that is none, and for the first number or span that is out of range.
    pub fn build(self) -> Result<Client, ConfigError> {
        self.check()?;
        let bulkhead = Bulkhead::builder().max_concurrent(self.max_in_flight);
        let bulkhead = bulkhead.max_queue(self.max_waiting.unwrap_or(self.max_in_flight as usize));
        let retry = Retry::builder().max_attempts(self.max_attempts);
        let retry = retry
            .backoff(Backoff::none())
            .no_budget()
            .classifier(OnlyLost);
        let (bulkhead, retry) = (rename(bulkhead.build())?, retry.build()?);
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..));
        let shared = Shared::new(self.settings()?, seed);
        Ok(Client::new(Handle {
            shared: Arc::new(shared),
            calls: Tracker::new(),
            bulkhead,
            retry,
        }))
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.spans.backoff.check()?;
        let spans = [
            ("connect_timeout", self.connect_timeout),
            ("ping_interval", self.spans.ping_interval),
            ("pong_timeout", self.spans.pong_timeout),
            ("write_timeout", self.spans.write_timeout),
        ];
        for (field, span) in spans {
            require(!span.is_zero(), field, span, "more than zero")?;
        }
        require(
            (1..=MOST_NOTIFICATIONS).contains(&self.notifications),
            "notification_buffer",
            self.notifications,
            "from 1 to 1048576",
        )?;
        require(
            (1 << 10..=1 << 30).contains(&self.max_message_size),
            "max_message_size",
            self.max_message_size,
            "from 1 KiB to 1 GiB",
        )
    }

    fn settings(&self) -> Result<Settings, ConfigError> {
        Ok(Settings {
            request: self.upgrade()?,
            call_timeout: self.call_timeout,
            max_message_size: self.max_message_size,
            notifications: self.notifications,
            waits_for_link: self.waits_for_link,
            connect_timeout: self.connect_timeout,
            close_timeout: self.close_timeout,
            spans: self.spans,
        })
    }

    fn upgrade(&self) -> Result<Upgrade, ConfigError> {
        let request = (&*self.url).into_client_request().ok();
        let request = request.filter(|request| {
            let uri = request.uri();
            matches!(uri.scheme_str(), Some("ws" | "wss")) && has_an_address(uri)
        });
        let mut request =
            request.ok_or_else(|| malformed("url", "a ws:// or wss:// URL with a host"))?;
        for (name, value) in &self.headers {
            let name: Option<HeaderName> = name.parse().ok();
            let value: Option<HeaderValue> = value.parse().ok();
            let (Some(name), Some(mut value)) = (name, value) else {
                return Err(malformed("header", "a name and a value as HTTP has them"));
            };
            if is_the_handshakes(name.as_str()) {
                return Err(malformed("header", "none of the handshake's own"));
            }
            value.set_sensitive(true);
            if name == HOST {
                request.headers_mut().insert(name, value); // one of many at that address
            } else {
                request.headers_mut().append(name, value);
            }
        }
        Ok(request)
    }
}

/// A host that is no empty text, and a port that is one, if any: what cannot be read as a port
/// would be taken for none.
fn has_an_address(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let place = uri.authority().map_or("", |all| all.as_str());
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    let port = place.strip_prefix(host).unwrap_or_default();
    !host.is_empty() && (matches!(port, "" | ":") || uri.port_u16().is_some())
}

/// What we do not speak cannot be asked for; a subprotocol is the user's.
fn is_the_handshakes(name: &str) -> bool {
    let is_of_websocket = name.starts_with("sec-websocket-") && name != "sec-websocket-protocol";
    is_of_websocket || matches!(name, "connection" | "upgrade")
}

fn malformed(field: &'static str, allowed: &'static str) -> ConfigError {
    ConfigError::new(field, Value::Malformed, allowed)
}

fn require(
    ok: bool,
    field: &'static str,
    value: impl Into<Value>,
    allowed: &'static str,
) -> Result<(), ConfigError> {
    if ok {
        Ok(())
    } else {
        Err(ConfigError::new(field, value, allowed))
    }
}

/// Says it in this builder's words.
fn rename<T>(built: Result<T, ConfigError>) -> Result<T, ConfigError> {
    built.map_err(|error| ConfigError::new("max_in_flight", error.value(), error.allowed()))
}

/// Without the headers' values, and without what a URL may hold besides its address.
impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| &**name).collect();
        f.debug_struct("ClientBuilder")
            .field("headers", &headers)
            .field("call_timeout", &self.call_timeout)
            .field("max_in_flight", &self.max_in_flight)
            .field("max_message_size", &self.max_message_size)
            .finish_non_exhaustive()
    }
}
