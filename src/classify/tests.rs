//! Each rule, for each kind of decision.
use std::time::Duration;

use super::*;
use crate::Refusal;
use crate::circuit_breaker::CountAs;
use crate::policy::End;
use crate::retry::Verdict;

/// What a rule makes of an answer, an error of 1, an error of 2, a time limit, a refusal.
fn all<V>(rule: &impl Classify<u8, u8, V>) -> [V; 5] {
    [
        Ok(7),
        Err(Error::operation(1)),
        Err(Error::operation(2)),
        Err(Error::timed_out(Duration::from_secs(1))),
        Err(Error::refused(Refusal::ShutDown)),
    ]
    .map(|result| rule.classify(result.as_ref()))
}

#[test]
fn a_retry_stops_where_nothing_failed() {
    use Verdict::{Retry, RetryAfter, Stop};
    assert_eq!(all::<Verdict>(&Failures), [Stop, Retry, Retry, Retry, Stop]);
    let picky = If(|error: &u8| *error > 1);
    assert_eq!(all::<Verdict>(&picky), [Stop, Stop, Retry, Retry, Stop]);
    let later = RetryAfter(Duration::from_secs(9));
    let of_ok = ByOk(|answer: &u8| if *answer == 7 { later } else { Stop });
    assert_eq!(all(&of_ok), [later, Retry, Retry, Retry, Stop]);
    let mad = By(|result: Result<&u8, &Error<u8>>| if result.is_ok() { Retry } else { Stop });
    assert_eq!(all(&mad), [Retry, Stop, Stop, Stop, Stop]);
}

#[test]
fn a_breaker_counts_what_was_called() {
    use CountAs::{Failure, Nothing, Success};
    assert_eq!(
        all::<CountAs>(&Failures),
        [Success, Failure, Failure, Failure, Nothing]
    );
    let picky = If(|error: &u8| *error > 1);
    assert_eq!(
        all::<CountAs>(&picky),
        [Success, Success, Failure, Failure, Nothing]
    );
    let of_ok = ByOk(|answer: &u8| if *answer == 7 { Nothing } else { Success });
    assert_eq!(all(&of_ok), [Nothing, Failure, Failure, Failure, Nothing]);
    let mad = By(|result: Result<&u8, &Error<u8>>| if result.is_ok() { Failure } else { Success });
    assert_eq!(all(&mad), [Failure, Success, Success, Success, Success]);
}

/// A gate judges as a breaker counts.
#[test]
fn what_counts_is_how_a_call_ended() {
    let counted: [CountAs; 5] = all(&Failures);
    assert_eq!(counted.map(End::from), all::<End>(&Failures));
}
