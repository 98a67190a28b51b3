//! What must not be seen: the API key, and the tokens of direct links.

use std::fmt;
use std::sync::Arc;

use super::failure::CUT;

/// What stands where a secret stood.
const MASK: &str = "***";

/// A beginning of a secret that is shorter tells nothing of it, and may be a word's end.
const LEAST_PART: usize = 4;

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
        let mut clean = hide(text, &self.text);
        if let Some(encoded) = &self.encoded {
            clean = hide(&clean, encoded);
        }
        clean
    }
}

/// The text without a secret, nor the part of it before which a text that was too long was cut.
fn hide(text: &str, secret: &str) -> String {
    let clean = text.replace(secret, MASK);
    let Some(cut) = clean.strip_suffix(CUT) else {
        return clean;
    };
    let borders = secret.char_indices().rev();
    let mut parts = borders
        .map(|(end, _)| &secret[..end])
        .take_while(|part| part.len() >= LEAST_PART);
    match parts.find_map(|part| cut.strip_suffix(part)) {
        Some(rest) => format!("{rest}{MASK}{CUT}"),
        None => clean,
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
    fn no_part_of_a_secret_shows_where_a_text_was_cut() {
        let secret = Secret::new("akm-1/2é3");
        assert_eq!(secret.scrub("key akm-1/2é ..."), "key *** ...");
        assert_eq!(secret.scrub("key akm-1%2F2%C ..."), "key *** ...");
        assert_eq!(secret.scrub("key akm- ..."), "key *** ...");
        assert_eq!(secret.scrub("key akm ..."), "key akm ...");
        assert_eq!(secret.scrub("key akm-1"), "key akm-1");
        assert_eq!(secret.scrub("none ..."), "none ...");
    }

    #[test]
    fn no_secret_leaves_a_text_as_it_is() {
        assert_eq!(Secret::new("").scrub("text"), "text");
    }
}
