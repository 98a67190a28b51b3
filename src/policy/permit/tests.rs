//! The order in which a gate is asked, and that everything is given back once.
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use tokio_test::{assert_pending, assert_ready, task};

use super::*;
use crate::error::Error;
use crate::policy::{Judge, Pipeline};

/// What a gate was asked, in order.
type Asked = Rc<RefCell<Vec<&'static str>>>;

/// Answers as it is told, and notes what it is asked.
#[derive(Clone, Default)]
struct Noting {
    asked: Asked,
    lets_wait: bool,
    answer: Rc<RefCell<Option<Result<(), Refusal>>>>,
    panics: bool,
}

#[derive(Debug)]
struct Ticket;

impl Noting {
    fn note(&self, what: &'static str) {
        self.asked.borrow_mut().push(what);
    }

    fn asked(&self) -> Vec<&'static str> {
        self.asked.take()
    }

    fn waiting() -> Self {
        Self {
            lets_wait: true,
            ..Self::default()
        }
    }

    fn answer(&self, answer: Result<(), Refusal>) {
        *self.answer.borrow_mut() = Some(answer);
    }
}

impl Gate for Noting {
    type Wait = ();
    type Ticket = Ticket;

    fn admit(&self, _: &CallContext<'_>) -> Admission<Ticket> {
        self.note("admit");
        if self.lets_wait {
            Admission::Wait
        } else {
            Admission::Admitted(Ticket)
        }
    }

    fn poll_admit(
        &self,
        (): &mut (),
        _: &CallContext<'_>,
        _: &mut Context<'_>,
    ) -> Poll<Result<Ticket, Refusal>> {
        self.note("poll_admit");
        assert!(!self.panics, "gate");
        match *self.answer.borrow() {
            Some(answer) => Poll::Ready(answer.map(|()| Ticket)),
            None => Poll::Pending,
        }
    }

    fn leave(&self, (): &mut ()) {
        self.note("leave");
    }

    fn settle(&self, _: Ticket, end: End) {
        self.note(match end {
            End::Cancelled => "cancelled",
            _ => "settled",
        });
    }
}

impl<T, E> Judge<T, E> for Noting {}

#[test]
fn a_gate_that_admits_at_once_is_asked_for_nothing_else() {
    let gate = Noting::default();
    let permit = assert_ready!(task::spawn(Acquire::new(&gate)).poll()).unwrap();
    assert_eq!(gate.asked(), ["admit"]);
    drop(permit);
    assert_eq!(gate.asked(), ["cancelled"]);
}

#[test]
fn a_gate_that_lets_wait_is_asked_first_once() {
    let gate = Noting::waiting();
    let mut wait = task::spawn(Acquire::new(&gate));
    assert_pending!(wait.poll());
    assert_pending!(wait.poll());
    assert_eq!(gate.asked(), ["admit", "poll_admit", "poll_admit"]);
    gate.answer(Ok(()));
    let permit = assert_ready!(wait.poll()).unwrap();
    drop(wait);
    permit.settle(End::Success);
    assert_eq!(gate.asked(), ["poll_admit", "settled"]);
}

#[test]
fn a_wait_that_is_dropped_leaves_the_queue() {
    let gate = Noting::waiting();
    let mut wait = task::spawn(Acquire::new(&gate));
    assert_pending!(wait.poll());
    drop(wait);
    assert_eq!(gate.asked(), ["admit", "poll_admit", "leave"]);
}

#[test]
fn a_wait_that_was_refused_holds_nothing() {
    let gate = Noting::waiting();
    gate.answer(Err(Refusal::ShutDown));
    let mut wait = task::spawn(Acquire::new(&gate));
    assert_eq!(assert_ready!(wait.poll()).unwrap_err(), Refusal::ShutDown);
    drop(wait);
    assert_eq!(gate.asked(), ["admit", "poll_admit"]);
}

#[test]
#[should_panic(expected = "polled after it was ready")]
fn a_wait_that_has_answered_must_not_be_polled() {
    let mut wait = task::spawn(Acquire::new(Noting::default()));
    drop(assert_ready!(wait.poll()));
    let _ = wait.poll();
}

/// Trap 76.
#[test]
fn a_gate_that_panics_is_left() {
    let gate = Noting {
        panics: true,
        ..Noting::waiting()
    };
    let mut wait = task::spawn(Acquire::new(&gate));
    assert!(catch_unwind(AssertUnwindSafe(|| wait.poll().is_ready())).is_err());
    drop(wait);
    assert_eq!(gate.asked(), ["admit", "poll_admit", "leave"]);
}

fn wait_and_settle<G: Gate>(gate: G, answer: &Noting) {
    let mut wait = task::spawn(Acquire::new(gate));
    assert_pending!(wait.poll());
    answer.answer(Ok(()));
    assert_ready!(wait.poll()).unwrap().settle(End::Success);
    answer.answer.take();
}

async fn seven() -> Result<u32, ()> {
    Ok(7)
}

fn call_through<P>(policy: P, gate: &Noting)
where
    P: Gate + Judge<u32, ()>,
{
    gate.answer(Ok(()));
    let pipeline = Pipeline::builder("noting").policy(policy).build().unwrap();
    assert_eq!(
        assert_ready!(task::spawn(pipeline.call(seven)).poll()),
        Ok(7)
    );
    gate.answer.take();
}

/// Every function is forwarded, so that none falls back to its default.
#[test]
fn a_handle_to_a_gate_is_that_gate() {
    let gate = Noting::waiting();
    let all = ["admit", "poll_admit", "poll_admit", "settled"];
    #[expect(clippy::arc_with_non_send_sync, reason = "a test of one thread")]
    let shared = Arc::new(gate.clone());
    wait_and_settle(&gate, &gate);
    assert_eq!(gate.asked(), all);
    wait_and_settle(Arc::clone(&shared), &gate);
    assert_eq!(gate.asked(), all);
    call_through(&gate, &gate);
    assert_eq!(gate.asked(), ["admit", "poll_admit", "settled"]);
    call_through(Arc::clone(&shared), &gate);
    assert_eq!(gate.asked(), ["admit", "poll_admit", "settled"]);
    let mut left = task::spawn(Acquire::new(shared));
    assert_pending!(left.poll());
    drop(left);
    assert_eq!(gate.asked(), ["admit", "poll_admit", "leave"]);
}

/// Its judgement is the gate's own as well.
#[test]
fn a_handle_to_a_judge_is_that_judge() {
    struct Strict;
    impl Gate for Strict {
        type Wait = ();
        type Ticket = ();
        fn admit(&self, _: &CallContext<'_>) -> Admission<()> {
            Admission::Admitted(())
        }
        fn settle(&self, (): (), _: End) {}
    }
    impl Judge<u32, ()> for Strict {
        fn judge(&self, _: Result<&u32, &Error<()>>) -> End {
            End::Failure
        }
    }
    fn ends_in(judge: impl Judge<u32, ()>) -> End {
        judge.judge(Ok(&7))
    }
    assert_eq!(ends_in(&Strict), End::Failure);
    assert_eq!(ends_in(Arc::new(Strict)), End::Failure);
}
