//! Processes that a session has left behind: found by a mark in their environment.
//!
//! A command's group ends with it, so only one that has left its group (`setsid`, a daemon) can
//! stay. It has the mark still, unless it has taken it out itself. The mark of a provider inside
//! of another one's session holds that one's too, so the outer session takes it along.

/// The variable that holds the mark.
pub(super) const VARIABLE: &str = "MAINSTAY_SESSION";

/// Stands between the marks of sessions within sessions.
const BETWEEN: char = ':';

/// Whose processes: those of one session, or of all in a root.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark<'a> {
    pub(super) root: &'a str,
    pub(super) session: Option<&'a str>,
}

impl Mark<'_> {
    /// The variable's value in a session of this provider, where this program's is `outer`.
    pub(super) fn value(root: &str, session: &str, outer: Option<&str>) -> String {
        let own = format!("{root}/{session}");
        match outer {
            Some(outer) if !outer.is_empty() => format!("{outer}{BETWEEN}{own}"),
            _ => own,
        }
    }

    /// Whether an environment (`name=value`, each with a zero byte after it) has it.
    fn is_in(&self, environment: &[u8]) -> bool {
        environment
            .split(|byte| *byte == 0)
            .filter_map(|line| line.strip_prefix(VARIABLE.as_bytes())?.strip_prefix(b"="))
            .filter_map(|value| std::str::from_utf8(value).ok())
            .flat_map(|value| value.split(BETWEEN))
            .filter_map(|mark| mark.split_once('/'))
            .any(|(root, session)| {
                root == self.root && self.session.is_none_or(|own| own == session)
            })
    }
}

#[cfg(target_os = "linux")]
pub(super) use linux::kill;

/// Elsewhere nobody says what a stranger's environment is: what has left its group stays.
#[cfg(not(target_os = "linux"))]
pub(super) fn kill(mark: Mark<'_>) -> std::io::Result<usize> {
    let _ = mark.is_in(&[]);
    Ok(0)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::{self, File};
    use std::io::{self, Read};
    use std::os::fd::OwnedFd;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::Errno;
    use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

    use super::Mark;

    /// One that starts another before it dies needs one more.
    const ROUNDS: usize = 50;
    /// How long a round waits for those that it has killed.
    const ROUND: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 200_000_000,
    };
    /// How many are killed in a round: each takes a descriptor.
    const AT_ONCE: usize = 256;
    /// More than any system lets an environment be.
    const LARGEST: u64 = 8 << 20;

    /// Kills all with this mark, and waits until they are dead. How many are left.
    ///
    /// An error says that it could not look at all of them: there may be more.
    pub(in super::super) fn kill(mark: Mark<'_>) -> io::Result<usize> {
        for _ in 0..ROUNDS {
            let found = find(mark)?;
            if found.is_empty() {
                return Ok(0);
            }
            for process in &found {
                // It may be dead already.
                let _ = pidfd_send_signal(process, Signal::KILL);
            }
            wait(&found);
        }
        Ok(find(mark)?.len())
    }

    /// Some of those with this mark; none only if there is none.
    fn find(mark: Mark<'_>) -> io::Result<Vec<OwnedFd>> {
        let mut found = Vec::new();
        if !numbers_are_ours() {
            return Ok(found);
        }
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let pid = name.to_str().and_then(|name| name.parse().ok());
            let Some(pid) = pid.and_then(Pid::from_raw).filter(|pid| *pid != getpid()) else {
                continue;
            };
            match marked(pid, mark) {
                Ok(process) => found.extend(process),
                // Once these are dead, the next round sees further.
                Err(_) if !found.is_empty() => break,
                Err(error) => return Err(error),
            }
            if found.len() >= AT_ONCE {
                break;
            }
        }
        Ok(found)
    }

    /// Whether there is a `/proc` here, and its numbers mean the same processes to us: it may be
    /// that of another namespace, and then a number there is a stranger's here.
    fn numbers_are_ours() -> bool {
        let own = fs::read_link("/proc/self");
        let own = own.ok().and_then(|own| own.to_str()?.parse().ok());
        own == Some(getpid().as_raw_nonzero().get())
    }

    /// The descriptor comes first: what is read then belongs to that process, or to nobody whom
    /// the descriptor's signals could reach.
    fn marked(pid: Pid, mark: Mark<'_>) -> io::Result<Option<OwnedFd>> {
        let carries = || io::Result::Ok(environment(pid)?.is_some_and(|own| mark.is_in(&own)));
        // Most do not, and need no descriptor.
        if !carries()? {
            return Ok(None);
        }
        let process = pidfd_open(pid, PidfdFlags::empty());
        let process = unless_foreign(process.map_err(Into::into))?;
        Ok(if carries()? { process } else { None })
    }

    /// Empty for one that is dead and not reaped.
    fn environment(pid: Pid) -> io::Result<Option<Vec<u8>>> {
        let read = || {
            let file = File::open(format!("/proc/{}/environ", pid.as_raw_nonzero()))?;
            let mut bytes = Vec::new();
            file.take(LARGEST).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        unless_foreign(read())
    }

    /// None of one that is gone, or that is not for us to look at. Only what we lack ourselves
    /// is an error: it says nothing of the process.
    pub(super) fn unless_foreign<T>(result: io::Result<T>) -> io::Result<Option<T>> {
        const LACKING: [Errno; 3] = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) => match Errno::from_io_error(&error) {
                Some(errno) if LACKING.contains(&errno) => Err(error),
                _ => Ok(None),
            },
        }
    }

    /// Until all are dead, or the round is over.
    fn wait(processes: &[OwnedFd]) {
        for process in processes {
            let mut one = [PollFd::new(process, PollFlags::IN)];
            if !matches!(poll(&mut one, Some(&ROUND)), Ok(1..)) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(value: &str) -> Vec<u8> {
        format!("PATH=/bin\0{VARIABLE}={value}\0HOME=/\0").into_bytes()
    }

    #[test]
    fn a_mark_is_found_whole_and_in_its_own_variable_only() {
        let value = Mark::value("root-1", "a", None);
        let one = |session| Mark {
            root: "root-1",
            session,
        };
        assert!(one(Some("a")).is_in(&environment(&value)));
        assert!(one(None).is_in(&environment(&value)));
        assert!(!one(Some("b")).is_in(&environment(&value)));
        assert!(!one(Some("")).is_in(&environment(&value)));
        let other = Mark {
            root: "root-12",
            session: None,
        };
        assert!(!other.is_in(&environment(&value)));
        assert!(!one(None).is_in(format!("X{VARIABLE}={value}\0").as_bytes()));
        assert!(!one(None).is_in(format!("ECHO={VARIABLE}={value}\0").as_bytes()));
        assert!(!one(None).is_in(b""));
        assert!(!one(None).is_in(b"\xff\0=\0"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn who_is_gone_is_nobody_and_a_lack_of_descriptors_is_an_error() {
        use rustix::io::Errno;
        for errno in [Errno::NOENT, Errno::SRCH, Errno::ACCESS, Errno::IO] {
            let nobody = linux::unless_foreign::<()>(Err(errno.into()));
            assert!(nobody.unwrap().is_none(), "{errno}");
        }
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM] {
            let error = linux::unless_foreign::<()>(Err(errno.into())).unwrap_err();
            assert_eq!(Errno::from_io_error(&error), Some(errno));
        }
    }

    #[test]
    fn a_session_within_a_session_has_both_marks() {
        let outer = Mark::value("root-1", "a", None);
        let value = Mark::value("root-2", "b", Some(&outer));
        for (root, session) in [("root-1", "a"), ("root-2", "b")] {
            let session = Some(session);
            assert!(Mark { root, session }.is_in(&environment(&value)));
        }
        assert_eq!(Mark::value("r", "s", Some("")), "r/s");
    }
}
