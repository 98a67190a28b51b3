//! SIGINT and SIGTERM: the first asks, the second ends, and afterwards all is as it was.
//!
//! What ends the process is an action of the signal handler itself, which reads one flag and
//! exits: it works while every thread is stuck. What asks is a thread that waits for signals
//! and knows no runtime.
//!
//! A handler once installed stays with the process: taking the actions back would leave
//! signals without any effect. So the very first action of all is the signal's default one,
//! on the condition that nobody listens.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use signal_hook::{SigId, flag, low_level};

use super::Shared;
use super::report::Cause;
use crate::sync::Lock;

const BOTH: [i32; 2] = [SIGINT, SIGTERM];

/// Nobody listens: a signal does what it does by default.
static NOBODY: AtomicBool = AtomicBool::new(true);

static LISTENERS: Lock<Listeners> = Lock::new(Listeners {
    number: 0,
    installed: 0,
});

/// All of a process.
#[derive(Debug)]
struct Listeners {
    number: usize,
    /// For how many signals the default action is in place.
    installed: usize,
}

impl Listeners {
    fn install(&mut self) -> io::Result<()> {
        // The system shields the first process of a container from default actions.
        let shielded = std::process::id() == 1;
        while let Some(&signal) = BOTH.get(self.installed) {
            if shielded {
                flag::register_conditional_shutdown(signal, 128 + signal, &NOBODY)?;
            } else {
                flag::register_conditional_default(signal, &NOBODY)?;
            }
            self.installed += 1;
        }
        Ok(())
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
    listeners.install()?;
    // Counted from here on: its drop counts it out.
    listeners.number += 1;
    drop(listeners);
    let mut listening = Listening {
        actions: Vec::new(),
        thread: None,
    };
    let asked = Arc::new(AtomicBool::new(false));
    for signal in BOTH {
        // In this order: the first signal must not see the flag that it sets itself.
        let exit = flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&asked))?;
        listening.actions.push(exit);
        let ask = flag::register(signal, Arc::clone(&asked))?;
        listening.actions.push(ask);
    }
    // After the flag: whoever sees the request finds the second signal armed.
    let mut signals = Signals::new(BOTH)?;
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
