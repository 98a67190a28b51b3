//! What a creation does next, after which answer: never two sessions for one request. Pure.
//!
//! Invariant: between a failure that leaves open whether there is a session and the next try
//! there is a look that has found none.

use std::time::Duration;

use super::super::error::Effect;
use super::rules::{Again, Failure};

/// The limits of a creation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How often it tries, at least 1.
    pub(super) attempts: u32,
    /// How often it looks after one try, while looking fails; at least 1.
    pub(super) looks: u32,
}

/// The state of one creation.
#[derive(Clone, Debug)]
pub(super) struct Creation {
    limits: Limits,
    attempts: u32,
    /// Failed looks since the last try.
    looks: u32,
    /// Whether some try may have made a session that nobody has seen.
    doubt: bool,
    /// What comes after a look that finds nothing.
    then: Option<Pause>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Try.
    Create(Pause),
    /// Look for sessions that carry the creation's label.
    Look(Pause),
    /// Hand the failure to the caller.
    GiveUp,
}

/// How long to wait before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    None,
    /// The back-off's next delay.
    Backoff,
    /// What the other side has named.
    Exactly(Duration),
}

impl Creation {
    pub(super) const fn new(limits: Limits) -> Self {
        Self {
            limits,
            attempts: 0,
            looks: 0,
            doubt: false,
            then: None,
        }
    }

    /// A try has failed.
    pub(super) fn failed(&mut self, failure: Failure) -> Step {
        self.attempts += 1;
        self.looks = 0;
        match failure {
            // Nothing was sent, and whoever refuses is not hammered.
            Failure::Refused(_) => Step::GiveUp,
            Failure::Failed {
                effect: Effect::None,
                again,
            } => self.not_done(again),
            Failure::Failed { again, .. } => self.nobody_knows(again),
        }
    }

    fn not_done(&mut self, again: Again) -> Step {
        let pause = match again {
            Again::Later => Pause::Backoff,
            Again::After(span) => Pause::Exactly(span),
            Again::No => return Step::GiveUp,
        };
        if self.attempts >= self.limits.attempts {
            return Step::GiveUp;
        }
        if !self.doubt {
            return Step::Create(pause);
        }
        self.then = Some(Pause::None);
        Step::Look(pause)
    }

    fn nobody_knows(&mut self, again: Again) -> Step {
        self.doubt = true;
        let (look, then) = match again {
            Again::No => (Pause::None, None),
            Again::Later => (Pause::None, Some(Pause::Backoff)),
            Again::After(span) => (Pause::Exactly(span), Some(Pause::None)),
        };
        self.then = then.filter(|_| self.attempts < self.limits.attempts);
        Step::Look(look)
    }

    /// A look has found none.
    pub(super) fn found_none(&mut self) -> Step {
        self.then.take().map_or(Step::GiveUp, Step::Create)
    }

    /// A look has failed.
    pub(super) fn look_failed(&mut self, failure: Failure) -> Step {
        self.looks += 1;
        let pause = match failure {
            Failure::Refused(Some(span)) => Pause::Exactly(span),
            Failure::Refused(None) => Pause::Backoff,
            Failure::Failed { again, .. } => match again {
                Again::No => return Step::GiveUp,
                Again::Later => Pause::Backoff,
                Again::After(span) => Pause::Exactly(span),
            },
        };
        if self.looks < self.limits.looks {
            Step::Look(pause)
        } else {
            Step::GiveUp
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        attempts: 3,
        looks: 2,
    };
    const UNKNOWN: Failure = Failure::Failed {
        effect: Effect::Unknown,
        again: Again::Later,
    };
    const THROTTLED: Failure = Failure::Failed {
        effect: Effect::None,
        again: Again::After(Duration::from_secs(2)),
    };

    #[test]
    fn what_has_not_happened_is_tried_again_when_the_other_side_wants() {
        let mut creation = Creation::new(LIMITS);
        let two = Pause::Exactly(Duration::from_secs(2));
        assert_eq!(creation.failed(THROTTLED), Step::Create(two));
        assert_eq!(creation.failed(THROTTLED), Step::Create(two));
        assert_eq!(creation.failed(THROTTLED), Step::GiveUp);
    }

    #[test]
    fn a_lost_reply_is_looked_for_at_once_and_then_tried_again() {
        let mut creation = Creation::new(LIMITS);
        assert_eq!(creation.failed(UNKNOWN), Step::Look(Pause::None));
        assert_eq!(creation.found_none(), Step::Create(Pause::Backoff));
    }

    #[test]
    fn once_in_doubt_it_looks_before_every_try() {
        let mut creation = Creation::new(LIMITS);
        creation.failed(UNKNOWN);
        creation.found_none();
        let two = Pause::Exactly(Duration::from_secs(2));
        assert_eq!(creation.failed(THROTTLED), Step::Look(two));
        assert_eq!(creation.found_none(), Step::Create(Pause::None));
    }

    #[test]
    fn while_looking_fails_nothing_is_created() {
        let mut creation = Creation::new(LIMITS);
        creation.failed(UNKNOWN);
        assert_eq!(creation.look_failed(UNKNOWN), Step::Look(Pause::Backoff));
        assert_eq!(creation.look_failed(UNKNOWN), Step::GiveUp);
    }

    #[test]
    fn a_refusal_is_handed_over() {
        let refused = Failure::Refused(Some(Duration::from_secs(9)));
        assert_eq!(Creation::new(LIMITS).failed(refused), Step::GiveUp);
    }

    fn again() -> impl Strategy<Value = Again> {
        prop_oneof![
            Just(Again::No),
            Just(Again::Later),
            (0..9u64).prop_map(|n| Again::After(Duration::from_secs(n))),
        ]
    }

    /// What the other side does with a request: whether a session comes of it, and what is said.
    fn answer() -> impl Strategy<Value = (bool, Failure)> {
        prop_oneof![
            Just((false, Failure::Refused(None))),
            again().prop_map(|again| {
                let effect = Effect::None;
                (false, Failure::Failed { effect, again })
            }),
            (any::<bool>(), again()).prop_map(|(made, again)| {
                let effect = Effect::Unknown;
                (made, Failure::Failed { effect, again })
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: crate::models::cases("session"), ..ProptestConfig::default() })]

        /// Against the truth: a server that says whether there is a session.
        #[test]
        fn there_are_never_two(
            answers in prop::collection::vec(answer(), 40),
            looks in prop::collection::vec(prop::option::of(answer()), 40),
            limits in (1..5u32, 1..4u32),
        ) {
            let (attempts, most) = limits;
            let mut creation = Creation::new(Limits { attempts, looks: most });
            let (mut answers, mut looks) = (answers.into_iter(), looks.into_iter());
            let (mut sessions, mut tries, mut steps) = (0, 0, 0);
            let mut step = Step::Create(Pause::None);
            loop {
                steps += 1;
                prop_assert!(steps <= attempts * (most + 1) + 1, "it comes to an end");
                step = match step {
                    Step::Create(_) => {
                        tries += 1;
                        prop_assert!(tries <= attempts);
                        prop_assert_eq!(sessions, 0, "there is one already");
                        let (made, failure) = answers.next().unwrap();
                        sessions += u32::from(made);
                        creation.failed(failure)
                    }
                    Step::Look(_) => match looks.next().unwrap() {
                        Some((_, failure)) => creation.look_failed(failure),
                        None if sessions > 0 => break,
                        None => creation.found_none(),
                    },
                    Step::GiveUp => break,
                };
            }
            prop_assert!(sessions <= 1);
        }
    }
}
