//! What few calls have, boxed and out of the way of all others.

/// A box that is rarely there.
///
/// What a call does not have must not cost it anything when it ends. Its drop is one branch
/// here, so that the drop of a whole call is small enough to be inlined; there the compiler
/// sees that nothing came in, and nothing is left of it (1 ns a call: as a mere box in an
/// option, it was a call of a function that looked at each of them).
pub(crate) struct Rare<T>(Option<Box<T>>);

impl<T> Rare<T> {
    pub(crate) const NONE: Self = Self(None);

    #[inline]
    pub(crate) fn new(value: T) -> Self {
        Self(Some(Box::new(value)))
    }

    #[inline]
    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    #[inline]
    pub(crate) fn take(&mut self) -> Option<Box<T>> {
        self.0.take()
    }
}

impl<T> Drop for Rare<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(value) = self.0.take() {
            discard(value);
        }
    }
}

#[cold]
#[inline(never)]
fn discard<T>(value: Box<T>) {
    drop(value);
}
