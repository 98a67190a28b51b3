//! Measures the rows: all entrants of a row take turns, so that whatever happens to the machine
//! happens to all of them.

use std::fmt;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::Options;
use crate::contended::{Contended, Pair};
use crate::goals::{self, Goal, Verdict};
use crate::machine::Machine;
use crate::meter::{self, Calibrated, Effort, Work};
use crate::outcome::{Figure, Outcome, Unit};
use crate::report::table;
use crate::row::{Entrant, Row};
use crate::rows::{self, Plan, pending};

/// A row that misses its goal is measured so many times in all.
const TIMES: usize = 4;
const TIMES_QUICK: usize = 3;

/// From then on a quick run measures nothing again.
const QUICK_ENOUGH: Duration = Duration::from_secs(25);

/// Rounds of an entrant that cannot have many.
const FEW: usize = 5;

/// Everything that a run found out.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) machine: Machine,
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) quick: bool,
}

impl Findings {
    pub(crate) fn verdict(&self, outcome: &Outcome) -> Verdict {
        goals::verdict(outcome, self.machine.scale())
    }

    pub(crate) fn missed(&self) -> impl Iterator<Item = &Outcome> {
        let outcomes = self.outcomes.iter();
        outcomes.filter(|one| self.verdict(one) == Verdict::Missed)
    }
}

pub(crate) fn all(options: &Options) -> Findings {
    let effort = if options.quick {
        Effort::QUICK
    } else {
        Effort::FULL
    };
    let machine = Machine::look(effort);
    let run = Run {
        effort,
        times: if options.quick { TIMES_QUICK } else { TIMES },
        until: options.quick.then(|| Instant::now() + QUICK_ENOUGH),
        machine: machine.scale(),
        pair: Pair::new(),
    };
    let asked = |name: &str| options.only.as_ref().is_none_or(|part| name.contains(part));
    let plans = rows::ALL.iter().filter(|plan| asked(plan.name));
    let mut outcomes: Vec<_> = plans.flat_map(|plan| run.plan(plan)).collect();
    if asked("pending time limits") {
        outcomes.extend(run.pending(options.quick));
    }
    Findings {
        machine,
        outcomes,
        quick: options.quick,
    }
}

struct Run {
    effort: Effort,
    times: usize,
    /// Rows that miss their goal are measured again only until then.
    until: Option<Instant>,
    machine: f64,
    pair: Option<Pair>,
}

impl Run {
    /// A row on one thread, and on two if it can be.
    fn plan(&self, plan: &Plan) -> Vec<Outcome> {
        let runtime = meter::runtime();
        let _context = runtime.enter();
        let row = plan.row();
        let mut outcomes = vec![self.judged(&row, 1, |again| alone(self.effort, &row, again))];
        if let Some(pair) = self.pair.as_ref().filter(|_| row.shared) {
            let measure = |_| together(self.effort, &row, pair);
            outcomes.push(self.judged(&row, 2, measure));
        }
        outcomes
    }

    /// Measured again while it misses a goal.
    fn judged(
        &self,
        row: &Row,
        threads: usize,
        mut measure: impl FnMut(bool) -> Vec<Figure>,
    ) -> Outcome {
        let mut outcome = Outcome {
            name: row.name.into(),
            threads,
            unit: Unit::Nanos,
            figures: measure(false),
            goals: if threads == 1 {
                row.goals.clone()
            } else {
                vec![Goal::BestPeer]
            },
            notes: row.notes.clone(),
            times: 1,
        };
        while outcome.times < self.times && self.is_worth_another(&outcome) {
            outcome.improve(measure(true));
        }
        tell(&outcome, self.machine);
        outcome
    }

    fn is_worth_another(&self, outcome: &Outcome) -> bool {
        let verdict = goals::verdict(outcome, self.machine);
        let in_time = self.until.is_none_or(|until| Instant::now() < until);
        in_time && matches!(verdict, Verdict::Missed | Verdict::Unclear)
    }

    fn pending(&self, quick: bool) -> Vec<Outcome> {
        let (count, times) = if quick { (100_000, 3) } else { (1_000_000, 2) };
        let mut outcomes = pending::measure(count, times);
        let another = |one: &Outcome| self.is_worth_another(one);
        while outcomes[0].times < TIMES_QUICK && outcomes.iter().any(another) {
            let again = pending::measure(count, times);
            for (outcome, again) in outcomes.iter_mut().zip(again) {
                outcome.improve(again.figures);
            }
        }
        for one in &outcomes {
            tell(one, self.machine);
        }
        outcomes
    }
}

/// One line while the run goes on.
fn tell(outcome: &Outcome, machine: f64) {
    println!("{}", Line(outcome, machine));
}

struct Line<'a>(&'a Outcome, f64);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&table::line(self.0, self.1))
    }
}

/// All entrants of a row in turns, on one thread.
fn alone(effort: Effort, row: &Row, again: bool) -> Vec<Figure> {
    // Who cannot have many rounds is measured once.
    let entrants = row
        .entrants
        .iter()
        .filter(|one| !again || one.at_most.is_none());
    let entrants: Vec<_> = entrants.collect();
    let mut seats: Vec<_> = entrants
        .iter()
        .map(|one| Seat::new(one, row.timers))
        .collect();
    let mut ready: Vec<_> = seats
        .iter_mut()
        .map(|seat| seat.calibrated(effort))
        .collect();
    let mut rounds = vec![Vec::new(); ready.len()];
    for nth in 0..effort.rounds {
        for ((entrant, ready), rounds) in entrants.iter().zip(&mut ready).zip(&mut rounds) {
            if nth < FEW || entrant.at_most.is_none() {
                rounds.push(ready.round());
            }
        }
    }
    let results = entrants.iter().zip(ready).zip(rounds);
    let results = results.map(|((entrant, ready), rounds)| Figure {
        who: entrant.who.clone(),
        sample: ready.sample(rounds).per(row.calls),
    });
    results.collect()
}

/// An entrant with a runtime of its own, so that its timers are no one else's.
struct Seat<'a> {
    entrant: &'a Entrant,
    work: Box<dyn Work>,
    runtime: Runtime,
}

impl<'a> Seat<'a> {
    fn new(entrant: &'a Entrant, timers: bool) -> Self {
        let runtime = meter::runtime();
        if timers {
            runtime.block_on(meter::keep_a_timer());
        }
        Self {
            entrant,
            work: entrant.work(),
            runtime,
        }
    }

    fn calibrated(&mut self, effort: Effort) -> Calibrated<'_> {
        let at_most = self.entrant.at_most.unwrap_or(u64::MAX);
        let clock = self.entrant.clock;
        Calibrated::new(effort, &mut *self.work, &self.runtime, clock, at_most)
    }
}

/// All entrants that can be shared, in turns, each by two threads.
fn together(effort: Effort, row: &Row, pair: &Pair) -> Vec<Figure> {
    let entrants: Vec<_> = row.entrants.iter().filter(|one| !one.alone).collect();
    let contended = |one: &&Entrant| Contended::new(effort, pair, [one.work(), one.work()]);
    let mut ready: Vec<_> = entrants.iter().map(contended).collect();
    for _ in 0..effort.contended {
        ready.iter_mut().for_each(Contended::round);
    }
    let patience = Instant::now() + effort.patience;
    while Instant::now() < patience && !ready.iter().all(Contended::is_clear) {
        let unclear = ready.iter_mut().filter(|one| !one.is_clear());
        unclear.for_each(Contended::round);
    }
    let results = entrants.iter().zip(ready);
    let results = results.map(|(entrant, ready)| Figure {
        who: entrant.who.clone(),
        sample: ready.sample().per(row.calls),
    });
    results.collect()
}
