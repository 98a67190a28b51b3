//! A row of the table: who takes part in it, what is asked of us, and what has to be known.
//!
//! ```ignore
//! row.goal(9.0).note("All admit one call at a time ...");
//! row.floor("GCRA on the processor's counter", each!(gcra => gcra.admit())).anchor(8.8);
//! row.peer("governor", "check()", each!(limiter => limiter.check().is_ok())).anchor(8.6);
//! row.ours("rate_limit()", each!(ours => ok().rate_limit(&ours).await));
//! ```

use crate::goals::Goal;
use crate::meter::{Clock, Looped, Work};

/// Who an entrant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Does only what must be done.
    Floor,
    Peer,
    Ours,
    /// Shown, but compared with nobody: it does something else.
    Aside,
}

impl Role {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Peer => "peer",
            Self::Ours => "ours",
            Self::Aside => "aside",
        }
    }
}

/// Who it is, and how it is used.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) role: Role,
    /// The crate.
    pub(crate) by: &'static str,
    pub(crate) how: String,
    /// What the reference machine measured for this very code.
    pub(crate) anchor: Option<f64>,
    /// In what it is unlike the others.
    pub(crate) note: Option<&'static str>,
}

pub(crate) struct Entrant {
    pub(crate) who: Who,
    pub(crate) clock: Clock,
    /// No more calls than this in one round, and few rounds.
    pub(crate) at_most: Option<u64>,
    /// Cannot be shared, or not in the time that there is.
    pub(crate) alone: bool,
    make: Box<dyn Fn() -> Box<dyn Work>>,
}

impl Entrant {
    /// The same code, measured on the reference machine; see [`crate::goals`].
    pub(crate) fn anchor(&mut self, nanos: f64) -> &mut Self {
        self.who.anchor = Some(nanos);
        self
    }

    pub(crate) fn note(&mut self, note: &'static str) -> &mut Self {
        self.who.note = Some(note);
        self
    }

    /// It sleeps: the wall clock counts.
    pub(crate) fn sleeps(&mut self) -> &mut Self {
        self.clock = Clock::Wall;
        self.alone = true;
        self.at_most(1)
    }

    pub(crate) fn at_most(&mut self, calls: u64) -> &mut Self {
        self.at_most = Some(calls);
        self
    }

    pub(crate) fn alone(&mut self) -> &mut Self {
        self.alone = true;
        self
    }

    /// One thread's share of it; to be asked for inside of a runtime's context.
    pub(crate) fn work(&self) -> Box<dyn Work> {
        (self.make)()
    }
}

/// What is measured together.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) entrants: Vec<Entrant>,
    pub(crate) goals: Vec<Goal>,
    pub(crate) notes: Vec<&'static str>,
    /// Is there an object that two threads can share?
    pub(crate) shared: bool,
    /// Calls in one run of a body.
    pub(crate) calls: u64,
    /// Under tokio's cooperative budget, as a user's task is?
    pub(crate) budgeted: bool,
    /// Does another timer wait in the runtime?
    pub(crate) timers: bool,
}

impl Row {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            entrants: Vec::new(),
            goals: Vec::new(),
            notes: Vec::new(),
            shared: false,
            calls: 1,
            budgeted: false,
            timers: false,
        }
    }

    /// At most so many nanoseconds on the reference machine.
    pub(crate) fn goal(&mut self, nanos: f64) -> &mut Self {
        self.require(Goal::Nanos(nanos))
    }

    pub(crate) fn require(&mut self, goal: Goal) -> &mut Self {
        self.goals.push(goal);
        self
    }

    pub(crate) fn note(&mut self, note: &'static str) -> &mut Self {
        self.notes.push(note);
        self
    }

    /// Measured on two threads as well.
    pub(crate) fn shared(&mut self) -> &mut Self {
        self.shared = true;
        self
    }

    pub(crate) fn floor<B, T>(
        &mut self,
        how: impl Into<String>,
        make: impl Fn() -> B + 'static,
    ) -> &mut Entrant
    where
        B: AsyncFnMut() -> T + Send + 'static,
    {
        self.add(Role::Floor, "floor", how, make)
    }

    pub(crate) fn peer<B, T>(
        &mut self,
        by: &'static str,
        how: impl Into<String>,
        make: impl Fn() -> B + 'static,
    ) -> &mut Entrant
    where
        B: AsyncFnMut() -> T + Send + 'static,
    {
        self.add(Role::Peer, by, how, make)
    }

    pub(crate) fn ours<B, T>(
        &mut self,
        how: impl Into<String>,
        make: impl Fn() -> B + 'static,
    ) -> &mut Entrant
    where
        B: AsyncFnMut() -> T + Send + 'static,
    {
        self.add(Role::Ours, "mainstay", how, make)
    }

    pub(crate) fn aside<B, T>(
        &mut self,
        by: &'static str,
        how: impl Into<String>,
        make: impl Fn() -> B + 'static,
    ) -> &mut Entrant
    where
        B: AsyncFnMut() -> T + Send + 'static,
    {
        self.add(Role::Aside, by, how, make)
    }

    fn add<B, T>(
        &mut self,
        role: Role,
        by: &'static str,
        how: impl Into<String>,
        make: impl Fn() -> B + 'static,
    ) -> &mut Entrant
    where
        B: AsyncFnMut() -> T + Send + 'static,
    {
        let budgeted = self.budgeted;
        self.entrants.push(Entrant {
            who: Who {
                role,
                by,
                how: how.into(),
                anchor: None,
                note: None,
            },
            clock: Clock::Thread,
            at_most: None,
            alone: false,
            make: Box::new(move || Box::new(Looped::new(make(), budgeted))),
        });
        self.entrants.last_mut().expect("just pushed")
    }
}

/// A maker of bodies: each thread gets its own handle of every shared object, and uses each
/// outcome as a caller does.
macro_rules! each {
    (=> $call:expr) => {
        move || async move || $crate::calls::Used::used($call)
    };
    ($($shared:ident),+ => $call:expr) => {{
        $(let $shared = $shared.clone();)+
        move || {
            $(#[allow(unused_mut)] let mut $shared = $shared.clone();)+
            async move || $call
        }
    }};
}
pub(crate) use each;
