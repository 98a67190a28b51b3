//! Two policies as one, and none at all.

use super::Policy;
use crate::operation::Operation;

/// `inner` around the operation, `outer` around both.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stack<A, B> {
    pub(crate) outer: A,
    pub(crate) inner: B,
}

impl<'a, A, B, O> Policy<'a, O> for Stack<A, B>
where
    O: Operation,
    B: Policy<'a, O>,
    A: Policy<'a, B::Operation>,
{
    type Operation = A::Operation;

    #[inline]
    fn wrap(&'a self, inner: O) -> Self::Operation {
        self.outer.wrap(self.inner.wrap(inner))
    }
}

/// The policy that does nothing: the empty stack.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity;

impl<O: Operation> Policy<'_, O> for Identity {
    type Operation = O;

    #[inline]
    fn wrap(&self, inner: O) -> O {
        inner
    }
}
