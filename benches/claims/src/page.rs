//! The text that comes out.

use std::fmt::Write as _;

pub(crate) struct Page(String);

impl Page {
    pub(crate) fn new() -> Self {
        Self(format!(
            "# Claims, measured\n\n\
             Written by `scripts/claims`: see `benches/claims`. Guides to async code say that ten\n\
             tasks of one second take ten seconds one after the other and one to two side by side,\n\
             that threads end at about 1 000 operations at once and async code at 10 000 and more,\n\
             with less memory for each, and that connections are reused. {} cores.\n",
            std::thread::available_parallelism().map_or(0, usize::from)
        ))
    }

    pub(crate) fn section(&mut self, title: &str, text: &str) {
        let _ = write!(self.0, "\n## {title}\n\n{text}\n");
    }

    pub(crate) fn table<const N: usize>(&mut self, head: [&str; N], rows: &[[String; N]]) {
        let _ = writeln!(self.0, "\n| {} |", head.join(" | "));
        let _ = writeln!(self.0, "|{}", "---|".repeat(N));
        for row in rows {
            let _ = writeln!(self.0, "| {} |", row.join(" | "));
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}
