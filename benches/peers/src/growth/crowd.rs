//! So many who wait, polled by hand: futures that stand in a line.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::sweep::Numbers;

/// Those who wait, in the order in which they came.
pub(crate) struct Crowd<F, M> {
    waiting: VecDeque<Pin<Box<F>>>,
    make: M,
    numbers: Numbers,
}

impl<F, M> Crowd<F, M>
where
    F: Future,
    M: FnMut() -> F,
{
    /// A crowd of `size`, whose members `make` makes.
    pub(crate) fn new(size: u64, make: M) -> Self {
        let mut crowd = Self {
            waiting: VecDeque::new(),
            make,
            numbers: Numbers::new(),
        };
        (0..size).for_each(|_| crowd.join());
        crowd
    }

    /// One more, at the end.
    pub(crate) fn join(&mut self) {
        let one = self.newcomer();
        self.waiting.push_back(one);
    }

    /// One comes, and goes before its turn.
    pub(crate) fn come_and_go(&mut self) {
        drop(self.newcomer());
    }

    /// Any of them goes, and one comes for it.
    pub(crate) fn swap_any(&mut self) {
        let any = self.numbers.below(self.waiting.len() as u64) as usize;
        let leaver = self.waiting.swap_remove_back(any);
        drop(leaver);
        self.join();
    }

    /// The first, whose turn it is, takes what it came for.
    pub(crate) fn serve(&mut self) -> F::Output {
        let first = self.waiting.pop_front();
        let mut first = first.expect("somebody waits");
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(served) = first.as_mut().poll(&mut cx) {
                return served;
            }
        }
    }

    fn newcomer(&mut self) -> Pin<Box<F>> {
        let mut one = Box::pin((self.make)());
        let polled = one.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending(), "there is a line");
        one
    }
}
