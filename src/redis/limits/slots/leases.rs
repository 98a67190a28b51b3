//! The leases of one process: how long each is good for, when it is to be renewed, and which
//! are to be given back.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::Instant;

/// How many leases one question renews, and how many it gives back.
const BATCH: usize = 256;

/// What the holder of a lease is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It is the holder's until then, unless it is told more.
    Until(Instant),
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    /// As the server knows it.
    pub(super) name: String,
    pub(super) weight: u32,
    pub(super) fence: u64,
}

#[derive(Debug)]
struct Held<L> {
    lease: Lease,
    ends: Instant,
    renew_at: Instant,
    whom: L,
}

/// A lease that is to be given back, unless it has run out before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Return {
    pub(super) name: String,
    until: Instant,
}

#[derive(Debug)]
pub(super) struct Leases<L> {
    length: Duration,
    held: BTreeMap<u64, Held<L>>,
    returns: Vec<Return>,
    /// After a failure nothing is asked before then.
    quiet_until: Option<Instant>,
    pub(super) lost: u64,
}

impl<L: Clone> Leases<L> {
    pub(super) const fn new(length: Duration) -> Self {
        Self {
            length,
            held: BTreeMap::new(),
            returns: Vec::new(),
            quiet_until: None,
            lost: 0,
        }
    }

    pub(super) const fn length(&self) -> Duration {
        self.length
    }

    /// The weight of all that is held.
    pub(super) fn weight(&self) -> u64 {
        let weights = self.held.values().map(|held| u64::from(held.lease.weight));
        weights.sum()
    }

    pub(super) fn returns(&self) -> usize {
        self.returns.len()
    }

    /// When a lease ends for its holder that was asked for at `sent`: the server's begins later.
    /// A hundredth is left for a clock that runs slower here, and for a timer that is late.
    pub(super) fn ends(&self, sent: Instant) -> Instant {
        sent.saturating_add(self.length.saturating_sub(self.length / 100))
    }

    pub(super) fn hold(&mut self, serial: u64, lease: Lease, sent: Instant, whom: L) -> Life {
        let held = Held {
            lease,
            ends: self.ends(sent),
            renew_at: sent.saturating_add(self.length / 3),
            whom,
        };
        let life = Life::Until(held.ends);
        self.held.insert(serial, held);
        life
    }

    /// Gives a lease back; whether there is anything to give. The server's has begun by now,
    /// and so lasts no longer than one that begins now.
    pub(super) fn give_back(&mut self, serial: u64, now: Instant) -> bool {
        let Some(held) = self.held.remove(&serial) else {
            return false;
        };
        self.must_return(held.lease.name, now.saturating_add(self.length));
        true
    }

    /// Gives back what may be held under this name, until it will have run out.
    pub(super) fn must_return(&mut self, name: String, until: Instant) {
        self.returns.push(Return { name, until });
    }

    /// A question is over that renewed: what is to be given back may have been among it, and
    /// then lasts so much longer.
    pub(super) fn have_been_renewed(&mut self, now: Instant) {
        let until = now.saturating_add(self.length);
        for each in &mut self.returns {
            each.until = each.until.max(until);
        }
    }

    /// Lets go of what has run out.
    pub(super) fn lapse(&mut self, now: Instant, news: &mut Vec<(L, Life)>) {
        self.returns.retain(|each| each.until > now);
        let over = self.held.iter().filter(|(_, held)| held.ends <= now);
        let over: Vec<u64> = over.map(|(serial, _)| *serial).collect();
        for serial in over {
            self.lose(serial, news);
        }
    }

    pub(super) fn lose(&mut self, serial: u64, news: &mut Vec<(L, Life)>) {
        if let Some(held) = self.held.remove(&serial) {
            self.lost += 1;
            news.push((held.whom, Life::Lost));
        }
    }

    pub(super) fn renewed(&mut self, serial: u64, sent: Instant, news: &mut Vec<(L, Life)>) {
        let ends = self.ends(sent);
        if let Some(held) = self.held.get_mut(&serial) {
            held.ends = ends;
            held.renew_at = sent.saturating_add(self.length / 3);
            news.push((held.whom.clone(), Life::Until(held.ends)));
        }
    }

    /// Whether there is something to be told to the server now.
    pub(super) fn wants(&self, now: Instant) -> bool {
        let due = || self.held.values().any(|held| held.renew_at <= now);
        !self.is_quiet(now) && (!self.returns.is_empty() || due())
    }

    fn is_quiet(&self, now: Instant) -> bool {
        self.quiet_until.is_some_and(|until| until > now)
    }

    /// When there will be something to do; never, if there is nothing left.
    pub(super) fn next(&self) -> Instant {
        let quiet = self.quiet_until.unwrap_or(Instant::from_nanos(0));
        let returns = if self.returns.is_empty() {
            Instant::NEVER
        } else {
            quiet
        };
        let held = self.held.values();
        let renewals = held.map(|held| held.renew_at.max(quiet).min(held.ends));
        renewals.fold(returns, Instant::min)
    }

    /// What is given back with the next question.
    pub(super) fn take_returns(&mut self) -> Vec<Return> {
        let count = self.returns.len().min(BATCH);
        self.returns.drain(..count).collect()
    }

    /// The question has failed: they are to be given back still.
    pub(super) fn put_back(&mut self, returns: Vec<Return>) {
        self.returns.extend(returns);
    }

    /// What is renewed with the next question.
    pub(super) fn due(&self, now: Instant) -> Vec<(u64, Lease)> {
        let due = self.held.iter().filter(|(_, held)| held.renew_at <= now);
        let due = due.map(|(serial, held)| (*serial, held.lease.clone()));
        due.take(BATCH).collect()
    }

    pub(super) fn answered(&mut self) {
        self.quiet_until = None;
    }

    /// A twelfth of a lease leaves time for some eight more attempts before it runs out.
    pub(super) fn failed(&mut self, now: Instant) {
        self.quiet_until = Some(now.saturating_add(self.length / 12));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(12);

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    /// For its holder; the server's lasts for twelve seconds at least.
    fn ends(sent: u64) -> Instant {
        Instant::from_nanos(sent * 1_000_000_000 + 11_880_000_000)
    }

    fn lease(name: &str) -> Lease {
        Lease {
            name: name.to_owned(),
            weight: 1,
            fence: 7,
        }
    }

    fn one() -> Leases<&'static str> {
        let mut leases = Leases::new(LENGTH);
        let life = leases.hold(1, lease("a:1"), at(100), "a");
        assert_eq!(life, Life::Until(ends(100)));
        leases
    }

    #[test]
    fn a_lease_is_renewed_at_a_third_and_lasts_from_when_it_was_asked_for() {
        let mut leases = one();
        assert_eq!(leases.next(), at(104));
        assert!(!leases.wants(at(103)) && leases.wants(at(104)));
        assert_eq!(leases.due(at(104)), [(1, lease("a:1"))]);
        let mut news = Vec::new();
        leases.renewed(1, at(105), &mut news);
        assert_eq!(news, [("a", Life::Until(ends(105)))]);
        assert_eq!(leases.next(), at(109));
    }

    #[test]
    fn a_lease_that_cannot_be_renewed_in_time_is_lost() {
        let mut leases = one();
        for second in 104..111 {
            leases.failed(at(second));
            assert!(!leases.wants(at(second)));
            assert_eq!(leases.next(), at(second + 1));
        }
        let mut news = Vec::new();
        leases.lapse(at(111), &mut news);
        assert_eq!(news, []);
        leases.lapse(ends(100), &mut news);
        assert_eq!((news, leases.lost), (vec![("a", Life::Lost)], 1));
        assert_eq!(leases.next(), Instant::NEVER);
    }

    #[test]
    fn what_is_lost_is_not_given_back_and_not_renewed() {
        let mut leases = one();
        let mut news = Vec::new();
        leases.lose(1, &mut news);
        leases.lose(1, &mut news);
        leases.renewed(1, at(101), &mut news);
        assert!(!leases.give_back(1, at(101)));
        assert_eq!((news.len(), leases.returns()), (1, 0));
    }

    #[test]
    fn a_question_renews_and_gives_back_so_many_at_most() {
        let mut leases = Leases::new(LENGTH);
        for serial in 0..300 {
            leases.hold(serial, lease("a:1"), at(0), "a");
            leases.must_return("b:1".to_owned(), at(9));
        }
        assert_eq!(leases.weight(), 300);
        assert_eq!(leases.due(at(4)).len(), 256);
        assert_eq!((leases.take_returns().len(), leases.returns()), (256, 44));
    }

    #[test]
    fn what_is_given_back_while_others_are_renewed_lasts_as_long_as_they() {
        let mut leases = Leases::<&str>::new(LENGTH);
        leases.must_return("a:1".to_owned(), at(9));
        leases.must_return("b:1".to_owned(), at(20));
        leases.have_been_renewed(at(3));
        let mut news = Vec::new();
        for (now, left) in [(14, 2), (15, 1), (19, 1), (20, 0)] {
            leases.lapse(at(now), &mut news);
            assert_eq!(leases.returns(), left, "at {now}");
        }
    }

    #[test]
    fn after_an_answer_nothing_is_quiet() {
        let mut leases = one();
        leases.failed(at(104));
        assert!(!leases.wants(at(104)) && leases.wants(at(105)));
        leases.answered();
        assert!(leases.wants(at(104)));
    }

    #[test]
    fn what_is_given_back_is_told_until_it_would_have_run_out() {
        let mut leases = one();
        assert!(leases.give_back(1, at(100)));
        assert!(leases.wants(at(100)));
        let taken = leases.take_returns();
        assert_eq!(taken.len(), 1);
        leases.put_back(taken);
        leases.failed(at(101));
        assert_eq!(leases.next(), at(102));
        let mut news = Vec::new();
        leases.lapse(at(112), &mut news);
        assert_eq!((leases.returns(), leases.lost), (0, 0));
    }
}
