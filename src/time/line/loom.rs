//! Models: see `sync::model`. The alarms are tokio's, of a runtime whose clock is paused; all of
//! it that threads share is behind tokio's own locks.

use std::sync::{Arc, LazyLock};

use tokio::runtime::{Builder, EnterGuard, Runtime};

use super::*;
use crate::sync::global;
use crate::sync::model::{Woken, bounded, exhaustive};
use crate::time::now;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap()
});

global! { static LINE: Line = Line::new(); }

fn within() -> EnterGuard<'static> {
    RUNTIME.enter()
}

fn id() -> Id {
    RUNTIME.handle().id()
}

/// A timer that waits, as an entry does.
struct Waits {
    station: usize,
    key: Key,
    woken: Arc<Woken>,
}

impl Waits {
    fn new(nanos: u64) -> Self {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let (station, key, first) = LINE.enter(id(), now(), now().after(nanos), waker);
        if first {
            assert!(LINE.rouse(station).is_ok());
        }
        Self {
            station,
            key,
            woken,
        }
    }

    fn leave(self) {
        LINE.leave(self.station, self.key);
    }
}

/// What holds when all threads are done: whoever waits is served by an alarm that is early
/// enough, and nobody tends the station any more.
fn is_served(stations: usize) {
    let all = LINE.stations.lock();
    assert_eq!(all.len(), stations);
    for (_, station) in &*all {
        assert_eq!(station.tended, Tended::No);
        let alarm = station.alarm.as_ref().map_or(Instant::NEVER, Alarm::at);
        let first = station.wheel.next().unwrap_or(Instant::NEVER);
        assert!(
            alarm <= first,
            "the alarm is at {alarm:?}, the first at {first:?}"
        );
        assert!(!station.closed && !station.is_over());
    }
}

const SOON: u64 = 5_000_000;
const LATE: u64 = 90_000_000;

/// Fails if who finds the station tended goes without asking for another round.
#[test]
fn the_earlier_of_two_timers_sets_the_alarm() {
    exhaustive(|| {
        let _within = within();
        let other = ::loom::thread::spawn(|| Waits::new(SOON));
        let mine = Waits::new(LATE);
        let other = other.join().unwrap();
        is_served(1);
        mine.leave();
        is_served(1);
        other.leave();
        is_served(0);
    });
}

#[test]
fn one_who_leaves_takes_no_alarm_from_the_other() {
    exhaustive(|| {
        let _within = within();
        let other = ::loom::thread::spawn(|| Waits::new(SOON).leave());
        let mine = Waits::new(LATE);
        other.join().unwrap();
        is_served(1);
        mine.leave();
        is_served(0);
    });
}

/// The bell may ring at any time, also that of an alarm that has gone.
#[test]
fn a_bell_that_rings_in_vain_loses_nothing() {
    exhaustive(|| {
        let _within = within();
        let first = Waits::new(LATE);
        let bell = ::loom::thread::spawn(|| LINE.ring(id()));
        let mine = Waits::new(SOON);
        first.leave();
        bell.join().unwrap();
        is_served(1);
        mine.leave();
        is_served(0);
    });
}

/// Fails if a station goes while someone tends it.
#[test]
fn three_threads_leave_no_timer_alone() {
    bounded(3, || {
        let _within = within();
        let first = Waits::new(LATE);
        let bell = ::loom::thread::spawn(|| LINE.ring(id()));
        let other = ::loom::thread::spawn(|| Waits::new(SOON));
        first.leave();
        bell.join().unwrap();
        let other = other.join().unwrap();
        is_served(1);
        assert_eq!(other.woken.times(), 0);
        other.leave();
        is_served(0);
    });
}

/// The time of a timer comes while another is armed: the one is woken, the other is served.
///
/// Fails if the round is made without the lock, or its end is not told who came meanwhile.
#[test]
fn a_timer_that_is_armed_as_another_rings_is_served() {
    exhaustive(|| {
        let _within = within();
        let first = Waits::new(SOON);
        let station = first.station;
        // As `tend` does it, with the time that an alarm would tell.
        let bell = ::loom::thread::spawn(move || {
            let begun = LINE.stations.lock()[station].begin();
            let Some(mut turn) = begun else {
                return;
            };
            loop {
                let Turn(alarm) = turn;
                let (due, next) = LINE.round(station, News::Time(now().after(2 * SOON)));
                wake_quietly(due);
                let mut alarm = alarm;
                if let Next::Set(at) = next {
                    let _ = LINE.set(&mut alarm, station, at, By::Timer);
                }
                match LINE.end(station, Turn(alarm)) {
                    Some(again) => turn = again,
                    None => return,
                }
            }
        });
        let mine = Waits::new(LATE);
        bell.join().unwrap();
        is_served(1);
        assert_eq!(first.woken.times(), 1);
        assert_eq!(mine.woken.times(), 0);
        first.leave();
        mine.leave();
        is_served(0);
    });
}
