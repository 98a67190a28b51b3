//! What is asked of this crate, and by which rule a figure is judged.
//!
//! # One thread
//!
//! The goals are nanoseconds on one reference machine. Machines differ, and so does one machine
//! from hour to hour. So a goal is scaled by what the run itself shows about its machine, through
//! code that is none of ours:
//!
//! - each entrant of the row that was measured on the reference machine as well (peers and floor)
//!   says "this machine takes so many times as long";
//! - so do the primitive operations of [`crate::machine`], by their median;
//! - the row's *scale* is the median of all of these. One entrant that became faster or slower by
//!   itself, say by a new version or by an accident of code layout, does not move it.
//!
//! A goal is met if our figure is at most the goal times the scale. Goals that are shares of a
//! peer's figure need no scale.
//!
//! # Two threads
//!
//! No operation may be slower than the best peer in the same run. Under contention the same code
//! differs from itself by a few hundredths from run to run, so [`SAME`] is the limit.
//!
//! # Noise
//!
//! Noise only adds. On one thread the tenth percentile of the rounds is the figure, for all
//! entrants alike. A row that misses its goal is measured again, all entrants of it, and each keeps
//! its better figure; after so many times a miss is a miss.

use crate::outcome::{Figure, Outcome};
use crate::row::Role;

/// Two figures under contention that differ by less are equal.
pub(crate) const SAME: f64 = 1.05;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// At most so many nanoseconds on the reference machine.
    Nanos(f64),
    /// At most so many allocations for a call.
    Allocations(f64),
    /// At most this share of the best figure of that peer.
    Share { of: &'static str, share: f64 },
    /// Under contention: not slower than the best peer.
    BestPeer,
}

/// What became of one goal.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Judgement {
    pub(crate) goal: String,
    pub(crate) limit: f64,
    pub(crate) measured: f64,
}

impl Judgement {
    pub(crate) fn met(&self) -> bool {
        self.measured <= self.limit
    }
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    Missed,
    /// The machine was too busy for a figure.
    Unclear,
    /// This crate has nothing of the kind.
    NotInThisCrate,
    /// Nothing is asked.
    NoGoal,
}

impl Verdict {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::Unclear => "unclear: the machine was too busy",
            Self::NotInThisCrate => "not in this crate",
            Self::NoGoal => "",
        }
    }
}

/// How many times as long this row takes here as on the reference machine.
pub(crate) fn scale(outcome: &Outcome, machine: f64) -> f64 {
    let others = outcome
        .figures
        .iter()
        .filter(|one| one.who.role != Role::Ours);
    let ratios = others.filter_map(|one| Some(outcome.figure(one) / one.who.anchor?));
    let ratios = ratios.filter(|ratio| ratio.is_finite());
    median(ratios.chain([machine]).collect())
}

/// The middle one; of two in the middle, their mean.
pub(crate) fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    let middle = of.len() / 2;
    match of.len() {
        0 => 1.0,
        odd if odd % 2 == 1 => of[middle],
        _ => f64::midpoint(of[middle - 1], of[middle]),
    }
}

/// Each goal of the row, for what we measured.
pub(crate) fn judge(outcome: &Outcome, machine: f64) -> Vec<Judgement> {
    let Some(ours) = outcome.best(Role::Ours) else {
        return Vec::new();
    };
    let goals = outcome.goals.iter();
    goals
        .filter_map(|goal| judge_one(outcome, ours, *goal, machine))
        .collect()
}

fn judge_one(outcome: &Outcome, ours: &Figure, goal: Goal, machine: f64) -> Option<Judgement> {
    let measured = outcome.figure(ours);
    let unit = outcome.unit.name();
    Some(match goal {
        Goal::Nanos(nanos) => {
            let limit = nanos * scale(outcome, machine);
            Judgement {
                goal: format!("{nanos} ns there, {limit:.1} ns here"),
                limit,
                measured,
            }
        }
        Goal::Allocations(limit) => Judgement {
            goal: format!("{limit} allocations"),
            // A round may meet somebody else's.
            limit: limit + 0.01,
            measured: ours.sample.allocations,
        },
        Goal::Share { of, share } => {
            let limit = share * outcome.best_of(of)?;
            Judgement {
                goal: format!("{share} times {of}'s: {limit:.1} {unit}"),
                limit,
                measured,
            }
        }
        Goal::BestPeer => {
            let limit = SAME
                * outcome
                    .least(Role::Peer)
                    .filter(|figure| !figure.is_nan())?;
            Judgement {
                goal: "not slower than the best peer".into(),
                limit,
                measured,
            }
        }
    })
}

pub(crate) fn verdict(outcome: &Outcome, machine: f64) -> Verdict {
    if outcome.goals.is_empty() {
        return Verdict::NoGoal;
    }
    let Some(ours) = outcome.best(Role::Ours) else {
        return Verdict::NotInThisCrate;
    };
    if outcome.figure(ours).is_nan() {
        return Verdict::Unclear;
    }
    if judge(outcome, machine).iter().all(Judgement::met) {
        Verdict::Met
    } else {
        Verdict::Missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::tests::{figure, outcome};

    #[test]
    fn a_goal_grows_with_a_slower_machine() {
        let floor = figure(Role::Floor, "floor", 20.0, Some(10.0));
        let peer = figure(Role::Peer, "tokio", 60.0, Some(30.0));
        let mut row = outcome(vec![
            floor,
            peer,
            figure(Role::Ours, "mainstay", 23.9, None),
        ]);
        row.goals = vec![Goal::Nanos(12.0)];
        assert_eq!(scale(&row, 2.0), 2.0);
        assert_eq!(verdict(&row, 2.0), Verdict::Met);
        row.figures[2].sample.p10 = 24.1;
        assert_eq!(verdict(&row, 2.0), Verdict::Missed);
    }

    #[test]
    fn one_odd_yardstick_does_not_move_the_goal() {
        let floor = figure(Role::Floor, "floor", 10.0, Some(10.0));
        let odd = figure(Role::Peer, "tower", 900.0, Some(30.0));
        let row = outcome(vec![floor, odd]);
        assert_eq!(scale(&row, 1.1), 1.1);
    }

    #[test]
    fn ours_is_no_yardstick() {
        let row = outcome(vec![figure(Role::Ours, "mainstay", 900.0, Some(1.0))]);
        assert_eq!(scale(&row, 1.25), 1.25);
    }

    #[test]
    fn a_share_is_of_the_best_figure_of_that_peer() {
        let slow = figure(Role::Peer, "tokio", 90.0, None);
        let fast = figure(Role::Peer, "tokio", 80.0, None);
        let mut row = outcome(vec![slow, fast, figure(Role::Ours, "mainstay", 41.0, None)]);
        row.goals = vec![Goal::Share {
            of: "tokio",
            share: 0.5,
        }];
        assert_eq!(verdict(&row, 1.0), Verdict::Missed);
        assert_eq!(judge(&row, 1.0)[0].limit, 40.0);
    }

    #[test]
    fn under_contention_the_best_peer_is_the_goal() {
        let peers = [30.0, 20.0].map(|nanos| figure(Role::Peer, "tokio", nanos, None));
        let mut row = outcome(peers.into());
        row.threads = 2;
        row.goals = vec![Goal::BestPeer];
        assert_eq!(verdict(&row, 1.0), Verdict::NotInThisCrate);
        row.figures.push(figure(Role::Ours, "mainstay", 20.9, None));
        assert_eq!(verdict(&row, 1.0), Verdict::Met);
        row.figures[2].sample.median = 21.1;
        assert_eq!(verdict(&row, 1.0), Verdict::Missed);
    }

    #[test]
    fn no_figure_is_no_verdict() {
        let peer = figure(Role::Peer, "tokio", 20.0, None);
        let mut row = outcome(vec![peer, figure(Role::Ours, "mainstay", f64::NAN, None)]);
        row.goals = vec![Goal::BestPeer];
        assert_eq!(verdict(&row, 1.0), Verdict::Unclear);
    }

    #[test]
    fn allocations_count() {
        let mut row = outcome(vec![figure(Role::Ours, "mainstay", 1.0, None)]);
        row.goals = vec![Goal::Nanos(5.0), Goal::Allocations(0.0)];
        row.figures[0].sample.allocations = 0.0;
        assert_eq!(verdict(&row, 1.0), Verdict::Met);
        row.figures[0].sample.allocations = 1.0;
        assert_eq!(verdict(&row, 1.0), Verdict::Missed);
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
    }
}
