//! A state of a public future, to be put into the laboratory.

use std::pin::Pin;

use mainstay::testing::{Laboratory, Report};

use crate::proof;

type Running = Pin<Box<dyn Future<Output = Report>>>;

/// One public future in one state of its policy.
pub(crate) struct Trial {
    name: String,
    /// The public futures that are polled in it, as `complete` names them.
    pub(crate) covers: &'static [&'static str],
    /// How many polls it takes at least: fewer, and it does not come where it should.
    least: usize,
    run: Box<dyn FnOnce(Laboratory) -> Running>,
}

/// A trial; `least` is how many polls it must come to.
pub(crate) fn trial<Fut: Future<Output = Report> + 'static>(
    name: impl Into<String>,
    covers: &'static [&'static str],
    least: usize,
    run: impl FnOnce(Laboratory) -> Fut + 'static,
) -> Trial {
    Trial {
        name: name.into(),
        covers,
        least,
        run: Box::new(|lab| Box::pin(run(lab))),
    }
}

/// How many orders by chance there are for each ending: the environment may ask for more.
fn shuffles() -> u64 {
    std::env::var("MAINSTAY_SHUFFLES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(4)
}

/// Runs each trial in a runtime of its own, and counts.
pub(crate) fn run_all(trials: Vec<Trial>) {
    let (mut points, states) = (0, trials.len());
    for trial in trials {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        // What the crate does by chance is the same each time.
        fastrand::seed(7);
        let lab = Laboratory::new(&*trial.name)
            .shuffles(shuffles())
            .watch_waker(true);
        let report = runtime.block_on((trial.run)(lab));
        println!(
            "{}: {} points, {} polls",
            trial.name,
            report.points(),
            report.most_polls()
        );
        assert!(
            report.most_polls() >= trial.least,
            "{}: it came to {} polls only",
            trial.name,
            report.most_polls()
        );
        points += report.points();
    }
    proof::count("lab.points", points);
    proof::count("lab.states", states as u64);
}
