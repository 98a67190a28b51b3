//! What was measured.

use crate::goals::Goal;
use crate::meter::Sample;
use crate::row::{Role, Who};

/// What the figures of a row are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Nanos,
    Bytes,
}

impl Unit {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nanos => "ns",
            Self::Bytes => "B",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) who: Who,
    pub(crate) sample: Sample,
}

/// A row on so many threads.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) threads: usize,
    pub(crate) unit: Unit,
    pub(crate) figures: Vec<Figure>,
    pub(crate) goals: Vec<Goal>,
    pub(crate) notes: Vec<&'static str>,
    /// How many times it was measured.
    pub(crate) times: usize,
}

impl Outcome {
    /// The figure to compare by: on one thread the tenth percentile of the rounds, since noise
    /// only adds; on two the median, since a round of little contention would look too good.
    pub(crate) fn figure(&self, figure: &Figure) -> f64 {
        if self.threads == 1 {
            figure.sample.p10
        } else {
            figure.sample.median
        }
    }

    pub(crate) fn best(&self, role: Role) -> Option<&Figure> {
        let of_role = self.figures.iter().filter(|one| one.who.role == role);
        // What is not a number comes last.
        of_role.min_by(|one, other| self.figure(one).total_cmp(&self.figure(other)))
    }

    /// The best figure of that crate.
    pub(crate) fn best_of(&self, by: &str) -> Option<f64> {
        let its = self.figures.iter().filter(|one| one.who.by == by);
        its.map(|one| self.figure(one)).min_by(f64::total_cmp)
    }

    /// The best figure for that role.
    pub(crate) fn least(&self, role: Role) -> Option<f64> {
        self.best(role).map(|one| self.figure(one))
    }

    /// Our figure as a multiple of the best one of that role.
    pub(crate) fn ratio_to(&self, role: Role) -> Option<f64> {
        Some(self.least(Role::Ours)? / self.least(role)?)
    }

    /// Each entrant keeps its better figures.
    pub(crate) fn improve(&mut self, again: Vec<Figure>) {
        self.times += 1;
        for one in again {
            let same = |figure: &&mut Figure| {
                (figure.who.by, &figure.who.how) == (one.who.by, &one.who.how)
            };
            if let Some(figure) = self.figures.iter_mut().find(same) {
                figure.sample = figure.sample.or_better(one.sample);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn figure(role: Role, by: &'static str, nanos: f64, anchor: Option<f64>) -> Figure {
        Figure {
            who: Who {
                role,
                by,
                how: format!("its {role:?}"),
                anchor,
                note: None,
            },
            sample: Sample::of(vec![nanos]),
        }
    }

    pub(crate) fn outcome(figures: Vec<Figure>) -> Outcome {
        Outcome {
            name: "some row".into(),
            threads: 1,
            unit: Unit::Nanos,
            figures,
            goals: Vec::new(),
            notes: Vec::new(),
            times: 1,
        }
    }

    #[test]
    fn what_is_shown_aside_is_nobodys_best_peer() {
        let aside = figure(Role::Aside, "tokio", 1.0, None);
        let row = outcome(vec![aside, figure(Role::Peer, "tower", 4.0, None)]);
        assert_eq!(row.least(Role::Peer), Some(4.0));
        assert_eq!(row.ratio_to(Role::Peer), None);
    }

    #[test]
    fn measured_again_each_keeps_its_better_figure() {
        let mut row = outcome(vec![
            figure(Role::Peer, "tower", 4.0, None),
            figure(Role::Ours, "mainstay", 3.0, None),
        ]);
        row.improve(vec![
            figure(Role::Ours, "mainstay", 2.0, None),
            figure(Role::Peer, "tower", 5.0, None),
        ]);
        assert_eq!(row.ratio_to(Role::Peer), Some(0.5));
        assert_eq!(row.times, 2);
    }
}
