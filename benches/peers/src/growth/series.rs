//! What was measured, and the law that it is held to.

use std::fmt;

/// One cost at one size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) size: u64,
    /// For one operation.
    pub(crate) cost: f64,
}

/// The cost of one operation at growing sizes.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// Which of the figure's yardsticks it is held to.
    pub(crate) against: usize,
    pub(crate) points: Vec<Point>,
}

/// One picture: this crate's series, and plain things of the same size next to them.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// The file's name, without its ending.
    pub(crate) file: &'static str,
    pub(crate) title: &'static str,
    /// What grows.
    pub(crate) axis: &'static str,
    /// What one operation is, and what the yardstick.
    pub(crate) about: &'static str,
    pub(crate) unit: Unit,
    pub(crate) ours: Vec<Series>,
    pub(crate) yardsticks: Vec<Series>,
    pub(crate) law: Law,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Nanoseconds,
    Bytes,
}

/// What a cost may grow to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Law {
    /// At most logarithmic, beside what the processor's caches do.
    Logarithmic,
    /// What the yardstick adds up: a stack costs what its policies do.
    SumOfParts,
}

/// A step down a tree, or a wrong guess of the processor, for each doubling of the size.
const STEP: f64 = 10.0;
/// The timing's own noise, and what is paid once the first line is not the only one.
const SLACK: f64 = 1.5;
/// How many times as much as the yardstick may be lost to the caches: it has one place for each
/// entry, where a bounded and ordered thing has up to three, each larger.
const CACHE: f64 = 4.0;

impl Series {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            against: 0,
            points: Vec::new(),
        }
    }

    /// Holds it to another yardstick than the first.
    pub(crate) fn against(self, nth: usize) -> Self {
        Self {
            against: nth,
            ..self
        }
    }

    pub(crate) fn first(&self) -> Option<Point> {
        self.points.first().copied()
    }

    pub(crate) fn last(&self) -> Option<Point> {
        self.points.last().copied()
    }

    /// The cost at the largest size, by that at the smallest.
    pub(crate) fn ratio(&self) -> f64 {
        match (self.first(), self.last()) {
            (Some(first), Some(last)) => last.cost / first.cost,
            _ => f64::NAN,
        }
    }

    /// The exponent `e` of the fitted `size ^ e`: 0 is flat, 1 linear.
    pub(crate) fn exponent(&self) -> f64 {
        let logs = self
            .points
            .iter()
            .map(|p| ((p.size as f64).ln(), p.cost.ln()));
        let logs: Vec<_> = logs.collect();
        let n = logs.len() as f64;
        let mean_x = logs.iter().map(|(x, _)| x).sum::<f64>() / n;
        let mean_y = logs.iter().map(|(_, y)| y).sum::<f64>() / n;
        let both: f64 = logs.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
        let squares: f64 = logs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        both / squares
    }

    pub(crate) fn at(&self, size: u64) -> Option<f64> {
        let point = self.points.iter().find(|point| point.size == size);
        point.map(|point| point.cost)
    }
}

impl Law {
    /// The most that an operation may cost at `size`.
    pub(crate) fn limit(self, first: Point, size: u64, yardstick: &Series) -> f64 {
        match self {
            Self::Logarithmic => {
                let times = size as f64 / first.size as f64;
                let there = yardstick.at(size).zip(yardstick.at(first.size));
                let lost = there.map_or(0.0, |(large, small)| (large - small).max(0.0));
                SLACK * first.cost + STEP * times.log2() + CACHE * lost
            }
            Self::SumOfParts => SLACK * yardstick.at(size).unwrap_or(0.0) + STEP,
        }
    }
}

impl Figure {
    pub(crate) fn sizes(&self) -> impl Iterator<Item = u64> + '_ {
        let longest = self
            .yardsticks
            .iter()
            .max_by_key(|series| series.points.len());
        longest
            .into_iter()
            .flat_map(|s| s.points.iter().map(|p| p.size))
    }

    /// Each point above the law, in words.
    pub(crate) fn breaches(&self) -> Vec<String> {
        let series = self.ours.iter();
        series.filter_map(|series| self.breach(series)).collect()
    }

    /// The first point of the series that is above the law.
    pub(crate) fn breach(&self, series: &Series) -> Option<String> {
        let first = series.first()?;
        let yardstick = self.yardsticks.get(series.against)?;
        let limit = |point: &Point| self.law.limit(first, point.size, yardstick);
        let over = series
            .points
            .iter()
            .find(|point| point.cost.is_nan() || point.cost > limit(point))?;
        Some(format!(
            "{}, {}: {:.0} {} at {} {}, allowed {:.0}",
            self.title,
            series.name,
            over.cost,
            self.unit,
            over.size,
            self.axis,
            limit(over)
        ))
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nanoseconds => "ns",
            Self::Bytes => "bytes",
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const SIZES: [u64; 5] = [1, 10, 100, 1_000, 10_000];

    pub(crate) fn series(name: &str, cost: impl Fn(f64) -> f64) -> Series {
        let points = SIZES.iter().map(|&size| Point {
            size,
            cost: cost(size as f64),
        });
        Series {
            points: points.collect(),
            ..Series::new(name)
        }
    }

    pub(crate) fn figure(ours: Series, yardstick: Series) -> Figure {
        Figure {
            file: "x",
            title: "X",
            axis: "things",
            about: "one thing",
            unit: Unit::Nanoseconds,
            ours: vec![ours],
            yardsticks: vec![yardstick],
            law: Law::Logarithmic,
        }
    }

    #[test]
    fn flat_and_logarithmic_costs_pass() {
        let flat = series("flat", |_| 20.0);
        let tree = series("tree", |n| 20.0 + 9.0 * n.log2());
        assert!(figure(flat.clone(), flat.clone()).breaches().is_empty());
        assert!(figure(tree, flat).breaches().is_empty());
    }

    #[test]
    fn roots_and_lines_are_found_out() {
        let flat = series("flat", |_| 20.0);
        for exponent in [0.5, 1.0] {
            let grows = series("grows", |n| 20.0 * n.powf(exponent));
            assert_eq!(figure(grows, flat.clone()).breaches().len(), 1);
        }
        let nothing = series("nothing", |_| f64::NAN);
        assert_eq!(figure(nothing, flat).breaches().len(), 1);
    }

    #[test]
    fn a_slope_that_starts_from_nearly_nothing_is_found_out() {
        let flat = series("flat", |_| 20.0);
        let grows = series("grows", |n| 100.0 + 0.1 * n);
        let breaches = figure(grows, flat).breaches();
        assert!(
            breaches[0].contains("1100 ns at 10000 things"),
            "{breaches:?}"
        );
    }

    #[test]
    fn what_the_yardstick_loses_to_the_caches_is_allowed() {
        let yardstick = series("map", |n| if n > 1e3 { 200.0 } else { 20.0 });
        let ours = series("ours", |n| if n > 1e3 { 600.0 } else { 60.0 });
        assert!(figure(ours, yardstick).breaches().is_empty());
    }

    #[test]
    fn the_fit_gives_the_exponent() {
        assert!((series("line", |n| 3.0 * n).exponent() - 1.0).abs() < 1e-9);
        assert!(series("flat", |_| 3.0).exponent().abs() < 1e-9);
        assert_eq!(series("line", |n| 3.0 * n).ratio(), 10_000.0);
    }

    #[test]
    fn a_stack_may_cost_what_its_policies_do() {
        let parts = series("parts", |n| 10.0 * n);
        let mut stack = figure(series("good", |n| 14.0 * n), parts);
        stack.law = Law::SumOfParts;
        assert!(stack.breaches().is_empty());
        stack.ours = vec![series("bad", |n| 10.0 * n * n)];
        assert_eq!(stack.breaches().len(), 1);
    }
}
