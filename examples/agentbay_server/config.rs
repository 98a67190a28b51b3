//! How the server is set.

use std::fmt;
use std::time::Duration;

use super::faults::Rule;

/// The key that is taken when none is set.
pub(crate) const DEFAULT_KEY: &str = "akm-local";

/// The server's settings.
///
/// | setting | default | why |
/// |---|---|---|
/// | `keys` | `akm-local` | a local server guards nothing, but a wrong key must be seen to fail |
/// | `region` | `local` | |
/// | `links` | no | the service offers a direct path to some only |
/// | `data_as_text` | no | the service sends a tool's data as an object, or as JSON in a string |
/// | `transition` | 50 ms | a pause is seen to be under way, and no test waits for long |
/// | `body_limit` | 8 MiB | more than any chunk of a file; it is held in memory |
/// | `body_time` | 10 s | a client that stops in the middle of a request holds nothing for longer |
/// | `max_connections` | 500 | more wait to be accepted; with the sessions' it fits 1 024 |
/// | `max_sessions` | 200 | with two descriptors each it fits the usual limit of 1024 |
/// | `seed` | 0 | the same faults again |
/// | `rules` | none | |
pub(crate) struct Config {
    pub(crate) keys: Vec<String>,
    pub(crate) region: String,
    pub(crate) links: bool,
    pub(crate) data_as_text: bool,
    pub(crate) transition: Duration,
    pub(crate) body_limit: usize,
    pub(crate) body_time: Duration,
    pub(crate) max_connections: usize,
    pub(crate) max_sessions: usize,
    pub(crate) seed: u64,
    pub(crate) rules: Vec<Rule>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            keys: vec![DEFAULT_KEY.to_owned()],
            region: "local".to_owned(),
            links: false,
            data_as_text: false,
            transition: Duration::from_millis(50),
            body_limit: 8 << 20,
            body_time: Duration::from_secs(10),
            max_connections: 500,
            max_sessions: 200,
            seed: 0,
            rules: Vec::new(),
        }
    }
}

/// Without the keys.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("links", &self.links)
            .field("data_as_text", &self.data_as_text)
            .field("max_sessions", &self.max_sessions)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

/// Reads the settings of the command line, and the port.
pub(crate) fn from_args(args: impl IntoIterator<Item = String>) -> Result<(Config, u16), String> {
    let mut config = Config::default();
    let mut keys = Vec::new();
    let mut port = 0;
    let mut args = args.into_iter();
    while let Some(flag) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--port" => port = number(&flag, &value()?)?,
            "--key" => keys.push(value()?),
            "--region" => config.region = value()?,
            "--links" => config.links = true,
            "--data-as-text" => config.data_as_text = true,
            "--transition-ms" => {
                config.transition = Duration::from_millis(number(&flag, &value()?)?);
            }
            "--body-limit" => config.body_limit = number(&flag, &value()?)?,
            "--max-connections" => config.max_connections = number(&flag, &value()?)?,
            "--max-sessions" => config.max_sessions = number(&flag, &value()?)?,
            "--seed" => config.seed = number(&flag, &value()?)?,
            "--fault" => config.rules.push(value()?.parse()?),
            _ => return Err(format!("{flag} is unknown")),
        }
    }
    if !keys.is_empty() {
        config.keys = keys;
    }
    Ok((config, port))
}

fn number<T: std::str::FromStr>(flag: &str, text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{flag} needs a number, not {text:?}"))
}
