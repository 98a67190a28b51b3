//! Random gathers, checked against what each of their items was to do.

use proptest::prelude::*;

use super::*;
use crate::time::now;

#[derive(Clone, Copy, Debug)]
struct Plan {
    weight: u32,
    yields: u8,
    millis: u32,
    end: Ends,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Well,
    Badly,
    Panicking,
}

fn plan() -> impl Strategy<Value = Plan> {
    let end =
        prop_oneof![8 => Just(Ends::Well), 2 => Just(Ends::Badly), 1 => Just(Ends::Panicking)];
    (0..6u32, 0..3u8, 0..12u32, end).prop_map(|(weight, yields, millis, end)| Plan {
        weight,
        yields,
        millis,
        end,
    })
}

async fn run(plan: Plan, number: u32, alive: &Alive) -> Plain {
    let _guard = alive.weighing(plan.weight.max(1));
    for _ in 0..plan.yields {
        let mut yielded = false;
        std::future::poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return std::task::Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
    }
    if plan.millis > 0 {
        sleep(plan.millis * MS).await;
    }
    match plan.end {
        Ends::Well => Ok(number),
        Ends::Badly => Err("badly"),
        Ends::Panicking => unwind(),
    }
}

/// What the item's outcome has to be, where no limit cut it.
fn fits(outcome: &Result<u32, Error<&'static str>>, plan: Plan, number: u32, limit: usize) -> bool {
    if plan.weight.max(1) as usize > limit {
        return outcome
            .as_ref()
            .is_err_and(|error| error.refusal().is_some());
    }
    match plan.end {
        Ends::Well => *outcome == Ok(number),
        Ends::Badly => *outcome == Err(Error::operation("badly")),
        Ends::Panicking => is_panic(outcome),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::models::cases("gather"), ..ProptestConfig::default() })]

    #[test]
    fn every_item_has_its_one_outcome(
        plans in prop::collection::vec(plan(), 0..40),
        limit in 0..12_usize,
        timeout in prop_oneof![Just(Duration::MAX), (0..15u32).prop_map(|n| n * MS)],
        deadline in prop_oneof![2 => Just(Duration::MAX), 1 => (0..60u32).prop_map(|n| n * MS)],
        form in 0..5u8,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let alive = Alive::default();
        let items = plans.iter().zip(0..).map(|(plan, number)| (plan.weight, run(*plan, number, &alive)));
        let mut told = GatherProgress::default();
        let begin = runtime.block_on(async { now() });
        let all = gather(items).limit(limit).timeout(timeout).deadline(deadline)
            .on_progress(|progress| {
                assert_eq!(progress.started - progress.finished, progress.running);
                told = *progress;
            });
        let mut seen: Vec<Option<Result<u32, Error<&'static str>>>> = vec![None; plans.len()];
        let mut put = |index: usize, outcome| {
            assert!(seen[index].replace(outcome).is_none(), "{index} came twice");
        };
        let (complete, spent) = runtime.block_on(async {
            let complete = match form {
                0 => {
                    let all = all.await;
                    let complete = all.is_complete();
                    all.into_iter().enumerate().for_each(|(index, outcome)| put(index, outcome));
                    Some(complete)
                }
                1 => {
                    let mut all = all.as_finished();
                    while let Some((index, outcome)) = all.next().await { put(index, outcome); }
                    Some(all.is_complete())
                }
                2 => {
                    let mut all = all.in_order();
                    let mut index = 0;
                    while let Some(outcome) = all.next().await { put(index, outcome); index += 1; }
                    Some(all.is_complete())
                }
                3 => {
                    let mut all = all.batches(7);
                    let mut index = 0;
                    while let Some(batch) = all.next().await {
                        assert!(batch.len() <= 7);
                        for outcome in batch { put(index, outcome); index += 1; }
                    }
                    Some(all.is_complete())
                }
                _ => {
                    match all.try_all().await {
                        Ok(values) => values.into_iter().enumerate().for_each(|(index, value)| put(index, Ok(value))),
                        // Also of the item after the last: the deadline came before the end.
                        Err(error) => if let Some(last) = plans.len().checked_sub(1) {
                            put(error.index.min(last), Err(error.error));
                        },
                    }
                    None
                }
            };
            assert_eq!(alive.now.get(), 0, "nothing is left");
            (complete, now().since(begin))
        });
        prop_assert!(alive.most.get() as usize <= limit);
        if deadline < Duration::MAX {
            prop_assert!(spent <= deadline + MS);
        }
        let cut = |error: &Error<&str>| error.is_timed_out() && (timeout < Duration::MAX || deadline < Duration::MAX);
        for ((number, plan), outcome) in (0..).zip(&plans).zip(&seen) {
            if let Some(outcome) = outcome {
                let was_cut = outcome.as_ref().is_err_and(cut);
                prop_assert!(was_cut || fits(outcome, *plan, number, limit), "{number}: {outcome:?}");
                let in_time = Duration::from_millis(plan.millis.into()) < timeout;
                prop_assert!(!was_cut || deadline < Duration::MAX || !in_time);
            }
        }
        if form < 4 {
            prop_assert_eq!(told.finished, seen.iter().flatten().count() as u64);
            prop_assert_eq!(told.running, 0);
            let known = seen.iter().take_while(|outcome| outcome.is_some()).count();
            prop_assert!(seen[known..].iter().all(Option::is_none), "no hole");
            if complete == Some(true) {
                prop_assert_eq!(known, plans.len());
            } else {
                prop_assert!(deadline < Duration::MAX);
            }
        }
    }
}
