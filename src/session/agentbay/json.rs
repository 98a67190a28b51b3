//! JSON of somebody else, read into a bounded memory.

use serde_json::Value;

/// So much memory the values of one text may take, in bytes. Texts within it are no larger than
/// they came, and do not count: only how many values there are does.
const MOST: u64 = 128 << 20;

/// What an object takes, about, however few its fields: the map has room for eleven.
const OBJECT: u64 = 700;

/// What any other value takes, about.
const VALUE: u64 = 64;

/// Reads JSON. A short text can hold very many values, each many times larger than it came: more
/// than there is memory for are not read.
pub(super) fn parse(text: &[u8]) -> Option<Value> {
    if weight(text) > MOST {
        return None;
    }
    serde_json::from_slice(text).ok()
}

/// What the values of a text will take. It looks at nothing but their marks outside of strings.
fn weight(text: &[u8]) -> u64 {
    let mut weight = 0;
    let mut is_inside = false;
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => is_inside = !is_inside,
            b'\\' if is_inside => drop(bytes.next()),
            b'{' if !is_inside => weight += OBJECT,
            b'[' | b',' if !is_inside => weight += VALUE,
            _ => {}
        }
    }
    weight
}

/// A value that may have been sent as JSON in a string.
pub(super) fn unwrapped(value: Value) -> Option<Value> {
    match value {
        Value::String(text) => parse(text.as_bytes()),
        Value::Null => None,
        value => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::reply::tests::value;
    use super::*;

    /// By looking at the values themselves.
    fn slow_weight(value: &Value) -> u64 {
        let between = |values: usize| VALUE * values.saturating_sub(1) as u64;
        match value {
            Value::Array(items) => {
                VALUE + between(items.len()) + items.iter().map(slow_weight).sum::<u64>()
            }
            Value::Object(fields) => {
                OBJECT + between(fields.len()) + fields.values().map(slow_weight).sum::<u64>()
            }
            _ => 0,
        }
    }

    #[test]
    fn marks_inside_of_strings_are_no_values() {
        assert_eq!(weight(br#"["a,[{\",[", "\\", 1]"#), 3 * VALUE);
        assert_eq!(weight(br#"{"{": "}"}"#), OBJECT);
    }

    #[test]
    fn too_many_values_are_not_read_and_a_long_text_is() {
        let many = |unit: &str, most: u64| {
            let times = usize::try_from(MOST / most).unwrap();
            parse(format!("[{}0]", unit.repeat(times)).as_bytes())
        };
        assert!(many("{},", OBJECT).is_none());
        assert!(many("0,", VALUE).is_none());
        assert!(many("0,", 100 * VALUE).is_some());
        let long = format!("\"{}\"", ",{[".repeat(1 << 20));
        assert_eq!(
            parse(long.as_bytes()).unwrap().as_str().unwrap().len(),
            3 << 20
        );
    }

    proptest! {
        #[test]
        fn what_is_counted_is_what_is_there(value in value()) {
            prop_assert_eq!(weight(value.to_string().as_bytes()), slow_weight(&value));
        }

        #[test]
        fn any_bytes_are_read_or_not(text: Vec<u8>) {
            prop_assert_eq!(parse(&text), serde_json::from_slice(&text).ok());
        }
    }
}
