//! What users may write themselves, from outside of the crate: a gate, an operation, a rule,
//! delays, a hook, an observer.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use mainstay::circuit_breaker::CountAs;
use mainstay::classify::{Classify, Decision};
use mainstay::observe::{Event, EventKind, Observer};
use mainstay::operation::Operation;
use mainstay::policy::{Admission, CallContext, End, Gate, Judge};
use mainstay::prelude::*;
use mainstay::retry::{Delays, RetryEvent, RetryHook, Verdict};
use mainstay::{Error, Progress, Refusal};

/// A door that an operator may close.
#[derive(Clone, Default)]
struct Door(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    closed: bool,
    ends: Vec<End>,
}

impl Gate for Door {
    type Wait = ();
    type Ticket = ();

    fn admit(&self, _: &CallContext<'_>) -> Admission<()> {
        if self.0.lock().unwrap().closed {
            Admission::Refused(Refusal::other("in maintenance"))
        } else {
            Admission::Admitted(())
        }
    }

    fn settle(&self, (): (), end: End) {
        self.0.lock().unwrap().ends.push(end);
    }
}

impl<T, E> Judge<T, E> for Door {}

#[tokio::test]
async fn a_gate_refuses_with_its_own_words() {
    let door = Door::default();
    let log = Arc::new(Lines::default());
    let pipeline = Pipeline::builder("door")
        .observe(Arc::clone(&log))
        .retry(Retry::builder())
        .policy(door.clone())
        .build()
        .unwrap();
    let call = || pipeline.call(async || Ok::<_, std::io::Error>(7));
    assert_eq!(call().await.unwrap(), 7);
    door.0.lock().unwrap().closed = true;
    let error = call().await.unwrap_err();
    assert_eq!(error.to_string(), "refused: in maintenance");
    assert!(matches!(
        error.refusal(),
        Some(Refusal::Other {
            reason: "in maintenance",
            ..
        })
    ));
    assert_eq!(error.attempts(), 0);
    assert_eq!(door.0.lock().unwrap().ends, [End::Success]);
    assert_eq!(
        *log.0.lock().unwrap(),
        ["door: attempt 1: refused: in maintenance"]
    );
}

#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl Observer for Lines {
    fn observe(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(event.to_string());
    }
}

/// Never ends, and knows what it has tried so far.
struct Endless;

impl Operation for Endless {
    type Output = ();
    type Error = &'static str;

    fn poll(
        self: Pin<&mut Self>,
        _: &CallContext<'_>,
        _: &mut Context<'_>,
    ) -> Poll<Result<(), Error<&'static str>>> {
        Poll::Pending
    }

    fn cancel(self: Pin<&mut Self>) -> Progress<&'static str> {
        Progress::new(3, Some("down"))
    }
}

#[tokio::test]
async fn an_operation_says_how_far_it_came() {
    let limit = Duration::from_millis(1);
    let pipeline = Pipeline::builder("endless").timeout(limit).build().unwrap();
    let error = pipeline.run(Endless).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "timed out after 1ms (3 attempts; last error: down)"
    );
}

/// An answer of 500 and above is a failure.
#[derive(Clone, Copy, Debug)]
struct Http;

impl<E, V: Decision> Classify<u16, E, V> for Http {
    fn classify(&self, result: Result<&u16, &Error<E>>) -> V {
        match result {
            Ok(500..) => V::FAILED,
            other => V::by_default(other),
        }
    }
}

/// No delay, so many times.
struct AtOnce(usize);

impl Delays for AtOnce {
    type Iter = std::iter::RepeatN<Duration>;

    fn delays(&self, _: impl FnOnce() -> u64) -> Self::Iter {
        std::iter::repeat_n(Duration::ZERO, self.0)
    }
}

#[derive(Default)]
struct Attempts(Arc<Mutex<Vec<u32>>>);

impl<T, E> RetryHook<T, E> for Attempts {
    fn before_wait(&self, event: &RetryEvent<'_, T, E>) {
        self.0.lock().unwrap().push(event.attempt);
    }
}

#[tokio::test]
async fn one_rule_serves_a_retry_and_a_breaker_also_erased() {
    let hook = Attempts::default();
    let seen = Arc::clone(&hook.0);
    let retry = Retry::builder()
        .max_attempts(9)
        .backoff(AtOnce(2))
        .classifier(Http)
        .hook(hook);
    let breaker = CircuitBreaker::builder().build().unwrap();
    let pipeline = Pipeline::builder("http")
        .retry(retry)
        .circuit_breaker(breaker.classifier(Http))
        .build()
        .unwrap();
    let answer = pipeline.call(async || Ok::<u16, &str>(503)).await;
    assert_eq!(answer, Ok(503));
    assert_eq!(*seen.lock().unwrap(), [1, 2]);
    assert_eq!(breaker.snapshot().failures, 3);
    let erased = pipeline.erase::<u16, &'static str>();
    assert_eq!(erased.call(async || Ok(200)).await, Ok(200));
    assert_eq!(breaker.snapshot().successes, 1);
}

/// What is matched outside of the crate has room for more.
#[test]
fn decisions_are_made_and_looked_at() {
    let verdict: Verdict = Http.classify(Ok::<_, &Error<()>>(&503));
    let counted: CountAs = Http.classify(Ok::<_, &Error<()>>(&503));
    assert_eq!((verdict, counted), (Verdict::Retry, CountAs::Failure));
    let said = |kind| match kind {
        EventKind::Recovered { attempts, .. } => attempts,
        _ => 0,
    };
    assert_eq!(said(EventKind::FellBack), 0);
}
