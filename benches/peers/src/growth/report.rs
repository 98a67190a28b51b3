//! What is printed and written.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use super::series::{Figure, Law, Series, Unit};
use crate::plot;

const HEAD: &str = "\
# How cost grows

Written by `cargo run --release -p mainstay-peers -- growth`; do not edit. Each figure is the
cost of one operation on one thread, in CPU time (the tenth percentile of 31 rounds), while the
thing it works on grows. Read them as shapes: the machine is shared, and machines differ.

Nothing may grow faster than logarithmically; `growth --check` fails where it does. In numbers:
at a size N, next to the smallest size n, an operation may cost

    1.5 * cost(n)  +  10 ns * log2(N / n)  +  4 * what the yardstick loses from n to N

The first term is noise and the second line of a thing that has one; the second is a step down a
tree, or a wrong guess of the processor, for each doubling. The third is the processor's caches:
a million entries do not fit into them, and every map, ring or list of that size pays for it. The
yardstick, grey in the plots, is a plain thing of the same size, measured in the same run, and
touched in the same order; ours have up to three places for an entry where it has one, and larger
ones.

`ratio` is the cost at the largest size by that at the smallest; `exponent` is the `e` of the
fitted `size ^ e`: 0 is flat, 1 linear.
";

/// One figure in words.
pub(crate) fn text(figure: &Figure) -> String {
    let mut out = format!("\n{} ({} per operation)\n", figure.title, figure.unit);
    for series in figure.ours.iter().chain(&figure.yardsticks) {
        let _ = write!(out, "  {:<34}", series.name);
        for size in figure.sizes() {
            let _ = match series.at(size) {
                Some(cost) => write!(out, " {cost:>8.1}"),
                None => write!(out, " {:>8}", ""),
            };
        }
        let (ratio, exponent) = (series.ratio(), series.exponent());
        let _ = writeln!(out, "   x {ratio:.2}, exponent {exponent:+.2}");
    }
    for breach in figure.breaches() {
        let _ = writeln!(out, "  GROWS: {breach}");
    }
    out
}

/// The page and its plots, into `docs/performance`.
pub(crate) fn write(figures: &[Figure]) -> io::Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/performance");
    fs::create_dir_all(&docs)?;
    for figure in figures {
        fs::write(docs.join(format!("{}.svg", figure.file)), plot::svg(figure))?;
    }
    fs::write(docs.join("GROWTH.md"), page(figures))
}

fn page(figures: &[Figure]) -> String {
    let sections: Vec<_> = figures.iter().map(section).collect();
    format!("{HEAD}\n{}", sections.join("\n"))
}

fn section(figure: &Figure) -> String {
    let mut out = format!("## {}\n\n{}\n\n", figure.title, figure.about);
    let _ = writeln!(out, "![{}]({}.svg)\n", figure.title, figure.file);
    let head: Vec<_> = figure.sizes().map(|size| format!(" {size} |")).collect();
    let _ = writeln!(
        out,
        "| {}, {} | {} ratio | exponent | |",
        figure.axis,
        figure.unit,
        head.concat().trim_start()
    );
    let _ = writeln!(out, "|---|{}---:|---:|---|", "---:|".repeat(head.len()));
    for series in &figure.ours {
        let verdict = match figure.breach(series) {
            Some(_) => "grows faster than allowed",
            None => "within the law",
        };
        row(&mut out, figure, series, verdict);
    }
    for yardstick in &figure.yardsticks {
        row(&mut out, figure, yardstick, "a yardstick");
    }
    if figure.law == Law::SumOfParts {
        out.push_str("\nThe law here: at most 1.5 times the yardstick, and 10.\n");
    }
    out
}

fn row(out: &mut String, figure: &Figure, series: &Series, verdict: &str) {
    let decimals = usize::from(figure.unit == Unit::Nanoseconds);
    let _ = write!(out, "| {} |", series.name);
    for size in figure.sizes() {
        let _ = match series.at(size) {
            Some(cost) => write!(out, " {cost:.decimals$} |"),
            None => write!(out, " |"),
        };
    }
    let (ratio, exponent) = (series.ratio(), series.exponent());
    let _ = writeln!(out, " {ratio:.2} | {exponent:.2} | {verdict} |");
}

#[cfg(test)]
mod tests {
    use super::super::series::tests::{figure, series};
    use super::*;

    #[test]
    fn the_page_says_which_series_breaks_the_law() {
        let good = figure(series("flat", |_| 20.0), series("map", |_| 20.0));
        let bad = figure(series("line", |n| 20.0 * n), series("map", |_| 20.0));
        assert!(section(&good).contains("| flat | 20.0 | 20.0 |"));
        assert!(section(&good).contains("within the law"));
        assert!(section(&bad).contains("grows faster than allowed"));
        assert!(text(&bad).contains("GROWS") && !text(&good).contains("GROWS"));
    }

    #[test]
    fn a_table_has_as_many_columns_in_each_line() {
        let good = figure(series("flat", |_| 20.0), series("map", |_| 20.0));
        let text = section(&good);
        let lines = text.lines().filter(|line| line.starts_with('|'));
        let columns: Vec<_> = lines.map(|line| line.matches('|').count()).collect();
        assert_eq!(columns.len(), 4);
        assert!(columns.iter().all(|n| *n == columns[0]), "{text}");
    }
}
