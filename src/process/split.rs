//! Lines out of chunks, in bounded memory.

/// Splits a stream into lines of at most `limit` bytes; longer ones into pieces.
#[derive(Debug)]
pub(super) struct Splitter {
    limit: usize,
    bytes: Vec<u8>,
    /// What is before it has been taken.
    start: usize,
    /// No line ends before it.
    seen: usize,
}

impl Splitter {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            limit,
            bytes: Vec::new(),
            start: 0,
            seen: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.start);
        self.seen -= self.start;
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next line, or piece of one, and whether it goes on.
    pub(super) fn line(&mut self) -> Option<(Vec<u8>, bool)> {
        let most = self.start.saturating_add(self.limit);
        let window = &self.bytes[self.seen..self.bytes.len().min(most.saturating_add(1))];
        if let Some(at) = window.iter().position(|byte| *byte == b'\n') {
            let end = self.seen + at;
            return Some((self.take_line(end), false));
        }
        self.seen += window.len();
        if self.bytes.len() <= most {
            return None;
        }
        let end = self.piece_end(most);
        let piece = self.bytes[self.start..end].to_vec();
        (self.start, self.seen) = (end, end);
        Some((piece, true))
    }

    /// All that is left: a line without its end.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.drain(..self.start);
        (self.start, self.seen) = (0, 0);
        bytes
    }

    fn take_line(&mut self, end: usize) -> Vec<u8> {
        let line = &self.bytes[self.start..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
        (self.start, self.seen) = (end + 1, end + 1);
        line
    }

    /// Where a piece ends that may go up to `most`: not within a character, nor between `\r`
    /// and `\n`, if that is to be had.
    fn piece_end(&self, most: usize) -> usize {
        let fits = |end: &usize| {
            let is_inside = self.bytes[*end] & 0b1100_0000 == 0b1000_0000;
            !is_inside && self.bytes[*end - 1] != b'\r'
        };
        let earliest = most.saturating_sub(3).max(self.start + 1);
        (earliest..=most).rev().find(fits).unwrap_or(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(pieces: &[&[u8]], limit: usize) -> Vec<(String, bool)> {
        let mut splitter = Splitter::new(limit);
        let mut lines = Vec::new();
        for piece in pieces {
            splitter.push(piece);
            lines.extend(std::iter::from_fn(|| splitter.line()));
        }
        if !splitter.is_empty() {
            lines.push((splitter.rest(), false));
        }
        let text = |bytes| String::from_utf8(bytes).unwrap();
        lines.into_iter().map(|(b, p)| (text(b), p)).collect()
    }

    fn line(text: &str) -> (String, bool) {
        (text.into(), false)
    }

    fn piece(text: &str) -> (String, bool) {
        (text.into(), true)
    }

    #[test]
    fn lines_come_without_their_ends() {
        let lines = split(&[b"a\r\nb\n\nc", b"d"], 100);
        assert_eq!(lines, [line("a"), line("b"), line(""), line("cd")]);
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_whole() {
        assert_eq!(
            split(&[b"abc", b"\nabcd\n"], 3),
            [line("abc"), piece("abc"), line("d")]
        );
    }

    #[test]
    fn pieces_end_between_characters_and_ends() {
        let pieces = split(&["aäöü\n".as_bytes()], 4);
        assert_eq!(pieces, [piece("aä"), piece("öü"), line("")]);
        assert_eq!(split(&[b"abc\r\n"], 4), [piece("abc"), line("")]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_is_too_long(
            pieces in prop::collection::vec("[ab\r\nä]{0,12}", 0..12),
            limit in 1_usize..12,
        ) {
            let mut splitter = Splitter::new(limit);
            let (mut whole, mut lines) = (Vec::new(), Vec::new());
            for piece in &pieces {
                splitter.push(piece.as_bytes());
                while let Some((bytes, partial)) = splitter.line() {
                    prop_assert!(bytes.len() <= limit);
                    whole.extend(bytes);
                    if !partial {
                        lines.push(std::mem::take(&mut whole));
                    }
                }
                prop_assert!(splitter.bytes.len() - splitter.start <= limit);
            }
            whole.extend(splitter.rest());
            lines.push(whole);
            let text = pieces.concat();
            let model: Vec<_> = text.split('\n').map(|l| l.strip_suffix('\r').unwrap_or(l)).collect();
            // Where it is held back, the end of a line is not cut off what is the last.
            let last = text.rsplit('\n').next().unwrap_or_default();
            prop_assert_eq!(&lines[..lines.len() - 1], &model[..model.len() - 1]
                .iter().map(|l| l.as_bytes().to_vec()).collect::<Vec<_>>()[..]);
            prop_assert_eq!(lines.last().unwrap(), last.as_bytes());
        }
    }
}
