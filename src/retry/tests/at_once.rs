//! Attempts that follow at once are decided about in a few words: nobody sees the difference.
use proptest::prelude::*;

use super::*;

const POOR: u32 = 0;
const FATAL: u32 = 1;

/// All that can be seen of a call.
#[derive(Debug, PartialEq)]
struct Story {
    result: Result<u32, Error<u32>>,
    starts: usize,
    /// At how many starts it let others run.
    pauses: Vec<usize>,
    /// What the hook was told.
    told: Vec<(u32, Duration, Result<u32, Error<u32>>)>,
}

fn reply() -> impl Strategy<Value = Result<u32, u32>> {
    prop_oneof![
        1 => Just(Ok(7)),
        4 => Just(Ok(POOR)),
        1 => Just(Err(FATAL)),
        40 => (2..9_u32).prop_map(Err),
    ]
}

fn story<B: Delays>(retry: RetryBuilder<B>, most: u32, script: &[Result<u32, u32>]) -> Story {
    let (starts, told) = (Cell::new(0), RefCell::new(Vec::new()));
    let retry = retry
        .no_budget()
        .max_attempts(most)
        .classify(|result: Result<&u32, &Error<u32>>| match result {
            Ok(&POOR) => Verdict::Retry,
            Err(error) if error.last() != Some(&FATAL) => Verdict::Retry,
            Ok(_) | Err(_) => Verdict::Stop,
        })
        .on_retry(|event: &RetryEvent<'_, u32, u32>| {
            let result = event.result.copied().map_err(Clone::clone);
            told.borrow_mut().push((event.attempt, event.delay, result));
        })
        .build()
        .unwrap();
    let start = || {
        let nth = starts.replace(starts.get() + 1);
        ready(script.get(nth).copied().unwrap_or(Ok(7)))
    };
    let mut pauses = Vec::new();
    let mut call = task::spawn(start.retry(&retry));
    let result = loop {
        match call.poll() {
            Poll::Ready(result) => break result,
            Poll::Pending => pauses.push(starts.get()),
        }
    };
    drop(call);
    Story {
        result,
        starts: starts.get(),
        pauses,
        told: told.take(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::models::cases("retry"), ..ProptestConfig::default() })]

    #[test]
    fn no_delay_is_as_delays_of_zero(
        most in prop_oneof![1..6_u32, 30..70_u32, Just(u32::MAX)],
        script in prop::collection::vec(reply(), 0..80),
    ) {
        let zeros = Retry::builder().delays(|| std::iter::repeat(Duration::ZERO));
        prop_assert_eq!(story(at_once(), most, &script), story(zeros, most, &script));
    }
}

/// Whoever is to be asked is asked.
#[test]
fn a_budget_counts_attempts_that_follow_at_once() {
    let broken = Broken::new();
    let budget = RetryBudget::new(0.0, 2).unwrap();
    let retry = at_once().budget(budget).max_attempts(9).build().unwrap();
    spin((|| broken.start()).retry(&retry)).unwrap_err();
    assert_eq!(broken.starts(), 3);
}

/// Whoever listens is told.
#[test]
fn an_observer_hears_of_attempts_that_follow_at_once() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heard);
    let pipeline = Pipeline::builder("")
        .observe(move |event: &Event<'_>| log.lock().unwrap().push(event.to_string()))
        .retry(at_once().no_budget())
        .build()
        .unwrap();
    spin(pipeline.call(|| ready(Answer::Err("down")))).unwrap_err();
    let again = |n| format!(": attempt {n}: trying again at once");
    let over = ": attempt 3: gave up: all attempts were made".to_owned();
    assert_eq!(*heard.lock().unwrap(), [again(1), again(2), over]);
}
