//! What is done with a session's files: on a thread that may block, and inside of the
//! directory that [`cap_std`] keeps every path in.
//!
//! No path is looked at first and used afterwards to decide where it leads: each call resolves
//! it anew and beneath the directory, so a link that is swapped in between leads nowhere else.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use cap_std::fs::{
    Dir, File, Metadata, MetadataExt, OpenOptions, OpenOptionsExt, Permissions, PermissionsExt,
};
use rustix::fs::OFlags;

use super::super::error::{Effect, SessionError, SessionErrorKind};
use super::super::types::{Entry, EntryKind, FileRange, WriteMode};
use super::directory;
use super::fault;
use super::path::{named, parent, relative};
use super::{FileInfo, FoundFiles};

/// The directories of a session, and how much of them one call may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Files<'a> {
    pub(super) dir: &'a Dir,
    pub(super) spool: &'a Dir,
    /// Bytes.
    pub(super) limit: u64,
    pub(super) max_entries: usize,
}

type Done<T> = Result<T, SessionError>;

impl Files<'_> {
    pub(super) fn read(&self, path: &str, range: FileRange) -> Done<Vec<u8>> {
        let at = relative(path)?;
        self.check_regular(path, &at)?;
        let file = open(self.dir, &at, OpenOptions::new().read(true));
        let mut file = file.map_err(|error| fault::io(path, error))?;
        let size = regular(path, file.metadata())?;
        let rest = size.saturating_sub(range.offset);
        let wanted = range.length.unwrap_or(u64::MAX);
        if wanted.min(rest) > self.limit {
            return Err(self.too_much(path, wanted.min(rest)));
        }
        let read = read_at(
            &mut file,
            range.offset,
            wanted.min(self.limit.saturating_add(1)),
        );
        let read = read.map_err(|error| fault::io(path, error))?;
        if read.len() as u64 > self.limit {
            // It grows, or has no size of its own.
            return Err(self.too_much(path, read.len() as u64));
        }
        Ok(read)
    }

    /// Before somebody makes a copy of it.
    pub(super) fn check_size(&self, path: &str, content: &[u8]) -> Done<()> {
        match content.len() as u64 {
            bytes if bytes > self.limit => Err(self.too_much(path, bytes)),
            _ => Ok(()),
        }
    }

    pub(super) fn write(&self, path: &str, content: &[u8], mode: WriteMode) -> Done<u64> {
        let at = named(path)?;
        match mode {
            WriteMode::Overwrite => self.overwrite(path, &at, content)?,
            WriteMode::Append => self.append(path, &at, content)?,
        }
        Ok(content.len() as u64)
    }

    /// All of it or nothing: a file of its own, which then takes the name.
    fn overwrite(&self, path: &str, at: &Path, content: &[u8]) -> Done<()> {
        let failed = |error| fault::io(path, error);
        let old = self.check_regular(path, at)?;
        let target = match &old {
            Some(_) => self.dir.canonicalize(at).map_err(failed)?,
            None => self.made_parent(path, at)?,
        };
        let spare = Spare::new(self.spool);
        let made = (|| {
            let mut file = spare.make()?;
            file.write_all(content)?;
            if let Some(old) = old {
                file.set_permissions(Permissions::from_mode(old.mode() & 0o777))?;
            }
            self.spool.rename(&spare.name, self.dir, &target)
        })();
        made.map_err(failed)
    }

    fn append(&self, path: &str, at: &Path, content: &[u8]) -> Done<()> {
        let failed = |error| fault::io(path, error);
        let target = match self.check_regular(path, at)? {
            Some(_) => at.to_owned(),
            None => self.made_parent(path, at)?,
        };
        let mut options = OpenOptions::new();
        let file = open(self.dir, &target, options.append(true).create(true));
        let mut file = file.map_err(failed)?;
        regular(path, file.metadata())?;
        let written = file.write_all(content);
        written.map_err(|error| failed(error).with_effect(Effect::Partial))
    }

    /// Makes what is missing above it.
    fn made_parent(&self, path: &str, at: &Path) -> Done<PathBuf> {
        let made = self.dir.create_dir_all(parent(at));
        made.map_err(|error| fault::io(path, error))?;
        Ok(at.to_owned())
    }

    /// What is there, if anything, when it is a regular file: to open a device can do harm.
    fn check_regular(&self, path: &str, at: &Path) -> Done<Option<Metadata>> {
        match self.dir.metadata(at) {
            Ok(found) => {
                regular(path, Ok(found.clone()))?;
                Ok(Some(found))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fault::io(path, error)),
        }
    }

    pub(super) fn list(&self, path: &str) -> Done<Vec<Entry>> {
        let failed = |error| fault::io(path, error);
        let mut found = Vec::new();
        for entry in self.dir.read_dir(relative(path)?).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if found.len() >= self.max_entries {
                let most = self.max_entries;
                return Err(invalid(format!("{path:?} has more than {most} entries")));
            }
            let kind = entry.file_type().map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            found.push(Entry::new(name, kind_of(kind.is_dir())));
        }
        found.sort();
        Ok(found)
    }

    pub(super) fn info(&self, path: &str) -> Done<FileInfo> {
        let failed = |error| fault::io(path, error);
        let at = relative(path)?;
        let link = self.dir.symlink_metadata(&at).map_err(failed)?;
        let found = self.dir.metadata(&at).map_err(failed)?;
        let name = at.file_name().unwrap_or_default().to_string_lossy();
        let into_std = cap_std::time::SystemTime::into_std;
        Ok(FileInfo {
            name: name.into_owned(),
            kind: kind_of(found.is_dir()),
            is_regular: found.is_file(),
            is_link: link.is_symlink(),
            size: found.len(),
            mode: found.mode() & 0o7777,
            modified: found.modified().ok().map(into_std),
            created: found.created().ok().map(into_std),
        })
    }

    pub(super) fn create_directory(&self, path: &str) -> Done<()> {
        let made = self.dir.create_dir_all(relative(path)?);
        made.map_err(|error| fault::io(path, error))
    }

    /// A directory is first taken away as a whole, and then emptied.
    pub(super) fn remove(&self, path: &str) -> Done<()> {
        let failed = |error| fault::io(path, error);
        let at = named(path)?;
        let found = self.dir.symlink_metadata(&at).map_err(failed)?;
        if !found.is_dir() {
            return self.dir.remove_file(&at).map_err(failed);
        }
        let spare = Spare::new(self.spool);
        let moved = self.dir.rename(&at, self.spool, &spare.name);
        moved.map_err(failed)?;
        let removed = directory::remove(self.spool, spare.name.as_ref());
        removed.map_err(|error| failed(error).with_effect(Effect::Partial))
    }

    pub(super) fn move_file(&self, from: &str, to: &str) -> Done<()> {
        let (source, target) = (named(from)?, named(to)?);
        let there = self.dir.symlink_metadata(&source);
        there.map_err(|error| fault::io(from, error))?;
        self.made_parent(to, &target)?;
        let moved = self.dir.rename(source, self.dir, target);
        moved.map_err(|error| fault::io(&format!("{from} to {to}"), error))
    }

    /// Looks at so many entries as a list may have; links are found and not followed.
    pub(super) fn search(&self, path: &str, pattern: &str) -> Done<FoundFiles> {
        let top = relative(path)?;
        let mut found = FoundFiles::default();
        let mut seen = 0;
        let mut left = vec![(top.clone(), path.trim_end_matches('/').to_owned())];
        let mut first = true;
        while let Some((at, shown)) = left.pop() {
            let entries = match self.dir.read_dir(&at) {
                Ok(entries) => entries,
                Err(error) if first => return Err(fault::io(path, error)),
                // It is gone meanwhile, or may not be looked into.
                Err(_) => continue,
            };
            first = false;
            for entry in entries.flatten() {
                seen += 1;
                if seen > self.max_entries {
                    found.truncated = true;
                    left.clear();
                    break;
                }
                let name = entry.file_name();
                let text = name.to_string_lossy();
                let shown = format!("{shown}/{text}");
                if super::path::matches(pattern, &text) {
                    found.paths.push(shown.clone());
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    left.push((at.join(&name), shown));
                }
            }
        }
        found.paths.sort();
        Ok(found)
    }

    /// Where a command is to run: a directory, as the system finds it from the session's.
    pub(super) fn directory(&self, path: &str) -> Done<PathBuf> {
        let failed = |error| fault::io(path, error);
        let at = self.dir.canonicalize(relative(path)?).map_err(failed)?;
        if !self.dir.metadata(&at).map_err(failed)?.is_dir() {
            return Err(invalid(format!("{path:?} is not a directory")));
        }
        Ok(at)
    }

    fn too_much(&self, path: &str, bytes: u64) -> SessionError {
        let limit = self.limit;
        invalid(format!(
            "{path:?}: {bytes} bytes or more, and {limit} are the most in one call; take parts"
        ))
    }
}

/// Opens a file such that nothing that is put in its place meanwhile makes it wait: a FIFO
/// nobody writes to, a terminal.
fn open(dir: &Dir, path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    dir.open_with(path, options.custom_flags(directory::bits(flags)))
}

/// The size of what is a regular file.
fn regular(path: &str, found: io::Result<Metadata>) -> Done<u64> {
    let found = found.map_err(|error| fault::io(path, error))?;
    if found.is_file() {
        return Ok(found.len());
    }
    let what = if found.is_dir() {
        "a directory"
    } else {
        "a device, a pipe or a socket"
    };
    Err(invalid(format!("{path:?} is {what}, not a file")))
}

fn read_at(file: &mut File, offset: u64, most: u64) -> io::Result<Vec<u8>> {
    if i64::try_from(offset).is_err() {
        return Ok(Vec::new());
    }
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn kind_of(directory: bool) -> EntryKind {
    if directory {
        EntryKind::Directory
    } else {
        EntryKind::File
    }
}

fn invalid(message: String) -> SessionError {
    SessionError::new(SessionErrorKind::Invalid, message)
}

/// A name in the spool that nothing else has; what is there in the end is removed.
struct Spare<'a> {
    spool: &'a Dir,
    name: String,
}

impl<'a> Spare<'a> {
    fn new(spool: &'a Dir) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Relaxed: only its being unique counts.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = number.to_string();
        Self { spool, name }
    }

    fn make(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        self.spool
            .open_with(&self.name, options.write(true).create_new(true))
    }
}

impl Drop for Spare<'_> {
    fn drop(&mut self) {
        // Gone, if all went well.
        let _ = self.spool.remove_file(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use cap_std::ambient_authority;

    use super::*;

    /// As if what was looked at had been swapped for a link before it is used: every use alone
    /// keeps inside, so that there is no moment in between that counts.
    #[test]
    #[cfg_attr(miri, ignore = "it opens files beneath directories")]
    fn nothing_that_was_looked_at_before_is_what_keeps_a_path_inside() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        for name in ["in", "out", "spool"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        std::fs::write(at("out/x"), "secret").unwrap();
        std::os::unix::fs::symlink(at("out"), at("in/link")).unwrap();
        std::os::unix::fs::symlink("../out/x", at("in/file")).unwrap();
        let dir = |name| Dir::open_ambient_dir(at(name), ambient_authority()).unwrap();
        let (inside, spool) = (dir("in"), dir("spool"));
        let spare = Spare::new(&spool);
        spare.make().unwrap();
        let opened = |path: &str, options: &mut OpenOptions| {
            open(&inside, Path::new(path), options).map(drop)
        };
        let mut errors = vec![
            inside.rename("link/x", &inside, "mine"),
            spool.rename(&spare.name, &inside, "link/x"),
            spool.rename(&spare.name, &inside, "link/new"),
            inside.rename("link/x", &spool, "mine"),
            inside.remove_file("link/x"),
            inside.create_dir_all("link/new"),
            inside.read_dir("link").map(drop),
            inside.canonicalize("link").map(drop),
        ];
        for path in ["file", "link/x"] {
            errors.push(opened(path, OpenOptions::new().read(true)));
            errors.push(opened(path, OpenOptions::new().append(true)));
            errors.push(opened(path, OpenOptions::new().append(true).create(true)));
        }
        for (number, result) in errors.into_iter().enumerate() {
            let error = fault::io("it", result.unwrap_err());
            assert_eq!(error.kind(), SessionErrorKind::Invalid, "{number}: {error}");
        }
        assert_eq!(std::fs::read(at("out/x")).unwrap(), b"secret");
        assert_eq!(std::fs::read_dir(at("out")).unwrap().count(), 1);
    }
}
