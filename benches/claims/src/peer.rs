//! The public Python client.

use std::process::Command;

use serde_json::Value;

use crate::Failure;

pub(crate) struct Python {
    interpreter: String,
    script: String,
}

impl Python {
    pub(crate) fn new(interpreter: &str, script: &str) -> Self {
        Self {
            interpreter: interpreter.to_owned(),
            script: script.to_owned(),
        }
    }

    /// Runs one part of the script; its last line is JSON.
    pub(crate) fn run(&self, url: &str, key: &str, part: &str) -> Result<Value, Failure> {
        let output = Command::new(&self.interpreter)
            .args([&self.script, url, key, part])
            .output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        let text = String::from_utf8(output.stdout)?;
        let line = text.lines().last().ok_or("the script said nothing")?;
        Ok(serde_json::from_str(line)?)
    }
}
