//! How cost grows: keys, windows, queues, slots, tasks, time limits, depth.
//!
//! `cargo run --release -p mainstay-peers -- growth` measures, prints and writes
//! `docs/performance/GROWTH.md` with a plot for each figure; `--check` ends with an error where
//! something grows faster than [`series::Law`] allows. `--quick` stops at a hundredth of the
//! largest sizes and leaves the docs alone.

mod crowd;
mod depth;
mod keys;
mod limits;
mod lines;
mod many;
mod report;
pub(crate) mod series;
mod sweep;
mod windows;

use std::io;

use crate::Options;
use series::Figure;
use sweep::Sweep;

type Measure = fn(&Sweep) -> Figure;

/// The names of the files, and what makes each figure.
const FIGURES: [(&str, Measure); 15] = [
    ("keys", keys::known),
    ("strangers", keys::strangers),
    ("window-calls", windows::calls),
    ("window-records", windows::records),
    ("window-span", windows::spans),
    ("line-bulkhead", lines::bulkhead),
    ("line-limiter", lines::limiter),
    ("line-pool", lines::pool),
    ("gather", many::gather),
    ("tasks", many::tasks),
    ("pool", many::pool),
    ("queue", many::queue),
    ("time-limits", limits::pending),
    ("depth-time", depth::time),
    ("depth-size", depth::size),
];

/// Measures; `Ok(false)` when a law is broken and that was asked for.
pub(crate) fn run(options: &Options) -> io::Result<bool> {
    let sweep = Sweep::new(options.quick);
    let wanted = |file: &str| options.only.as_ref().is_none_or(|part| file.contains(part));
    let mut figures = Vec::new();
    for (file, measure) in FIGURES.into_iter().filter(|(file, _)| wanted(file)) {
        let figure = Figure {
            file,
            ..within_law(&sweep, measure)
        };
        print!("{}", report::text(&figure));
        figures.push(figure);
    }
    if !options.quick && !options.check && options.only.is_none() {
        report::write(&figures)?;
    }
    Ok(verdict(&figures, options.check))
}

/// Measures again what breaks a law: a neighbour on the machine that empties our caches is gone
/// by then, and a real growth is there each time.
fn within_law(sweep: &Sweep, measure: Measure) -> Figure {
    let mut figure = measure(sweep);
    for _ in 0..2 {
        if figure.breaches().is_empty() {
            break;
        }
        figure = measure(sweep);
    }
    figure
}

fn verdict(figures: &[Figure], check: bool) -> bool {
    let breaches: Vec<_> = figures.iter().flat_map(Figure::breaches).collect();
    if breaches.is_empty() {
        println!("\nnothing grows faster than allowed");
    } else {
        println!("\nGROWS FASTER THAN ALLOWED:");
        for breach in &breaches {
            println!("  {breach}");
        }
    }
    breaches.is_empty() || !check
}
