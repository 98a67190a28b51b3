//! What the pool asks of whoever knows the objects.

use std::future::{Future, ready};
use std::pin::Pin;
use std::time::Duration;

/// Creates the objects of a [`Pool`](super::Pool), checks and ends them.
///
/// A closure that makes a future of a `Result` is one, for objects that need no check and no
/// farewell: `Pool::builder(|| connect(addr))`.
///
/// # Examples
///
/// ```
/// use mainstay::pool::{Manage, Pool};
///
/// # struct Session { id: u32, mid_command: bool }
/// # struct Service;
/// # impl Service {
/// #     async fn create(&self) -> std::io::Result<Session> { Ok(Session { id: 7, mid_command: false }) }
/// #     async fn ping(&self, _: u32) -> std::io::Result<()> { Ok(()) }
/// #     async fn delete(&self, _: u32) {}
/// # }
/// struct Sessions(Service);
///
/// impl Manage for Sessions {
///     type Object = Session;
///     type Error = std::io::Error;
///
///     async fn create(&self) -> std::io::Result<Session> {
///         self.0.create().await
///     }
///
///     async fn check(&self, session: &mut Session) -> std::io::Result<()> {
///         self.0.ping(session.id).await
///     }
///
///     fn reusable(&self, session: &mut Session) -> bool {
///         !session.mid_command
///     }
///
///     async fn close(&self, session: Session) {
///         self.0.delete(session.id).await;
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = Pool::builder(Sessions(Service)).max_size(4).build()?;
/// assert_eq!(pool.get().await?.id, 7);
/// # Ok(())
/// # }
/// ```
pub trait Manage: Send + Sync + 'static {
    /// What is lent out.
    type Object: Send + 'static;
    /// Why there is none.
    type Error: Send + 'static;

    /// When objects are checked, unless the pool's builder says otherwise: [`Check`]'s
    /// default.
    const CHECK: Check = Check::AfterIdle(Check::IDLE);

    /// Creates an object. It runs in a task of its own, which goes on when the caller who
    /// needed the object has given up.
    fn create(&self) -> impl Future<Output = Result<Self::Object, Self::Error>> + Send;

    /// Finds out whether an object still works, before it is lent out; see [`Check`]. One
    /// that does not is [closed](Self::close), and another takes its place. Default: it does.
    ///
    /// It goes on in a task of its own when the caller gives up, and then the object is for the
    /// next. One that takes too long speaks for the others: idle objects that would be checked
    /// too, before they are lent out, are closed without it.
    fn check(
        &self,
        object: &mut Self::Object,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = object;
        ready(Ok(()))
    }

    /// Says whether an object that comes back can be lent out again: a look that waits for
    /// nothing. Default: it can.
    ///
    /// Its user may have been cancelled in the middle of a command. An object that knows that
    /// the reply is still to come must say `false` here, or the next user reads it.
    fn reusable(&self, object: &mut Self::Object) -> bool {
        let _ = object;
        true
    }

    /// Ends an object for good, as by a `DELETE` of its session. Default: drops it.
    ///
    /// It is polled once where the object is given up and goes on in a task of its own; the
    /// object counts until that has ended. Where no runtime is left, it is dropped after that
    /// one poll.
    fn close(&self, object: Self::Object) -> impl Future<Output = ()> + Send {
        async move { drop(object) }
    }
}

impl<F, Fut, T, E> Manage for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send,
    T: Send + 'static,
    E: Send + 'static,
{
    type Object = T;
    type Error = E;

    const CHECK: Check = Check::Never;

    fn create(&self) -> impl Future<Output = Result<T, E>> + Send {
        self()
    }
}

/// When an idle object is checked before it is lent out.
///
/// An object that goes from one caller to the next without having been idle is checked only
/// with [`Always`](Self::Always); one that has just been created for the caller never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Check {
    /// Never: its use will show.
    Never,
    /// When it has been idle for so long. Default, with 1 s: what worked a moment ago mostly
    /// still does, and a check costs a round trip.
    AfterIdle(Duration),
    /// Each time.
    Always,
}

impl Check {
    pub(super) const IDLE: Duration = Duration::from_secs(1);
}

impl Default for Check {
    fn default() -> Self {
        Self::AfterIdle(Self::IDLE)
    }
}

/// What a hook returns: `Box::pin(async move { .. })`.
pub type HookFuture<'a, E> = Pin<Box<dyn Future<Output = Result<(), E>> + Send + 'a>>;

pub(super) type Hook<O, E> = Box<dyn for<'a> Fn(&'a mut O) -> HookFuture<'a, E> + Send + Sync>;
