//! What is asked, as fields: no clock, no connection.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::secret::Secret;

/// The version of the service's interface.
pub(super) const VERSION: &str = "2025-05-06";

/// An action of the service with its fields, sorted by name as the service wants them.
#[derive(Clone, Debug)]
pub(super) struct Action {
    name: &'static str,
    query: BTreeMap<&'static str, String>,
    form: BTreeMap<&'static str, String>,
}

/// A request, ready to be encoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) form: Vec<(&'static str, String)>,
}

/// How a value stands in a form.
pub(super) trait Field {
    fn text(self) -> String;
}

impl Field for &str {
    fn text(self) -> String {
        self.to_owned()
    }
}

impl Field for String {
    fn text(self) -> String {
        self
    }
}

impl Field for bool {
    fn text(self) -> String {
        if self { "True" } else { "False" }.to_owned()
    }
}

impl Field for u32 {
    fn text(self) -> String {
        self.to_string()
    }
}

impl Field for u16 {
    fn text(self) -> String {
        self.to_string()
    }
}

/// What has a structure is sent as JSON in a string.
impl Field for &BTreeMap<String, String> {
    fn text(self) -> String {
        let map: Map<String, Value> = self
            .iter()
            .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
            .collect();
        Value::Object(map).to_string()
    }
}

impl Field for &Value {
    fn text(self) -> String {
        self.to_string()
    }
}

impl Action {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            query: BTreeMap::new(),
            form: BTreeMap::new(),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Adds a field; one that is `None` is left out.
    pub(super) fn field(mut self, name: &'static str, value: Option<impl Field>) -> Self {
        if let Some(value) = value {
            let fields = if self.is_asked_in_the_query() {
                &mut self.query
            } else {
                &mut self.form
            };
            fields.insert(name, value.text());
        }
        self
    }

    /// This one action has its fields in the query.
    fn is_asked_in_the_query(&self) -> bool {
        self.name == "GetSessionDetail"
    }

    /// This one action has its key in the query.
    fn is_authorized_in_the_query(&self) -> bool {
        self.name == "SyncContext"
    }

    /// The query and the form.
    pub(super) fn parts(&self, key: &Secret, timestamp: &str, nonce: u128) -> Parts {
        let mut query = self.query.clone();
        let mut form = self.form.clone();
        query.extend([
            ("Action", self.name.to_owned()),
            ("Format", "json".to_owned()),
            ("Version", VERSION.to_owned()),
            ("Timestamp", timestamp.to_owned()),
            ("SignatureNonce", format!("{nonce:032x}")),
        ]);
        let holder = if self.is_authorized_in_the_query() {
            &mut query
        } else {
            &mut form
        };
        holder.insert("Authorization", format!("Bearer {}", key.expose()));
        Parts {
            query: query.into_iter().collect(),
            form: form.into_iter().collect(),
        }
    }
}

/// Whether an address may be sent a secret: encrypted, or on this machine.
pub(super) fn is_private(url: &reqwest::Url) -> bool {
    let local = match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback()),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && local)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(action: &Action) -> Parts {
        action.parts(&Secret::new("key"), "2026-11-20T03:11:27Z", 0xab)
    }

    fn names(fields: &[(&'static str, String)]) -> Vec<&'static str> {
        fields.iter().map(|(name, _)| *name).collect()
    }

    #[test]
    fn fields_are_sorted_and_what_is_none_is_left_out() {
        let action = Action::new("CallMcpTool")
            .field("Server", Some(""))
            .field("AutoGenSession", Some(false))
            .field("ImageId", None::<&str>)
            .field("Args", Some(&serde_json::json!({"command": "é\n"})))
            .field("Name", Some("shell"));
        let parts = parts(&action);
        let text = |text: &str| text.to_owned();
        assert_eq!(
            parts.form,
            [
                ("Args", text(r#"{"command":"é\n"}"#)),
                ("Authorization", text("Bearer key")),
                ("AutoGenSession", text("False")),
                ("Name", text("shell")),
                ("Server", text("")),
            ]
        );
        assert_eq!(
            parts.query,
            [
                ("Action", text("CallMcpTool")),
                ("Format", text("json")),
                ("SignatureNonce", text("000000000000000000000000000000ab")),
                ("Timestamp", text("2026-11-20T03:11:27Z")),
                ("Version", text("2025-05-06")),
            ]
        );
    }

    #[test]
    fn the_detail_of_a_session_is_asked_in_the_query_with_the_key_in_the_form() {
        let parts = parts(&Action::new("GetSessionDetail").field("SessionId", Some("s-1")));
        assert_eq!(names(&parts.form), ["Authorization"]);
        assert!(parts.query.contains(&("SessionId", "s-1".to_owned())));
    }

    #[test]
    fn a_context_is_synchronized_with_the_key_in_the_query() {
        let parts = parts(&Action::new("SyncContext").field("SessionId", Some("s-1")));
        assert_eq!(names(&parts.form), ["SessionId"]);
        assert!(names(&parts.query).contains(&"Authorization"));
    }

    #[test]
    fn booleans_are_python_s_and_maps_are_json() {
        assert_eq!(true.text(), "True");
        assert_eq!(false.text(), "False");
        let labels = BTreeMap::from([("a".to_owned(), "\"b\"".to_owned())]);
        assert_eq!((&labels).text(), r#"{"a":"\"b\""}"#);
        assert_eq!((&BTreeMap::new()).text(), "{}");
    }

    #[test]
    fn secrets_go_encrypted_or_stay_on_this_machine() {
        let private = |url: &str| is_private(&reqwest::Url::parse(url).unwrap());
        assert!(private("https://example.org"));
        assert!(private("http://127.0.0.1:80"));
        assert!(private("http://[::1]:80"));
        assert!(private("http://localhost:80"));
        assert!(!private("http://example.org"));
        assert!(!private("http://127.0.0.1.example.org"));
        assert!(!private("ftp://127.0.0.1"));
    }
}
