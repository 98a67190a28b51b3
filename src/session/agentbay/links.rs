//! The tools of sessions, and the direct links to them, as far as they are known.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use reqwest::Url;
use serde_json::{Map, Value};

use super::super::types::SessionId;
use super::json::unwrapped;
use super::reply::text;
use super::secret::Secret;

/// A tool of a session, and the server in it that has the tool.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tool {
    /// What it is called by.
    pub name: String,
    /// The server that has it; empty where the service finds it.
    pub server: String,
}

/// The most tools of a session that are kept.
const MOST_TOOLS: usize = 512;

/// What a session told of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) tools: Vec<Tool>,
    pub(super) link: Option<Link>,
}

/// Where a session's tools can be called without the service in between.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) url: Url,
    pub(super) token: Secret,
}

impl Known {
    /// What a reply's data tell of a session. Links to which `may_go` says no are left out.
    pub(super) fn read(data: &Map<String, Value>, may_go: impl Fn(&Url) -> bool) -> Self {
        Self {
            tools: read_tools(data.get("ToolList")),
            link: read_link(data, may_go),
        }
    }

    /// The server that has a tool.
    pub(super) fn server(&self, tool: &str) -> Option<&str> {
        let tool = self.tools.iter().find(|known| known.name == tool)?;
        Some(tool.server.as_str()).filter(|server| !server.is_empty())
    }
}

fn read_tools(list: Option<&Value>) -> Vec<Tool> {
    let list = list.cloned().and_then(unwrapped);
    let items = list.as_ref().and_then(Value::as_array);
    items
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .map(|tool| Tool {
            name: text(tool, "name"),
            server: text(tool, "server"),
        })
        .filter(|tool| !tool.name.is_empty())
        .take(MOST_TOOLS)
        .collect()
}

fn read_link(data: &Map<String, Value>, may_go: impl Fn(&Url) -> bool) -> Option<Link> {
    let token = text(data, "Token");
    let base = text(data, "LinkUrl");
    if token.is_empty() || base.is_empty() {
        return None;
    }
    let url = Url::parse(&format!("{}/callTool", base.trim_end_matches('/'))).ok()?;
    let token = Secret::new(token);
    may_go(&url).then_some(Link { url, token })
}

/// So many sessions at most, and the last learnt.
#[derive(Debug)]
pub(super) struct Links {
    most: usize,
    known: HashMap<SessionId, Arc<Known>>,
    /// In the order in which they were learnt, each once.
    order: VecDeque<SessionId>,
}

impl Links {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            known: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    pub(super) fn get(&self, id: &SessionId) -> Option<Arc<Known>> {
        self.known.get(id).cloned()
    }

    /// Learns what a session told, and keeps what it did not tell again; one too many is
    /// forgotten, the oldest.
    pub(super) fn learn(&mut self, id: &SessionId, mut known: Known) {
        if known.tools.is_empty() && known.link.is_none() {
            return;
        }
        if let Some(before) = self.known.get(id) {
            known.link = known.link.or_else(|| before.link.clone());
            if known.tools.is_empty() {
                known.tools.clone_from(&before.tools);
            }
        }
        self.forget(id);
        self.known.insert(id.clone(), Arc::new(known));
        self.order.push_back(id.clone());
        if self.order.len() > self.most {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }

    /// Forgets a session.
    pub(super) fn forget(&mut self, id: &SessionId) {
        if self.known.remove(id).is_some() {
            self.order.retain(|known| known != id);
        }
    }

    /// Forgets a session's link, if it is still this one: its calls then go by the service.
    pub(super) fn unlink(&mut self, id: &SessionId, broken: &Arc<Known>) {
        if let Some(known) = self.known.get_mut(id) {
            if Arc::ptr_eq(known, broken) {
                let tools = broken.tools.clone();
                *known = Arc::new(Known { tools, link: None });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(data: &Value) -> Known {
        Known::read(data.as_object().unwrap(), |url| url.scheme() == "https")
    }

    fn known() -> Known {
        read(&json!({
            "LinkUrl": "https://link/x/", "Token": "t",
            "ToolList": json!([{"name": "shell", "server": "s"}, {"name": "odd"}, 1]).to_string(),
        }))
    }

    fn id(n: usize) -> SessionId {
        SessionId::new(n.to_string())
    }

    #[test]
    fn tools_and_links_are_read_from_json_in_a_string() {
        let known = known();
        assert_eq!(known.server("shell"), Some("s"));
        assert_eq!(known.server("odd"), None);
        assert_eq!(known.server("none"), None);
        assert_eq!(known.link.unwrap().url.as_str(), "https://link/x/callTool");
    }

    #[test]
    fn a_link_needs_an_address_a_token_and_privacy() {
        for data in [
            json!({"LinkUrl": "https://l"}),
            json!({"Token": "t"}),
            json!({"LinkUrl": "http://l", "Token": "t"}),
            json!({"LinkUrl": "::", "Token": "t"}),
            json!({"LinkUrl": "https://l", "Token": ""}),
            json!({"ToolList": "x"}),
        ] {
            assert!(read(&data).link.is_none(), "{data}");
        }
    }

    #[test]
    fn a_known_session_does_not_show_its_token() {
        let data = json!({"LinkUrl": "https://l", "Token": "hidden-token"});
        assert!(!format!("{:?}", read(&data)).contains("hidden-token"));
    }

    #[test]
    fn the_oldest_is_forgotten_and_no_more() {
        let mut links = Links::new(3);
        for n in 0..100 {
            links.learn(&id(n), known());
            links.learn(&id(n), known());
            assert!(links.known.len() <= 3 && links.known.len() == links.order.len());
        }
        assert!(links.get(&id(96)).is_none());
        assert!(links.get(&id(97)).is_some());
        links.forget(&id(98));
        assert_eq!((links.known.len(), links.order.len()), (2, 2));
        links.learn(&id(5), Known::default());
        assert_eq!(links.known.len(), 2);
    }

    #[test]
    fn a_broken_link_is_forgotten_unless_there_is_a_new_one() {
        let mut links = Links::new(3);
        links.learn(&id(1), known());
        let mut less = known();
        less.link = None;
        links.learn(&id(1), less);
        let first = links.get(&id(1)).unwrap();
        links.learn(&id(1), known());
        links.unlink(&id(1), &first);
        assert!(links.get(&id(1)).unwrap().link.is_some());
        let second = links.get(&id(1)).unwrap();
        links.unlink(&id(1), &second);
        let left = links.get(&id(1)).unwrap();
        assert!(left.link.is_none());
        assert_eq!(left.server("shell"), Some("s"));
    }
}
