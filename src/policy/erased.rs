//! A pipeline whose policies' types are forgotten, for struct fields and registries.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::{Attempt, Call, CallContext, Pipeline, Policy};
use crate::error::{Error, Progress};
use crate::operation::{
    Closure, Operation, Outcome, Plain, Repeatable, Single, WithAttempt, hand_up,
};

/// An operation whose type is forgotten: what an erased pipeline is put around.
#[must_use = "an operation does nothing unless polled"]
pub struct Leaf<'a, T, E> {
    operation: Pin<&'a mut (dyn Repeatable<Output = T, Error = E> + Send + 'a)>,
}

impl<T, E> Operation for Leaf<'_, T, E> {
    type Output = T;
    type Error = E;

    #[inline(always)]
    fn poll(
        self: Pin<&mut Self>,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Outcome<Self>> {
        hand_up(self.get_mut().operation.as_mut().poll(call, cx), |_| {})
    }

    fn cancel(self: Pin<&mut Self>) -> Progress<E> {
        self.get_mut().operation.as_mut().cancel()
    }
}

impl<T, E> Repeatable for Leaf<'_, T, E> {
    fn can_repeat(&self) -> bool {
        self.operation.can_repeat()
    }
}

type Running<'a, T, E> = Pin<Box<dyn Future<Output = Result<T, Error<E>>> + Send + 'a>>;

/// A stack that can be erased for calls that yield `Result<T, E>`.
///
/// It holds for every stack of this crate whose classifiers and fallback values fit `T` and
/// `E`; it is never implemented by hand.
pub trait ErasablePolicy<T, E>:
    Send + Sync + for<'a> Policy<'a, Leaf<'a, T, E>, Operation: Send>
{
}

impl<P, T, E> ErasablePolicy<T, E> for P where
    P: Send + Sync + for<'a> Policy<'a, Leaf<'a, T, E>, Operation: Send>
{
}

trait Erased<T, E>: Send + Sync {
    fn name(&self) -> &str;
    fn run<'a>(&'a self, leaf: Leaf<'a, T, E>, attempt: Attempt) -> Running<'a, T, E>;
}

impl<P, T, E> Erased<T, E> for Pipeline<P>
where
    P: ErasablePolicy<T, E>,
    T: 'static,
    E: 'static,
{
    fn name(&self) -> &str {
        Pipeline::name(self)
    }

    fn run<'a>(&'a self, leaf: Leaf<'a, T, E>, attempt: Attempt) -> Running<'a, T, E> {
        // Written where it stands: moving into a box what has just been written costs 10 ns.
        let mut boxed = Box::pin(Boxed {
            operation: None,
            attempt,
        });
        let mut operation = boxed.as_mut().project().operation;
        operation.set(Some(self.part(leaf)));
        boxed
    }
}

pin_project! {
    /// What stands behind the erased type: the whole stack, as part of the call outside.
    struct Boxed<O> {
        #[pin]
        operation: Option<O>,
        attempt: Attempt,
    }
}

impl<O: Operation> Future for Boxed<O> {
    type Output = Result<O::Output, Error<O::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.operation.as_pin_mut() {
            Some(operation) => operation.poll(&this.attempt.context(), cx),
            None => unreachable!("it was written before it was handed out"),
        }
    }
}

/// A [`Pipeline`] for operations that yield `Result<T, E>`, whatever its policies are.
///
/// It shares its state with the pipeline it was made of, and with its clones. Each call
/// costs one allocation.
///
/// # Examples
///
/// ```
/// use mainstay::prelude::*;
/// use std::time::Duration;
///
/// struct Client {
///     pipeline: DynPipeline<String, std::io::Error>,
/// }
///
/// # fn main() -> Result<(), mainstay::ConfigError> {
/// let client = Client {
///     pipeline: Pipeline::builder("files").timeout(Duration::from_secs(1)).build()?.erase(),
/// };
/// # let _ = client; Ok(())
/// # }
/// ```
pub struct DynPipeline<T, E> {
    pipeline: Arc<dyn Erased<T, E>>,
}

impl<P: 'static> Pipeline<P> {
    /// Forgets the types of the policies; the state stays shared.
    #[must_use]
    pub fn erase<T, E>(&self) -> DynPipeline<T, E>
    where
        P: ErasablePolicy<T, E>,
        T: 'static,
        E: 'static,
    {
        DynPipeline {
            pipeline: Arc::new(self.clone()),
        }
    }
}

impl<T: 'static, E: 'static> DynPipeline<T, E> {
    /// The pipeline's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.pipeline.name()
    }

    /// As [`Pipeline::call`]. More policies can be put around the call, which can be part
    /// of another; it is not [`Repeatable`], so that retries belong into the pipeline. So
    /// does a time limit for the whole: one around the erased call cannot see what went on
    /// in there, and reports one attempt and no last error.
    pub fn call<'a, F, Fut>(
        &'a self,
        start: F,
    ) -> Call<'a, impl Operation<Output = T, Error = E> + use<'a, T, E, F, Fut>>
    where
        F: FnMut() -> Fut + Send + 'a,
        Fut: Future<Output = Result<T, E>> + Send + 'a,
    {
        self.run(Closure::new(Plain(start)))
    }

    /// As [`Pipeline::call_with`].
    pub fn call_with<'a, F, Fut>(
        &'a self,
        start: F,
    ) -> Call<'a, impl Operation<Output = T, Error = E> + use<'a, T, E, F, Fut>>
    where
        F: FnMut(Attempt) -> Fut + Send + 'a,
        Fut: Future<Output = Result<T, E>> + Send + 'a,
    {
        self.run(Closure::new(WithAttempt(start)))
    }

    /// As [`Pipeline::call_once`].
    pub fn call_once<'a, F, Fut>(
        &'a self,
        start: F,
    ) -> Call<'a, impl Operation<Output = T, Error = E> + use<'a, T, E, F, Fut>>
    where
        F: FnOnce() -> Fut + Send + 'a,
        Fut: Future<Output = Result<T, E>> + Send + 'a,
    {
        self.run(Single::new(start))
    }

    fn run<'a, O>(
        &'a self,
        operation: O,
    ) -> Call<'a, impl Operation<Output = T, Error = E> + use<'a, T, E, O>>
    where
        O: Repeatable<Output = T, Error = E> + Send + 'a,
    {
        let pipeline = &*self.pipeline;
        let start = move |attempt: Attempt| async move {
            let operation = pin!(operation);
            let mut running = pipeline.run(Leaf { operation }, attempt);
            poll_fn(|cx| hand_up(running.as_mut().poll(cx), |_| {})).await
        };
        Call::new(
            ErasedCall {
                start: Some(start),
                future: None,
            },
            None,
        )
    }
}

pin_project! {
    /// A call whose stack is erased: its errors are flat as any other's.
    struct ErasedCall<F, Fut> {
        start: Option<F>,
        #[pin]
        future: Option<Fut>,
    }
}

impl<F, Fut, T, E> Operation for ErasedCall<F, Fut>
where
    F: FnOnce(Attempt) -> Fut,
    Fut: Future<Output = Result<T, Error<E>>>,
{
    type Output = T;
    type Error = E;

    #[inline(always)]
    fn poll(
        self: Pin<&mut Self>,
        call: &CallContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Outcome<Self>> {
        let mut this = self.project();
        if let Some(start) = this.start.take() {
            this.future.set(Some(start(call.to_attempt())));
        }
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            panic!("polled after its end");
        };
        let polled = future.poll(cx);
        if polled.is_pending() {
            return Poll::Pending;
        }
        hand_up(polled, |_| this.future.set(None))
    }

    /// How often the operation was started in there cannot be seen from here: it counts as
    /// once.
    fn cancel(self: Pin<&mut Self>) -> Progress<E> {
        crate::operation::cancel_slot(self.project().future)
    }
}

impl<T, E> Clone for DynPipeline<T, E> {
    fn clone(&self) -> Self {
        Self {
            pipeline: Arc::clone(&self.pipeline),
        }
    }
}

impl<T, E> fmt::Debug for Leaf<'_, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf").finish_non_exhaustive()
    }
}

impl<T, E> fmt::Debug for DynPipeline<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynPipeline")
            .field("name", &self.pipeline.name())
            .finish_non_exhaustive()
    }
}
