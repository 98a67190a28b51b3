//! The tools of a session: a shell, interpreters, files.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay::session::{
    Code, CodeResult, Command, CommandResult, SessionId, SessionProvider as _,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::files;
use super::server::Server;
use super::wire::{Call, Failure, Good, random_hex};

const TOOLS: [(&str, &str); 10] = [
    ("shell", "wuying_shell"),
    ("run_code", "wuying_codespace"),
    ("read_file", "wuying_filesystem"),
    ("write_file", "wuying_filesystem"),
    ("get_file_info", "wuying_filesystem"),
    ("list_directory", "wuying_filesystem"),
    ("create_directory", "wuying_filesystem"),
    ("delete_file", "wuying_filesystem"),
    ("move_file", "wuying_filesystem"),
    ("search_files", "wuying_filesystem"),
];

/// The list as the wire has it: JSON in a string.
pub(crate) fn list() -> String {
    let tools = TOOLS.map(|(name, server)| json!({ "name": name, "server": server }));
    Value::from(tools.to_vec()).to_string()
}

/// A tool's own name, if there is such a tool.
pub(crate) fn known(name: &str) -> Option<&'static str> {
    let mut names = TOOLS.iter().map(|(tool, _)| *tool);
    names.find(|tool| *tool == name)
}

/// What a tool says.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) is_error: bool,
}

impl Said {
    pub(crate) fn good(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            is_error: false,
        }
    }

    pub(crate) fn error(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            is_error: true,
        }
    }

    pub(crate) fn data(self) -> Value {
        json!({
            "content": [{ "type": "text", "text": self.text }],
            "isError": self.is_error,
        })
    }
}

/// `CallMcpTool`.
pub(crate) async fn call(server: &Server, call: &Call) -> Result<Good, Failure> {
    let (name, id) = (call.needed("Name")?, call.needed("SessionId")?);
    call.boolean("AutoGenSession")?;
    let args = call
        .field("Args")
        .filter(|args| !args.is_empty())
        .unwrap_or("{}");
    let args: Map<String, Value> =
        serde_json::from_str(args).map_err(|_| Failure::parameter("Args", "an object in JSON"))?;
    let (id, _) = server.find_running(id)?;
    let data = run(server, &id, name, &args).await.data();
    let data = if server.config.data_as_text {
        data.to_string().into()
    } else {
        data
    };
    Ok(Good::data(data).code("200"))
}

pub(crate) async fn run(
    server: &Server,
    id: &SessionId,
    name: &str,
    args: &Map<String, Value>,
) -> Said {
    let args = Args(args);
    let said = match name {
        "shell" => shell(server, id, &args).await,
        "run_code" => run_code(server, id, &args).await,
        _ => match known(name) {
            Some(name) => files::run(server, id, name, &args).await,
            None => Err("tool not found".to_owned()),
        },
    };
    said.unwrap_or_else(Said::error)
}

/// What a tool is given; what is wrong with it, the tool says.
pub(crate) struct Args<'a>(&'a Map<String, Value>);

impl Args<'_> {
    pub(crate) fn needed<T: DeserializeOwned>(&self, name: &str) -> Result<T, String> {
        self.get(name)?
            .ok_or_else(|| format!("Invalid arguments: {name} is missing"))
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, String> {
        let Some(value) = self.0.get(name).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        serde_json::from_value(value.clone())
            .map(Some)
            .map_err(|_| format!("Invalid arguments: {name} is of a wrong type"))
    }
}

/// The gateway waits no longer.
const LONGEST_COMMAND_MS: u64 = 50_000;
const LONGEST_CODE_S: u64 = 60;

async fn shell(server: &Server, id: &SessionId, args: &Args<'_>) -> Result<Said, String> {
    let mut command = Command::new(args.needed::<String>("command")?);
    let ms = args.get("timeout_ms")?.unwrap_or(LONGEST_COMMAND_MS);
    command.time_limit = Some(Duration::from_millis(ms.min(LONGEST_COMMAND_MS)));
    command.directory = args.get("cwd")?;
    command.environment = args.get::<BTreeMap<_, _>>("envs")?.unwrap_or_default();
    let result = server.provider.run(id, &command).await;
    result
        .map(|result| said_by_shell(&result))
        .map_err(|error| error.message().to_owned())
}

/// A command that fails is the tool's error, with the same content as one that does not.
fn said_by_shell(result: &CommandResult) -> Said {
    let code = result.exit_code.unwrap_or(-1);
    let good = result.success && code == 0;
    let mut stderr = result.stderr_text().into_owned();
    if result.exit_code.is_none() {
        stderr.push_str(&result.error_message);
    }
    let trace = result.trace_id.clone().filter(|_| !good);
    let text = json!({
        "stdout": result.stdout_text(),
        "stderr": stderr,
        "exit_code": code,
        "traceId": if good { String::new() } else { trace.unwrap_or_else(|| random_hex(16)) },
    });
    Said {
        text: text.to_string(),
        is_error: !good,
    }
}

async fn run_code(server: &Server, id: &SessionId, args: &Args<'_>) -> Result<Said, String> {
    let source: String = args.needed("code")?;
    let language: String = args.needed("language")?;
    if !["python", "javascript", "r", "java"].contains(&language.as_str()) {
        return Err(format!("Unsupported language: {language}"));
    }
    let seconds = args.get("timeout_s")?.unwrap_or(LONGEST_CODE_S);
    let limit = Duration::from_secs(seconds.min(LONGEST_CODE_S));
    let code = Code::new(language, source).time_limit(limit);
    let result = server.provider.run_code(id, &code).await;
    result
        .map(|result| said_by_code(&result))
        .map_err(|error| error.message().to_owned())
}

/// Code that fails is no error of the tool.
fn said_by_code(result: &CodeResult) -> Said {
    let last = result.results.len().saturating_sub(1);
    let values =
        result.results.iter().enumerate().map(|(at, text)| {
            json!({ "isMainResult": at == last, "text/plain": text }).to_string()
        });
    let lines = |text: &str| -> Vec<String> {
        let all = Some(text.to_owned()).filter(|text| !text.is_empty());
        all.into_iter().collect()
    };
    let error = match (result.success, result.error_message.as_str()) {
        (true, _) => "",
        (false, "") => "the code failed",
        (false, message) => message,
    };
    let text = json!({
        "executionError": error,
        "result": values.collect::<Vec<_>>(),
        "stdout": lines(&result.stdout_text()),
        "stderr": lines(&result.stderr_text()),
    });
    Said::good(text.to_string())
}
