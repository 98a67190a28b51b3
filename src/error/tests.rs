//! What an error says, keeps and becomes.
use std::io;

use static_assertions::assert_impl_all;

use super::*;

assert_impl_all!(Error<io::Error>: Send, Sync, StdError);
assert_impl_all!(Error<BoxedError>: Send, Sync, StdError);

const SECOND: Duration = Duration::from_secs(1);
const OPEN: Refusal = Refusal::CircuitOpen {
    retry_after: Some(SECOND),
};

fn earlier(attempts: u32, last: Option<&'static str>) -> Progress<&'static str> {
    Progress::new(attempts, last)
}

/// One of each kind.
fn all() -> [Error<&'static str>; 5] {
    [
        Error::operation("down"),
        Error::timed_out(SECOND),
        Error::refused(OPEN),
        Error::panicked("out of rope"),
        Error::cancelled(),
    ]
}

#[test]
fn each_kind_starts_with_what_it_knows() {
    let [operation, timed_out, refused, panicked, cancelled] = all();
    assert_eq!((operation.attempts(), operation.last()), (1, Some(&"down")));
    assert_eq!((timed_out.attempts(), timed_out.last()), (0, None));
    assert_eq!((refused.attempts(), refused.last()), (0, None));
    assert_eq!((panicked.attempts(), panicked.last()), (1, None));
    assert_eq!((cancelled.attempts(), cancelled.last()), (0, None));
    assert_eq!(
        all().map(|error| [
            error.is_timed_out(),
            error.is_panicked(),
            error.is_cancelled()
        ]),
        [
            [false, false, false],
            [true, false, false],
            [false, false, false],
            [false, true, false],
            [false, false, true]
        ]
    );
    assert_eq!(
        all().map(|error| error.refusal()),
        [None, None, Some(OPEN), None, None]
    );
    assert_eq!(
        all().map(|error| error.retry_after()),
        [None, None, Some(SECOND), None, None]
    );
    assert_eq!(Error::from("down"), Error::operation("down"));
}

#[test]
fn what_came_before_is_added_and_the_latest_error_stays() {
    let added = all().map(|error| error.after(earlier(2, Some("first"))));
    let told = added.map(|error| (error.attempts(), error.into_last()));
    assert_eq!(
        told,
        [
            (3, Some("down")),
            (2, Some("first")),
            (2, Some("first")),
            (3, Some("first")),
            (2, Some("first"))
        ]
    );
    // Whoever is further out adds to it, and replaces nothing.
    for error in all() {
        let error = error
            .after(earlier(1, Some("second")))
            .after(earlier(1, Some("first")));
        assert_ne!(error.last(), Some(&"first"));
        let error = error.after(earlier(1, None));
        assert!(error.last().is_some());
    }
}

#[test]
fn the_number_of_attempts_saturates() {
    for error in all() {
        let error = error
            .after(earlier(u32::MAX, None))
            .after(earlier(u32::MAX, None));
        assert_eq!(error.attempts(), u32::MAX);
    }
}

#[test]
fn the_operations_error_converts_wherever_it_stands() {
    for error in all() {
        let error = error.after(earlier(4, Some("first")));
        let converted = error.clone().map(str::len);
        assert_eq!(converted.attempts(), error.attempts());
        assert_eq!(
            converted.last().copied(),
            error.last().map(|last| last.len())
        );
        assert_eq!(converted.refusal(), error.refusal());
        assert_eq!(converted.is_timed_out(), error.is_timed_out());
    }
}

#[test]
fn it_reads_as_a_sentence() {
    let said = |error: Error<&str>| error.to_string();
    assert_eq!(said(Error::operation("down")), "down");
    assert_eq!(
        said(Error::operation("down").after(earlier(2, Some("first")))),
        "down (3 attempts)"
    );
    assert_eq!(
        said(Error::timed_out(SECOND)),
        "timed out after 1s, before it was started"
    );
    assert_eq!(
        said(Error::timed_out(SECOND).after(earlier(1, None))),
        "timed out after 1s"
    );
    assert_eq!(
        said(Error::timed_out(SECOND).after(earlier(2, None))),
        "timed out after 1s (2 attempts)"
    );
    assert_eq!(
        said(Error::timed_out(SECOND).after(earlier(1, Some("down")))),
        "timed out after 1s (1 attempt; last error: down)"
    );
    assert_eq!(
        said(Error::panicked("out of rope")),
        "panicked: out of rope"
    );
    assert_eq!(said(Error::panicked("")), "panicked");
    assert_eq!(
        said(Error::panicked("out of rope").after(earlier(1, Some("down")))),
        "panicked: out of rope (2 attempts; last error: down)"
    );
    assert_eq!(said(Error::cancelled()), "cancelled, before it was started");
    assert_eq!(
        said(Error::cancelled().after(earlier(1, None))),
        "cancelled"
    );
    let open = "circuit breaker is open: try again in 1s";
    let refused = |attempts, last| said(Error::refused(OPEN).after(earlier(attempts, last)));
    assert_eq!(refused(0, None), open);
    assert_eq!(refused(1, None), format!("{open} (1 attempt)"));
    assert_eq!(
        refused(2, Some("down")),
        format!("{open} (2 attempts; last error: down)")
    );
}

#[test]
fn spans_are_rounded_in_the_text_and_exact_in_the_data() {
    let exact = Duration::new(4, 917_292_899);
    let errors = [
        (
            Error::timed_out(exact).after(earlier(1, None)),
            "timed out after 4.9s",
        ),
        (
            Error::refused(Refusal::circuit_open(Some(exact))),
            "circuit breaker is open: try again in 4.9s",
        ),
        (
            Error::refused(Refusal::rate_limited(exact)),
            "rate limit reached: try again in 4.9s",
        ),
        (
            Error::refused(Refusal::bulkhead_full(exact)),
            "bulkhead is full: waited 4.9s",
        ),
    ];
    for (error, text) in errors {
        assert_eq!(error.to_string(), text);
        let told = match error {
            Error::TimedOut { after, .. } => Some(after),
            Error::Refused {
                reason: Refusal::BulkheadFull { waited },
                ..
            } => Some(waited),
            error => error.retry_after(),
        };
        assert_eq!(told, Some(exact), "{text}");
    }
}

#[test]
fn each_refusal_says_who_and_when_to_come_back() {
    let retry_after = SECOND;
    let waited = SECOND;
    let held = Refusal::CircuitOpen { retry_after: None };
    let limited = Refusal::RateLimited { retry_after };
    let full = |waited| Refusal::BulkheadFull { waited };
    let large = Refusal::TooLarge { asked: 9, limit: 4 };
    let said = [
        (
            OPEN,
            "circuit breaker is open: try again in 1s",
            Some(SECOND),
        ),
        (held, "circuit breaker is held open", None),
        (limited, "rate limit reached: try again in 1s", Some(SECOND)),
        (full(Duration::ZERO), "bulkhead is full", None),
        (full(waited), "bulkhead is full: waited 1s", None),
        (large, "9 permits asked for, but at most 4 can be had", None),
        (Refusal::queue_full(Duration::ZERO), "queue is full", None),
        (
            Refusal::queue_full(waited),
            "queue is full: waited 1s",
            None,
        ),
        (
            Refusal::pool_exhausted(waited),
            "pool is exhausted: waited 1s",
            None,
        ),
        (
            Refusal::InsideRuntime,
            "a blocking call inside of an async runtime: await the async one",
            None,
        ),
        (
            Refusal::NoRuntime,
            "no async runtime: call it within a tokio runtime",
            None,
        ),
        (Refusal::ShutDown, "shutting down", None),
        (
            Refusal::other("in maintenance"),
            "refused: in maintenance",
            None,
        ),
    ];
    for (refusal, text, retry_after) in said {
        assert_eq!(refusal.to_string(), text);
        assert_eq!(refusal.retry_after(), retry_after, "{text}");
    }
}

fn io_error() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "reset")
}

#[test]
fn the_source_is_the_operations_latest_error() {
    let progress = || Progress::new(1, Some(io_error()));
    let errors = [
        Error::operation(io_error()),
        Error::timed_out(SECOND).after(progress()),
        Error::refused(OPEN).after(progress()),
    ];
    for error in errors {
        let source = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
        assert_eq!(source.kind(), io::ErrorKind::ConnectionReset);
    }
    assert!(Error::<io::Error>::timed_out(SECOND).source().is_none());
}

#[test]
fn it_becomes_a_boxed_error_and_comes_back() {
    fn question_mark() -> Result<(), BoxError> {
        Err(Error::operation(io_error()))?;
        Ok(())
    }
    let boxed = question_mark().unwrap_err();
    assert!(boxed.downcast_ref::<Error<io::Error>>().is_some());

    let boxed: BoxError = "down".into();
    let boxed = Error::operation(boxed)
        .after(Progress::started(1))
        .into_boxed();
    let error = boxed.downcast::<Error<BoxedError>>().unwrap();
    assert_eq!(
        (error.attempts(), error.to_string().as_str()),
        (2, "down (2 attempts)")
    );
    let inner: BoxError = Box::new(Error::operation(io_error()));
    let boxed = Error::operation(inner).into_boxed();
    let mut source = boxed.source();
    while let Some(next) = source.and_then(StdError::source) {
        source = Some(next);
    }
    assert!(source.unwrap().is::<io::Error>());
}

#[test]
fn two_errors_become_one() {
    for error in all() {
        let error = error.after(earlier(2, None));
        let within = Error::operation(error.clone());
        assert_eq!(within.after(Progress::started(5)).flatten(), error);
    }
    let inner = Error::operation("down").after(earlier(2, None));
    for outer in all() {
        let outer: Error<Error<&str>> = outer.map(|_| inner.clone());
        let cut = outer.after(Progress::new(1, Some(inner.clone()))).flatten();
        assert_eq!((cut.attempts(), cut.last()), (3, Some(&"down")), "{cut}");
    }
}
