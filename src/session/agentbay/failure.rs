//! What a failure of the service is: from its code and status to a kind and an effect.

use std::time::Duration;

use reqwest::header::HeaderMap;

use super::super::error::{Effect, SessionError, SessionErrorKind as Kind};

/// The longest text of somebody else that an error keeps, in bytes.
const LONGEST_TEXT: usize = 1024;

/// What stands at the end of a text that was longer.
pub(super) const CUT: &str = " ...";

/// The longest hint that is believed.
const LONGEST_HINT: Duration = Duration::from_secs(24 * 60 * 60);

/// Codes by what they contain, in small letters, without dots and dashes. The first that
/// matches decides: `InvalidAccessKeyId.NotFound` is about the key, not about a session.
const CODES: [(&[&str], Kind, Effect); 6] = [
    (
        &[
            "throttl",
            "toomanyrequests",
            "ratelimit",
            "flowcontrol",
            "requestlimit",
            "qpslimit",
        ],
        Kind::Throttled,
        Effect::None,
    ),
    (
        &[
            "accesskey",
            "apikey",
            "unauthorized",
            "forbidden",
            "nopermission",
            "accessdenied",
            "authorization",
            "authenticat",
            "invalidtoken",
            "signature",
        ],
        Kind::Denied,
        Effect::None,
    ),
    (
        &[
            "sessionnotfound",
            "sessionidnotfound",
            "sessionnotexist",
            "sessionidnotexist",
            "sessiondeleted",
            "sessionexpired",
        ],
        Kind::NotFound,
        Effect::None,
    ),
    // No room: nothing was begun.
    (
        &["quota", "insufficient", "nostock", "soldout", "limitexceed"],
        Kind::Unavailable,
        Effect::None,
    ),
    (
        &[
            "internalerror",
            "internalservererror",
            "serviceunavailable",
            "systemerror",
            "systembusy",
            "serverbusy",
            "servicebusy",
            "servererror",
            "timeout",
            "timedout",
            "unknownerror",
        ],
        Kind::Unavailable,
        Effect::Unknown,
    ),
    (
        &["invalid", "missing", "illegal", "malformed", "notsupport"],
        Kind::Invalid,
        Effect::None,
    ),
];

/// What a failure is that came with a code, a status and a message. A code decides; where there
/// is none that is known, the status does.
pub(super) fn judge(status: u16, code: &str, message: &str) -> (Kind, Effect) {
    let plain: String = code
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|letter| letter.to_ascii_lowercase())
        .collect();
    let known = CODES
        .iter()
        .find(|(parts, ..)| parts.iter().any(|part| plain.contains(part)));
    match known {
        // A vague code of a failed server says less than its status; a precise one of a
        // client's mistake may still hide a session that is gone.
        Some((_, Kind::Invalid, _)) if status >= 500 => (Kind::Unavailable, Effect::Unknown),
        Some((_, Kind::Invalid, _)) if says_session_is_gone(message) => {
            (Kind::NotFound, Effect::None)
        }
        Some((_, kind, effect)) => (*kind, *effect),
        None if status < 500 && says_session_is_gone(message) => (Kind::NotFound, Effect::None),
        None => by_status(status),
    }
}

/// What a failure is of which only the status is known.
fn by_status(status: u16) -> (Kind, Effect) {
    match status {
        401 | 403 => (Kind::Denied, Effect::None),
        429 => (Kind::Throttled, Effect::None),
        408 | 500.. => (Kind::Unavailable, Effect::Unknown),
        400..=499 => (Kind::Invalid, Effect::None),
        // Refused politely, and nobody knows why.
        _ => (Kind::Invalid, Effect::Unknown),
    }
}

/// What a reply is that is none of the service's: a page of something in between.
pub(super) fn judge_page(status: u16) -> (Kind, Effect) {
    match status {
        401 | 403 => (Kind::Denied, Effect::None),
        429 => (Kind::Throttled, Effect::None),
        500.. => (Kind::Unavailable, Effect::Unknown),
        // Not even 404 means that a session is gone: it may be another server's.
        _ => (Kind::Protocol, Effect::Unknown),
    }
}

fn says_session_is_gone(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("session")
        && ["not found", "notfound", "does not exist", "not exist"]
            .iter()
            .any(|gone| message.contains(gone))
}

/// An error with the service's words: one line, and not too long.
pub(super) fn failure(kind: Kind, effect: Effect, message: &str) -> SessionError {
    SessionError::new(kind, words(message)).with_effect(effect)
}

/// A text of somebody else in one line, cut where it gets long.
pub(super) fn words(text: &str) -> String {
    let mut end = text.len().min(LONGEST_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut line: String = text[..end]
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    if end < text.len() {
        line.push_str(CUT);
    }
    line
}

/// When to come back: `x-acs-retry-after` in milliseconds, as the service's own clients read
/// it, or `Retry-After` in seconds. What is not a positive number is none; a date is not read,
/// since two machines' dates differ.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| -> Option<f64> {
        let text = headers.get(name)?.to_str().ok()?.trim();
        text.parse()
            .ok()
            .filter(|n: &f64| n.is_finite() && *n > 0.0)
    };
    let seconds = match number("x-acs-retry-after") {
        Some(millis) => millis / 1000.0,
        None => number("retry-after")?,
    };
    let span = Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_HINT);
    Some(span.min(LONGEST_HINT))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn hint(name: &'static str, value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        );
        retry_after(&headers)
    }

    #[test]
    fn codes_decide_before_statuses() {
        let rows = [
            (
                400,
                "InvalidMcpSession.NotFound",
                "",
                Kind::NotFound,
                Effect::None,
            ),
            (
                404,
                "InvalidAction.NotFound",
                "",
                Kind::Invalid,
                Effect::None,
            ),
            (
                404,
                "InvalidAccessKeyId.NotFound",
                "",
                Kind::Denied,
                Effect::None,
            ),
            (
                400,
                "InvalidImage.NotFound",
                "",
                Kind::Invalid,
                Effect::None,
            ),
            (503, "Throttling.User", "", Kind::Throttled, Effect::None),
            (400, "Throttling", "", Kind::Throttled, Effect::None),
            (
                503,
                "ServiceUnavailable",
                "",
                Kind::Unavailable,
                Effect::Unknown,
            ),
            (
                503,
                "QuotaExceeded.Session",
                "",
                Kind::Unavailable,
                Effect::None,
            ),
            (
                400,
                "InvalidParameter",
                "Session s-1 not found",
                Kind::NotFound,
                Effect::None,
            ),
            (
                400,
                "Odd",
                "the session does not exist",
                Kind::NotFound,
                Effect::None,
            ),
            (
                500,
                "Odd",
                "the session does not exist",
                Kind::Unavailable,
                Effect::Unknown,
            ),
            (
                500,
                "InvalidParameter",
                "",
                Kind::Unavailable,
                Effect::Unknown,
            ),
            (400, "Odd", "", Kind::Invalid, Effect::None),
            (200, "Odd", "", Kind::Invalid, Effect::Unknown),
            (200, "InternalError", "", Kind::Unavailable, Effect::Unknown),
            (401, "", "", Kind::Denied, Effect::None),
            (403, "Forbidden.RAM", "", Kind::Denied, Effect::None),
            (429, "", "", Kind::Throttled, Effect::None),
        ];
        for (status, code, message, kind, effect) in rows {
            assert_eq!(
                judge(status, code, message),
                (kind, effect),
                "{status} {code}"
            );
        }
    }

    #[test]
    fn a_page_that_says_404_does_not_say_that_a_session_is_gone() {
        assert_eq!(judge_page(404), (Kind::Protocol, Effect::Unknown));
        assert_eq!(judge_page(502), (Kind::Unavailable, Effect::Unknown));
        assert_eq!(judge_page(200), (Kind::Protocol, Effect::Unknown));
    }

    #[test]
    fn the_service_s_hint_is_in_milliseconds_and_the_web_s_in_seconds() {
        let ms = Duration::from_millis;
        assert_eq!(hint("x-acs-retry-after", "1500"), Some(ms(1500)));
        assert_eq!(hint("retry-after", "2"), Some(ms(2000)));
        assert_eq!(hint("retry-after", "0.5"), Some(ms(500)));
        for odd in [
            "0",
            "-1",
            "",
            "soon",
            "NaN",
            "inf",
            "Wed, 21 Oct 2026 07:28:00 GMT",
        ] {
            assert_eq!(hint("x-acs-retry-after", odd), None, "{odd}");
            assert_eq!(hint("retry-after", odd), None, "{odd}");
        }
        assert_eq!(hint("retry-after", "1e300"), Some(LONGEST_HINT));
    }

    #[test]
    fn somebody_else_s_words_become_one_bounded_line() {
        assert_eq!(words("a\nb\u{1b}[0m"), "a b [0m");
        let long = "é".repeat(LONGEST_TEXT);
        assert!(words(&long).len() <= LONGEST_TEXT + 4);
        assert!(words(&long).ends_with(" ..."));
    }

    proptest! {
        #[test]
        fn whatever_they_say_it_is_judged(
            status: u16, code: String, message: String, hint in "[ -~]{0,20}",
        ) {
            let _ = judge(status, &code, &message);
            let _ = judge_page(status);
            prop_assert!(words(&message).len() <= LONGEST_TEXT + 4);
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", HeaderValue::from_str(&hint).unwrap());
            prop_assert!(retry_after(&headers).is_none_or(|span| span <= LONGEST_HINT));
        }
    }
}
