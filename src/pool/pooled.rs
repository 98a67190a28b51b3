//! An object that is lent out: it gives itself back.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use super::arriving::Arriving;
use super::entry::Entry;
use super::manage::Manage;
use super::shared::{Kept, Shared, Slot};
use super::snapshot::Reason;
use super::state::State;
use crate::panics::{caught, message};
use crate::time::{self, Instant};

/// An object of a [`Pool`](super::Pool), which goes back when this is dropped: on any thread,
/// inside of a runtime or outside.
///
/// It borrows its pool; [`into_owned`](Self::into_owned) makes it one that can be moved into
/// a task or a struct. What it offers itself are functions, not methods, so that they do not
/// hide those of the object: `Pooled::detach(object)`.
///
/// Dropped while its thread panics, the object is closed, as nobody knows what it still
/// expects. Nobody can see that the future which uses it was cancelled: for that there are
/// [`use_with`](Self::use_with) and [`Manage::reusable`].
#[must_use = "an object that is dropped at once goes back"]
pub struct Pooled<'p, M: Manage> {
    /// `None` once it is given back.
    entry: Option<Slot<M>>,
    /// The pool that it borrows; without one the entry has the owner.
    home: Option<&'p Arc<Shared<M>>>,
}

const THERE: &str = "it is taken only by what ends the guard";

impl<'p, M: Manage> Pooled<'p, M> {
    #[inline]
    pub(super) fn lent(shared: &'p Arc<Shared<M>>, mut entry: Slot<M>) -> Self {
        entry.uses += 1;
        Self::held(shared, entry)
    }

    /// One that is counted as lent out already.
    #[inline]
    pub(super) fn held(shared: &'p Arc<Shared<M>>, entry: Slot<M>) -> Self {
        Self {
            entry: Some(entry),
            home: Some(shared),
        }
    }

    /// To be [`held`](Self::held) again at once.
    #[expect(clippy::unnecessary_box_returns, reason = "see `Entry`")]
    pub(super) fn into_entry(mut self) -> Slot<M> {
        self.entry.take().expect(THERE)
    }

    #[inline]
    fn entry(&self) -> &Entry<Kept<M>> {
        self.entry.as_ref().expect(THERE)
    }

    #[inline]
    fn entry_mut(&mut self) -> &mut Entry<Kept<M>> {
        self.entry.as_mut().expect(THERE)
    }

    /// The same object with a handle of its own: to be moved into a task or a struct.
    ///
    /// It does not keep the pool open: when the last handle of the pool goes, the object is
    /// closed as it comes back.
    pub fn into_owned(mut pooled: Self) -> Pooled<'static, M> {
        if let Some(shared) = pooled.home {
            pooled.entry_mut().object.owner = Some(Arc::clone(shared));
        }
        Pooled {
            entry: pooled.entry.take(),
            home: None,
        }
    }

    /// Takes the object out of the pool for good. Another one may be created in its place.
    #[expect(clippy::missing_panics_doc, reason = "it never does")]
    #[must_use = "the object is dropped, and not closed: see `discard`"]
    pub fn detach(mut pooled: Self) -> M::Object {
        let mut entry = pooled.entry.take().expect(THERE);
        let owner = entry.object.owner.take();
        if let Some(shared) = pooled.home.or(owner.as_ref()) {
            shared.change(State::detach);
        }
        entry.object.object
    }

    /// Closes the object now: it is broken.
    pub fn discard(mut pooled: Self) {
        Self::mark_broken(&mut pooled);
    }

    /// Has the object closed, instead of going back, when this is dropped.
    pub fn mark_broken(pooled: &mut Self) {
        pooled.entry_mut().object.spoilt = Some(Reason::Broken);
    }

    /// How long ago the object was created.
    #[must_use]
    pub fn age(pooled: &Self) -> Duration {
        time::now().since(pooled.entry().born)
    }

    /// How often the object was lent out; this is the first time if it is 1.
    #[must_use]
    pub fn uses(pooled: &Self) -> u64 {
        pooled.entry().uses
    }

    /// Uses the object, and gives it back only if the use came to its end: when the future is
    /// dropped in the middle, or panics, the object is closed.
    ///
    /// After an `Err` it goes back, if [`Manage::reusable`] agrees.
    ///
    /// # Errors
    ///
    /// Those of `work`.
    pub async fn use_with<T, E, F>(mut pooled: Self, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut M::Object) -> Result<T, E>,
    {
        let marked = pooled
            .entry_mut()
            .object
            .spoilt
            .replace(Reason::CancelledUse);
        let result = work(&mut pooled).await;
        pooled.entry_mut().object.spoilt = marked;
        result
    }
}

impl<M: Manage> Deref for Pooled<'_, M> {
    type Target = M::Object;

    #[inline]
    fn deref(&self) -> &M::Object {
        &self.entry().object.object
    }
}

impl<M: Manage> DerefMut for Pooled<'_, M> {
    #[inline]
    fn deref_mut(&mut self) -> &mut M::Object {
        &mut self.entry_mut().object.object
    }
}

impl<M: Manage> Drop for Pooled<'_, M> {
    #[inline]
    fn drop(&mut self) {
        match (self.entry.take(), self.home) {
            (Some(entry), Some(shared)) => give_back(shared, entry),
            (Some(entry), None) => give_back_owned(entry),
            (None, _) => {}
        }
    }
}

#[inline(never)]
fn give_back_owned<M: Manage>(mut entry: Slot<M>) {
    if let Some(shared) = entry.object.owner.take() {
        give_back(&shared, entry);
    }
}

/// A call of its own, so that the drop can become part of the caller's code.
#[inline(never)]
fn give_back<M: Manage>(shared: &Arc<Shared<M>>, mut entry: Slot<M>) {
    let spoilt = entry.object.spoilt;
    let spoilt = spoilt.or_else(|| spoilt_by_its_use(shared, &mut entry));
    if let Some(reason) = spoilt {
        return discard(shared, entry, reason);
    }
    if shared.settings.after_return.is_some() {
        return reset(shared, entry);
    }
    let now = shared.now();
    let unplain = shared.lock().put_plain(entry, now);
    if let Some(entry) = unplain {
        put(shared, entry, now);
    }
}

#[cold]
#[inline(never)]
fn discard<M: Manage>(shared: &Arc<Shared<M>>, entry: Slot<M>, reason: Reason) {
    shared.change(|state, fx| state.discard(entry, reason, fx));
}

#[inline(never)]
fn reset<M: Manage>(shared: &Arc<Shared<M>>, entry: Slot<M>) {
    shared.lock().returning();
    let returning = Arriving::returning(shared, entry);
    shared.runtime.run(returning.reset());
}

#[cold]
#[inline(never)]
fn put<M: Manage>(shared: &Arc<Shared<M>>, entry: Slot<M>, now: Instant) {
    shared.change(|state, fx| state.put(entry, now, fx));
}

#[inline]
fn spoilt_by_its_use<M: Manage>(shared: &Shared<M>, entry: &mut Slot<M>) -> Option<Reason> {
    if std::thread::panicking() {
        return Some(Reason::CancelledUse);
    }
    let reusable = caught(|| shared.manager().reusable(&mut entry.object.object));
    let reusable = reusable.unwrap_or_else(|panic| {
        message(panic);
        false
    });
    (!reusable).then_some(Reason::Broken)
}

impl<M: Manage<Object: fmt::Debug>> fmt::Debug for Pooled<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pooled").field(&**self).finish()
    }
}
