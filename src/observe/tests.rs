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
            "search: attempt 1: trying again in 0ns",
            "search: attempt 2: timed out after 1s",
            "search: attempt 2: gave up: all attempts were made",
            "search: attempt 1: fell back",
            "search: attempt 1: refused: bulkhead is full",
            "search: attempt 1: fell back",
        ]
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

    /// The least that takes events: each becomes a line.
    struct Lines(Arc<Mutex<Vec<String>>>);

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
            self.0.lock().unwrap().push(line.0);
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[tokio::test(start_paused = true)]
    async fn tracing_is_told_the_same() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let _guard = subscriber::set_default(Lines(Arc::clone(&lines)));
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
        assert!(lines.lock().unwrap().is_empty(), "all was well");
        pipeline.call(pending::<Answer>).await.unwrap();
        let _held = bulkhead.try_acquire(1).unwrap();
        pipeline.call(pending::<Answer>).await.unwrap();
        let name = "pipeline=\"search\"";
        assert_eq!(
            *lines.lock().unwrap(),
            [
                format!("WARN message=timed out {name} attempt=1 after=1s"),
                format!("INFO message=retrying {name} attempt=1 delay=0ns"),
                format!("WARN message=timed out {name} attempt=2 after=1s"),
                format!("WARN message=gave up {name} attempt=2 limit=all attempts were made"),
                format!("WARN message=fell back {name} attempt=1"),
                format!("WARN message=refused {name} attempt=1 reason=bulkhead is full"),
                format!("WARN message=fell back {name} attempt=1"),
            ]
        );
    }
}
