//! The fallback, on a paused clock.
use std::cell::{Cell, RefCell};
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;

use crate::error::Progress;
use crate::observe::{Event, EventKind};
use crate::operation::{Operation, Repeatable};
use crate::policy::CallContext;
use crate::prelude::*;
use crate::testing::{catch_panic, drop_at_every_poll, sleep, spin};
use crate::{Call, Error, Refusal};

use std::pin::Pin;
use std::task::{Context, Poll};

const SECOND: Duration = Duration::from_secs(1);

/// An operation of another crate, which has made as many attempts as can be counted.
struct Tireless;

impl Operation for Tireless {
    type Output = ();
    type Error = &'static str;

    fn poll(
        self: Pin<&mut Self>,
        _: &CallContext<'_>,
        _: &mut Context<'_>,
    ) -> Poll<Result<(), Error<&'static str>>> {
        let earlier = Progress::started(u32::MAX);
        Poll::Ready(Err(Error::operation("no").after(earlier)))
    }

    fn cancel(self: Pin<&mut Self>) -> Progress<&'static str> {
        Progress::none()
    }
}

impl Repeatable for Tireless {}

#[tokio::test(start_paused = true)]
async fn the_number_of_attempts_saturates() {
    let fallback = Fallback::call(|_: Error<&str>| pending());
    let call = Call::new(Tireless, None);
    let error = call.fallback(&fallback).timeout(SECOND).await.unwrap_err();
    assert_eq!(error.attempts(), u32::MAX);
}

fn failing() -> impl Future<Output = Result<u32, &'static str>> {
    std::future::ready(Err("down"))
}

#[tokio::test(start_paused = true)]
async fn answers_with_a_value_a_function_or_another_operation() {
    assert_eq!(failing.fallback(Fallback::value(7)).await, Ok(7));
    let told = Fallback::with(|error: Error<&str>| u32::try_from(error.to_string().len()).unwrap());
    assert_eq!(failing.fallback(&told).await, Ok(4));
    let other = Fallback::call(|_| async {
        sleep(SECOND).await;
        Ok(9)
    });
    assert_eq!(failing.fallback(other).await, Ok(9));
}

#[tokio::test(start_paused = true)]
async fn a_success_is_left_alone() {
    let started = Cell::new(0);
    let fallback = Fallback::with(|_: Error<&str>| {
        started.set(started.get() + 1);
        0
    });
    let fine = || async { Ok::<u32, &str>(1) };
    assert_eq!(fine.fallback(&fallback).await, Ok(1));
    assert_eq!(started.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_alternative_sees_why() {
    let seen = RefCell::new(Vec::new());
    let fallback = Fallback::with(|error: Error<&str>| seen.borrow_mut().push(error));
    let hang = || pending::<Result<(), &str>>();
    hang.timeout(SECOND).fallback(&fallback).await.unwrap();
    let full = Bulkhead::builder()
        .max_concurrent(1)
        .max_queue(0)
        .build()
        .unwrap();
    let held = full.try_acquire(1).unwrap();
    hang.bulkhead(&full).fallback(&fallback).await.unwrap();
    drop(held);
    let broken = || async { Err("down") };
    let retry = Retry::exponential(SECOND);
    broken.retry(&retry).fallback(&fallback).await.unwrap();
    let seen = seen.into_inner();
    assert!(seen[0].is_timed_out());
    assert!(matches!(
        seen[1].refusal(),
        Some(Refusal::BulkheadFull { .. })
    ));
    assert_eq!((seen[2].attempts(), seen[2].last()), (3, Some(&"down")));
}

#[tokio::test(start_paused = true)]
async fn a_predicate_says_when() {
    let only_late = Fallback::value(7).when(|error: &Error<&str>| error.is_timed_out());
    let error = failing.fallback(&only_late).await.unwrap_err();
    assert_eq!(error, Error::operation("down"));
    let hang = || pending::<Result<u32, &str>>();
    assert_eq!(hang.timeout(SECOND).fallback(&only_late).await, Ok(7));
}

#[tokio::test(start_paused = true)]
async fn its_own_failure_surfaces_and_counts() {
    let worse = Fallback::call(|_| async { Err::<u32, _>("worse") });
    let error = failing.fallback(&worse).await.unwrap_err();
    assert_eq!((error.attempts(), error.last()), (2, Some(&"worse")));
    let retry = Retry::exponential(SECOND);
    let error = failing.retry(&retry).fallback(&worse).await.unwrap_err();
    assert_eq!((error.attempts(), error.last()), (4, Some(&"worse")));
}

#[tokio::test(start_paused = true)]
async fn fallbacks_chain() {
    let worse = Fallback::call(|_| async { Err::<u32, _>("worse") });
    let last = Fallback::with(|error: Error<&str>| error.attempts());
    assert_eq!(failing.fallback(&worse).fallback(&last).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn an_outer_limit_cuts_the_alternative_and_knows_its_attempt() {
    let slow = Fallback::call(|_: Error<&str>| pending());
    let error = failing.fallback(&slow).timeout(SECOND).await.unwrap_err();
    assert_eq!((error.attempts(), error.last()), (2, None));
    let hang = || pending::<Result<u32, &str>>();
    let error = hang.fallback(&slow).timeout(SECOND).await.unwrap_err();
    assert_eq!((error.attempts(), error.last()), (1, None));
}

#[tokio::test(start_paused = true)]
async fn a_retry_around_it_starts_the_operation_again_not_the_alternative() {
    let log = RefCell::new(Vec::new());
    let fallback = Fallback::call(|_: Error<&str>| {
        log.borrow_mut().push("alternative");
        async { Err::<(), _>("worse") }
    });
    let operation = || {
        log.borrow_mut().push("operation");
        async { Err("down") }
    };
    let retry = Retry::exponential(SECOND);
    let error = operation
        .fallback(&fallback)
        .retry(&retry)
        .await
        .unwrap_err();
    assert_eq!(error.attempts(), 6);
    assert_eq!(*log.borrow(), ["operation", "alternative"].repeat(3));
}

#[tokio::test(start_paused = true)]
async fn what_happened_is_seen_by_the_observer() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&events);
    let pipeline = Pipeline::builder("prices")
        .observe(move |event: &Event<'_>| {
            told.lock()
                .unwrap()
                .push((event.pipeline.to_owned(), event.kind));
        })
        .fallback(Fallback::value(7).when(|error: &Error<&str>| error.is_timed_out()))
        .timeout(SECOND)
        .build()
        .unwrap();
    assert_eq!(pipeline.call(|| async { Ok(1) }).await, Ok(1));
    pipeline.call(failing).await.unwrap_err();
    assert!(events.lock().unwrap().is_empty());
    assert_eq!(pipeline.call(pending).await, Ok(7));
    let timed_out = EventKind::TimedOut { after: SECOND };
    let want = [timed_out, EventKind::FellBack].map(|kind| ("prices".to_owned(), kind));
    assert_eq!(*events.lock().unwrap(), want);
}

#[tokio::test(start_paused = true)]
async fn dropped_at_every_poll_nothing_is_left_running() {
    let alive = Cell::new(0);
    let slow = async |error: bool| {
        let _guard = Alive::new(&alive);
        sleep(SECOND).await;
        sleep(SECOND).await;
        if error { Err("down") } else { Ok(1) }
    };
    let fallback = Fallback::call(|_: Error<&str>| slow(false));
    let call = || (|| slow(true)).fallback(&fallback);
    let drops = drop_at_every_poll(call, async |_| assert_eq!(alive.get(), 0)).await;
    assert_eq!(drops, 10);
    assert_eq!(call().await, Ok(1));
}

struct Alive<'a>(&'a Cell<i32>);

impl<'a> Alive<'a> {
    fn new(alive: &'a Cell<i32>) -> Self {
        alive.set(alive.get() + 1);
        Self(alive)
    }
}

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Trap 76.
#[tokio::test(start_paused = true)]
async fn a_panic_in_any_callback_harms_nothing() {
    let angry = Cell::new(true);
    let check = |what: &str| assert!(!angry.get(), "{what}");
    let with = Fallback::with(|_: Error<&str>| check("function"));
    let other = Fallback::call(|_: Error<&str>| {
        check("start");
        async { Ok(()) }
    });
    let inside = Fallback::call(|_: Error<&str>| async {
        check("alternative");
        Ok(())
    });
    let when = Fallback::value(()).when(|_: &Error<&str>| {
        check("predicate");
        true
    });
    let broken = || async { Err::<(), _>("down") };
    for expected in [true, false] {
        angry.set(expected);
        assert_eq!(catch_panic(broken.fallback(&with)).await.is_err(), expected);
        assert_eq!(
            catch_panic(broken.fallback(&other)).await.is_err(),
            expected
        );
        assert_eq!(
            catch_panic(broken.fallback(&inside)).await.is_err(),
            expected
        );
        assert_eq!(catch_panic(broken.fallback(&when)).await.is_err(), expected);
    }
}

/// Trap 76: the operation's permits are back although the alternative panics.
#[tokio::test(start_paused = true)]
async fn a_panic_in_the_alternative_leaves_the_bulkhead_whole() {
    let bulkhead = Bulkhead::builder().max_concurrent(1).build().unwrap();
    let fallback = Fallback::with(|_: Error<&str>| panic!("angry"));
    let broken = || async { Err::<(), _>("down") };
    let call = broken.bulkhead(&bulkhead).fallback(&fallback);
    assert!(catch_panic(call).await.is_err());
    let call = broken.fallback(&fallback).bulkhead(&bulkhead);
    assert!(catch_panic(call).await.is_err());
    assert_eq!(bulkhead.snapshot().in_use, 0);
}

#[test]
fn it_needs_no_runtime() {
    assert_eq!(spin(failing.fallback(Fallback::value(7))), Ok(7));
}

#[tokio::test(start_paused = true)]
async fn a_bare_future_falls_back_too() {
    let once = async { Err::<u32, _>("down") };
    assert_eq!(once.fallback(Fallback::value(7)).await, Ok(7));
}

/// What one layer is: its answer, or that it does not step in.
#[derive(Clone, Copy, Debug)]
enum Layer {
    Value(u32),
    Fails(u32),
    HandsBack,
    NotFor,
}

fn layer() -> impl Strategy<Value = Layer> {
    prop_oneof![
        any::<u32>().prop_map(Layer::Value),
        any::<u32>().prop_map(Layer::Fails),
        Just(Layer::HandsBack),
        Just(Layer::NotFor),
    ]
}

/// Around an operation whose type is forgotten, so that layers can be put on by chance.
async fn through(layers: &[Layer], result: Result<u32, u32>) -> Result<u32, Error<u32>> {
    let Some((outer, inner)) = layers.split_first() else {
        return result.map_err(Error::operation);
    };
    let inner = Box::pin(through(inner, result));
    let call = Call::new(Flat(inner), None);
    let outer = *outer;
    match outer {
        Layer::Value(value) => call.fallback(Fallback::value(value)).await,
        Layer::Fails(error) => {
            call.fallback(Fallback::call(|_| async move { Err(error) }))
                .await
        }
        Layer::HandsBack => {
            call.fallback(Fallback::recover(|error| async { Err(error) }))
                .await
        }
        Layer::NotFor => {
            call.fallback(Fallback::value(0).when(|_: &Error<u32>| false))
                .await
        }
    }
}

/// A future whose error is flat already.
struct Flat<Fut>(Fut);

impl<Fut: Future<Output = Result<u32, Error<u32>>> + Unpin> Operation for Flat<Fut> {
    type Output = u32;
    type Error = u32;

    fn poll(
        mut self: Pin<&mut Self>,
        _: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<u32, Error<u32>>> {
        Pin::new(&mut self.0).poll(cx)
    }

    fn cancel(self: Pin<&mut Self>) -> Progress<u32> {
        Progress::none()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::models::cases("fallback"), ..ProptestConfig::default() })]

    /// The slow model: from the inside to the outside, each layer takes an error or leaves it.
    #[test]
    fn layers_answer_as_the_slow_model_says(
        layers in prop::collection::vec(layer(), 0..6),
        result in prop::result::maybe_err(any::<u32>(), any::<u32>()),
    ) {
        let mut expected = result.map_err(|error| (error, 1));
        for layer in layers.iter().rev() {
            expected = match (expected, layer) {
                (Err(_), Layer::Value(value)) => Ok(*value),
                (Err((_, attempts)), Layer::Fails(error)) => Err((*error, attempts + 1)),
                (as_it_was, _) => as_it_was,
            };
        }
        let answered = spin(through(&layers, result));
        let answered = answered.map_err(|error| (*error.last().unwrap(), error.attempts()));
        prop_assert_eq!(answered, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn no_operation_is_started_when_the_deadline_has_passed() {
    let started = Cell::new(0);
    let slow = || async {
        sleep(SECOND).await;
        Err::<u32, _>("down")
    };
    let other = Fallback::call(|_: Error<&str>| {
        started.set(started.get() + 1);
        pending()
    });
    let mut late = tokio_test::task::spawn(slow.fallback(&other).timeout(SECOND));
    assert!(late.poll().is_pending());
    tokio::time::advance(2 * SECOND).await;
    let Poll::Ready(result) = late.poll() else {
        panic!("it is over");
    };
    assert_eq!(result.unwrap_err(), Error::operation("down"));
    assert_eq!(started.get(), 0);
    let value = slow.fallback(Fallback::value(7)).timeout(SECOND);
    let mut late = tokio_test::task::spawn(value);
    assert!(late.poll().is_pending());
    tokio::time::advance(2 * SECOND).await;
    assert_eq!(late.poll(), Poll::Ready(Ok(7)));
}

#[tokio::test(start_paused = true)]
async fn a_recovery_that_is_cut_short_is_no_attempt() {
    let stuck = Fallback::recover(|error: Error<&str>| async {
        sleep(3600 * SECOND).await;
        Err(error)
    });
    let error = failing.fallback(&stuck).timeout(SECOND).await.unwrap_err();
    assert_eq!(error.attempts(), 1);
}
