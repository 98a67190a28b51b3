//! A process group, as long as it may be signalled.

use std::io;
use std::process::{Child, ExitStatus};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpgid, kill_process, kill_process_group, waitid,
};

use super::plan::Order;

/// The leader of a group of its own, not yet reaped.
///
/// Until it is reaped the system gives its number to nobody else. As reaping takes the value,
/// no group can be signalled after it.
#[derive(Debug)]
pub(super) struct Leader {
    child: Child,
    pid: Pid,
}

impl Leader {
    /// None for a number that stands for something else: `kill` takes 0 for the own group,
    /// and -1 for everybody.
    pub(super) fn new(child: Child) -> Option<Self> {
        let pid = group_number(child.id())?;
        Some(Self { child, pid })
    }

    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether it is a zombie. It stays one.
    ///
    /// # Errors
    ///
    /// When it is nobody's child any more: somebody else has reaped it.
    pub(super) fn has_ended(&self) -> io::Result<bool> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(self.pid), look)?.is_some())
    }

    /// A leader that has gone over to another group (it may at any time: so SIGKILL does not ask)
    /// is signalled by itself. An error says that the group is about to end, and is no news.
    pub(super) fn send(&self, order: Order) {
        let signals: &[Signal] = match order {
            Order::Stop => &[Signal::STOP],
            Order::Continue => &[Signal::CONT],
            Order::Terminate => &[Signal::TERM, Signal::CONT],
            Order::Kill => &[Signal::KILL],
        };
        let is_alone = order == Order::Kill || self.has_left();
        for signal in signals {
            let _ = kill_process_group(self.pid, *signal);
            if is_alone {
                let _ = kill_process(self.pid, *signal);
            }
        }
    }

    fn has_left(&self) -> bool {
        getpgid(Some(self.pid)).is_ok_and(|group| group != self.pid)
    }

    /// Kills what is left of the group, and reaps the leader, which must have ended.
    pub(super) fn reap(mut self) -> io::Result<ExitStatus> {
        self.send(Order::Kill);
        match self.child.try_wait()? {
            Some(status) => Ok(status),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

fn group_number(id: u32) -> Option<Pid> {
    i32::try_from(id)
        .ok()
        .filter(|id| *id > 1)
        .and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Trap 90.
    #[test]
    fn no_number_stands_for_anyone_else() {
        for id in [0, 1, u32::MAX, 1 << 31] {
            assert_eq!(group_number(id), None, "{id}");
        }
        assert_eq!(group_number(2), Pid::from_raw(2));
    }
}
