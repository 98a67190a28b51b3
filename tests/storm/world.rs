//! The weather: one seeded source of chance, the upstream and its moods, and what was seen.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::support::Oops;

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// What the upstream, or those who call it, do at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing goes wrong: to look at what is left.
    Calm,
    Healthy,
    Outage,
    BrownOut,
    Recovery,
    Flapping,
    CancelStorm,
    ClockJumps,
    Panics,
    Overload,
}

impl Phase {
    pub(crate) const ALL: [Self; 9] = [
        Self::Healthy,
        Self::Outage,
        Self::BrownOut,
        Self::Recovery,
        Self::Flapping,
        Self::CancelStorm,
        Self::ClockJumps,
        Self::Panics,
        Self::Overload,
    ];
}

/// What is to happen to one piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doom {
    Fine,
    Fails,
    PanicsAtStart,
    Panics,
    PanicsInDrop,
    Hangs,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) doom: Doom,
    pub(crate) delay: Duration,
}

/// A mutex whose user has not panicked: the storm's panics are thrown outside of locks.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic is thrown under this lock")
}

/// Unwinds without a word on standard error.
pub(crate) fn unwind() -> ! {
    resume_unwind(Box::new("storm"))
}

pub(crate) struct World {
    pub(crate) seed: u64,
    chance: Mutex<fastrand::Rng>,
    phase: Mutex<(Phase, Instant)>,
    start: Instant,
    trace: Mutex<(u64, u64)>,
    broken: Mutex<Vec<String>>,
    kinds: Mutex<BTreeMap<&'static str, u64>>,
    jumped: AtomicU64,
    pub(crate) faults: AtomicU64,
    pub(crate) calls: AtomicU64,
    pub(crate) refused: AtomicU64,
    /// Attempts at the upstream itself.
    pub(crate) attempts: AtomicU64,
    /// Attempts at the upstream that are not over.
    pub(crate) inside: AtomicU32,
}

impl World {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            seed,
            chance: Mutex::new(fastrand::Rng::with_seed(seed)),
            phase: Mutex::new((Phase::Calm, now)),
            start: now,
            trace: Mutex::new((0xcbf2_9ce4_8422_2325, 0)),
            broken: Mutex::default(),
            kinds: Mutex::default(),
            jumped: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            attempts: AtomicU64::new(0),
            inside: AtomicU32::new(0),
        })
    }

    /// A number below `bound`.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        locked(&self.chance).u64(0..bound)
    }

    pub(crate) fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn span(&self, from_ms: u64, to_ms: u64) -> Duration {
        MS * u32::try_from(from_ms + self.below(to_ms - from_ms)).expect("a short span")
    }

    /// Virtual time since the start of this world.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// By how much the clock has jumped so far.
    pub(crate) fn jumped(&self) -> Duration {
        Duration::from_nanos(self.jumped.load(Ordering::Relaxed))
    }

    pub(crate) async fn jump(&self, span: Duration) {
        self.fault("clock jump");
        let nanos = u64::try_from(span.as_nanos()).expect("a jump of hours");
        self.jumped.fetch_add(nanos, Ordering::Relaxed);
        tokio::time::advance(span).await;
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.phase() == Phase::Calm
    }

    pub(crate) fn phase(&self) -> Phase {
        locked(&self.phase).0
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.note("phase", phase as u64);
        *locked(&self.phase) = (phase, Instant::now());
    }

    pub(crate) fn fault(&self, kind: &'static str) {
        self.faults.fetch_add(1, Ordering::Relaxed);
        *locked(&self.kinds).entry(kind).or_default() += 1;
    }

    pub(crate) fn kinds(&self) -> BTreeMap<&'static str, u64> {
        locked(&self.kinds).clone()
    }

    /// Adds to the trace: same seed, same trace.
    pub(crate) fn note(&self, what: &str, number: u64) {
        let mut trace = locked(&self.trace);
        let now = u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX);
        let bytes = what.bytes().chain(number.to_le_bytes());
        for byte in bytes.chain(now.to_le_bytes()) {
            trace.0 = (trace.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        trace.1 += 1;
    }

    pub(crate) fn trace(&self) -> (u64, u64) {
        *locked(&self.trace)
    }

    /// A law was broken: kept, since a panic here could end inside of what is tested.
    pub(crate) fn broke(&self, law: &str, what: impl fmt::Display) {
        let mut broken = locked(&self.broken);
        if broken.len() < 20 {
            broken.push(format!(
                "{:?} {:?}: {law}: {what}",
                self.now(),
                self.phase()
            ));
        }
    }

    pub(crate) fn law(&self, holds: bool, law: &str, what: impl FnOnce() -> String) {
        if !holds {
            self.broke(law, what());
        }
    }

    pub(crate) fn check(&self) {
        let broken = std::mem::take(&mut *locked(&self.broken));
        assert!(
            broken.is_empty(),
            "MAINSTAY_SEED={} breaks:\n{}",
            self.seed,
            broken.join("\n")
        );
    }

    /// What the present mood does to one piece of work.
    pub(crate) fn plan(&self) -> Plan {
        let (phase, since) = *locked(&self.phase);
        let since = since.elapsed();
        let fine = |delay| Plan {
            doom: Doom::Fine,
            delay,
        };
        let dice = self.below(100);
        let up = |world: &Self| fine(world.span(0, 20));
        let down = |world: &Self| Plan {
            doom: if dice < 90 { Doom::Fails } else { Doom::Hangs },
            delay: world.span(0, 6),
        };
        let plan = match phase {
            Phase::Calm => fine(Duration::ZERO),
            Phase::Healthy | Phase::ClockJumps if dice < 99 => up(self),
            Phase::BrownOut if dice < 70 => fine(self.span(300, 2500)),
            Phase::Recovery => {
                let left = 10_u64.saturating_sub(since.as_secs());
                if dice < left * 9 {
                    down(self)
                } else {
                    fine(self.span(0, 50 + left * 120))
                }
            }
            Phase::Flapping if since.as_millis() / 700 % 2 == 0 => down(self),
            Phase::CancelStorm => fine(self.span(0, 200)),
            Phase::Panics if dice < 45 => Plan {
                doom: [Doom::PanicsAtStart, Doom::Panics, Doom::PanicsInDrop]
                    [usize::try_from(self.below(3)).expect("below 3")],
                delay: self.span(0, 20),
            },
            Phase::Outage | Phase::Healthy | Phase::ClockJumps => down(self),
            Phase::BrownOut | Phase::Flapping | Phase::Panics => up(self),
            Phase::Overload => fine(self.span(20, 120)),
        };
        match plan.doom {
            Doom::Fine if plan.delay >= SECOND => self.fault("slow"),
            Doom::Fine => {}
            Doom::Fails => self.fault("failure"),
            Doom::Hangs => self.fault("hang"),
            Doom::PanicsAtStart | Doom::Panics => self.fault("panic"),
            Doom::PanicsInDrop => self.fault("panic in a drop"),
        }
        plan
    }

    /// Carries a plan out. What panics in its drop does so wherever that comes.
    pub(crate) async fn carry_out(&self, plan: Plan) -> Result<u32, Oops> {
        let _bomb = Bomb::armed(plan.doom == Doom::PanicsInDrop);
        if plan.doom == Doom::PanicsAtStart {
            unwind();
        }
        if !plan.delay.is_zero() {
            sleep(plan.delay).await;
        }
        match plan.doom {
            Doom::Fails => Err(Oops(u32::try_from(self.below(1 << 20)).expect("small"))),
            Doom::Hangs => std::future::pending().await,
            Doom::Panics => unwind(),
            Doom::Fine | Doom::PanicsAtStart | Doom::PanicsInDrop => Ok(7),
        }
    }
}

/// Panics when it is dropped, unless the thread unwinds already: that would end the process,
/// by the language's rules.
pub(crate) struct Bomb(bool);

impl Bomb {
    pub(crate) fn armed(armed: bool) -> Self {
        Self(armed)
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 && !std::thread::panicking() {
            unwind();
        }
    }
}

/// Counts one up while it lives.
pub(crate) struct Counted<'a>(&'a AtomicU32);

impl<'a> Counted<'a> {
    pub(crate) fn up(count: &'a AtomicU32) -> (Self, u32) {
        let now = count.fetch_add(1, Ordering::Relaxed) + 1;
        (Self(count), now)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
