//! The stored counts: a text file with one line for each row, so that a change reads well in a
//! commit.

use std::fmt;
use std::str::FromStr;

use crate::AnyError;
use crate::callgrind::Counts;
use crate::setting::Setting;

const HEAD: &str = "\
# Instructions per call, by callgrind. Written by scripts/counts --bless; a change is explained
# in the commit that makes it.
";

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Baseline {
    pub(crate) setting: Setting,
    pub(crate) rows: Counts,
}

/// What became of one row.
#[derive(Debug, PartialEq)]
pub(crate) struct Verdict {
    name: String,
    was: Option<f64>,
    is: Option<f64>,
    tolerance: f64,
}

impl Baseline {
    /// Every row of either side, in the order of their names.
    pub(crate) fn compare(&self, now: &Self, tolerance: f64) -> Vec<Verdict> {
        let mut names: Vec<_> = self.rows.keys().chain(now.rows.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let verdict = |name: &String| Verdict {
            name: name.clone(),
            was: self.rows.get(name).copied(),
            is: now.rows.get(name).copied(),
            tolerance,
        };
        names.into_iter().map(verdict).collect()
    }
}

impl Verdict {
    /// Moved too far, or there on one side only.
    pub(crate) fn fails(&self) -> bool {
        self.percent()
            .is_none_or(|percent| percent.abs() > self.tolerance)
    }

    fn percent(&self) -> Option<f64> {
        let (was, is) = (self.was?, self.is?);
        Some(if was == is {
            0.0
        } else {
            (is - was) / was * 100.0
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match (self.was, self.is, self.percent()) {
            (Some(was), Some(is), Some(percent)) => {
                let word = match percent {
                    p if p > self.tolerance => "SLOWER",
                    p if p < -self.tolerance => "FASTER",
                    _ => "",
                };
                write!(
                    f,
                    "{name:<44} {was:>9.2} -> {is:>9.2} {percent:>+8.2} % {word}"
                )
            }
            (None, Some(is), _) => write!(f, "{name:<44} NEW ROW   {is:>9.2}"),
            _ => write!(f, "{name:<44} GONE"),
        }
    }
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        for (name, value) in &self.setting.0 {
            writeln!(f, "# {name}: {value}")?;
        }
        for (name, count) in &self.rows {
            // What takes a turn of the scheduler varies by a hundredth of an instruction.
            let decimals = if *count < 1000.0 { 2 } else { 0 };
            writeln!(f, "{name:<44} {count:>9.decimals$}")?;
        }
        Ok(())
    }
}

impl FromStr for Baseline {
    type Err = AnyError;

    fn from_str(text: &str) -> Result<Self, AnyError> {
        let mut read = Self::default();
        for line in text.lines() {
            if let Some(note) = line.strip_prefix("# ") {
                let setting = note.split_once(": ");
                let setting = setting.map(|(n, v)| (n.to_owned(), v.to_owned()));
                read.setting.0.extend(setting);
            } else {
                let (name, count) = line.rsplit_once(' ').ok_or("a line without a count")?;
                let old = read.rows.insert(name.trim().to_owned(), count.parse()?);
                old.map_or(Ok(()), |_| Err(format!("two rows: {line}")))?;
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(rows: &[(&str, f64)]) -> Baseline {
        let rows = rows.iter().map(|(n, c)| ((*n).to_owned(), *c)).collect();
        let setting = Setting(vec![("rustc".into(), "1.95: \"x\"".into())]);
        Baseline { setting, rows }
    }

    #[test]
    fn it_reads_what_it_wrote() {
        let written = counts(&[("a, b", 12.5), ("c", 1000.0)]);
        assert_eq!(written.to_string().parse::<Baseline>().unwrap(), written);
    }

    #[test]
    fn a_change_fails_in_either_direction_above_the_tolerance() {
        let was = counts(&[("x", 100.0)]);
        for (is, fails) in [(103.0, false), (97.0, false), (103.1, true), (96.9, true)] {
            let verdicts = was.compare(&counts(&[("x", is)]), 3.0);
            assert_eq!(verdicts[0].fails(), fails, "{is}");
        }
    }

    #[test]
    fn a_row_on_one_side_only_fails() {
        let verdicts = counts(&[("old", 1.0)]).compare(&counts(&[("new", 1.0)]), 3.0);
        assert_eq!(verdicts.len(), 2);
        assert!(verdicts.iter().all(Verdict::fails));
        assert!(verdicts[0].to_string().contains("NEW ROW"));
        assert!(verdicts[1].to_string().contains("GONE"));
    }

    #[test]
    fn a_row_that_costs_nothing_may_stay_so_and_may_not_begin_to_cost() {
        let was = counts(&[("x", 0.0)]);
        assert!(!was.compare(&was, 3.0)[0].fails());
        assert!(was.compare(&counts(&[("x", 0.1)]), 3.0)[0].fails());
    }

    #[test]
    fn nonsense_is_not_a_baseline() {
        assert!("x".parse::<Baseline>().is_err());
        assert!("x one".parse::<Baseline>().is_err());
        assert!("x 1\nx 2".parse::<Baseline>().is_err());
    }
}
