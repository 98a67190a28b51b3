//! How large a reply may get: a look at the bytes before anything is kept of them.
//!
//! The library's parser believes every length that it is told. This one reads only the headers
//! of the protocol (RESP 2 and 3) and skips the rest, so that a reply which is announced too
//! large is refused before it is received, and what is no Redis server is known by its first
//! byte.

/// What an element costs besides its bytes: about what its place in memory takes.
const ELEMENT: u64 = 64;

/// No number in a header is longer, its type and its line's end not counted.
const DIGITS: usize = 20;

/// Why no more is read from a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A reply cannot begin with this byte.
    NotRedis(u8),
    /// A header without a number, or with a senseless one.
    Malformed,
    /// It is larger than the limit.
    TooLarge,
}

/// Follows the replies of one connection.
#[derive(Debug)]
pub(super) struct ReplyBound {
    limit: u64,
    /// What the reply under way takes so far, announced bytes included.
    used: u64,
    /// Elements of the reply under way that are still to come.
    elements: u64,
    step: Step,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The next byte says what comes.
    Type,
    /// A line of text, up to its end.
    Text,
    /// A line with a number.
    Number {
        of: u8,
        digits: [u8; DIGITS],
        len: usize,
    },
    /// So many bytes of a bulk, its line's end included.
    Skip(u64),
}

impl ReplyBound {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            used: 0,
            elements: 1,
            step: Step::Type,
        }
    }

    /// Looks at what was received next. With a fault comes how many of these bytes belong to
    /// whole replies before it.
    pub(super) fn feed(&mut self, received: &[u8]) -> Result<(), (usize, Fault)> {
        let (mut bytes, mut whole) = (received, 0);
        while !bytes.is_empty() {
            bytes = self.look(bytes).map_err(|fault| (whole, fault))?;
            if self.is_between_replies() {
                whole = received.len() - bytes.len();
            }
        }
        Ok(())
    }

    fn is_between_replies(&self) -> bool {
        self.used == 0 && matches!(self.step, Step::Type)
    }

    /// One byte, or as many as can be skipped; yields the rest.
    fn look<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], Fault> {
        let Some((&first, rest)) = bytes.split_first() else {
            return Ok(bytes);
        };
        match self.step {
            Step::Skip(left) => {
                let now = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                self.skipped(left - now as u64);
                return Ok(&bytes[now..]);
            }
            Step::Type => self.begin(first)?,
            Step::Text => self.text(first)?,
            Step::Number { of, digits, len } => self.number(first, of, digits, len)?,
        }
        Ok(rest)
    }

    fn begin(&mut self, byte: u8) -> Result<(), Fault> {
        self.charge(1)?;
        self.step = match byte {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => Step::Text,
            b'$' | b'!' | b'=' | b'*' | b'~' | b'>' | b'%' | b'|' => Step::Number {
                of: byte,
                digits: [0; DIGITS],
                len: 0,
            },
            _ => return Err(Fault::NotRedis(byte)),
        };
        Ok(())
    }

    fn text(&mut self, byte: u8) -> Result<(), Fault> {
        self.charge(1)?;
        if byte == b'\n' {
            self.element();
        }
        Ok(())
    }

    fn number(
        &mut self,
        byte: u8,
        of: u8,
        mut digits: [u8; DIGITS],
        len: usize,
    ) -> Result<(), Fault> {
        if byte == b'\n' {
            let text = std::str::from_utf8(&digits[..len]).map_err(|_| Fault::Malformed)?;
            let number: i64 = text.trim().parse().map_err(|_| Fault::Malformed)?;
            return self.announced(of, number);
        }
        *digits.get_mut(len).ok_or(Fault::Malformed)? = byte;
        let len = len + 1;
        self.step = Step::Number { of, digits, len };
        Ok(())
    }

    /// A negative number stands for no value.
    fn announced(&mut self, of: u8, number: i64) -> Result<(), Fault> {
        let Ok(number) = u64::try_from(number) else {
            if number != -1 || !matches!(of, b'$' | b'*') {
                return Err(Fault::Malformed);
            }
            self.element();
            return Ok(());
        };
        match of {
            b'$' | b'!' | b'=' => {
                self.charge(number)?;
                self.step = Step::Skip(number.saturating_add(2));
            }
            b'%' => self.aggregate(number.saturating_mul(2))?,
            // What it says something about comes after it.
            b'|' => self.aggregate(number.saturating_mul(2).saturating_add(1))?,
            _ => self.aggregate(number)?,
        }
        Ok(())
    }

    fn aggregate(&mut self, elements: u64) -> Result<(), Fault> {
        self.charge(elements.saturating_mul(ELEMENT))?;
        self.elements = self.elements.saturating_add(elements);
        self.element();
        Ok(())
    }

    fn skipped(&mut self, left: u64) {
        if left == 0 {
            self.element();
        } else {
            self.step = Step::Skip(left);
        }
    }

    fn charge(&mut self, bytes: u64) -> Result<(), Fault> {
        self.used = self.used.saturating_add(bytes);
        if self.used > self.limit {
            return Err(Fault::TooLarge);
        }
        Ok(())
    }

    /// One element is over, and with the last one the reply.
    fn element(&mut self) {
        self.step = Step::Type;
        self.elements -= 1;
        if self.elements == 0 {
            self.elements = 1;
            self.used = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: u64 = 1000;

    fn feed(bytes: &[u8]) -> Result<(), Fault> {
        let fed = ReplyBound::new(LIMIT).feed(bytes);
        fed.map_err(|(_, fault)| fault)
    }

    #[test]
    fn whole_replies_before_a_fault_are_told() {
        let mut bound = ReplyBound::new(LIMIT);
        assert_eq!(bound.feed(b"+OK\r\n:"), Ok(()));
        let fed = bound.feed(b"1\r\n*1\r\n$2\r\nhi\r\n*1\r\n$9999\r\n");
        assert_eq!(fed, Err((15, Fault::TooLarge)));
        assert_eq!(
            ReplyBound::new(LIMIT).feed(b"HTTP"),
            Err((0, Fault::NotRedis(b'H')))
        );
    }

    #[test]
    fn replies_within_the_limit_pass_however_many() {
        let mut bound = ReplyBound::new(LIMIT);
        for _ in 0..1000 {
            let replies = "+OK\r\n$5\r\n*9\r\n!\r\n*2\r\n:1\r\n*-1\r\n$-1\r\n%1\r\n+a\r\n_\r\n\
                 |1\r\n+a\r\n#t\r\n,1.5\r\n*0\r\n$0\r\n\r\n";
            assert_eq!(bound.feed(replies.as_bytes()), Ok(()));
            assert!(bound.used == 0 && bound.elements == 1, "{bound:?}");
        }
    }

    #[test]
    fn what_is_announced_too_large_is_refused_before_it_comes() {
        for announced in [
            "$1001\r\n",
            "$9223372036854775807\r\n",
            "*16\r\n",
            "*9223372036854775807\r\n",
            "%9223372036854775807\r\n",
            "|9223372036854775807\r\n",
            "*2\r\n$900\r\n",
        ] {
            let whole = format!("{announced}{}\r\n$900\r\n", "x".repeat(900));
            assert_eq!(feed(whole.as_bytes()), Err(Fault::TooLarge), "{announced}");
        }
        assert_eq!(feed(b"$1001\r\n"), Err(Fault::TooLarge));
        assert_eq!(feed(&[b'+'; 2000]), Err(Fault::TooLarge));
    }

    #[test]
    fn what_is_not_the_protocol_is_known_by_its_first_byte() {
        assert_eq!(
            feed(b"HTTP/1.1 400 Bad Request\r\n"),
            Err(Fault::NotRedis(b'H'))
        );
        assert_eq!(feed(b"<html>"), Err(Fault::NotRedis(b'<')));
        assert_eq!(feed(b"\0"), Err(Fault::NotRedis(0)));
        for header in [
            "$x\r\n",
            "$\r\n",
            "*-2\r\n",
            "%-1\r\n",
            "$99999999999999999999\r\n",
        ] {
            assert_eq!(feed(header.as_bytes()), Err(Fault::Malformed), "{header}");
        }
        assert_eq!(
            feed(&[b"*".as_slice(), &[b'1'; 30]].concat()),
            Err(Fault::Malformed)
        );
    }

    /// The same, slow and recursive: the length of one reply, or why there is none.
    fn model(bytes: &[u8], used: &mut u64) -> Option<usize> {
        let line = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
        let number = || {
            std::str::from_utf8(&bytes[1..line - 2])
                .unwrap()
                .parse::<i64>()
        };
        match bytes[0] {
            b'$' => {
                *used += 1;
                let Ok(bulk) = u64::try_from(number().unwrap()) else {
                    return Some(line);
                };
                *used += bulk;
                let end = line + usize::try_from(bulk).unwrap() + 2;
                (bytes.len() >= end).then_some(end)
            }
            b'*' => {
                let count = number().unwrap().max(0);
                *used += 1 + u64::try_from(count).unwrap() * ELEMENT;
                let mut at = line;
                for _ in 0..count {
                    at += model(&bytes[at..], used)?;
                }
                Some(at)
            }
            _ => {
                *used += line as u64;
                Some(line)
            }
        }
    }

    fn reply() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            "[a-z]{0,40}".prop_map(|text| format!("+{text}\r\n")),
            "(a|\r|\n|\\*|\\$){0,40}".prop_map(|bulk| format!("${}\r\n{bulk}\r\n", bulk.len())),
            Just("$-1\r\n".to_owned()),
            any::<i64>().prop_map(|number| format!(":{number}\r\n")),
        ];
        leaf.prop_recursive(4, 20, 5, |inner| {
            prop::collection::vec(inner, 0..5)
                .prop_map(|parts| format!("*{}\r\n{}", parts.len(), parts.concat()))
        })
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_parser_however_the_bytes_are_cut(
            replies in prop::collection::vec(reply(), 1..8),
            cut in 1_usize..9,
        ) {
            let stream = replies.concat();
            let (mut at, mut too_large) = (0, false);
            while at < stream.len() && !too_large {
                let mut used = 0;
                at += model(&stream.as_bytes()[at..], &mut used).unwrap();
                too_large = used > LIMIT;
            }
            let mut bound = ReplyBound::new(LIMIT);
            let fed = stream.as_bytes().chunks(cut).try_for_each(|part| bound.feed(part));
            prop_assert_eq!(fed.is_err(), too_large);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = feed(&bytes);
        }

        #[test]
        fn no_bytes_of_the_protocol_make_it_panic(text in "[+$*:|%0-9\r\n-]{0,200}") {
            let _ = feed(text.as_bytes());
        }
    }
}
