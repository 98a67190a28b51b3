//! Files on a wire that carries them piece by piece, as text.

use super::super::types::{Entry, EntryKind, FileRange};

/// So much of a file is read at once.
pub(super) const READ_CHUNK: u64 = 50 * 1024;

/// So much of a file is written at once, in bytes of UTF-8.
pub(super) const WRITE_CHUNK: usize = 51 * 1024;

/// So long may a piece be as JSON: messages end at 63 KiB, and the rest goes to the path and
/// what stands around it.
const LONGEST_JSON: usize = 60 * 1024;

/// Cuts a text into pieces that fit into a message each, never inside of a character. Quotes
/// and control characters are longer in a message than in a file, so both are counted. There is
/// always one piece, so that an empty file comes to be.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (piece, left) = text.split_at(first_piece(text));
        rest = Some(left).filter(|left| !left.is_empty());
        Some(piece)
    })
}

/// Where the first piece ends.
fn first_piece(text: &str) -> usize {
    let mut json = 0;
    for (start, letter) in text.char_indices() {
        json += json_length(letter);
        if json > LONGEST_JSON || start + letter.len_utf8() > WRITE_CHUNK {
            return start;
        }
    }
    text.len()
}

/// How long a character is in a message.
fn json_length(letter: char) -> usize {
    match letter {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        letter => letter.len_utf8(),
    }
}

/// What `get_file_info` says, as far as it is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileInfo {
    pub(super) size: u64,
    pub(super) is_directory: bool,
}

/// Reads lines of `name: value`.
pub(super) fn read_info(text: &str) -> Option<FileInfo> {
    let find = |wanted: &str| {
        text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == wanted).then(|| value.trim())
        })
    };
    let is_directory = find("isDirectory").is_some_and(|is| is.eq_ignore_ascii_case("true"));
    let size = find("size").and_then(|size| size.parse().ok());
    match (size, is_directory) {
        (None, false) => None,
        (size, is_directory) => Some(FileInfo {
            size: size.unwrap_or(0),
            is_directory,
        }),
    }
}

/// From where to where a range goes in a file of this size.
pub(super) fn bounds(range: FileRange, size: u64) -> (u64, u64) {
    let start = range.offset.min(size);
    let end = range
        .length
        .map_or(size, |length| range.offset.saturating_add(length).min(size));
    (start, end.max(start))
}

/// Reads lines of `[DIR] name` and `[FILE] name`, sorted by name. Other lines are a remark.
pub(super) fn read_listing(text: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = text.lines().filter_map(read_entry).collect();
    entries.sort();
    entries
}

fn read_entry(line: &str) -> Option<Entry> {
    let line = line.trim_start();
    let (kind, name) = match (line.strip_prefix("[DIR]"), line.strip_prefix("[FILE]")) {
        (Some(name), _) => (EntryKind::Directory, name),
        (None, Some(name)) => (EntryKind::File, name),
        (None, None) => return None,
    };
    let name = name.strip_prefix(' ').unwrap_or(name);
    (!name.is_empty()).then(|| Entry::new(name, kind))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_text_is_one_empty_piece() {
        assert_eq!(pieces("").collect::<Vec<_>>(), [""]);
    }

    #[test]
    fn no_piece_ends_inside_of_a_character() {
        // Each length of a character, at each distance from the border.
        for letter in ["a", "é", "€", "😀"] {
            for shift in 0..4 {
                let start = "x".repeat(WRITE_CHUNK - 4 + shift);
                let text = format!("{start}{}", letter.repeat(9));
                let pieces: Vec<&str> = pieces(&text).collect();
                assert_eq!(pieces.len(), 2);
                assert!(pieces[0].len() <= WRITE_CHUNK);
                assert!(pieces[0].len() > WRITE_CHUNK - 4);
                assert_eq!(pieces.concat(), text);
            }
        }
    }

    #[test]
    fn a_piece_that_grows_on_the_wire_is_cut_shorter() {
        for text in ["\"".repeat(WRITE_CHUNK), "\u{1}".repeat(WRITE_CHUNK)] {
            let pieces: Vec<&str> = pieces(&text).collect();
            assert!(pieces.len() > 1);
            assert_eq!(pieces.concat(), text);
            for piece in pieces {
                assert!(serde_json::json!(piece).to_string().len() <= LONGEST_JSON + 2);
            }
        }
    }

    proptest! {
        #[test]
        fn pieces_are_the_text_and_fit(
            parts in prop::collection::vec(("[\u{0}-\u{7f}é€😀]{0,8}", 1..4000_usize), 0..12),
        ) {
            let text: String = parts.iter().map(|(part, n)| part.repeat(*n)).collect();
            let mut whole = String::new();
            for piece in pieces(&text) {
                prop_assert!(piece.len() <= WRITE_CHUNK);
                prop_assert!(!piece.is_empty() || text.is_empty());
                prop_assert!(serde_json::json!(piece).to_string().len() <= LONGEST_JSON + 2);
                whole.push_str(piece);
            }
            prop_assert_eq!(whole, text);
        }

        #[test]
        fn any_text_is_read_or_not(text: String, offset: u64, length: Option<u64>, size: u64) {
            let _ = read_info(&text);
            let _ = read_listing(&text);
            let (start, end) = bounds(FileRange { offset, length }, size);
            prop_assert!(start <= end && end <= size);
        }
    }

    #[test]
    fn a_file_s_facts_are_read() {
        let text = "size: 1234\ncreated: 2026-11-20T03:11:27Z\nisDirectory: false\nisFile: true";
        assert_eq!(
            read_info(text),
            Some(FileInfo {
                size: 1234,
                is_directory: false
            })
        );
        assert!(read_info("isDirectory: True").unwrap().is_directory);
        assert_eq!(read_info("size: many"), None);
        assert_eq!(read_info(""), None);
    }

    #[test]
    fn a_range_stays_inside_of_the_file() {
        assert_eq!(bounds(FileRange::whole(), 10), (0, 10));
        assert_eq!(bounds(FileRange::new(3, 4), 10), (3, 7));
        assert_eq!(bounds(FileRange::new(8, 9), 10), (8, 10));
        assert_eq!(bounds(FileRange::new(20, 1), 10), (10, 10));
        assert_eq!(bounds(FileRange::new(u64::MAX, u64::MAX), 10), (10, 10));
    }

    #[test]
    fn a_listing_is_sorted_and_keeps_names_as_they_are() {
        let text = "[FILE] b c.txt\n[DIR] [FILE]\n\n2 entries\n[FILE]  lead\r\n[FILE]\n[DIR] a";
        let entries = read_listing(text);
        let names: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.kind)).collect();
        assert_eq!(
            names,
            [
                (" lead", EntryKind::File),
                ("[FILE]", EntryKind::Directory),
                ("a", EntryKind::Directory),
                ("b c.txt", EntryKind::File),
            ]
        );
    }
}
