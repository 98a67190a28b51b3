//! SIGINT and SIGTERM: the first asks, the second ends, and afterwards all is as it was.
//!
//! What ends the process is an action of the signal handler itself, which reads one flag and
//! exits: it works while every thread is stuck. What asks is a thread that waits for signals
//! and knows no runtime.
//!
//! A handler once installed stays with the process: taking the actions back would leave
//! signals without any effect. So the very first action of all is the signal's default one,
//! on the condition that nobody listens; for signals that had it, and no handler of others.
//! What was ignored stays so, without a handler of ours.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use signal_hook::{SigId, flag, low_level};

use super::Shared;
use super::report::Cause;
use crate::sync::{Lock, global};

const BOTH: [i32; 2] = [SIGINT, SIGTERM];

/// Nobody listens: a signal does what it does by default. std's, also in a model, as every
/// flag here: the handler of the signal reads it.
static NOBODY: AtomicBool = AtomicBool::new(true);

global! {
    static LISTENERS: Lock<Listeners> = Lock::new(Listeners {
        number: 0,
        taken: [false; 2],
    });
}

/// All of a process.
#[derive(Debug)]
struct Listeners {
    number: usize,
    /// Which of both have a handler of ours, from now on and for good.
    taken: [bool; 2],
}

impl Listeners {
    /// Sees to what becomes of each signal afterwards; those that are to be caught.
    fn install(&mut self) -> io::Result<Vec<i32>> {
        let before = Dispositions::read();
        for (signal, taken) in BOTH.into_iter().zip(&mut self.taken) {
            if *taken || before.ignored(signal) {
                continue;
            }
            if !before.handled(signal) {
                install_default(signal)?;
            }
            *taken = true;
        }
        let caught = BOTH.into_iter().zip(self.taken).filter(|(_, taken)| *taken);
        Ok(caught.map(|(signal, _)| signal).collect())
    }
}

fn install_default(signal: i32) -> io::Result<SigId> {
    // The system shields the first process of a container from default actions.
    if std::process::id() == 1 {
        flag::register_conditional_shutdown(signal, 128 + signal, &NOBODY)
    } else {
        flag::register_conditional_default(signal, &NOBODY)
    }
}

/// What signals do, as sets of bits. Where it cannot be read, all have their default action.
#[derive(Debug, Default)]
struct Dispositions {
    ignored: u64,
    handled: u64,
}

impl Dispositions {
    fn read() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let set = |name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        };
        Self {
            ignored: set("SigIgn:").unwrap_or_default(),
            handled: set("SigCgt:").unwrap_or_default(),
        }
    }

    fn ignored(&self, signal: i32) -> bool {
        self.ignored >> (signal - 1) & 1 == 1
    }

    fn handled(&self, signal: i32) -> bool {
        self.handled >> (signal - 1) & 1 == 1
    }
}

/// Catches signals until it is dropped.
#[derive(Debug)]
pub(super) struct Listening {
    actions: Vec<SigId>,
    thread: Option<Handle>,
}

pub(super) fn listen(shared: &Arc<Shared>) -> io::Result<Listening> {
    let mut listeners = LISTENERS.lock();
    let caught = listeners.install()?;
    // Counted from here on: its drop counts it out.
    listeners.number += 1;
    drop(listeners);
    let mut listening = Listening {
        actions: Vec::new(),
        thread: None,
    };
    let asked = Arc::new(AtomicBool::new(false));
    for &signal in &caught {
        // In this order: the first signal must not see the flag that it sets itself.
        let exit = flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&asked))?;
        listening.actions.push(exit);
        let ask = flag::register(signal, Arc::clone(&asked))?;
        listening.actions.push(ask);
    }
    // After the flag: whoever sees the request finds the second signal armed.
    let mut signals = Signals::new(caught)?;
    listening.thread = Some(signals.handle());
    let shutdown = Arc::downgrade(shared);
    let name = thread::Builder::new().name("mainstay-signals".into());
    name.spawn(move || forward(&mut signals, &shutdown))?;
    // Last of all, so that no signal is lost: SeqCst, as the handler reads it.
    NOBODY.store(false, Ordering::SeqCst);
    Ok(listening)
}

fn forward(signals: &mut Signals, shutdown: &Weak<Shared>) {
    for signal in signals.forever() {
        if let Some(shared) = shutdown.upgrade() {
            shared.request(Cause::Signal(signal));
        }
    }
}

impl Drop for Listening {
    /// First the default action, so that no signal is lost.
    fn drop(&mut self) {
        {
            let mut listeners = LISTENERS.lock();
            listeners.number -= 1;
            NOBODY.store(listeners.number == 0, Ordering::SeqCst);
        }
        for action in self.actions.drain(..) {
            low_level::unregister(action);
        }
        if let Some(thread) = &self.thread {
            thread.close();
        }
    }
}
