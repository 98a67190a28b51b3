//! What is counted, and what is told of it.

use std::time::Duration;

use crate::shutdown::counts::Counts;
use crate::shutdown::report::{Cause, ComponentReport, ShutdownReport, Status};

const SECOND: Duration = Duration::from_secs(1);

fn component(name: &str, status: Status, counts: Counts) -> ComponentReport {
    ComponentReport {
        name: name.into(),
        status,
        at_start: 2,
        counts,
        duration: SECOND,
        failure: None,
    }
}

fn report(cause: Cause, components: Vec<ComponentReport>) -> ShutdownReport {
    ShutdownReport {
        cause,
        duration: SECOND,
        deadline: 2 * SECOND,
        sections_held: 0,
        components,
    }
}

fn counts(ended: [u64; 5], in_flight: u64) -> Counts {
    let [completed, failed, panicked, cancelled, aborted] = ended;
    Counts {
        in_flight,
        completed,
        failed,
        panicked,
        cancelled,
        aborted,
    }
}

#[test]
fn what_has_ended_is_added_up_and_what_is_in_flight_is_not() {
    assert_eq!(counts([1, 20, 300, 4000, 50_000], 7).ended(), 54_321);
    assert_eq!(counts([u64::MAX; 5], 0).ended(), u64::MAX);
    assert_eq!(Counts::new(7).ended(), 0);
}

#[test]
fn what_has_ended_since_is_the_difference_of_each() {
    let since = counts([9; 5], 7).since(&counts([1, 2, 3, 4, 5], 8));
    assert_eq!(since, counts([8, 7, 6, 5, 4], 7));
}

#[test]
fn counts_tell_of_what_there_is() {
    let text = |ended, in_flight| counts(ended, in_flight).to_string();
    assert_eq!(text([0; 5], 0), "nothing");
    assert_eq!(text([0, 0, 1, 0, 0], 0), "1 panicked");
    assert_eq!(
        text([1, 2, 3, 4, 5], 6),
        "1 completed, 2 failed, 3 panicked, 4 cancelled, 5 aborted, 6 in flight"
    );
}

#[test]
fn an_exit_code_is_the_usual_one() {
    let code = |cause, status| {
        let one = component("it", status, Counts::default());
        report(cause, vec![one]).exit_code()
    };
    assert_eq!(code(Cause::Signal(15), Status::Completed), 143);
    assert_eq!(code(Cause::Signal(2), Status::TimedOut), 130);
    assert_eq!(code(Cause::Request, Status::Cancelled), 0);
    assert_eq!(code(Cause::Request, Status::Aborted), 1);
    assert_eq!(code(Cause::Request, Status::Failed), 1);
    let causes = [15, 2, 1].map(|n| Cause::Signal(n).to_string());
    assert_eq!(causes, ["SIGTERM", "SIGINT", "signal 1"]);
    assert_eq!(Cause::Request.to_string(), "request");
}

#[test]
fn in_order_is_what_lost_nothing_and_holds_nothing() {
    let orderly = |status, ended, held| {
        let mut report = report(
            Cause::Request,
            vec![component("it", status, counts(ended, 1))],
        );
        report.sections_held = held;
        report.is_orderly()
    };
    assert!(orderly(Status::Completed, [1, 0, 0, 0, 0], 0));
    assert!(orderly(Status::Cancelled, [1, 0, 0, 1, 0], 0));
    assert!(!orderly(Status::Completed, [1, 0, 0, 0, 0], 1));
    for status in [Status::Aborted, Status::TimedOut, Status::Failed] {
        assert!(!orderly(status, [0; 5], 0), "{status}");
    }
    for lost in [
        [0, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 0, 1],
        [0, 1, 1, 0, 0],
        [0, 0, 1, 0, 1],
    ] {
        assert!(!orderly(Status::Completed, lost, 0), "{lost:?}");
    }
}

#[test]
fn as_text_it_has_a_line_for_each() {
    let mut late = component("late", Status::TimedOut, Counts::default());
    late.failure = Some("no route to host".into());
    let fine = component("component", Status::Completed, counts([2, 0, 0, 0, 0], 0));
    let mut report = report(Cause::Signal(15), vec![fine, late]);
    let lines = |held: &str| {
        format!(
            "\
shutdown (SIGTERM): 1 of 2 components in order, 1s of 2s{held}
  component  completed  in 1s      2 at start: 2 completed
  late       timed out  in 1s      2 at start, none left (no route to host)"
        )
    };
    assert_eq!(report.to_string(), lines(""));
    report.sections_held = 3;
    let held = lines("; 3 protected sections still held");
    assert_eq!(report.to_string(), held);
}
