//! What must not be seen: the API key, and the tokens of direct links.

use std::fmt;
use std::sync::Arc;

/// What stands where a secret stood.
const MASK: &str = "***";

/// A text that shows itself only to who asks for it by [`expose`](Self::expose).
#[derive(Clone)]
pub(super) struct Secret {
    text: Arc<str>,
    /// As it stands in a form or a URL, where that differs.
    encoded: Option<Arc<str>>,
}

impl Secret {
    pub(super) fn new(text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        let encoded = encode(&text);
        let encoded = (*encoded != *text).then(|| Arc::from(encoded));
        Self { text, encoded }
    }

    pub(super) fn expose(&self) -> &str {
        &self.text
    }

    /// The text without this secret in any of its forms.
    pub(super) fn scrub(&self, text: &str) -> String {
        if self.text.is_empty() {
            return text.to_owned();
        }
        let text = text.replace(&*self.text, MASK);
        match &self.encoded {
            Some(encoded) => text.replace(&**encoded, MASK),
            None => text,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// As the text stands in a form.
fn encode(text: &str) -> String {
    let Ok(mut url) = reqwest::Url::parse("http://localhost/") else {
        return text.to_owned();
    };
    url.query_pairs_mut().append_key_only(text);
    url.query().unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_in_no_form() {
        let secret = Secret::new("akm-1/2+3");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(
            secret.scrub("key akm-1/2+3 as akm-1%2F2%2B3"),
            "key *** as ***"
        );
    }

    #[test]
    fn no_secret_leaves_a_text_as_it_is() {
        assert_eq!(Secret::new("").scrub("text"), "text");
    }
}
