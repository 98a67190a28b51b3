//! The facts of the last run of each suite, in both depths.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::Failure;
use crate::run::Depth;

/// Key and value, as a suite told them; numbers under the same key are added up.
pub type Facts = BTreeMap<String, String>;

const HEAD: &str = "# Written by scripts/verify: depth, suite, key, value.\n";

#[derive(Debug, Default, PartialEq)]
pub struct Record(BTreeMap<(String, Depth), Facts>);

impl Record {
    pub fn read(path: &Path) -> Result<Self, Failure> {
        if path.exists() {
            Self::parse(&std::fs::read_to_string(path)?)
        } else {
            Ok(Self::default())
        }
    }

    pub fn parse(text: &str) -> Result<Self, Failure> {
        let mut record = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let cells: Vec<&str> = line.splitn(4, '\t').collect();
            let [depth, suite, key, value] = cells[..] else {
                return Err(format!("no fact: {line:?}").into());
            };
            let facts = record
                .0
                .entry((suite.to_owned(), Depth::parse(depth)?))
                .or_default();
            facts.insert(key.to_owned(), value.to_owned());
        }
        Ok(record)
    }

    pub fn put(&mut self, suite: &str, depth: Depth, facts: Facts) {
        self.0.insert((suite.to_owned(), depth), facts);
    }

    pub fn facts(&self, suite: &str, depth: Depth) -> Option<&Facts> {
        self.0.get(&(suite.to_owned(), depth))
    }

    pub fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        for ((suite, depth), facts) in &self.0 {
            for (key, value) in facts {
                let _ = writeln!(text, "{}\t{suite}\t{key}\t{value}", depth.name());
            }
        }
        text
    }

    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        Ok(std::fs::write(path, self.text())?)
    }
}

/// The facts in the lines that a suite has appended.
pub fn facts_of(lines: &str) -> Result<Facts, Failure> {
    let mut facts = Facts::new();
    for line in lines.lines() {
        let (key, value) = line
            .split_once('\t')
            .ok_or_else(|| format!("no fact: {line:?}"))?;
        let sum = match (facts.get(key).map(|before| before.parse()), value.parse()) {
            (Some(Ok(before)), Ok(number)) => Some(u64::saturating_add(before, number)),
            _ => None,
        };
        let value = sum.map_or_else(|| value.to_owned(), |sum| sum.to_string());
        facts.insert(key.to_owned(), value);
    }
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_added_up_and_the_last_text_counts() {
        let facts = facts_of("a.n\t2\nb.text\tx\na.n\t40\nb.text\ty\n").unwrap();
        assert_eq!(facts["a.n"], "42");
        assert_eq!(facts["b.text"], "y");
        assert!(facts_of("no tab").is_err());
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut record = Record::default();
        record.put("lab", Depth::Deep, facts_of("lab.points\t7").unwrap());
        record.put(
            "lab",
            Depth::Short,
            facts_of("lab.points\t3\nlab.note\ta b").unwrap(),
        );
        assert_eq!(Record::parse(&record.text()).unwrap(), record);
    }
}
