//! What is sent to a group, and when: a pure state that is told the time.

use std::time::Duration;

use super::command::Limits;
use super::handle::State;
use super::output::End;
use crate::time::Instant;

/// What the group is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// SIGSTOP.
    Stop,
    /// SIGCONT.
    Continue,
    /// SIGTERM, then SIGCONT: a stopped process hears nothing before it goes on.
    Terminate,
    /// SIGKILL, which a stopped process does hear.
    Kill,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running {
        paused: bool,
    },
    /// SIGTERM was sent.
    Asked {
        kill_at: Instant,
    },
    /// SIGKILL was sent.
    Killed,
    /// The leader has ended by itself or within its grace; somebody else holds the pipes.
    Lingering {
        until: Instant,
    },
    /// The rest of the group is to be killed, and the leader to be reaped.
    Over,
}

/// The way of one group from its start to its end.
#[derive(Debug)]
pub(super) struct Plan {
    phase: Phase,
    limits: Limits,
    /// When the time limit is over.
    limit_at: Instant,
    pipes_open: bool,
    /// Why it is being ended, if not by itself.
    cause: Option<End>,
    forced: bool,
}

impl Plan {
    pub(super) fn new(now: Instant, limits: Limits) -> Self {
        let limit_at = limits.time.map(|span| now.saturating_add(span));
        Self {
            phase: Phase::Running { paused: false },
            limits,
            limit_at: limit_at.unwrap_or(Instant::NEVER),
            pipes_open: true,
            cause: None,
            forced: false,
        }
    }

    /// Whether the leader is not known to have ended.
    pub(super) fn leader_runs(&self) -> bool {
        !matches!(self.phase, Phase::Lingering { .. } | Phase::Over)
    }

    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Why it was ended, if the leader did not end by itself before.
    pub(super) fn cause(&self) -> Option<End> {
        self.cause
    }

    /// Whether SIGKILL was sent before the leader's end.
    pub(super) fn forced(&self) -> bool {
        self.forced
    }

    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::Running { paused: false } => State::Running,
            Phase::Running { paused: true } => State::Paused,
            _ => State::Ending,
        }
    }

    /// When to [`tick`](Self::tick) next.
    pub(super) fn due(&self) -> Instant {
        match self.phase {
            Phase::Running { .. } => self.limit_at,
            Phase::Asked { kill_at } => kill_at,
            Phase::Lingering { until } => until,
            Phase::Killed | Phase::Over => Instant::NEVER,
        }
    }

    /// Pauses or resumes. None when it is too late for that: a group that is to end must run.
    pub(super) fn pause(&mut self, pause: bool) -> Option<Order> {
        let Phase::Running { paused } = &mut self.phase else {
            return None;
        };
        *paused = pause;
        Some(if pause { Order::Stop } else { Order::Continue })
    }

    /// As [`cancel_by`](Self::cancel_by), with the grace of the group's own.
    pub(super) fn cancel(&mut self, now: Instant) -> Option<Order> {
        self.cancel_by(now, now.saturating_add(self.limits.grace))
    }

    /// Asks it to end before `kill_at`. One who asks later can only bring that forward.
    pub(super) fn cancel_by(&mut self, now: Instant, kill_at: Instant) -> Option<Order> {
        match &mut self.phase {
            Phase::Running { .. } => {
                // A long grace is not longer than that of the time limit.
                let latest = self.limit_at.saturating_add(self.limits.grace);
                self.ask(now, kill_at.min(latest), End::Cancelled)
            }
            Phase::Asked { kill_at: earlier } => {
                *earlier = kill_at.min(*earlier);
                self.tick(now)
            }
            Phase::Lingering { until } => {
                *until = kill_at.min(*until);
                self.tick(now)
            }
            Phase::Killed | Phase::Over => None,
        }
    }

    /// Kills it now.
    pub(super) fn kill(&mut self, now: Instant) -> Option<Order> {
        self.cancel_by(now, now)
    }

    fn ask(&mut self, now: Instant, kill_at: Instant, cause: End) -> Option<Order> {
        self.cause = Some(cause);
        self.phase = Phase::Asked { kill_at };
        self.tick(now).or(Some(Order::Terminate))
    }

    /// The leader has ended: a zombie, not yet reaped.
    pub(super) fn leader_ended(&mut self, now: Instant) {
        let until = now.saturating_add(self.limits.pipe_grace);
        self.phase = match self.phase {
            _ if !self.pipes_open => Phase::Over,
            Phase::Running { .. } => Phase::Lingering { until },
            // One grace for the whole group: a shell ends at once, and its children save their work.
            Phase::Asked { kill_at } => Phase::Lingering { until: kill_at },
            // Whoever is in the group is killed: all they will ever write is in the pipes.
            Phase::Killed => Phase::Over,
            over => over,
        };
    }

    /// Nobody holds the pipes any more, or nobody will read them.
    pub(super) fn pipes_closed(&mut self) {
        self.pipes_open = false;
        if let Phase::Lingering { .. } = self.phase {
            self.phase = Phase::Over;
        }
    }

    /// The leader is somebody else's, who has reaped it: nothing may be sent any more.
    pub(super) fn lost(&mut self) {
        self.phase = Phase::Over;
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Order> {
        if now < self.due() {
            return None;
        }
        match self.phase {
            Phase::Running { .. } => {
                let after = self.limits.time.unwrap_or(Duration::MAX);
                let kill_at = now.saturating_add(self.limits.grace);
                self.ask(now, kill_at, End::TimedOut { after })
            }
            Phase::Asked { .. } => {
                self.phase = Phase::Killed;
                self.forced = true;
                Some(Order::Kill)
            }
            Phase::Lingering { .. } => {
                self.phase = Phase::Over;
                None
            }
            Phase::Killed | Phase::Over => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn plan(time: Option<u64>) -> Plan {
        let limits = Limits {
            time: time.map(Duration::from_millis),
            grace: Duration::from_millis(100),
            pipe_grace: Duration::from_millis(10),
            ..Limits::default()
        };
        Plan::new(at(0), limits)
    }

    #[test]
    fn without_a_limit_nothing_is_ever_due() {
        let mut plan = plan(None);
        assert_eq!(plan.due(), Instant::NEVER);
        assert_eq!(plan.tick(at(1 << 40)), None);
        assert_eq!(plan.state(), State::Running);
    }

    #[test]
    fn a_time_limit_asks_then_kills() {
        let mut plan = plan(Some(50));
        assert_eq!(plan.tick(at(49)), None);
        assert_eq!(plan.tick(at(50)), Some(Order::Terminate));
        assert_eq!(plan.due(), at(150));
        assert_eq!(plan.tick(at(149)), None);
        assert_eq!(plan.tick(at(150)), Some(Order::Kill));
        assert_eq!(plan.tick(at(500)), None, "it is killed once");
        assert!(
            plan.forced() && !plan.is_over(),
            "it is not reaped before it ends"
        );
        plan.leader_ended(at(151));
        assert!(plan.is_over());
        let after = Duration::from_millis(50);
        assert_eq!(plan.cause(), Some(End::TimedOut { after }));
    }

    /// Trap 91.
    #[test]
    fn a_paused_group_is_cancelled_as_any_other() {
        let mut plan = plan(None);
        assert_eq!(plan.pause(true), Some(Order::Stop));
        assert_eq!(plan.state(), State::Paused);
        assert_eq!(plan.cancel(at(1)), Some(Order::Terminate));
        assert_eq!(plan.pause(true), None, "a group that is to end must run");
        assert_eq!(plan.tick(at(101)), Some(Order::Kill));
    }

    #[test]
    fn who_asks_later_can_only_bring_the_end_forward() {
        let mut plan = plan(None);
        assert_eq!(plan.cancel(at(0)), Some(Order::Terminate));
        assert_eq!(plan.cancel(at(50)), None);
        assert_eq!(plan.due(), at(100));
        assert_eq!(plan.cancel_by(at(50), at(70)), None);
        assert_eq!(plan.due(), at(70));
        assert_eq!(plan.kill(at(60)), Some(Order::Kill));
    }

    #[test]
    fn no_grace_kills_at_once() {
        let mut plan = plan(None);
        assert_eq!(plan.cancel_by(at(5), at(5)), Some(Order::Kill));
        assert!(plan.forced());
        assert_eq!(plan.cause(), Some(End::Cancelled));
    }

    #[test]
    fn a_leader_that_ends_with_free_pipes_is_over() {
        let mut plan = plan(Some(50));
        plan.pipes_closed();
        assert!(!plan.is_over());
        plan.leader_ended(at(10));
        assert!(plan.is_over());
        assert_eq!((plan.cause(), plan.forced()), (None, false));
    }

    /// Trap 88.
    #[test]
    fn who_holds_the_pipes_has_the_pipe_grace() {
        let mut plan = plan(Some(50));
        plan.leader_ended(at(45));
        assert_eq!((plan.state(), plan.due()), (State::Ending, at(55)));
        assert_eq!(plan.tick(at(54)), None);
        assert!(!plan.is_over());
        assert_eq!(
            plan.tick(at(55)),
            None,
            "its time limit is not over: it has ended"
        );
        assert!(plan.is_over() && plan.cause().is_none());
    }

    #[test]
    fn the_group_has_one_grace() {
        for ended in [5, 95] {
            let mut plan = plan(None);
            plan.cancel(at(0));
            plan.leader_ended(at(ended));
            assert_eq!(plan.due(), at(100), "neither 15 nor 105");
            assert!(!plan.forced());
        }
    }

    #[test]
    fn a_long_grace_is_not_longer_than_the_time_limits() {
        let mut plan = plan(Some(50));
        assert_eq!(
            plan.cancel_by(at(10), Instant::NEVER),
            Some(Order::Terminate)
        );
        assert_eq!(plan.due(), at(150));
        plan.leader_ended(at(20));
        assert_eq!(plan.due(), at(150));
    }

    #[test]
    fn a_cancel_after_the_end_changes_only_the_wait() {
        let mut plan = plan(None);
        plan.leader_ended(at(0));
        assert_eq!(plan.kill(at(5)), None);
        assert!(plan.is_over() && plan.cause().is_none());
        assert_eq!(plan.cancel(at(6)), None);
        assert_eq!(plan.pause(true), None);
    }

    #[test]
    fn pipes_that_close_end_the_wait_for_them() {
        let mut plan = plan(None);
        plan.leader_ended(at(0));
        plan.pipes_closed();
        assert!(plan.is_over());
    }

    #[test]
    fn to_what_somebody_else_has_reaped_nothing_is_sent() {
        let mut plan = plan(Some(50));
        plan.lost();
        assert!(plan.is_over() && !plan.leader_runs());
        assert_eq!((plan.kill(at(60)), plan.tick(at(60))), (None, None));
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Pause,
        Resume,
        Cancel,
        CancelIn(u64),
        Kill,
        LeaderEnds,
        PipesClose,
        Tick,
    }

    fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
        let event = prop_oneof![
            Just(Event::Pause),
            Just(Event::Resume),
            Just(Event::Cancel),
            (0_u64..150).prop_map(Event::CancelIn),
            Just(Event::Kill),
            Just(Event::LeaderEnds),
            Just(Event::PipesClose),
            Just(Event::Tick),
        ];
        prop::collection::vec((0_u64..40, event), 0..30)
    }

    /// What is known of a group without any state but its history.
    #[derive(Default)]
    struct History {
        orders: Vec<Order>,
        earliest_kill: Option<u64>,
        ended: bool,
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: crate::models::cases("process"), ..ProptestConfig::default() })]

        #[test]
        fn whatever_happens_the_order_of_things_holds(events in events(), limit in 1_u64..200) {
            let mut plan = plan(Some(limit));
            let (mut now, mut past) = (0, History::default());
            for (step, event) in events {
                now += step;
                // The shell does what is due before anything else happens.
                let due = plan.tick(at(now));
                let asked_by_limit = due == Some(Order::Terminate);
                past.orders.extend(due);
                if asked_by_limit {
                    past.earliest_kill = Some(now + 100);
                }
                let may_be_asked = plan.leader_runs();
                let order = match event {
                    Event::Pause => plan.pause(true),
                    Event::Resume => plan.pause(false),
                    Event::Cancel => plan.cancel(at(now)),
                    Event::CancelIn(ms) => plan.cancel_by(at(now), at(now + ms)),
                    Event::Kill => plan.kill(at(now)),
                    Event::Tick => plan.tick(at(now)),
                    // The system tells of the end once.
                    Event::LeaderEnds if past.ended => None,
                    Event::LeaderEnds => {
                        past.ended = true;
                        plan.leader_ended(at(now));
                        None
                    }
                    Event::PipesClose => {
                        plan.pipes_closed();
                        None
                    }
                };
                let kill_at = match event {
                    Event::Cancel => Some(now + 100),
                    // Who asks first can give it no more time than its limit would.
                    Event::CancelIn(ms) if past.earliest_kill.is_none() => {
                        Some((now + ms).min(limit + 100))
                    }
                    Event::CancelIn(ms) => Some(now + ms),
                    Event::Kill => Some(now),
                    _ => None,
                };
                if let Some(kill_at) = kill_at.filter(|_| may_be_asked) {
                    past.earliest_kill = Some(past.earliest_kill.map_or(kill_at, |t| t.min(kill_at)));
                }
                past.orders.extend(order);

                let count = |wanted| past.orders.iter().filter(|order| **order == wanted).count();
                prop_assert!(count(Order::Kill) <= 1 && count(Order::Terminate) <= 1);
                let asked = past.orders.iter().position(|o| matches!(o, Order::Terminate | Order::Kill));
                let after = past.orders[asked.map_or(past.orders.len(), |at| at + 1)..].iter();
                prop_assert!(after.clone().all(|order| *order == Order::Kill), "{:?}", past.orders);
                prop_assert_eq!(plan.forced(), count(Order::Kill) == 1);
                prop_assert_eq!(plan.cause().is_some(), asked.is_some());
                if past.orders.last() == Some(&Order::Kill) {
                    prop_assert!(past.earliest_kill.is_some_and(|kill_at| kill_at <= now));
                } else if !past.ended {
                    prop_assert!(past.earliest_kill.is_none_or(|kill_at| now < kill_at));
                }
                prop_assert!(!plan.is_over() || past.ended, "nobody is reaped alive");
                prop_assert_eq!(plan.leader_runs(), !past.ended);
            }
            // However it went, it is over soon after its leader has ended.
            plan.leader_ended(at(now));
            plan.tick(at(now.max(limit) + 100));
            prop_assert!(plan.is_over());
        }
    }
}
