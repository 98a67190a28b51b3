//! Panics in what the policies of a pipeline are given.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mainstay::circuit_breaker::{CircuitState, CountAs};
use mainstay::classify::Classify;
use mainstay::fallback::{Alternative, When};
use mainstay::observe::{Event, EventKind, Observer};
use mainstay::operation::{Operation, Repeatable};
use mainstay::policy::{
    Admission, CallContext, End, Gate, Identity, IntoPolicy, Judge, Policy, Stack,
};
use mainstay::prelude::*;
use mainstay::retry::{Delays, RetryEvent, RetryHook, Verdict};
use mainstay::tower::Replay;
use mainstay::{ConfigError, Error, PipelineBuilder, Progress, RateLimiter, Refusal};
use tokio::task::yield_now;
use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::Oops;
use crate::{Fuse, On, Touchy, caught, caught_now};

const SECOND: Duration = Duration::from_secs(1);

/// Gates around what is tested: whatever a call takes of them has to come back.
pub(crate) struct Held {
    bulkhead: Bulkhead,
    breaker: CircuitBreaker,
    limiter: RateLimiter,
}

type Around = Stack<Stack<Stack<Identity, Bulkhead>, CircuitBreaker>, RateLimiter>;

impl Held {
    /// The breaker is half-open, and each failure opens it for no time: a probe that is lost
    /// refuses all calls from then on.
    pub(crate) fn new() -> Self {
        let breaker = CircuitBreaker::builder()
            .consecutive_failures(1)
            .no_failure_rate()
            .open_for(Duration::ZERO)
            .half_open_probes(1)
            .half_open_limit(Duration::MAX)
            .build()
            .unwrap();
        breaker.try_acquire().unwrap().settle(End::Failure);
        Self {
            bulkhead: Bulkhead::builder().max_concurrent(1).build().unwrap(),
            breaker,
            limiter: RateLimiter::per_second(100).build().unwrap(),
        }
    }

    pub(crate) fn around(&self) -> PipelineBuilder<Around> {
        Pipeline::builder("held")
            .bulkhead(self.bulkhead.clone())
            .circuit_breaker(self.breaker.clone())
            .rate_limit(self.limiter.clone())
    }

    pub(crate) fn rests(&self) {
        let bulkhead = self.bulkhead.snapshot();
        assert_eq!((bulkhead.in_use, bulkhead.queued), (0, 0));
        assert_eq!(self.limiter.snapshot().queued, 0);
        assert_ne!(self.breaker.state(), CircuitState::ForcedOpen);
        drop(self.breaker.try_acquire().expect("the probe is back"));
    }

    /// The armed call panics, nobody else does, and the next call is served.
    pub(crate) async fn survives<T, E, Fut>(&self, fuse: &Fuse, mut call: impl FnMut() -> Fut)
    where
        Fut: Future<Output = Result<T, Error<E>>>,
        E: std::fmt::Debug,
    {
        fuse.arm();
        let neighbour = Pipeline::builder("neighbour").bulkhead(self.bulkhead.clone());
        let neighbour = neighbour.build().unwrap();
        let first = caught(call());
        let second = caught(neighbour.call(|| async { Ok::<_, Oops>(1) }));
        let (first, second) = futures_util::future::join(first, second).await;
        assert!(first.is_err(), "the panic is its caller's");
        assert_eq!(second, Ok(Ok(1)), "and nobody else's");
        self.rests();
        // What had to be told, or tried again, is so now.
        let again = caught(call()).await.expect("the fuse has blown");
        drop(again);
        self.rests();
        let next = neighbour.call(|| async { Ok::<_, Oops>(2) }).await;
        assert_eq!(next, Ok(2));
        assert_eq!(fuse.blown(), 1);
    }
}

/// Fails the first time, and then no more.
fn fails_once() -> impl FnMut() -> std::future::Ready<Result<u32, Oops>> {
    let mut failed = false;
    move || {
        std::future::ready(if std::mem::replace(&mut failed, true) {
            Ok(7)
        } else {
            Err(Oops(1))
        })
    }
}

fn quick() -> Backoff {
    Backoff::constant(Duration::from_millis(1))
}

/// Implements every trait of a policy's parts; each first touches the fuse.
#[derive(Clone)]
struct Part(Fuse, &'static str);

impl Part {
    fn touch(&self, what: &str) {
        if self.1 == what {
            self.0.blow();
        }
    }
}

impl<T, E> Classify<T, E, Verdict> for Part {
    fn classify(&self, result: Result<&T, &Error<E>>) -> Verdict {
        self.touch("classify");
        if result.is_ok() {
            Verdict::Stop
        } else {
            Verdict::Retry
        }
    }
}

impl<T, E> Classify<T, E, CountAs> for Part {
    fn classify(&self, _: Result<&T, &Error<E>>) -> CountAs {
        self.touch("classify");
        CountAs::Success
    }
}

impl<T, E> RetryHook<T, E> for Part {
    fn before_wait(&self, _: &RetryEvent<'_, T, E>) {
        self.touch("hook");
    }
}

impl Delays for Part {
    type Iter = Self;

    fn delays(&self, _: impl FnOnce() -> u64) -> Self {
        self.touch("delays");
        self.clone()
    }
}

impl Iterator for Part {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.touch("next");
        Some(Duration::from_millis(1))
    }
}

impl Observer for Part {
    fn observe(&self, event: &Event<'_>) {
        match event.kind {
            EventKind::Refused(_) => self.touch("refused"),
            EventKind::TimedOut { .. } => self.touch("timed out"),
            EventKind::Retrying { .. } => self.touch("retrying"),
            EventKind::Recovered { .. } => self.touch("recovered"),
            EventKind::GaveUp(_) => self.touch("gave up"),
            EventKind::FellBack => self.touch("fell back"),
            _ => {}
        }
    }
}

impl Alternative<u32, Oops> for Part {
    type Future = std::future::Ready<Result<u32, Error<Oops>>>;

    fn answer(&self, _: Error<Oops>, _: &CallContext<'_>) -> Self::Future {
        self.touch("alternative");
        std::future::ready(Ok(1))
    }
}

impl<E> When<E> for Part {
    fn applies(&self, _: &Error<E>) -> bool {
        self.touch("when");
        true
    }
}

impl Gate for Part {
    type Wait = u32;
    type Ticket = ();

    fn admit(&self, _: &CallContext<'_>) -> Admission<()> {
        self.touch("admit");
        match self.1 {
            "poll_admit" | "leave" => Admission::Wait,
            _ => Admission::Admitted(()),
        }
    }

    fn poll_admit(
        &self,
        wait: &mut u32,
        _: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Refusal>> {
        self.touch("poll_admit");
        *wait += 1;
        cx.waker().wake_by_ref();
        match (self.1, *wait) {
            ("leave", _) | (_, 1) => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }

    fn leave(&self, _: &mut u32) {
        self.touch("leave");
    }

    fn settle(&self, (): (), _: End) {
        self.touch("settle");
    }
}

impl<T, E> Judge<T, E> for Part {
    fn judge(&self, _: Result<&T, &Error<E>>) -> End {
        self.touch("judge");
        End::Success
    }
}

impl<Req: Clone> Replay<Req> for Part {
    fn next(&self, kept: &mut Option<Req>) -> Option<Req> {
        self.touch("replay");
        kept.clone()
    }
}

/// A policy that does nothing else.
struct Wraps(Fuse);

impl<'a, O: Operation + 'a> Policy<'a, O> for Wraps {
    type Operation = O;

    fn wrap(&'a self, inner: O) -> O {
        self.0.blow();
        inner
    }
}

impl IntoPolicy for Wraps {
    type Policy = Self;

    fn into_policy(self) -> Result<Self, ConfigError> {
        Ok(self)
    }
}

/// An operation by hand.
struct ByHand(Fuse, &'static str);

impl Operation for ByHand {
    type Output = u32;
    type Error = Oops;

    fn poll(
        self: Pin<&mut Self>,
        _: &CallContext<'_>,
        _: &mut Context<'_>,
    ) -> Poll<Result<u32, Error<Oops>>> {
        if self.1 == "poll" {
            self.0.blow();
        }
        if self.1 == "cancel" {
            return Poll::Pending;
        }
        Poll::Ready(Err(Oops(1).into()))
    }

    fn cancel(self: Pin<&mut Self>) -> Progress<Oops> {
        self.0.blow();
        Progress::none()
    }
}

impl Repeatable for ByHand {
    fn can_repeat(&self) -> bool {
        if self.1 == "can_repeat" {
            self.0.blow();
        }
        false
    }
}

/// A tower service that panics in one of its functions.
#[derive(Clone)]
struct Serves(Fuse, &'static str);

impl Service<u32> for Serves {
    type Response = u32;
    type Error = Oops;
    type Future = Pin<Box<dyn Future<Output = Result<u32, Oops>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Oops>> {
        if self.1 == "poll_ready" {
            self.0.blow();
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, n: u32) -> Self::Future {
        let (fuse, what) = (self.0.clone(), self.1);
        if what == "call" {
            fuse.blow();
        }
        Box::pin(async move {
            yield_now().await;
            if what == "poll" {
                fuse.blow();
            }
            Ok(n)
        })
    }
}

async fn served(fuse: Fuse, what: &'static str) {
    let held = Held::new();
    let service = held
        .around()
        .retry(Retry::builder().backoff(quick()))
        .build()
        .unwrap();
    let service = service.layer().layer(Serves(fuse.clone(), what));
    held.survives(&fuse, || service.clone().oneshot(1)).await;
}

async fn observed(fuse: Fuse, what: &'static str) {
    let held = Held::new();
    let full = Bulkhead::builder()
        .max_concurrent(1)
        .max_queue(0)
        .build()
        .unwrap();
    let _taken = (what == "refused").then(|| full.try_acquire_owned(1).unwrap());
    let pipeline = held
        .around()
        .observe(Arc::new(Part(fuse.clone(), what)))
        .fallback(Fallback::value(0))
        .retry(Retry::builder().backoff(quick()).max_attempts(2))
        .timeout(SECOND)
        .bulkhead(full)
        .build()
        .unwrap();
    held.survives(&fuse, || {
        let mut attempts = 0;
        pipeline.call(move || {
            attempts += 1;
            let works = what == "recovered" && attempts == 2;
            async move {
                if what == "timed out" {
                    sleep(2 * SECOND).await;
                }
                if works { Ok(1) } else { Err(Oops(1)) }
            }
        })
    })
    .await;
}

async fn gated(fuse: Fuse, what: &'static str) {
    let held = Held::new();
    let pipeline = held
        .around()
        .policy(Given(Part(fuse.clone(), what)))
        .build()
        .unwrap();
    if what != "leave" {
        held.survives(&fuse, || pipeline.call(|| async { Ok::<_, Oops>(1) }))
            .await;
        return;
    }
    let call = Box::pin(pipeline.call(|| async { Ok::<_, Oops>(1) }));
    let mut call = tokio_test::task::spawn(call);
    assert!(call.poll().is_pending());
    fuse.arm();
    assert!(caught_now(|| drop(call)).is_err());
    held.rests();
}

/// A gate is a policy by itself; this is only its way into a builder.
struct Given(Part);

impl IntoPolicy for Given {
    type Policy = Arc<Part>;

    fn into_policy(self) -> Result<Arc<Part>, ConfigError> {
        Ok(Arc::new(self.0))
    }
}

async fn retried<B, C, H>(fuse: Fuse, retry: mainstay::retry::RetryBuilder<B, C, H>)
where
    B: Delays + 'static,
    C: Classify<u32, Oops, Verdict> + 'static,
    H: RetryHook<u32, Oops> + 'static,
{
    let held = Held::new();
    let pipeline = held.around().retry(retry).build().unwrap();
    held.survives(&fuse, || pipeline.call(fails_once())).await;
}

async fn broken<C>(fuse: Fuse, breaker: CircuitBreaker<C>)
where
    C: Classify<u32, Oops, CountAs> + 'static,
{
    let held = Held::new();
    let pipeline = held.around().circuit_breaker(breaker).build().unwrap();
    held.survives(&fuse, || pipeline.call(fails_once())).await;
}

fn plain() -> mainstay::circuit_breaker::CircuitBreakerBuilder {
    CircuitBreaker::builder().minimum_calls(50)
}

async fn fell_back<A, W>(fuse: Fuse, fallback: Fallback<A, W>)
where
    A: Alternative<u32, Oops> + 'static,
    W: When<Oops> + 'static,
{
    let held = Held::new();
    let pipeline = held.around().fallback(fallback).build().unwrap();
    held.survives(&fuse, || pipeline.call(|| async { Err::<u32, _>(Oops(1)) }))
        .await;
}

crate::rows! {
    "operation", "closure, as it starts", ["policy/pipeline call", "operation trait Start", "operation trait IntoOperation", "ext trait Resilient"], |fuse| {
        let held = Held::new();
        let pipeline = held.around().timeout(SECOND).build().unwrap();
        held.survives(&fuse, || pipeline.call(|| {
            fuse.blow();
            async { Ok::<_, Oops>(1) }
        })).await;
    }
    "operation", "closure with its attempt", ["policy/pipeline call_with"], |fuse| {
        let held = Held::new();
        let pipeline = held.around().retry(Retry::builder()).build().unwrap();
        held.survives(&fuse, || pipeline.call_with(|_| {
            fuse.blow();
            async { Ok::<_, Oops>(1) }
        })).await;
    }
    "operation", "closure that runs once", ["policy/pipeline call_once"], |fuse| {
        let held = Held::new();
        let pipeline = held.around().retry(Retry::builder()).build().unwrap();
        held.survives(&fuse, || pipeline.call_once(|| {
            fuse.blow();
            async { Ok::<_, Oops>(1) }
        })).await;
    }
    "operation", "first poll", [], |fuse| {
        let held = Held::new();
        let pipeline = held.around().timeout(SECOND).build().unwrap();
        held.survives(&fuse, || pipeline.call(|| async {
            fuse.blow();
            Ok::<_, Oops>(1)
        })).await;
    }
    "operation", "later poll", [], |fuse| {
        let held = Held::new();
        let pipeline = held.around().timeout(SECOND).build().unwrap();
        held.survives(&fuse, || pipeline.call(|| async {
            sleep(SECOND / 2).await;
            fuse.blow();
            Ok::<_, Oops>(1)
        })).await;
    }
    "operation", "drop of the future at its end", [], |fuse| {
        let held = Held::new();
        let pipeline = held.around().timeout(SECOND).build().unwrap();
        held.survives(&fuse, || pipeline.call(|| {
            let touchy = Touchy::new(&fuse, On::Drop);
            async move {
                yield_now().await;
                let result = Ok::<_, Oops>(1);
                drop(touchy);
                result
            }
        })).await;
    }
    "operation", "drop of a future that is cut short", [], |fuse| {
        let held = Held::new();
        let pipeline = held.around().timeout(SECOND).build().unwrap();
        held.survives(&fuse, || pipeline.call(|| {
            let touchy = Touchy::new(&fuse, On::Drop);
            async move {
                sleep(2 * SECOND).await;
                drop(touchy);
                Ok::<_, Oops>(1)
            }
        })).await;
    }
    "operation", "drop of a future whose call is dropped", [], |fuse| {
        let held = Held::new();
        let pipeline = held.around().timeout(SECOND).build().unwrap();
        let call = pipeline.call(|| {
            let touchy = Touchy::new(&fuse, On::Drop);
            async move {
                sleep(2 * SECOND).await;
                drop(touchy);
                Ok::<_, Oops>(1)
            }
        });
        let mut call = tokio_test::task::spawn(Box::pin(call));
        assert!(call.poll().is_pending());
        fuse.arm();
        assert!(caught_now(|| drop(call)).is_err());
        held.rests();
    }
    "operation", "by hand: poll", ["operation trait Operation"], |fuse| {
        let held = Held::new();
        let pipeline = held.around().timeout(SECOND).build().unwrap();
        held.survives(&fuse, || pipeline.run(ByHand(fuse.clone(), "poll"))).await;
    }
    "operation", "by hand: cancel", ["operation trait Operation"], |fuse| {
        let held = Held::new();
        let pipeline = held.around().timeout(Duration::from_millis(1)).build().unwrap();
        held.survives(&fuse, || pipeline.run(ByHand(fuse.clone(), "cancel"))).await;
    }
    "operation", "by hand: can_repeat", ["operation trait Repeatable"], |fuse| {
        let held = Held::new();
        let pipeline = held.around().retry(Retry::builder().backoff(quick())).build().unwrap();
        held.survives(&fuse, || pipeline.run(ByHand(fuse.clone(), "can_repeat"))).await;
    }
    "operation", "erased: closure, as it starts", ["policy/erased call", "policy/erased call_with", "policy/erased call_once", "policy/erased trait ErasablePolicy"], |fuse| {
        let held = Held::new();
        let erased = held.around().retry(Retry::builder()).build().unwrap().erase::<u32, Oops>();
        for way in 0..3 {
            let own = if way == 0 { fuse.clone() } else { Fuse::default() };
            held.survives(&own, || async {
                let start = || { own.blow(); async { Ok::<_, Oops>(1) } };
                match way {
                    0 => erased.call(start).await,
                    1 => erased.call_with(|_| start()).await,
                    _ => erased.call_once(start).await,
                }
            }).await;
        }
    }
    "policy", "wrap", ["policy/mod trait Policy", "policy/mod trait IntoPolicy"], |fuse| {
        let held = Held::new();
        let pipeline = held.around().policy(Wraps(fuse.clone())).build().unwrap();
        held.survives(&fuse, || async { pipeline.call(|| async { Ok::<_, Oops>(1) }).await }).await;
    }
    "gate", "admit", ["policy/gate trait Gate"], |fuse| { gated(fuse, "admit").await; }
    "gate", "poll_admit", ["policy/gate trait Gate"], |fuse| { gated(fuse, "poll_admit").await; }
    "gate", "leave", ["policy/gate trait Gate"], |fuse| { gated(fuse, "leave").await; }
    "gate", "settle", ["policy/gate trait Gate"], |fuse| { gated(fuse, "settle").await; }
    "gate", "judge", ["policy/gate trait Judge"], |fuse| { gated(fuse, "judge").await; }
    "retry", "retry_if", ["retry/builder retry_if"], |fuse| {
        let f = fuse.clone();
        retried(fuse, Retry::builder().backoff(quick()).retry_if(move |_: &Oops| { f.blow(); true })).await;
    }
    "retry", "classify", ["retry/builder classify"], |fuse| {
        let f = fuse.clone();
        retried(fuse, Retry::builder().backoff(quick()).classify(move |_: Result<&u32, &Error<Oops>>| { f.blow(); Verdict::Stop })).await;
    }
    "retry", "classify_ok", ["retry/builder classify_ok"], |fuse| {
        let f = fuse.clone();
        retried(fuse, Retry::builder().backoff(quick()).classify_ok(move |_: &u32| { f.blow(); Verdict::Stop })).await;
    }
    "retry", "classifier", ["classify trait Classify", "classify trait Decision"], |fuse| {
        retried(fuse.clone(), Retry::builder().backoff(quick()).classifier(Part(fuse, "classify"))).await;
    }
    "retry", "delays: closure", ["retry/builder delays"], |fuse| {
        let f = fuse.clone();
        retried(fuse, Retry::builder().delays(move || { f.blow(); [SECOND] })).await;
    }
    "retry", "delays: iterator", ["retry/builder delays"], |fuse| {
        let f = fuse.clone();
        retried(fuse, Retry::builder().delays(move || Part(f.clone(), "next"))).await;
    }
    "retry", "delay_by", ["retry/builder delay_by"], |fuse| {
        let f = fuse.clone();
        retried(fuse, Retry::builder().delay_by(move |_| { f.blow(); SECOND })).await;
    }
    "retry", "Delays::delays", ["retry/backoff trait Delays"], |fuse| {
        retried(fuse.clone(), Retry::builder().backoff(Part(fuse, "delays"))).await;
    }
    "retry", "Delays::Iter", ["retry/backoff trait Delays"], |fuse| {
        retried(fuse.clone(), Retry::builder().backoff(Part(fuse, "next"))).await;
    }
    "retry", "on_retry", ["retry/builder on_retry"], |fuse| {
        let f = fuse.clone();
        retried(fuse, Retry::builder().backoff(quick()).on_retry(move |_: &RetryEvent<'_, u32, Oops>| f.blow())).await;
    }
    "retry", "RetryHook", ["retry/builder trait RetryHook"], |fuse| {
        retried(fuse.clone(), Retry::builder().backoff(quick()).hook(Part(fuse, "hook"))).await;
    }
    "retry", "hook without a delay", ["retry/builder on_retry"], |fuse| {
        let f = fuse.clone();
        retried(fuse, Retry::builder().backoff(Backoff::none()).on_retry(move |_: &RetryEvent<'_, u32, Oops>| f.blow())).await;
    }
    "retry", "drop of an earlier error", [], |fuse| {
        let held = Held::new();
        let pipeline = held.around().retry(Retry::builder().backoff(quick())).build().unwrap();
        held.survives(&fuse, || {
            let mut n = 0;
            let fuse = fuse.clone();
            pipeline.call(move || {
                n += 1;
                let error = Touchy::new(&fuse, On::Drop);
                std::future::ready(if n == 2 { std::mem::forget(error); Ok(1) } else { Err(error) })
            })
        }).await;
    }
    "retry", "drop of an answer that is not good enough", [], |fuse| {
        let held = Held::new();
        let retry = Retry::builder().backoff(quick()).max_attempts(2).classify_ok(|_: &Touchy| Verdict::Retry);
        let pipeline = held.around().retry(retry).build().unwrap();
        held.survives(&fuse, || {
            let fuse = fuse.clone();
            pipeline.call(move || std::future::ready(Ok::<_, Oops>(Touchy::new(&fuse, On::Drop))))
        }).await;
    }
    "circuit breaker", "classify", ["circuit_breaker/builder classify", "circuit_breaker/mod classify"], |fuse| {
        let f = fuse.clone();
        let rule = move |_: Result<&u32, &Error<Oops>>| { f.blow(); CountAs::Success };
        broken(fuse.clone(), plain().classify(rule.clone()).build().unwrap()).await;
        let again = Fuse::default();
        let f = again.clone();
        broken(again, plain().build().unwrap().classify(move |_: Result<&u32, &Error<Oops>>| { f.blow(); CountAs::Success })).await;
    }
    "circuit breaker", "classify_ok", ["circuit_breaker/builder classify_ok", "circuit_breaker/mod classify_ok"], |fuse| {
        for on_handle in [false, true] {
            let fuse = if on_handle { Fuse::default() } else { fuse.clone() };
            let (f, held) = (fuse.clone(), Held::new());
            let rule = move |_: &u32| { f.blow(); CountAs::Success };
            let breaker = if on_handle { plain().build().unwrap().classify_ok(rule) } else { plain().classify_ok(rule).build().unwrap() };
            let pipeline = held.around().circuit_breaker(breaker).build().unwrap();
            held.survives(&fuse, || pipeline.call(|| async { Ok::<u32, Oops>(1) })).await;
        }
    }
    "circuit breaker", "failure_if", ["circuit_breaker/builder failure_if", "circuit_breaker/mod failure_if"], |fuse| {
        let f = fuse.clone();
        broken(fuse.clone(), plain().failure_if(move |_: &Oops| { f.blow(); true }).build().unwrap()).await;
        let again = Fuse::default();
        let f = again.clone();
        broken(again, plain().build().unwrap().failure_if(move |_: &Oops| { f.blow(); true })).await;
    }
    "circuit breaker", "classifier", ["classify trait Classify"], |fuse| {
        broken(fuse.clone(), plain().classifier(Part(fuse, "classify")).build().unwrap()).await;
    }
    "circuit breaker", "on_state_change", ["circuit_breaker/builder on_state_change"], |fuse| {
        let f = fuse.clone();
        let told = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let count = Arc::clone(&told);
        let breaker = CircuitBreaker::builder().consecutive_failures(1).no_failure_rate()
            .open_for(Duration::ZERO).half_open_probes(1).half_open_limit(Duration::MAX)
            .on_state_change(move |change| {
                count.fetch_max(change.number, std::sync::atomic::Ordering::SeqCst);
                f.blow();
            }).build().unwrap();
        let held = Held::new();
        let pipeline = held.around().circuit_breaker(breaker.clone()).build().unwrap();
        // Closed to open, open to half-open, half-open to open: the hook of each may panic.
        for _ in 0..3 {
            fuse.arm();
            let _ = caught(pipeline.call(|| async { Err::<u32, _>(Oops(1)) })).await;
            held.rests();
        }
        for _ in 0..2 {
            let _ = caught(pipeline.call(|| async { Ok::<u32, Oops>(1) })).await;
        }
        assert_eq!(breaker.state(), CircuitState::Closed);
        assert_eq!(pipeline.call(|| async { Ok::<u32, Oops>(1) }).await, Ok(1));
        assert!(told.load(std::sync::atomic::Ordering::SeqCst) >= 3);
    }
    "fallback", "with", ["fallback/mod with"], |fuse| {
        let f = fuse.clone();
        fell_back(fuse, Fallback::with(move |_: Error<Oops>| { f.blow(); 1 })).await;
    }
    "fallback", "call: closure", ["fallback/mod call"], |fuse| {
        let f = fuse.clone();
        fell_back(fuse, Fallback::call(move |_: Error<Oops>| { f.blow(); async { Ok::<u32, Oops>(1) } })).await;
    }
    "fallback", "call: future", ["fallback/mod call"], |fuse| {
        let f = fuse.clone();
        fell_back(fuse, Fallback::call(move |_: Error<Oops>| {
            let f = f.clone();
            async move { yield_now().await; f.blow(); Ok::<u32, Oops>(1) }
        })).await;
    }
    "fallback", "recover", ["fallback/mod recover"], |fuse| {
        let f = fuse.clone();
        fell_back(fuse, Fallback::recover(move |e: Error<Oops>| { f.blow(); async { Err::<u32, _>(e) } })).await;
    }
    "fallback", "when", ["fallback/mod when"], |fuse| {
        let f = fuse.clone();
        fell_back(fuse, Fallback::value(1).when(move |_: &Error<Oops>| { f.blow(); true })).await;
    }
    "fallback", "Alternative", ["fallback/alternative trait Alternative"], |fuse| {
        fell_back(fuse.clone(), Fallback::by(Part(fuse, "alternative"))).await;
    }
    "fallback", "When", ["fallback/alternative trait When"], |fuse| {
        // The trait is reached by its one constructor, a closure.
        let part = Part(fuse.clone(), "when");
        fell_back(fuse, Fallback::value(1).when(move |e: &Error<Oops>| part.applies(e))).await;
    }
    "fallback", "clone of the value", [], |fuse| {
        let held = Held::new();
        let pipeline = held.around().fallback(Fallback::value(Touchy::new(&fuse, On::Clone))).build().unwrap();
        held.survives(&fuse, || pipeline.call(|| async { Err::<Touchy, _>(Oops(1)) })).await;
    }
    "fallback", "drop of the error", [], |fuse| {
        let held = Held::new();
        let pipeline = held.around().fallback(Fallback::value(1)).build().unwrap();
        held.survives(&fuse, || {
            let fuse = fuse.clone();
            pipeline.call(move || std::future::ready(Err::<u32, _>(Touchy::new(&fuse, On::Drop))))
        }).await;
    }
    "observer", "refused", ["observe trait Observer", "observe trait IntoObserver"], |fuse| { observed(fuse, "refused").await; }
    "observer", "timed out", ["observe trait Observer"], |fuse| { observed(fuse, "timed out").await; }
    "observer", "retrying", ["observe trait Observer"], |fuse| { observed(fuse, "retrying").await; }
    "observer", "recovered", ["observe trait Observer"], |fuse| { observed(fuse, "recovered").await; }
    "observer", "gave up", ["observe trait Observer"], |fuse| { observed(fuse, "gave up").await; }
    "observer", "fell back", ["observe trait Observer"], |fuse| { observed(fuse, "fell back").await; }
    "tower", "poll_ready", ["tower/mod trait IntoLayer"], |fuse| { served(fuse, "poll_ready").await; }
    "tower", "call", [], |fuse| { served(fuse, "call").await; }
    "tower", "future", [], |fuse| { served(fuse, "poll").await; }
    "tower", "layer_with", ["tower/mod layer_with", "tower/replay trait Replay", "tower/replay trait ReplayAgain"], |fuse| {
        let held = Held::new();
        let pipeline = held.around().retry(Retry::builder().backoff(quick())).build().unwrap();
        let f = fuse.clone();
        let layer = pipeline.layer_with(move |n: &u32| { f.blow(); Some(*n) });
        let service = layer.layer(service_fn(|n: u32| async move { Ok::<_, Oops>(n) }));
        held.survives(&fuse, || service.clone().oneshot(1)).await;
    }
    "tower", "clone of the request", ["tower/replay trait Replay"], |fuse| {
        let held = Held::new();
        let pipeline = held.around().retry(Retry::builder().backoff(quick())).build().unwrap();
        let service = pipeline.layer().layer(service_fn(|_: Touchy| async move { Ok::<_, Oops>(1) }));
        held.survives(&fuse, || service.clone().oneshot(Touchy::new(&fuse, On::Clone))).await;
    }
    "error", "map", ["error map"], |fuse| {
        fuse.arm();
        assert!(caught_now(|| Error::operation(Oops(1)).map(|_| fuse.blow())).is_err());
    }
}
