//! A pipeline whose policies' types are forgotten, for struct fields and registries.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;

use super::{Attempt, Call, Pipeline, Policy};
use crate::error::Error;
use crate::operation::{Closure, Plain, Repeatable, WithAttempt};

/// An operation whose type is forgotten: what an erased pipeline is put around.
pub type Leaf<'a, T, E> = Pin<&'a mut (dyn Repeatable<Output = T, Error = E> + Send + 'a)>;

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
    fn run<'a>(&'a self, leaf: Leaf<'a, T, E>) -> Running<'a, T, E>;
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

    fn run<'a>(&'a self, leaf: Leaf<'a, T, E>) -> Running<'a, T, E> {
        let call: Call<'a, _> = Pipeline::run(self, leaf);
        Box::pin(call)
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

    /// As [`Pipeline::call`].
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn call<F, Fut>(&self, start: F) -> Result<T, Error<E>>
    where
        F: FnMut() -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
    {
        let leaf = pin!(Closure::new(Plain(start)));
        self.pipeline.run(leaf).await
    }

    /// As [`Pipeline::call_with`].
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn call_with<F, Fut>(&self, start: F) -> Result<T, Error<E>>
    where
        F: FnMut(Attempt) -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
    {
        let leaf = pin!(Closure::new(WithAttempt(start)));
        self.pipeline.run(leaf).await
    }
}

impl<T, E> Clone for DynPipeline<T, E> {
    fn clone(&self) -> Self {
        Self {
            pipeline: Arc::clone(&self.pipeline),
        }
    }
}

impl<T, E> fmt::Debug for DynPipeline<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynPipeline")
            .field("name", &self.pipeline.name())
            .finish_non_exhaustive()
    }
}
