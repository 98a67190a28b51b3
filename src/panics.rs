//! Panics as outcomes: caught at one place, kept as text or passed on.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// What a panic carries.
pub(crate) type Payload = Box<dyn Any + Send>;

/// Polls a future that may panic. It must not be polled again after it did: drop it, by
/// [`caught`], since the drop may panic as well.
pub(crate) fn poll_caught<Fut: Future>(
    future: Pin<&mut Fut>,
    cx: &mut Context<'_>,
) -> Poll<Result<Fut::Output, Payload>> {
    match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(payload) => Poll::Ready(Err(payload)),
    }
}

/// Calls a function that may panic: a user's callback, the drop of a user's value.
///
/// Whatever it touches must not be relied on afterwards if it did.
pub(crate) fn caught<T>(call: impl FnOnce() -> T) -> Result<T, Payload> {
    catch_unwind(AssertUnwindSafe(call))
}

/// Calls what nobody is there to see the panic of: a destructor of what nobody wants any
/// more, a waker behind whom others wait. The panic's hook has told of it.
pub(crate) fn swallow(call: impl FnOnce()) {
    if let Err(payload) = caught(call) {
        message(payload);
    }
}

/// Drops a user's value, whose drop may panic where nobody can do anything about it.
pub(crate) fn discard<V>(value: V) {
    swallow(move || drop(value));
}

/// The text of a panic, empty when it has none.
///
/// The payload is consumed here, and its drop, which is foreign code, is caught.
pub(crate) fn message(payload: Payload) -> Box<str> {
    let text = match (
        payload.downcast_ref::<&str>(),
        payload.downcast_ref::<String>(),
    ) {
        (Some(text), _) => Box::from(*text),
        (_, Some(text)) => Box::from(text.as_str()),
        (None, None) => Box::default(),
    };
    // A second panic here has nobody left to tell; a third, in its own payload, is forgotten.
    if let Err(second) = caught(move || drop(payload)) {
        std::mem::forget(second);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any(Self);
        }
    }

    fn text_of(panic: impl FnOnce()) -> Box<str> {
        message(caught(panic).unwrap_err())
    }

    #[test]
    fn a_panic_leaves_its_text() {
        assert_eq!(&*text_of(|| panic!("plain")), "plain");
        let seven = 7;
        assert_eq!(&*text_of(|| panic!("number {seven}")), "number 7");
        assert_eq!(&*text_of(|| std::panic::panic_any(7)), "");
    }

    #[test]
    fn a_payload_that_panics_when_it_is_dropped_does_no_harm() {
        assert_eq!(&*text_of(|| std::panic::panic_any(Bomb)), "");
        swallow(|| std::panic::panic_any(Bomb));
    }
}
