//! The beginning and the end of a stream, in bounded memory.

use std::collections::VecDeque;

use super::output::Captured;

/// Keeps `limit` bytes: the first half of them from the beginning, the other from the end.
#[derive(Debug)]
pub(super) struct Capture {
    head: Vec<u8>,
    head_limit: usize,
    tail: VecDeque<u8>,
    tail_limit: usize,
    total: u64,
}

impl Capture {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            head: Vec::new(),
            head_limit: limit - limit / 2,
            tail: VecDeque::new(),
            tail_limit: limit / 2,
            total: 0,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = self.head_limit - self.head.len();
        let (head, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(head);
        self.push_tail(rest);
    }

    fn push_tail(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(self.tail_limit)..];
        let over = (self.tail.len() + bytes.len()).saturating_sub(self.tail_limit);
        self.tail.drain(..over);
        self.tail.extend(bytes);
    }

    /// What was kept; it begins anew after that.
    pub(super) fn take(&mut self) -> Captured {
        let limit = self.head_limit + self.tail_limit;
        let Self {
            head: mut bytes,
            tail,
            total,
            ..
        } = std::mem::replace(self, Self::new(limit));
        let seam = bytes.len();
        bytes.reserve_exact(tail.len());
        let (first, second) = tail.as_slices();
        bytes.extend_from_slice(first);
        bytes.extend_from_slice(second);
        let cut = total > bytes.len() as u64;
        Captured {
            bytes,
            total,
            cut_at: cut.then_some(seam),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Keeps all, and cuts at the end.
    fn model(all: &[u8], limit: usize) -> Captured {
        let (head, tail) = (limit - limit / 2, limit / 2);
        let total = all.len() as u64;
        if all.len() <= limit {
            return Captured {
                bytes: all.to_vec(),
                total,
                cut_at: None,
            };
        }
        Captured {
            bytes: [&all[..head], &all[all.len() - tail..]].concat(),
            total,
            cut_at: Some(head),
        }
    }

    proptest! {
        #[test]
        fn it_keeps_what_the_model_keeps(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20),
            limit in 0_usize..80,
        ) {
            let mut capture = Capture::new(limit);
            for piece in &pieces {
                capture.push(piece);
                prop_assert!(capture.head.len() + capture.tail.len() <= limit);
            }
            prop_assert_eq!(capture.take(), model(&pieces.concat(), limit));
            prop_assert_eq!(capture.take(), Captured::default());
        }
    }

    #[test]
    fn after_a_take_it_keeps_as_much_as_before() {
        let mut capture = Capture::new(5);
        for _ in 0..2 {
            capture.push(b"abcdefg");
            assert_eq!(capture.take(), model(b"abcdefg", 5));
        }
    }

    #[test]
    fn the_largest_limit_is_no_memory() {
        let mut capture = Capture::new(usize::MAX);
        capture.push(b"a");
        assert_eq!(capture.take().bytes, b"a");
    }
}
