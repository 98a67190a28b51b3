//! What a caller's path means, and whether a name matches a pattern: pure.

use std::path::{Path, PathBuf};

use super::super::error::{SessionError, SessionErrorKind};

/// No system that this runs on takes a longer one.
const LONGEST: usize = 4095;

/// A path as seen from the session's directory: an absolute one begins there too. It may still
/// lead out; whoever opens it sees to that.
pub(super) fn relative(path: &str) -> Result<PathBuf, SessionError> {
    if path.is_empty() {
        return Err(invalid("the path is empty"));
    }
    if path.len() > LONGEST {
        return Err(invalid(format!(
            "the path has {} bytes; {LONGEST} are the most",
            path.len()
        )));
    }
    if path.contains('\0') {
        return Err(invalid("the path holds a zero byte"));
    }
    let path = path.trim_start_matches('/');
    Ok(Path::new(if path.is_empty() { "." } else { path }).to_owned())
}

/// As [`relative`], of something that has a name: not the session's directory itself.
pub(super) fn named(path: &str) -> Result<PathBuf, SessionError> {
    let named = relative(path)?;
    if named.file_name().is_none() {
        return Err(invalid(format!("{path:?} names no file")));
    }
    Ok(named)
}

/// The directory that holds it.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn invalid(message: impl Into<Box<str>>) -> SessionError {
    SessionError::new(SessionErrorKind::Invalid, message)
}

/// Whether `name` is as `pattern` says: `*` stands for any characters, `?` for one.
///
/// After a mismatch only the last star is tried again, one character further: what an earlier
/// one took need never change. So it takes at most the product of both lengths.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, taken)) = star else {
                    return false;
                };
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_absolute_path_begins_in_the_session_too() {
        assert_eq!(relative("/tmp/a").unwrap(), Path::new("tmp/a"));
        assert_eq!(relative("//tmp/a").unwrap(), Path::new("tmp/a"));
        assert_eq!(relative("tmp/a").unwrap(), Path::new("tmp/a"));
        assert_eq!(relative("/").unwrap(), Path::new("."));
        assert_eq!(parent(Path::new("a")), Path::new("."));
        assert_eq!(parent(Path::new("b/a")), Path::new("b"));
    }

    #[test]
    fn what_no_system_takes_is_refused() {
        for path in ["", "a\0b", &"x/".repeat(3000)] {
            let error = relative(path).unwrap_err();
            assert_eq!(error.kind(), SessionErrorKind::Invalid, "{path:?}");
        }
        for path in ["/", ".", "a/..", ".."] {
            assert!(named(path).is_err(), "{path:?}");
        }
    }

    /// Slow and obvious.
    fn model(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.first(), name.first()) {
            (None, None) => true,
            (Some(b'*'), _) => {
                model(&pattern[1..], name) || (!name.is_empty() && model(pattern, &name[1..]))
            }
            (Some(b'?'), Some(_)) => model(&pattern[1..], &name[1..]),
            (Some(p), Some(n)) => p == n && model(&pattern[1..], &name[1..]),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_as_the_obvious_way_says(
            pattern in "[ab*?]{0,8}", name in "[ab]{0,10}",
        ) {
            prop_assert_eq!(
                matches(&pattern, &name),
                model(pattern.as_bytes(), name.as_bytes())
            );
        }
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        assert!(!matches(&"*a".repeat(100), &"b".repeat(10_000)));
    }
}
