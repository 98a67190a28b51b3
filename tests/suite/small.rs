//! What is seldom called: conversions, words, defaults of traits, settings that have a twin.

use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use mainstay::circuit_breaker::{Cause, CircuitState, CountAs};
use mainstay::gather::{GatherProgress, ItemError};
use mainstay::policy::{Acquire, Admission, CallContext, End, Gate, IntoPolicy, Judge};
use mainstay::prelude::*;
use mainstay::queue::IntoDynPipeline;
use mainstay::scope::{OnError, TaskState};
use mainstay::shutdown::{Component, Counts, Shutdown, Status};
use mainstay::stream::resume;
use mainstay::{Error, Gathered, Refusal};
use tokio_util::sync::CancellationToken;

use crate::support::{Oops, Stepped};

const SECOND: Duration = Duration::from_secs(1);

async fn odd_fails(n: u32) -> Result<u32, Oops> {
    if n % 2 == 0 { Ok(n) } else { Err(Oops(n)) }
}

#[tokio::test]
async fn what_a_gather_yields_goes_over_into_plain_results() {
    let gathered = gather((0..3).map(odd_fails)).await;
    let mut borrowed = Vec::new();
    for outcome in &gathered {
        borrowed.push(outcome.is_ok());
    }
    assert_eq!(borrowed, [true, false, true]);
    let outcomes = gathered.clone().into_outcomes();
    assert_eq!(outcomes, Vec::from(gathered.clone()));
    assert_eq!(outcomes.len(), 3);

    let item = gathered.into_result().unwrap_err();
    assert_eq!(item.to_string(), "item 1: oops 1");
    assert_eq!(item.source().unwrap().to_string(), "oops 1");
    let error: Error<Oops> = item.into();
    assert_eq!(error, Error::operation(Oops(1)));
}

#[tokio::test]
async fn the_error_of_an_item_that_was_a_call_is_made_flat() {
    let calls = || (0..2).map(|n| (move || odd_fails(n)).timeout(SECOND));
    let gathered: Gathered<u32, Error<Oops>> = gather(calls()).await;
    let nested: ItemError<Error<Oops>> = gathered.clone().into_result().unwrap_err();
    let flat: ItemError<Oops> = nested.flatten();
    assert_eq!((flat.index, &flat.error), (1, &Error::operation(Oops(1))));
    assert_eq!(gathered.flatten().into_result().unwrap_err(), flat);
}

#[tokio::test]
async fn a_gather_counts_in_words_and_takes_any_source() {
    let mut lines = Vec::new();
    let told = gather((0..2).map(odd_fails)).on_progress(|p: &GatherProgress| {
        lines.push(p.to_string());
    });
    assert_eq!(told.limit(1).await.len(), 2);
    assert_eq!(lines.first().unwrap(), "0 of 2 done (0 failed, 1 running)");
    assert_eq!(lines.last().unwrap(), "2 of 2 done (1 failed, 0 running)");

    let mut lines = Vec::new();
    let source = stream::iter([0, 2]).filter(|_| std::future::ready(true));
    let told = gather(source.map(odd_fails)).on_progress(|p: &GatherProgress| {
        lines.push(p.to_string());
    });
    let mut batches = told.batches(3);
    let batch = StreamExt::next(&mut batches).await.unwrap();
    assert_eq!(batch.len(), 2);
    assert!(StreamExt::next(&mut batches).await.is_none());
    drop(batches);
    assert_eq!(lines.last().unwrap(), "2 done (0 failed, 0 running)");
}

/// A door that lets wait, and leaves out what it need not do.
#[derive(Default)]
struct Door {
    is_open: AtomicBool,
    is_broken: AtomicBool,
}

impl Gate for Door {
    type Wait = ();
    type Ticket = u32;

    fn admit(&self, call: &CallContext<'_>) -> Admission<u32> {
        if self.is_broken.load(SeqCst) {
            Admission::Refused(Refusal::ShutDown)
        } else if self.is_open.load(SeqCst) {
            Admission::Admitted(call.attempt())
        } else {
            Admission::Wait
        }
    }

    fn settle(&self, attempt: u32, _: End) {
        assert_eq!(attempt, 1);
    }
}

impl<T, E> Judge<T, E> for Door {}

#[tokio::test]
async fn a_gate_without_a_wait_of_its_own_is_asked_again_at_each_poll() {
    let door = Arc::new(Door::default());
    let mut waits = Stepped::new(Acquire::new(Arc::clone(&door)));
    assert!(waits.poll().is_pending() && waits.poll().is_pending());
    door.is_open.store(true, SeqCst);
    let Poll::Ready(Ok(permit)) = waits.poll() else {
        panic!("it is open");
    };
    permit.settle(End::Success);

    door.is_open.store(false, SeqCst);
    let mut waits = Stepped::new(Acquire::new(&*door));
    assert!(waits.poll().is_pending());
    door.is_broken.store(true, SeqCst);
    let refused = waits.poll().map(|answer| answer.map(drop));
    assert_eq!(refused, Poll::Ready(Err(Refusal::ShutDown)));

    door.is_broken.store(false, SeqCst);
    let mut waits = Stepped::new((|| odd_fails(0)).policy(&*door));
    assert!(waits.poll().is_pending());
    drop(waits);
    door.is_open.store(true, SeqCst);
    assert_eq!((|| odd_fails(0)).policy(&*door).await, Ok(0));
}

#[tokio::test]
async fn a_breakers_rule_can_be_said_before_it_is_built() {
    let one = || CircuitBreaker::builder().consecutive_failures(1);
    let state = async |breaker: &CircuitBreaker<_>, n| {
        let _ = (|| odd_fails(n)).circuit_breaker(breaker).await;
        breaker.snapshot().state
    };
    let picky = one()
        .failure_if(|error: &Oops| error.0 > 1)
        .build()
        .unwrap();
    assert_eq!(state(&picky, 1).await, CircuitState::Closed);
    assert_eq!(state(&picky, 3).await, CircuitState::Open);

    let failure = |bad| {
        if bad {
            CountAs::Failure
        } else {
            CountAs::Success
        }
    };
    let answers = one()
        .classify_ok(|n: &u32| failure(*n > 2))
        .build()
        .unwrap();
    let state = async |n| {
        let _ = (|| odd_fails(n)).circuit_breaker(&answers).await;
        answers.snapshot().state
    };
    assert_eq!(state(2).await, CircuitState::Closed);
    assert_eq!(state(4).await, CircuitState::Open);

    let upside_down = one()
        .classify(|result: Result<&u32, &Error<Oops>>| failure(result.is_ok()))
        .build()
        .unwrap();
    let state = async |n| {
        let _ = (|| odd_fails(n)).circuit_breaker(&upside_down).await;
        upside_down.snapshot().state
    };
    assert_eq!(state(1).await, CircuitState::Closed);
    assert_eq!(state(2).await, CircuitState::Open);
}

#[test]
fn states_and_causes_are_words() {
    let states = [
        (CircuitState::Closed, "closed"),
        (CircuitState::Open, "open"),
        (CircuitState::HalfOpen, "half-open"),
        (CircuitState::ForcedOpen, "forced open"),
        (CircuitState::Disabled, "disabled"),
        (CircuitState::MetricsOnly, "metrics only"),
    ];
    for (state, word) in states {
        assert_eq!(state.to_string(), word);
    }
    let causes = [
        (Cause::FailureRate, "failure rate"),
        (Cause::SlowCallRate, "slow-call rate"),
        (Cause::ConsecutiveFailures, "consecutive failures"),
        (Cause::OpenTimeElapsed, "the open time is over"),
        (Cause::ProbesSucceeded, "the probes succeeded"),
        (Cause::Operator, "told by an operator"),
    ];
    for (cause, words) in causes {
        assert_eq!(cause.to_string(), words);
    }
    assert_eq!(TaskState::Cancelling.to_string(), "cancelling");
    assert_eq!(Counts::default().to_string(), "nothing");
}

#[test]
fn a_time_limit_is_a_policy_and_tells_its_limit() {
    let limit = Timeout::new(SECOND).into_policy().unwrap();
    assert_eq!(limit.limit(), SECOND);
    assert_eq!(limit, SECOND.into_policy().unwrap());
}

/// An alternative of one's own.
struct Twice;

impl mainstay::fallback::Alternative<u32, Oops> for Twice {
    type Future = std::future::Ready<Result<u32, Error<Oops>>>;

    fn answer(&self, error: Error<Oops>, _: &CallContext<'_>) -> Self::Future {
        std::future::ready(
            error
                .into_last()
                .map(|oops| oops.0 * 2)
                .ok_or(Error::cancelled()),
        )
    }
}

#[tokio::test]
async fn a_fallback_may_answer_by_a_type_of_ones_own() {
    let twice = Fallback::by(Twice);
    assert_eq!((|| odd_fails(3)).fallback(&twice).await, Ok(6));
}

#[tokio::test]
async fn a_report_without_a_failure_is_its_counts() {
    let scope = Scope::builder().on_error(OnError::Collect).build().unwrap();
    scope.spawn("even", odd_fails(2)).unwrap().await.unwrap();
    scope.close();
    scope.drained().await;
    let report = scope.report();
    assert_eq!(report.to_string(), "1 completed");
    assert_eq!(report.into_result().unwrap().completed, 1);
}

#[tokio::test]
async fn a_failure_that_has_no_text_is_told_without_a_colon() {
    #[derive(Debug)]
    struct Silent;
    impl std::fmt::Display for Silent {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            Ok(())
        }
    }
    let scope = Scope::new();
    let task = scope.spawn("mute", async { Err::<(), _>(Silent) });
    assert!(task.unwrap().await.is_err());
    let report = scope.report();
    assert_eq!(report.to_string(), "1 failed; first error: mute failed");
    assert_eq!(report.into_result().unwrap_err().to_string(), "mute failed");
}

#[test]
fn a_handle_of_an_erased_pipeline_serves_a_queue_as_it_does_a_call() {
    let pipeline: DynPipeline<u32, Oops> = Pipeline::builder("p").build().unwrap().erase();
    let lent = (&pipeline).into_dyn();
    assert_eq!((lent.name(), pipeline.into_dyn().name()), ("p", "p"));
}

/// Goes on until it is aborted.
#[derive(Default)]
struct Stubborn {
    aborted: CancellationToken,
    asked: AtomicBool,
}

impl Component for Stubborn {
    fn stop(&self) {}

    fn drained(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.aborted.cancelled())
    }

    fn cancel(&self) {
        self.asked.store(true, SeqCst);
    }

    fn abort(&self) {
        self.aborted.cancel();
    }

    fn counts(&self) -> Counts {
        Counts::new(u64::from(!self.aborted.is_cancelled()))
    }

    fn failure(&self) -> Option<Box<str>> {
        Some("it is stubborn".into())
    }
}

#[tokio::test]
async fn a_boxed_component_is_told_everything_that_it_is_told_itself() {
    let stubborn = Arc::new(Stubborn::default());
    let boxed: Box<dyn Component> = Box::new(Arc::clone(&stubborn));
    let shutdown = Shutdown::builder()
        .deadline(SECOND / 10)
        .component("stubborn", boxed)
        .build()
        .unwrap();
    shutdown.request();
    let report = shutdown.run().await;
    assert!(stubborn.asked.load(SeqCst));
    assert_eq!(report.components[0].status, Status::Failed);
    assert!(stubborn.aborted.is_cancelled());
    let text = report.to_string();
    assert!(text.contains("it is stubborn"), "{text}");
}

#[tokio::test]
async fn a_queue_as_a_component_ends_what_runs_when_it_is_aborted() {
    let queue: Queue<(), (), Oops> = Queue::builder().build(|()| std::future::pending()).unwrap();
    let ticket = queue.push(()).await.unwrap();
    while queue.snapshot().running == 0 {
        tokio::task::yield_now().await;
    }
    let component: &dyn Component = &queue;
    component.stop();
    component.abort();
    assert!(ticket.await.unwrap_err().is_cancelled());
    component.drained().await;
    assert_eq!(component.counts().in_flight, 0);
}

#[tokio::test]
async fn a_resumed_stream_takes_what_every_stream_takes() {
    let open = async |after: u32| Ok::<_, Oops>(stream::iter((after..3).map(Ok)));
    let source = || resume(0, open, |at, _| *at += 1);
    let token = CancellationToken::new();
    let mut items = source().cancel_on_drop(token.clone());
    assert_eq!(items.next().await, Some(Ok(0)));
    assert!(!token.is_cancelled());
    drop(items);
    assert!(token.is_cancelled());

    let open = |after: u32| std::future::ready(Ok::<_, Oops>(stream::iter((after..3).map(Ok))));
    let source = resume(0, open, |at, _: &u32| *at += 1);
    let items: Vec<_> = source.in_background(2).collect().await;
    assert_eq!(items, [Ok(0), Ok(1), Ok(2)]);
}

#[tokio::test]
async fn a_call_that_is_part_of_two_ends_with_the_earlier_of_their_limits() {
    let pipeline = Pipeline::builder("outer").timeout(SECOND).build().unwrap();
    let wider = Pipeline::builder("wider")
        .timeout(9 * SECOND)
        .build()
        .unwrap();
    let left = pipeline
        .call_with(|near| {
            let wider = wider.clone();
            async move {
                let inner = |attempt: mainstay::Attempt| async move { Ok::<_, Oops>(attempt) };
                let attempt = wider.call_with(inner).await.unwrap();
                let whole = Pipeline::builder("inner").build().unwrap();
                let read = |attempt: mainstay::Attempt| async move {
                    Ok::<_, Oops>(attempt.remaining().unwrap())
                };
                Ok::<_, Oops>(whole.call_with(read).during(near).during(attempt).await)
            }
        })
        .await
        .unwrap();
    assert!(left.unwrap() <= SECOND);
}

/// A future that was cut off by its own end says so instead of waiting for ever.
#[tokio::test]
async fn who_is_polled_after_the_end_says_so() {
    let says = |poll: &mut dyn FnMut()| {
        let polled = std::panic::AssertUnwindSafe(poll);
        let panic = std::panic::catch_unwind(polled).unwrap_err();
        let text = panic.downcast_ref::<&str>().unwrap();
        assert!(text.starts_with("polled after"), "{text}");
    };
    let mut call = Stepped::new(odd_fails(2).timeout(SECOND));
    assert_eq!(call.poll(), Poll::Ready(Ok(2)));
    says(&mut || drop(call.poll()));
    let erased: DynPipeline<u32, Oops> = Pipeline::builder("p").build().unwrap().erase();
    let mut call = Stepped::new(erased.call(|| odd_fails(2)));
    assert_eq!(call.poll(), Poll::Ready(Ok(2)));
    says(&mut || drop(call.poll()));
}
