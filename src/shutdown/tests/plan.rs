//! The plan against a slow, obvious one, in random histories.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;

use crate::shutdown::counts::Counts;
use crate::shutdown::plan::{Order, Plan, Shares};
use crate::shutdown::report::Status;
use crate::time::Instant;

const BEGIN: u64 = 1_000;

fn plan(deadline: u32, shares: Shares, stages: &[usize]) -> Plan {
    let components = stages.iter().map(|&stage| (stage, true));
    Plan::new(Duration::from_nanos(deadline.into()), shares, components)
}

fn at(nanos: u32) -> Instant {
    Instant::from_nanos(BEGIN + u64::from(nanos))
}

const USUAL: Shares = Shares {
    drain: 0.8,
    cancel: 0.15,
};

#[test]
fn stages_drain_one_after_another_and_then_all_are_cancelled_and_aborted() {
    let mut plan = plan(1_000_000, USUAL, &[1, 2, 2, 3]);
    assert_eq!(plan.order(0, at(0)), (Order::Wait, Instant::NEVER));
    assert!(plan.begin(at(0)));
    assert!(!plan.begin(at(5)), "once");
    let orders = |plan: &Plan, now| [0, 1, 2, 3].map(|n| plan.order(n, at(now)).0);
    assert_eq!(
        orders(&plan, 0),
        [Order::Wait; 4],
        "protected sections are held"
    );
    plan.release();
    let (d, w) = (Order::Drain, Order::Wait);
    assert_eq!(orders(&plan, 1), [d, w, w, w]);
    plan.end(0, Order::Drain, at(1));
    assert_eq!(orders(&plan, 2), [d, d, d, w]);
    plan.end(2, Order::Drain, at(2));
    assert_eq!(orders(&plan, 799_999), [d, d, d, w]);
    assert_eq!(orders(&plan, 800_000), [Order::Cancel; 4]);
    assert_eq!(orders(&plan, 950_000), [Order::Abort; 4]);
    assert_eq!(orders(&plan, 1_000_000), [Order::Over; 4]);
}

#[test]
fn zero_and_endless_deadlines_are_kept() {
    let mut none = plan(0, USUAL, &[1]);
    none.begin(at(0));
    assert_eq!(none.order(0, at(0)).0, Order::Over);
    let mut endless = Plan::new(Duration::MAX, USUAL, [(1, true)].into_iter());
    endless.begin(at(0));
    endless.release();
    let (order, until) = endless.order(0, Instant::from_nanos(u64::MAX / 2));
    assert_eq!((order, until), (Order::Drain, Instant::NEVER));
}

#[test]
fn what_cannot_be_asked_to_end_was_not_cancelled() {
    let components = [(1, true), (1, false)].into_iter();
    let mut plan = Plan::new(Duration::from_nanos(100), USUAL, components);
    plan.begin(at(0));
    plan.end(0, Order::Cancel, at(1));
    plan.end(1, Order::Cancel, at(1));
    let status = |n| plan.report(n, "", at(2)).status;
    assert_eq!(
        (status(0), status(1)),
        (Status::Cancelled, Status::Completed)
    );
}

#[test]
fn what_has_gone_wrong_has_failed_unless_it_was_given_up() {
    let mut plan = plan(100, USUAL, &[1, 1]);
    plan.begin(at(0));
    assert_eq!(plan.deadline(), Duration::from_nanos(100));
    for n in [0, 1] {
        plan.fail(n, "no route to host".into());
        plan.fail(n, "and more".into());
    }
    plan.end(0, Order::Drain, at(1));
    plan.end(1, Order::Over, at(1));
    let told = |n| {
        let report = plan.report(n, "", at(2));
        (report.status, report.failure)
    };
    let first = || Some("no route to host".into());
    assert_eq!(told(0), (Status::Failed, first()));
    assert_eq!(told(1), (Status::TimedOut, first()));
}

#[test]
fn all_points_in_time_are_set_at_the_beginning() {
    let mut plan = plan(100, USUAL, &[1]);
    assert_eq!(plan.points(), [Instant::NEVER; 3]);
    plan.begin(at(7));
    assert_eq!(plan.points(), [at(87), at(102), at(107)]);
    assert_eq!((plan.drain_until(), plan.over_at()), (at(87), at(107)));
}

#[derive(Clone, Debug)]
enum Op {
    Pass(u32),
    Release,
    End(Index),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..40u32).prop_map(Op::Pass),
        1 => Just(Op::Release),
        3 => any::<Index>().prop_map(Op::End),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::models::cases("shutdown"), ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_the_slow_plan(
        deadline in 0..200u32,
        parts in (0..10u8, 0..10u8, 0..10u8).prop_filter("not all 0", |p| p.0 + p.1 + p.2 > 0),
        stages in prop::collection::vec(1..4usize, 0..5),
        ops in prop::collection::vec(op(), 0..40),
    ) {
        let sum = f64::from(parts.0 + parts.1 + parts.2);
        let shares = Shares { drain: f64::from(parts.0) / sum, cancel: f64::from(parts.1) / sum };
        let mut plan = plan(deadline, shares, &stages);
        plan.begin(at(0));
        let mut open = vec![true; stages.len()];
        let mut last = vec![Order::Wait; stages.len()];
        let (mut now, mut released) = (0, false);
        for op in ops {
            match op {
                Op::Pass(span) => now += span,
                Op::Release => { plan.release(); released = true; }
                Op::End(which) if !stages.is_empty() => {
                    let which = which.index(stages.len());
                    let (order, _) = plan.order(which, at(now));
                    if order > Order::Wait && std::mem::take(&mut open[which]) {
                        plan.end(which, order, at(now));
                    }
                }
                Op::End(_) => {}
            }
            let elapsed = f64::from(now);
            let bound = |share: f64| f64::from(deadline) * share;
            for (n, &stage) in stages.iter().enumerate() {
                let (order, until) = plan.order(n, at(now));
                // Whole nanoseconds, so a bound is exact to one of them.
                let near = |share| (elapsed - bound(share)).abs() < 1.0;
                let all_before = (0..stages.len()).all(|m| stages[m] >= stage || !open[m]);
                let expected = if now >= deadline {
                    Order::Over
                } else if elapsed >= bound(shares.drain + shares.cancel) {
                    Order::Abort
                } else if elapsed >= bound(shares.drain) {
                    Order::Cancel
                } else if released && all_before {
                    Order::Drain
                } else {
                    Order::Wait
                };
                if !near(shares.drain) && !near(shares.drain + shares.cancel) {
                    prop_assert_eq!(order, expected);
                }
                prop_assert!(order >= last[n], "never gentler");
                last[n] = order;
                prop_assert!(until > at(now), "no sleep of no time");
                prop_assert!(order == Order::Over || until <= at(deadline));
                let (same, _) = plan.order(n, Instant::from_nanos(until.as_nanos() - 1));
                prop_assert_eq!(same, order, "no change before `until` by time alone");
                prop_assert_eq!(plan.has_ended(n), !open[n]);
            }
            prop_assert_eq!(plan.all_ended(), open.iter().all(|open| !open));
            prop_assert_eq!(plan.taken(at(now)).as_nanos(), u128::from(now));
        }
    }

    /// What is told adds up, and what ended before the shutdown is not in it.
    #[test]
    fn a_report_holds_the_differences(before in counts(), after in counts(), turn in 0..9u32, end in 9..20u32) {
        let mut plan = plan(100, USUAL, &[1, 1]);
        plan.begin(at(0));
        plan.sample(0, before);
        plan.turn(0, at(turn));
        plan.turn(0, at(turn + 1));
        plan.sample(0, after);
        plan.end(0, Order::Drain, at(end));
        plan.end(0, Order::Over, at(end + 1));
        let report = plan.report(0, "name", at(99));
        prop_assert_eq!(report.status, Status::Completed);
        prop_assert_eq!(report.at_start, before.in_flight);
        prop_assert_eq!(report.duration, Duration::from_nanos((end - turn).into()));
        prop_assert_eq!(report.counts, after.since(&before));
        prop_assert_eq!(report.counts.in_flight, after.in_flight);
        prop_assert_eq!(report.counts.failed, after.failed.saturating_sub(before.failed));
        let left = plan.report(1, "left", at(99));
        prop_assert_eq!((left.status, left.duration), (Status::TimedOut, Duration::ZERO));
    }
}

fn counts() -> impl Strategy<Value = Counts> {
    (0..9u64, 0..9u64, 0..9u64).prop_map(|(in_flight, completed, failed)| Counts {
        completed,
        failed,
        ..Counts::new(in_flight)
    })
}
