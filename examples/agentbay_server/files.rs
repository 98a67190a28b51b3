//! The tools for files.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mainstay::session::{
    EntryKind, FileRange, SessionError, SessionId, SessionProvider as _, WriteMode,
};
use serde_json::Value;

use super::server::Server;
use super::tools::{Args, Said};

pub(crate) async fn run(
    server: &Server,
    id: &SessionId,
    name: &str,
    args: &Args<'_>,
) -> Result<Said, String> {
    match name {
        "read_file" => read(server, id, args).await,
        "write_file" => write(server, id, args).await,
        "get_file_info" => info(server, id, args).await,
        "list_directory" => list(server, id, args).await,
        "create_directory" => create_directory(server, id, args).await,
        "delete_file" => delete(server, id, args).await,
        "move_file" => rename(server, id, args).await,
        _ => search(server, id, args).await,
    }
}

fn told(error: &SessionError) -> String {
    format!("Error: {}", error.message())
}

/// A character that a text is cut in can miss so many bytes at most.
const LONGEST_REST: u64 = 3;

async fn read(server: &Server, id: &SessionId, args: &Args<'_>) -> Result<Said, String> {
    let path: String = args.needed("path")?;
    let offset = args.get::<u64>("offset")?.unwrap_or(0);
    let length = args.get::<u64>("length")?.filter(|length| *length > 0);
    let binary = match args.get::<String>("format")?.as_deref() {
        None | Some("text") => false,
        Some("binary") => true,
        Some(_) => return Err("Invalid arguments: format is text or binary".to_owned()),
    };
    let more = if binary { 0 } else { LONGEST_REST };
    let range = FileRange {
        offset,
        length: length.map(|length| length.saturating_add(more)),
    };
    let bytes = server.provider.read_file(id, &path, range).await;
    let bytes = bytes.map_err(|error| told(&error))?;
    if binary {
        return Ok(Said::good(STANDARD.encode(bytes)));
    }
    Ok(Said::good(text_part(&bytes, offset > 0, length)))
}

/// A part of a text in whole characters: one that two parts share belongs to the part in
/// which it begins. So the parts of a text are the text.
fn text_part(bytes: &[u8], inside: bool, length: Option<u64>) -> String {
    let goes_on = |byte: &u8| byte & 0b1100_0000 == 0b1000_0000;
    let rest = |bytes: &[u8]| {
        bytes
            .iter()
            .take(3)
            .take_while(|byte| goes_on(byte))
            .count()
    };
    let from = if inside { rest(bytes) } else { 0 };
    let length = length.and_then(|length| usize::try_from(length).ok());
    let cut = length.unwrap_or(bytes.len()).min(bytes.len());
    let to = cut + rest(&bytes[cut..]);
    String::from_utf8_lossy(&bytes[from.min(to)..to]).into_owned()
}

async fn write(server: &Server, id: &SessionId, args: &Args<'_>) -> Result<Said, String> {
    let path: String = args.needed("path")?;
    let content: String = args.needed("content")?;
    let mode = match args.get::<String>("mode")?.as_deref() {
        None | Some("overwrite") => WriteMode::Overwrite,
        Some("append") => WriteMode::Append,
        Some(_) => return Err("Invalid arguments: mode is overwrite or append".to_owned()),
    };
    let written = server
        .provider
        .write_file(id, &path, content.as_bytes(), mode)
        .await;
    let written = written.map_err(|error| told(&error))?;
    Ok(Said::good(format!(
        "Successfully wrote {} bytes to {path}",
        written.bytes
    )))
}

async fn info(server: &Server, id: &SessionId, args: &Args<'_>) -> Result<Said, String> {
    let path: String = args.needed("path")?;
    let info = server.provider.file_info(id, &path).await;
    let info = info.map_err(|error| told(&error))?;
    let directory = info.kind == EntryKind::Directory;
    Ok(Said::good(format!(
        "size: {}\nisDirectory: {directory}\nisFile: {}",
        info.size, !directory
    )))
}

async fn list(server: &Server, id: &SessionId, args: &Args<'_>) -> Result<Said, String> {
    let path: String = args.needed("path")?;
    let entries = server.provider.list_directory(id, &path).await;
    let entries = entries.map_err(|error| told(&error))?;
    let lines = entries.iter().map(|entry| match entry.kind {
        EntryKind::Directory => format!("[DIR] {}", entry.name),
        _ => format!("[FILE] {}", entry.name),
    });
    Ok(Said::good(lines.collect::<Vec<_>>().join("\n")))
}

async fn create_directory(
    server: &Server,
    id: &SessionId,
    args: &Args<'_>,
) -> Result<Said, String> {
    let path: String = args.needed("path")?;
    let created = server.provider.create_directory(id, &path).await;
    created.map_err(|error| told(&error))?;
    Ok(Said::good(format!("Successfully created directory {path}")))
}

async fn delete(server: &Server, id: &SessionId, args: &Args<'_>) -> Result<Said, String> {
    let path: String = args.needed("path")?;
    let removed = server.provider.remove(id, &path).await;
    removed.map_err(|error| told(&error))?;
    Ok(Said::good(format!("Successfully deleted {path}")))
}

async fn rename(server: &Server, id: &SessionId, args: &Args<'_>) -> Result<Said, String> {
    let source: String = args.needed("source")?;
    let destination: String = args.needed("destination")?;
    let moved = server.provider.move_file(id, &source, &destination).await;
    moved.map_err(|error| told(&error))?;
    Ok(Said::good(format!(
        "Successfully moved {source} to {destination}"
    )))
}

async fn search(server: &Server, id: &SessionId, args: &Args<'_>) -> Result<Said, String> {
    let path: String = args.needed("path")?;
    let pattern: String = args.needed("pattern")?;
    let exclude = excluded(args)?;
    let found = server.provider.search_files(id, &path, &pattern).await;
    let mut paths = found.map_err(|error| told(&error))?.paths;
    paths.retain(|path| {
        let name = path.rsplit('/').next().unwrap_or(path);
        !exclude.iter().any(|pattern| matches(pattern, name))
    });
    if paths.is_empty() {
        return Ok(Said::good("No matches found"));
    }
    Ok(Said::good(paths.join("\n")))
}

/// Whether a name is as the pattern says: `*` is anything, `?` one character. What a star has
/// taken is given back one by one, and only for the last star: so it takes the two lengths
/// multiplied at most.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, taken)) = star else {
                    return false;
                };
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// As a list, or as one string with commas.
fn excluded(args: &Args<'_>) -> Result<Vec<String>, String> {
    match args.get::<Value>("excludePatterns")? {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => {
            let parts = text
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty());
            Ok(parts.map(str::to_owned).collect())
        }
        Some(_) => args.needed("excludePatterns"),
    }
}

#[cfg(test)]
mod tests {
    use super::{matches, text_part};

    #[test]
    fn the_parts_of_a_text_are_the_text() {
        let text = "aä€😀b".repeat(50);
        let bytes = text.as_bytes();
        for size in 1..40 {
            let mut whole = String::new();
            for offset in (0..bytes.len()).step_by(size) {
                let to = (offset + size + 3).min(bytes.len());
                let part = &bytes[offset..to];
                whole.push_str(&text_part(part, offset > 0, Some(size as u64)));
            }
            assert_eq!(whole, text, "in parts of {size}");
        }
    }

    #[test]
    fn a_name_is_as_the_pattern_says() {
        for (pattern, name) in [
            ("*", ""),
            ("*.py", "a.py"),
            ("*a*b", "xaybzb"),
            ("te?t_*", "test_"),
            ("ä?", "äß"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("", "a"),
            ("?", ""),
            ("*.py", "a.pyc"),
            ("a*b", "ac"),
            ("a", "ab"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_no_text_is_replaced() {
        assert_eq!(text_part(b"a\xffb", false, None), "a\u{fffd}b");
    }
}
