//! What is told, to whom, and that nothing is told when all is well.
use std::future::{pending, ready};
use std::sync::{Arc, Mutex};

use super::*;
use crate::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

type Answer = Result<u32, &'static str>;

fn retry() -> crate::retry::RetryBuilder {
    Retry::builder().max_attempts(2).backoff(Backoff::none())
}

/// The lines that an observer writes.
fn listener() -> (Arc<Mutex<Vec<String>>>, impl Observer + 'static) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&log);
    let listen = move |event: &Event<'_>| told.lock().unwrap().push(event.to_string());
    (log, listen)
}

#[tokio::test(start_paused = true)]
async fn every_policy_tells_what_it_did() {
    let (log, listen) = listener();
    let bulkhead = Bulkhead::builder().max_concurrent(1).max_queue(0);
    let bulkhead = bulkhead.build().unwrap();
    let pipeline = Pipeline::builder("search")
        .observe(listen)
        .fallback(Fallback::value(7))
        .retry(retry())
        .bulkhead(bulkhead.clone())
        .timeout(SECOND)
        .build()
        .unwrap();
    assert_eq!(pipeline.call(|| ready(Answer::Ok(1))).await, Ok(1));
    assert!(log.lock().unwrap().is_empty(), "all was well");
    assert_eq!(pipeline.call(pending::<Answer>).await, Ok(7));
    let held = bulkhead.try_acquire(1).unwrap();
    assert_eq!(pipeline.call(pending::<Answer>).await, Ok(7));
    drop(held);
    let told = std::mem::take(&mut *log.lock().unwrap());
    assert_eq!(
        told,
        [
            "search: attempt 1: timed out after 1s",
            "search: attempt 1: trying again at once",
            "search: attempt 2: timed out after 1s",
            "search: attempt 2: gave up: all attempts were made",
            "search: attempt 1: fell back",
            "search: attempt 1: refused: bulkhead is full",
            "search: attempt 1: fell back",
        ]
    );
}

/// What is told of a call whose attempts yield these.
fn told_of<const N: usize>(answers: [Answer; N]) -> Vec<String> {
    let (log, listen) = listener();
    let pipeline =
        Pipeline::builder("search")
            .observe(listen)
            .retry(
                retry()
                    .max_attempts(3)
                    .classify_ok(|answer: &u32| match answer {
                        0 => crate::retry::Verdict::Retry,
                        _ => crate::retry::Verdict::Stop,
                    }),
            );
    let pipeline = pipeline.build().unwrap();
    let mut answers = answers.into_iter();
    let mut call = tokio_test::task::spawn(pipeline.call(|| ready(answers.next().unwrap())));
    assert!(call.poll().is_ready());
    drop(call);
    std::mem::take(&mut *log.lock().unwrap())
}

#[test]
fn a_later_attempt_that_succeeds_is_told() {
    let again = |attempt| format!("search: attempt {attempt}: trying again at once");
    let recovered = |n| format!("search: attempt {n}: succeeded after {n} attempts");
    let gave_up = "search: attempt 3: gave up: all attempts were made".to_string();
    assert!(told_of([Ok(1)]).is_empty());
    assert_eq!(told_of([Err("down"), Ok(1)]), [again(1), recovered(2)]);
    let late = [Ok(0), Err("down"), Ok(1)];
    assert_eq!(told_of(late), [again(1), again(2), recovered(3)]);
    // An answer that is handed over because nothing else is left is no success.
    assert_eq!(told_of([Ok(0); 3]), [again(1), again(2), gave_up]);
}

#[tokio::test(start_paused = true)]
async fn a_last_error_is_no_recovery() {
    let (log, listen) = listener();
    let patient = retry().retry_if(|error: &&str| *error == "down");
    let pipeline = Pipeline::builder("search").observe(listen).retry(patient);
    let pipeline = pipeline.build().unwrap();
    let mut errors = ["down", "bad request"].into_iter();
    let call = pipeline.call(|| ready(Answer::Err(errors.next().unwrap())));
    call.await.unwrap_err();
    assert_eq!(
        *log.lock().unwrap(),
        ["search: attempt 1: trying again at once"]
    );
}

/// An observer with a type of its own.
#[derive(Default)]
struct Names(Mutex<Vec<String>>);

impl Observer for Names {
    fn observe(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(event.pipeline.to_owned());
    }
}

#[tokio::test(start_paused = true)]
async fn one_observer_serves_many_pipelines() {
    let names = Arc::new(Names::default());
    let shared: Arc<dyn Observer> = names.clone();
    let closure = {
        let names = Arc::clone(&names);
        Arc::new(move |event: &Event<'_>| names.observe(event))
    };
    let pipelines = [
        Pipeline::builder("typed").observe(Arc::clone(&names)),
        Pipeline::builder("erased").observe(shared),
        Pipeline::builder("closure").observe(closure),
    ];
    for builder in pipelines {
        let pipeline = builder.timeout(SECOND).build().unwrap();
        pipeline.call(pending::<Answer>).await.unwrap_err();
    }
    let told = std::mem::take(&mut *names.0.lock().unwrap());
    assert_eq!(told, ["typed", "erased", "closure"]);
    let owned = Pipeline::builder("owned").observe(Names::default());
    let owned = owned.timeout(SECOND).build().unwrap();
    owned.call(pending::<Answer>).await.unwrap_err();
}

#[test]
fn a_refusal_of_another_gate_is_said_once() {
    let event = |reason| Event {
        pipeline: "search",
        attempt: 1,
        kind: EventKind::Refused(reason),
    };
    assert_eq!(
        event(Refusal::other("in maintenance")).to_string(),
        "search: attempt 1: refused: in maintenance"
    );
    assert_eq!(
        event(Refusal::ShutDown).to_string(),
        "search: attempt 1: refused: shutting down"
    );
}

#[test]
fn spans_are_rounded() {
    let span = Duration::from_micros(834_123);
    let said = |kind| {
        let (pipeline, attempt) = ("search", 1);
        let event = Event {
            pipeline,
            attempt,
            kind,
        };
        event.to_string()
    };
    assert_eq!(
        said(EventKind::Retrying { delay: span }),
        "search: attempt 1: trying again in 834ms"
    );
    assert_eq!(
        said(EventKind::TimedOut { after: span }),
        "search: attempt 1: timed out after 834ms"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_tells_nothing() {
    let (log, listen) = listener();
    let pipeline = Pipeline::builder("search")
        .observe(listen)
        .timeout(SECOND)
        .retry(retry());
    let pipeline = pipeline.build().unwrap();
    let mut call = tokio_test::task::spawn(pipeline.call(pending::<Answer>));
    assert!(call.poll().is_pending());
    drop(call);
    assert!(log.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_last_observer_counts() {
    let (first, listen) = listener();
    let builder = Pipeline::builder("search").observe(listen);
    let (second, listen) = listener();
    let pipeline = builder.observe(listen).timeout(SECOND).build().unwrap();
    pipeline.call(pending::<Answer>).await.unwrap_err();
    assert_eq!(
        (first.lock().unwrap().len(), second.lock().unwrap().len()),
        (0, 1)
    );
}

/// Trap 76: nothing is locked when an observer is told, and everything is given back.
#[tokio::test(start_paused = true)]
async fn an_observer_may_use_what_it_observes() {
    let bulkhead = Bulkhead::builder().max_concurrent(1).max_queue(0);
    let bulkhead = bulkhead.build().unwrap();
    let (log, seen) = (Arc::new(Mutex::new(Vec::new())), bulkhead.clone());
    let told = Arc::clone(&log);
    let pipeline = Pipeline::builder("search")
        .observe(move |event: &Event<'_>| {
            seen.resize(1);
            let free = seen.try_acquire(1).is_ok();
            told.lock().unwrap().push((event.attempt, free));
        })
        .retry(retry())
        .timeout(SECOND)
        .bulkhead(bulkhead.clone())
        .build()
        .unwrap();
    pipeline.call(pending::<Answer>).await.unwrap_err();
    // Timed out, retrying, timed out, gave up: the slot is free each time.
    let want = [(1, true), (1, true), (2, true), (2, true)];
    assert_eq!(std::mem::take(&mut *log.lock().unwrap()), want);
    let _held = bulkhead.try_acquire(1).unwrap();
    pipeline.call(pending::<Answer>).await.unwrap_err();
    assert_eq!(*log.lock().unwrap(), [(1, false)]);
}

#[tokio::test(start_paused = true)]
async fn a_call_outside_of_a_pipeline_has_nobody_to_tell() {
    let error = pending::<Answer>
        .timeout(SECOND)
        .retry(retry().build().unwrap());
    assert_eq!(error.await.unwrap_err().attempts(), 2);
}

#[test]
fn each_limit_has_its_words() {
    let limits = [
        GaveUp::Attempts,
        GaveUp::Elapsed,
        GaveUp::Deadline,
        GaveUp::RetryAfter,
        GaveUp::Budget,
        GaveUp::Backoff,
        GaveUp::NotRepeatable,
    ];
    let words: std::collections::BTreeSet<_> = limits.map(|limit| limit.to_string()).into();
    assert_eq!(words.len(), limits.len());
}

#[cfg(feature = "tracing")]
mod tracing_events {
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Metadata, Subscriber, subscriber};

    use super::*;

    thread_local! {
        static LINES: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
    }

    /// The least that takes events: each becomes a line of the thread that makes it.
    ///
    /// It is there for the whole process: what a subscriber of one thread is told depends on
    /// whether another thread came by the same event first.
    struct Lines;

    /// What this thread's events were since this was last asked.
    fn lines() -> Vec<String> {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| subscriber::set_global_default(Lines).unwrap());
        LINES.take()
    }

    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            use fmt::Write;
            write!(self.0, " {}={value:?}", field.name()).unwrap();
        }
    }

    impl Subscriber for Lines {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &tracing::Event<'_>) {
            let metadata = event.metadata();
            if metadata.target() != "mainstay" {
                return;
            }
            let mut line = Line(metadata.level().to_string());
            event.record(&mut line);
            LINES.with_borrow_mut(|lines| lines.push(line.0));
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[tokio::test(start_paused = true)]
    async fn tracing_is_told_the_same() {
        assert!(lines().is_empty());
        let bulkhead = Bulkhead::builder().max_concurrent(1).max_queue(0);
        let bulkhead = bulkhead.build().unwrap();
        let pipeline = Pipeline::builder("search")
            .fallback(Fallback::value(7))
            .retry(retry())
            .bulkhead(bulkhead.clone())
            .timeout(SECOND)
            .build()
            .unwrap();
        assert_eq!(pipeline.call(|| ready(Answer::Ok(1))).await, Ok(1));
        assert!(lines().is_empty(), "all was well");
        let mut answers = [Err("down"), Ok(1)].into_iter();
        let call = pipeline.call(|| ready(answers.next().unwrap()));
        call.await.unwrap();
        pipeline.call(pending::<Answer>).await.unwrap();
        let _held = bulkhead.try_acquire(1).unwrap();
        pipeline.call(pending::<Answer>).await.unwrap();
        let name = "pipeline=\"search\"";
        assert_eq!(
            lines(),
            [
                format!("DEBUG message=retrying {name} attempt=1 delay=0ns"),
                format!("DEBUG message=recovered {name} attempt=2 attempts=2"),
                format!("DEBUG message=timed out {name} attempt=1 after=1s"),
                format!("DEBUG message=retrying {name} attempt=1 delay=0ns"),
                format!("DEBUG message=timed out {name} attempt=2 after=1s"),
                format!("DEBUG message=gave up {name} attempt=2 limit=all attempts were made"),
                format!("DEBUG message=fell back {name} attempt=1"),
                format!("DEBUG message=refused {name} attempt=1 reason=bulkhead is full"),
                format!("DEBUG message=fell back {name} attempt=1"),
            ]
        );
    }

    /// A breaker that opens is what wakes somebody, and nothing else.
    #[tokio::test(start_paused = true)]
    async fn tracing_is_told_of_a_breaker_by_its_name() {
        assert!(lines().is_empty());
        let breaker = CircuitBreaker::builder()
            .name("payments")
            .consecutive_failures(1);
        let breaker = breaker.half_open_probes(1).build().unwrap();
        ready(Answer::Err("down"))
            .circuit_breaker(&breaker)
            .await
            .unwrap_err();
        tokio::time::advance(10 * SECOND).await;
        ready(Answer::Ok(1))
            .circuit_breaker(&breaker)
            .await
            .unwrap();
        breaker.force_open();
        breaker.reset();
        let opened = "WARN message=circuit breaker opened circuit_breaker=\"payments\"";
        let changed = "INFO message=circuit breaker changed circuit_breaker=\"payments\"";
        assert_eq!(
            lines(),
            [
                format!("{opened} from=closed to=open cause=consecutive failures open_for=10s"),
                format!("{changed} from=open to=half-open cause=the open time is over"),
                format!("{changed} from=half-open to=closed cause=the probes succeeded"),
                format!("{opened} from=closed to=forced open cause=told by an operator"),
                format!("{changed} from=forced open to=closed cause=told by an operator"),
            ]
        );
    }
}
