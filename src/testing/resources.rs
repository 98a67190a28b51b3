//! What the runtime and the process have: tasks, descriptors, children.

use std::fmt;

/// Which resources of the process are counted besides the tasks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Resources {
    pub(super) descriptors: bool,
    pub(super) children: bool,
}

impl Resources {
    pub(super) fn count(self) -> Count {
        let metrics = tokio::runtime::Handle::current().metrics();
        Count {
            tasks: metrics.num_alive_tasks(),
            descriptors: if self.descriptors { descriptors() } else { 0 },
            children: if self.children { children() } else { 0 },
        }
    }
}

/// How many there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    tasks: usize,
    descriptors: usize,
    children: usize,
}

impl Count {
    /// Whether there are no more than before. Fewer is well: what ended meanwhile was another's.
    pub(super) fn is_within(self, before: Self) -> bool {
        self.tasks <= before.tasks
            && self.descriptors <= before.descriptors
            && self.children <= before.children
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tasks,
            descriptors,
            children,
        } = self;
        write!(f, "{tasks} tasks")?;
        if *descriptors > 0 {
            write!(f, ", {descriptors} descriptors")?;
        }
        if *children > 0 {
            write!(f, ", {children} children")?;
        }
        Ok(())
    }
}

/// Where it cannot be counted the laboratory fails: a check is not left out in silence.
#[cfg(target_os = "linux")]
fn descriptors() -> usize {
    let open = std::fs::read_dir("/proc/self/fd");
    // The one that reads them is among them, each time.
    open.expect("/proc/self/fd tells the open descriptors")
        .count()
}

#[cfg(target_os = "linux")]
fn children() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").expect("/proc/self/task tells the threads");
    let of_thread = |thread: std::io::Result<std::fs::DirEntry>| {
        // A thread may end while they are read: its children are another's then.
        let path = thread.ok()?.path();
        match std::fs::read_to_string(path.join("children")) {
            Ok(text) => Some(text.split_ascii_whitespace().count()),
            Err(error) => {
                assert!(!path.exists(), "{}/children: {error}", path.display());
                None
            }
        }
    };
    threads.filter_map(of_thread).sum()
}

#[cfg(not(target_os = "linux"))]
fn descriptors() -> usize {
    unreachable!("cannot be asked for")
}

#[cfg(not(target_os = "linux"))]
fn children() -> usize {
    unreachable!("cannot be asked for")
}
