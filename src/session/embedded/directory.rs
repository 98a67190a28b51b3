//! The directories that sessions live in, and how they go away, whatever is in them.
//!
//! ```text
//! <root>/mainstay-sessions-XXXXXX/        of one provider, locked as long as it lives
//!     <session>/files/                    the session's directory
//!     <session>/spool/                    files that are being written, and what is thrown away
//! ```

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder, DirBuilderExt, Permissions, PermissionsExt as _};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use tempfile::TempDir;

use super::leftover::{self, Mark};

/// What the names of all roots begin with.
pub(super) const PREFIX: &str = "mainstay-sessions-";
const FILES: &str = "files";
const SPOOL: &str = "spool";
/// What `TMPDIR` is, and what `/tmp` means to the file calls.
pub(super) const TEMPORARY: &str = "tmp";
const PRIVATE: u32 = 0o700;

/// How often a root is made anew that somebody took for a dead one's.
const TRIES: usize = 8;
/// How often a directory is gone through: each time takes away a level of what was in it, and
/// what somebody puts into it meanwhile.
const PASSES: usize = 100_000;

/// The directory of one provider. Dropping it removes it, with all sessions in it.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) name: String,
    path: PathBuf,
    dir: Dir,
    /// Says that its provider lives.
    _lock: File,
    _made: TempDir,
}

impl Root {
    pub(super) fn make(parent: &Path) -> io::Result<Self> {
        for _ in 0..TRIES {
            match Self::try_make(parent) {
                Ok(Some(root)) => return Ok(root),
                Ok(None) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("others remove it as soon as it is made"))
    }

    /// None when somebody who looks for leftovers came between its making and its lock.
    fn try_make(parent: &Path) -> io::Result<Option<Self>> {
        let made = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(fs::Permissions::from_mode(PRIVATE))
            .tempdir_in(parent)?;
        let Ok(path) = made.path().canonicalize() else {
            return Ok(None);
        };
        let lock = File::open(&path)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)
            || !is_at(&lock, &path)
        {
            return Ok(None);
        }
        let name = path.file_name().map(OsStr::to_string_lossy);
        Ok(Some(Self {
            name: name.unwrap_or_default().into_owned(),
            dir: Dir::open_ambient_dir(&path, ambient_authority())?,
            path,
            _lock: lock,
            _made: made,
        }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it and kills what still runs in it. It can be called again.
    pub(super) fn clear(&self) -> io::Result<()> {
        clear(&self.name, &self.path, &self.dir)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // There is nobody to tell.
        let _ = self.clear();
    }
}

fn is_at(open: &File, path: &Path) -> bool {
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    matches!((open.metadata(), fs::metadata(path)), (Ok(a), Ok(b)) if same(&a, &b))
}

/// Removes a root. Who is still alive in it may write between its last file and itself.
fn clear(name: &str, path: &Path, dir: &Dir) -> io::Result<()> {
    let mark = Mark {
        root: name,
        session: None,
    };
    let mut result = Ok(());
    for _ in 0..TRIES {
        let killed = leftover::kill(mark);
        empty(dir)?;
        result = killed.and_then(|_left| unless_gone(fs::remove_dir(path)));
        if result.is_ok() {
            break;
        }
    }
    result
}

/// Removes the roots in `parent` whose providers are dead. How many; or, after all were tried,
/// what went wrong first.
pub(super) fn remove_leftovers(parent: &Path) -> io::Result<usize> {
    let mut removed = Ok(0);
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            continue;
        };
        if name.starts_with(PREFIX) {
            let one = remove_leftover(&name, &entry.path());
            removed = removed.and_then(|all: usize| Ok(all + usize::from(one?)));
        }
    }
    removed
}

fn remove_leftover(name: &str, path: &Path) -> io::Result<bool> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let mut options = fs::OpenOptions::new();
    options.read(true).custom_flags(bits(flags));
    // No directory, or not ours to open: not ours to remove.
    let Ok(lock) = options.open(path) else {
        return Ok(false);
    };
    let own = lock.metadata()?.uid() == rustix::process::geteuid().as_raw();
    if !own || flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(false);
    }
    let dir = Dir::from_std_file(lock.try_clone()?);
    clear(name, path, &dir)?;
    Ok(true)
}

/// Flags as the standard library wants them.
#[expect(
    clippy::cast_possible_wrap,
    reason = "the system's own bits, which are the same either way"
)]
pub(super) const fn bits(flags: OFlags) -> i32 {
    flags.bits() as i32
}

/// The directories of one session. Dropping it removes them.
#[derive(Debug)]
pub(super) struct Home {
    root: Arc<Root>,
    name: String,
    gone: AtomicBool,
    /// The session's directory: what paths are confined to.
    pub(super) files: Dir,
    pub(super) spool: Dir,
    /// The session's directory, for those who are not confined.
    pub(super) path: PathBuf,
}

impl Home {
    pub(super) fn make(root: Arc<Root>, name: &str) -> io::Result<Self> {
        make_private(&root.dir, name)?;
        match Self::furnish(&root.dir, name) {
            Ok((files, spool)) => Ok(Self {
                path: root.path.join(name).join(FILES),
                root,
                name: name.to_owned(),
                gone: AtomicBool::new(false),
                files,
                spool,
            }),
            Err(error) => {
                let _ = remove(&root.dir, OsStr::new(name));
                Err(error)
            }
        }
    }

    fn furnish(root: &Dir, name: &str) -> io::Result<(Dir, Dir)> {
        let home = root.open_dir(name)?;
        for own in [FILES, SPOOL] {
            make_private(&home, own)?;
        }
        let files = home.open_dir(FILES)?;
        make_private(&files, TEMPORARY)?;
        Ok((files, home.open_dir(SPOOL)?))
    }

    /// What the session's processes carry.
    pub(super) fn mark(&self, outer: Option<&str>) -> String {
        Mark::value(&self.root.name, &self.name, outer)
    }

    /// Kills what still runs in it. How many are left.
    pub(super) fn kill(&self) -> io::Result<usize> {
        leftover::kill(Mark {
            root: &self.root.name,
            session: Some(&self.name),
        })
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        remove(&self.root.dir, OsStr::new(&self.name))?;
        // Relaxed: it only spares a second look.
        self.gone.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !self.gone.load(Ordering::Relaxed) {
            // There is nobody to tell; the root is removed later, with what is left.
            let _ = self.remove();
        }
    }
}

fn make_private(parent: &Dir, name: &str) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    parent.create_dir_with(name, builder.mode(PRIVATE))
}

/// Removes a directory with all that is in it.
pub(super) fn remove(parent: &Dir, name: &OsStr) -> io::Result<()> {
    for _ in 0..TRIES {
        if is_no_directory(parent, name) {
            return unless_gone(parent.remove_file(name));
        }
        let Some(dir) = open(parent, name)? else {
            return Ok(());
        };
        empty(&dir)?;
        match unless_gone(parent.remove_dir(name)) {
            Err(error) if is(&error, Errno::NOTEMPTY) => {}
            result => return result,
        }
    }
    Err(Errno::NOTEMPTY.into())
}

/// Removes all that is in a directory.
///
/// Each directory in it is emptied by moving the directories in that up, beside it. So it takes
/// a handful of descriptors and no stack, however deep they go, and no path is ever too long.
pub(super) fn empty(dir: &Dir) -> io::Result<()> {
    let mut number = 0;
    for _ in 0..PASSES {
        let mut met = false;
        for entry in dir.entries()? {
            met = true;
            let entry = entry?;
            let name = entry.file_name();
            if entry.file_type()?.is_dir() {
                flatten(dir, &name, &mut number)?;
            } else {
                unless_gone(dir.remove_file(&name))?;
            }
        }
        if !met {
            return Ok(());
        }
    }
    Err(Errno::NOTEMPTY.into())
}

/// Removes the directory `name`, after what is in it was moved up or removed.
fn flatten(dir: &Dir, name: &OsStr, number: &mut u64) -> io::Result<()> {
    let Some(child) = open(dir, name)? else {
        return Ok(());
    };
    for entry in child.entries()? {
        let entry = entry?;
        let inner = entry.file_name();
        if entry.file_type()?.is_dir() {
            move_up(&child, &inner, dir, number)?;
        } else {
            unless_gone(child.remove_file(&inner))?;
        }
    }
    match unless_gone(dir.remove_dir(name)) {
        // Somebody has written into it: the next pass finds it again.
        Err(error) if is(&error, Errno::NOTEMPTY) => Ok(()),
        result => result,
    }
}

/// Moves a directory up under a name that nothing else has.
fn move_up(from: &Dir, name: &OsStr, to: &Dir, number: &mut u64) -> io::Result<()> {
    loop {
        *number += 1;
        let free = format!("..moved-{number}");
        if to.symlink_metadata(&free).is_ok() {
            continue;
        }
        return match from.rename(name, to, &free) {
            // A directory that moves is written to, for its `..`.
            Err(error) if is(&error, Errno::ACCESS) => {
                permit(from, name)?;
                unless_gone(from.rename(name, to, &free))
            }
            result => unless_gone(result),
        };
    }
}

/// Opens a directory to be emptied, whatever its permissions are; none when it is gone.
fn open(parent: &Dir, name: &OsStr) -> io::Result<Option<Dir>> {
    let dir = match parent.open_dir(name) {
        Ok(dir) => dir,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if dir.dir_metadata()?.permissions().mode() & PRIVATE != PRIVATE {
        permit(parent, name)?;
    }
    Ok(Some(dir))
}

/// Whether somebody has put a link or a file in its place.
fn is_no_directory(parent: &Dir, name: &OsStr) -> bool {
    let found = parent.symlink_metadata(name);
    found.is_ok_and(|found| !found.is_dir())
}

fn permit(parent: &Dir, name: &OsStr) -> io::Result<()> {
    unless_gone(parent.set_permissions(name, Permissions::from_mode(PRIVATE)))
}

/// What is gone need not be removed.
fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    Errno::from_io_error(error) == Some(errno)
}
