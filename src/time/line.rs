//! Where timers wait, and who wakes them.
//!
//! Nearly no time limit ever passes, but each of tokio's timers is made, registered and
//! deregistered on its own. Here a timer is an entry of a [`Wheel`], and one of tokio's timers,
//! the alarm, serves them all. It is set to the earliest time, and stays set when entries
//! leave: then it rings in vain once, and is set to what is left, or rests.
//!
//! A line is one lock, and each thread stands at one of them, so that two workers do not
//! meet. At a line there is a station for each runtime whose timers wait there: an alarm rings
//! only while its own runtime runs.
//!
//! Invariants:
//!
//! - A station's alarm rings no later than its earliest entry is due, or someone tends the
//!   station, who sees to that before he is done.
//! - Only who tends a station has its alarm, and no lock is held while he calls tokio or wakes
//!   someone: both may ring the bell or arm timers in turn. Whoever finds a station tended
//!   asks for another round and goes.
//! - An alarm exists only while it is set. So each is rung when its runtime shuts down; then
//!   the station closes, and all of its entries are woken and arm anew where they are polled,
//!   which is what panics if that is the same runtime. Nothing stays behind.
//! - An entry stays until its owner removes it, whether its time has come or not. A station
//!   without entries and alarm goes.

#[cfg(all(test, mainstay_loom))]
mod loom;

use std::sync::Arc;
use std::task::{Poll, Wake, Waker};

use slab::Slab;
use tokio::runtime::Id;

use super::alarm::{Alarm, News};
use super::wheel::{Key, Wheel};
use super::{Instant, is_production};
use crate::panics::{Payload, caught};
use crate::sync::{Lock, constant, wake_quietly};

/// A place where the timers of some threads wait.
// Two lines on one cache line would make two threads wait for each other.
#[repr(align(128))]
#[derive(Debug)]
pub(super) struct Line {
    stations: Lock<Slab<Box<Station>>>,
}

/// The timers of one runtime that wait at one line.
#[derive(Debug)]
struct Station {
    runtime: Id,
    /// Whether the alarm stays set when nobody waits any more. A paused clock would run ahead
    /// to it, while a program waits for something else than time.
    lazy: bool,
    closed: bool,
    wheel: Wheel<Waker>,
    /// What the alarm is, or is to be, set to.
    at: Instant,
    /// None while it rests, and while the station is tended.
    alarm: Option<Alarm>,
    tended: Tended,
}

/// Whether someone tends a station.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tended {
    No,
    Yes,
    /// And is to make another round before he ends.
    Again,
}

/// To tend a station is one's alone, and so is the alarm meanwhile, if there is one.
struct Turn(Option<Alarm>);

/// How it stands with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Pending,
    Come,
    /// The runtime has gone.
    Closed,
}

/// Who tends a station.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// A timer that is armed in the station's runtime.
    Timer,
    /// The bell.
    Bell,
}

/// What is to be done with an alarm.
enum Next {
    More,
    Rest,
    Set(Instant),
}

impl Line {
    constant! {
        pub(super) const fn new() -> Self {
            Self {
                stations: Lock::new(Slab::new()),
            }
        }
    }

    /// Lets a waker wait for a time: at which station, as what, and whether the alarm has to
    /// be set.
    #[inline]
    pub(super) fn enter(
        &'static self,
        runtime: Id,
        now: Instant,
        until: Instant,
        waker: Waker,
    ) -> (usize, Key, bool) {
        let mut stations = self.stations.lock();
        let index = open(&stations, runtime).unwrap_or_else(|| found(&mut stations, runtime));
        let station = &mut stations[index];
        let key = station.wheel.insert(now, until, waker);
        let first = until < station.at;
        if first {
            station.at = until;
        }
        (index, key, first)
    }

    /// How it stands with an entry; nothing if it waits with another waker, and was not given
    /// this one.
    pub(super) fn look(
        &self,
        station: usize,
        key: Key,
        waker: &Waker,
        new: Option<&mut Waker>,
    ) -> Option<Wait> {
        let mut stations = self.stations.lock();
        let station = &mut stations[station];
        let closed = station.closed;
        match (station.wheel.waiting_mut(key), new) {
            (None, _) if closed => Some(Wait::Closed),
            (None, _) => Some(Wait::Come),
            (Some(old), _) if old.will_wake(waker) => Some(Wait::Pending),
            (Some(old), Some(new)) => {
                std::mem::swap(old, new);
                Some(Wait::Pending)
            }
            (Some(_), None) => None,
        }
    }

    /// Ends an entry.
    #[inline]
    pub(super) fn leave(&self, index: usize, key: Key) {
        let mut stations = self.stations.lock();
        let station = &mut stations[index];
        let waker = station.wheel.remove(key);
        // What follows drops foreign code's and tokio's values: not under the lock.
        let alarm = if station.wheel.is_idle() && !(station.lazy && station.alarm.is_some()) {
            clear(&mut stations, index)
        } else {
            None
        };
        drop(stations);
        drop(alarm);
        drop(waker);
    }

    /// Sets the alarm of a station for someone whose timer waits there and is first, unless
    /// it is tended: then there will be another round.
    pub(super) fn rouse(&'static self, station: usize) -> Result<(), Payload> {
        let begun = self.stations.lock()[station].begin();
        begun.map_or(Ok(()), |turn| self.tend(station, turn, By::Timer))
    }

    /// The bell of a runtime's alarm rings.
    fn ring(&'static self, runtime: Id) {
        let mut stations = self.stations.lock();
        let Some(index) = open(&stations, runtime) else {
            return;
        };
        let station = &mut stations[index];
        // An alarm that rests does not ring: what rings is one of those before it.
        if station.tended == Tended::No && station.alarm.is_none() {
            return;
        }
        let turn = station.begin();
        drop(stations);
        if let Some(turn) = turn {
            // It has closed then, and all have been told; a driver must not hear of it.
            let _ = self.tend(index, turn, By::Bell);
        }
    }

    /// Wakes whose time has come, and sets the alarm to what is left.
    fn tend(&'static self, index: usize, turn: Turn, by: By) -> Result<(), Payload> {
        let Turn(mut alarm) = turn;
        loop {
            let news = alarm.as_ref().map_or(News::Nothing, Alarm::news);
            if news == News::Gone && by == By::Bell {
                self.close(index, alarm);
                return Ok(());
            }
            let (due, next) = self.round(index, news);
            wake_quietly(due);
            match next {
                Next::More => continue,
                Next::Rest => {}
                Next::Set(at) => match caught(|| self.set(&mut alarm, index, at, by)) {
                    Ok(Poll::Pending) => {}
                    Ok(Poll::Ready(())) => continue,
                    Err(panic) => {
                        self.close(index, alarm);
                        return Err(panic);
                    }
                },
            }
            match self.end(index, Turn(alarm)) {
                Some(Turn(back)) => alarm = back,
                None => return Ok(()),
            }
        }
    }

    /// Takes those whose time has come out, some at a time.
    fn round(&self, index: usize, news: News) -> (Vec<Waker>, Next) {
        /// A crowd must not keep the others from the line for long.
        const STEPS: usize = 256;
        let mut due = Vec::new();
        let mut stations = self.stations.lock();
        let station = &mut stations[index];
        if let News::Time(now) = news {
            if !station.wheel.advance(now, STEPS, &mut due) {
                return (due, Next::More);
            }
            station.at = station.wheel.next().unwrap_or(Instant::NEVER);
        }
        let next = match station.at {
            Instant::NEVER => Next::Rest,
            at => Next::Set(at),
        };
        (due, next)
    }

    /// Sets the alarm, and lets it ring. Ready if there is news at once.
    fn set(
        &'static self,
        alarm: &mut Option<Alarm>,
        index: usize,
        at: Instant,
        by: By,
    ) -> Poll<()> {
        let alarm = if let Some(alarm) = alarm {
            if alarm.at() != at {
                alarm.set(at);
            }
            alarm
        } else {
            let runtime = self.stations.lock()[index].runtime;
            let bell = Waker::from(Arc::new(Bell {
                line: self,
                runtime,
            }));
            alarm.insert(Alarm::new(at, bell))
        };
        if by == By::Bell && alarm.news() != News::Nothing {
            return Poll::Ready(());
        }
        alarm.poll()
    }

    /// Gives the alarm back; it is returned if there is more to do.
    fn end(&self, index: usize, turn: Turn) -> Option<Turn> {
        let mut stations = self.stations.lock();
        let station = &mut stations[index];
        if station.tended == Tended::Again {
            station.tended = Tended::Yes;
            return Some(turn);
        }
        station.tended = Tended::No;
        station.alarm = turn.0;
        let alarm = if station.at == Instant::NEVER {
            station.rest()
        } else {
            None
        };
        if station.is_over() {
            remove(&mut stations, index);
        }
        drop(stations);
        drop(alarm);
        None
    }

    /// The runtime has gone, or has no timer: everybody is told.
    fn close(&self, index: usize, alarm: Option<Alarm>) {
        let mut stations = self.stations.lock();
        let station = &mut stations[index];
        station.closed = true;
        station.at = Instant::NEVER;
        station.tended = Tended::No;
        let all = station.wheel.take_all();
        if station.is_over() {
            remove(&mut stations, index);
        }
        drop(stations);
        drop(alarm);
        wake_quietly(all);
    }
}

impl Station {
    fn begin(&mut self) -> Option<Turn> {
        if self.tended == Tended::No {
            self.tended = Tended::Yes;
            return Some(Turn(self.alarm.take()));
        }
        self.tended = Tended::Again;
        None
    }

    /// Sets the alarm to nothing; it is to be dropped without the lock. Who tends the station
    /// meanwhile finds that when he ends.
    fn rest(&mut self) -> Option<Alarm> {
        self.at = Instant::NEVER;
        self.alarm.take()
    }

    fn is_over(&self) -> bool {
        self.alarm.is_none() && self.tended == Tended::No && self.wheel.is_empty()
    }
}

/// Nobody waits at a station any more. Its alarm is to be dropped without the lock.
#[cold]
fn clear(stations: &mut Slab<Box<Station>>, index: usize) -> Option<Alarm> {
    let station = &mut stations[index];
    let alarm = station.rest();
    if station.is_over() {
        remove(stations, index);
    }
    alarm
}

/// Who looks for a station looks past every gap.
fn remove(stations: &mut Slab<Box<Station>>, index: usize) {
    stations.remove(index);
    if stations.is_empty() {
        stations.clear();
    }
}

/// How many stations a runtime has here.
#[cfg(test)]
impl Line {
    pub(super) fn stations_of(&self, runtime: Id) -> usize {
        let stations = self.stations.lock();
        let own = stations.iter().filter(|(_, at)| at.runtime == runtime);
        own.count()
    }
}

/// The station of a runtime.
#[inline]
fn open(stations: &Slab<Box<Station>>, runtime: Id) -> Option<usize> {
    let mut stations = stations.iter();
    let found = stations.find(|(_, station)| station.runtime == runtime && !station.closed);
    found.map(|(index, _)| index)
}

#[cold]
fn found(stations: &mut Slab<Box<Station>>, runtime: Id) -> usize {
    stations.insert(Box::new(Station {
        runtime,
        lazy: is_production(),
        closed: false,
        wheel: Wheel::new(),
        at: Instant::NEVER,
        alarm: None,
        tended: Tended::No,
    }))
}

/// What an alarm rings.
struct Bell {
    line: &'static Line,
    runtime: Id,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.line.ring(self.runtime);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.line.ring(self.runtime);
    }
}
