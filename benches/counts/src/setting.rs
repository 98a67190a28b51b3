//! What a count depends on beside the code.

use std::process::Command;

use crate::AnyError;

/// Names and values, in the order in which they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Setting(pub(crate) Vec<(String, String)>);

/// Written down, but chosen by `Cargo.lock`: a difference is compared all the same.
const NOTES: [&str; 1] = ["tokio"];

impl Setting {
    pub(crate) fn here(processor: &str) -> Result<Self, AnyError> {
        let compiler = output("rustc", &["-vV"])?;
        let first = compiler.lines().next().unwrap_or_default();
        let host = compiler.lines().find_map(|l| l.strip_prefix("host: "));
        let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
        let values = [
            ("rustc", format!("{first} {flags}")),
            ("target", host.unwrap_or_default().to_owned()),
            ("valgrind", output("valgrind", &["--version"])?),
            ("libc", output("getconf", &["GNU_LIBC_VERSION"])?),
            ("processor", processor.to_owned()),
            ("tokio", locked("tokio")?),
        ];
        let values = values.map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        Ok(Self(values.to_vec()))
    }

    /// What differs in a way that makes counts incomparable, in words.
    pub(crate) fn differences(&self, baseline: &Self) -> Vec<String> {
        let compared = self.0.iter().filter(|(n, _)| !NOTES.contains(&n.as_str()));
        compared
            .filter_map(|(name, here)| {
                let there = baseline.get(name).unwrap_or("(nothing)");
                (there != here).then(|| format!("{name}: {there}; here: {here}"))
            })
            .collect()
    }

    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// What valgrind's processor can do, as seen from inside of it.
pub(crate) fn processor() -> String {
    let mut can = vec![std::env::consts::ARCH];
    #[cfg(target_arch = "x86_64")]
    {
        let all = [
            ("avx2", is_x86_feature_detected!("avx2")),
            ("bmi2", is_x86_feature_detected!("bmi2")),
            ("ermsb", is_x86_feature_detected!("ermsb")),
        ];
        can.extend(all.iter().filter(|(_, yes)| *yes).map(|(name, _)| *name));
    }
    can.join(" ")
}

fn output(program: &str, arguments: &[&str]) -> Result<String, AnyError> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    Ok(String::from_utf8(output.stdout)?)
}

/// The version that `Cargo.lock` has of a package.
fn locked(package: &str) -> Result<String, AnyError> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock");
    let lock = std::fs::read_to_string(file)?;
    let name = format!("name = \"{package}\"");
    let mut after = lock.lines().skip_while(|line| *line != name);
    let version = after.nth(1).and_then(|line| line.split('"').nth(1));
    Ok(version.unwrap_or("unknown").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(rustc: &str, tokio: &str) -> Setting {
        let values = [("rustc", rustc), ("tokio", tokio)];
        Setting(values.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec())
    }

    #[test]
    fn another_compiler_is_a_difference() {
        let lines = setting("2", "1").differences(&setting("1", "1"));
        assert_eq!(lines, ["rustc: 1; here: 2"]);
        assert_eq!(setting("2", "1").differences(&Setting::default()).len(), 1);
    }

    #[test]
    fn what_the_lock_file_chooses_is_none() {
        assert!(setting("1", "2").differences(&setting("1", "1")).is_empty());
        assert_ne!(locked("tokio").expect("a lock file"), "unknown");
    }
}
