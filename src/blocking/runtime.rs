//! The one thread that drives timers, sockets and spawned tasks of all blocking calls.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::thread;

use slab::Slab;
use tokio::runtime::{Builder, EnterGuard, Handle, Runtime};

use crate::error::Refusal;
use crate::panics::swallow;
use crate::sync::{Lock, constant};

/// Where the thread is kept.
#[derive(Debug)]
pub(super) struct Home(Lock<Option<Arc<Background>>>);

#[derive(Debug)]
pub(super) struct Background {
    handle: Handle,
    /// The process that has the thread: a fork leaves the child without.
    process: u32,
    calls: Lock<Calls>,
}

/// Who waits, and would wait for ever without the thread.
#[derive(Debug, Default)]
struct Calls {
    dead: bool,
    wakers: Slab<Waker>,
}

impl Home {
    constant! {
        pub(super) const fn new() -> Self {
            Self(Lock::new(None))
        }
    }

    /// The thread's side, started if need be. A failure is not remembered.
    pub(super) fn background(&'static self, process: u32) -> Result<Arc<Background>, Refusal> {
        let mut here = self.0.lock();
        match &*here {
            Some(running) if running.process == process => Ok(Arc::clone(running)),
            _ => {
                let started = self.start(process);
                let started = started.map_err(|_| Refusal::other("no thread could be started"))?;
                Ok(Arc::clone(here.insert(started)))
            }
        }
    }

    fn start(&'static self, process: u32) -> io::Result<Arc<Background>> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let background = Arc::new(Background::of(runtime.handle().clone(), process));
        let own = Arc::clone(&background);
        let named = thread::Builder::new().name("mainstay-blocking".into());
        named.spawn(move || self.drive(runtime, &own))?;
        Ok(background)
    }

    /// It ends only when a waker panics that someone has left with a timer or a socket. Tokio
    /// has lost its driver then, and the runtime is of no use any more.
    fn drive(&self, runtime: Runtime, own: &Arc<Background>) {
        swallow(|| runtime.block_on(pending::<()>()));
        {
            let mut here = self.0.lock();
            if here.as_ref().is_some_and(|it| Arc::ptr_eq(it, own)) {
                *here = None;
            }
        }
        own.let_go();
        swallow(|| runtime.shutdown_background());
    }
}

impl Background {
    pub(super) fn of(handle: Handle, process: u32) -> Self {
        Self {
            handle,
            process,
            calls: Lock::default(),
        }
    }

    pub(super) fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }

    /// Wakes this one when the thread dies.
    pub(super) fn enlist(&self, waker: Waker) -> Result<Listed<'_>, Refusal> {
        let mut calls = self.calls.lock();
        if calls.dead {
            return Err(Refusal::ShutDown);
        }
        let key = calls.wakers.insert(waker);
        let of = self;
        Ok(Listed { of, key })
    }

    pub(super) fn let_go(&self) {
        let wakers = {
            let mut calls = self.calls.lock();
            calls.dead = true;
            std::mem::take(&mut calls.wakers)
        };
        for (_, waker) in wakers {
            waker.wake();
        }
    }
}

/// One who is told of the thread's death.
#[derive(Debug)]
pub(super) struct Listed<'a> {
    of: &'a Background,
    key: usize,
}

impl Listed<'_> {
    pub(super) fn is_dead(&self) -> bool {
        self.of.calls.lock().dead
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        // Nobody is enlisted after the death: a key is never another one's.
        let waker = self.of.calls.lock().wakers.try_remove(self.key);
        drop(waker);
    }
}
