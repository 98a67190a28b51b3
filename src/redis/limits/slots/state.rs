//! The decisions of one process about slots that many share: who is asked for, in what order,
//! and what an answer means for whom.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::away::{Failure, Look, Next, Presence};
use super::super::driver::Step;
use super::super::line::{Entered, Tally};
use super::leases::{Lease, Leases, Life};
use super::question::{Asking, Question, Reply};
use crate::error::Refusal;
use crate::time::Instant;

/// How many calls one question is for.
const BATCH: usize = 64;

/// How many calls more than the queue holds may wait for the answer whether there is room.
const UNANSWERED: usize = 1024;

/// How long a claim lives, in polls: a process that is that late has lost its turn.
const PATIENCE: u32 = 8;

/// What became of a call. `L` tells the holder of a lease about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer<L> {
    Granted {
        serial: u64,
        fence: u64,
        life: L,
    },
    Full,
    /// Redis did not answer.
    Away,
}

/// Settings that were checked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) me: String,
    pub(super) slots: u32,
    pub(super) max_queue: usize,
    pub(super) lease: Duration,
    pub(super) poll_every: Duration,
}

#[derive(Debug)]
struct Waiter<W, L> {
    id: u64,
    weight: u32,
    waits: bool,
    whom: W,
    life: L,
}

#[derive(Debug)]
pub(super) struct State<W, L> {
    settings: Settings,
    /// By number, and thereby in order of arrival.
    line: VecDeque<Waiter<W, L>>,
    next: u64,
    asked: Option<Question>,
    /// When the first in line asks again; at once, if there is nothing here.
    poll_at: Option<Instant>,
    /// Whether Redis holds a claim of this process.
    claimed: bool,
    /// As Redis said last.
    used: u64,
    pub(super) leases: Leases<L>,
    pub(super) presence: Presence,
    pub(super) tally: Tally,
}

/// Whom to tell what.
#[derive(Debug)]
pub(super) struct News<W, L> {
    pub(super) answers: Vec<(W, Answer<L>)>,
    pub(super) lives: Vec<(L, Life)>,
    /// Let go of without an answer.
    pub(super) left: Vec<W>,
}

impl<W, L> Default for News<W, L> {
    fn default() -> Self {
        Self {
            answers: Vec::new(),
            lives: Vec::new(),
            left: Vec::new(),
        }
    }
}

impl<W, L: Clone> State<W, L> {
    pub(super) fn new(settings: Settings, presence: Presence) -> Self {
        Self {
            leases: Leases::new(settings.lease),
            settings,
            line: VecDeque::new(),
            next: 0,
            asked: None,
            poll_at: None,
            claimed: false,
            used: 0,
            presence,
            tally: Tally::default(),
        }
    }

    pub(super) const fn slots(&self) -> u32 {
        self.settings.slots
    }

    pub(super) const fn used(&self) -> u64 {
        self.used
    }

    pub(super) fn queued(&self) -> usize {
        self.line.len()
    }

    /// Leases that have ended, or will as soon as they are given, for callers who have gone. What
    /// a question under way gives back is not given back before its answer.
    pub(super) fn returning(&self) -> usize {
        let under_way = self.asked.as_ref().map_or(0, |asked| {
            let for_nobody = |each: &&Asking| self.place(each.id).is_none();
            asked.returns.len() + asked.asking.iter().filter(for_nobody).count()
        });
        self.leases.returns() + under_way
    }

    pub(super) fn look(&mut self, now: Instant) -> Look {
        self.presence.look(now)
    }

    /// Takes a place in line. One that does not wait is answered all the same; it finds no
    /// slot before those who do.
    pub(super) fn enter(
        &mut self,
        weight: u32,
        waits: bool,
        whom: impl FnOnce() -> (W, L),
    ) -> Entered {
        let slots = self.settings.slots;
        if weight > slots {
            return Entered::Refused(Refusal::too_large(weight, slots));
        }
        if weight == 0 && self.line.is_empty() {
            return Entered::Free;
        }
        let queue = self.settings.max_queue;
        // Once the first one has asked in vain, all others queue behind it.
        let in_vain = self.poll_at.is_some() && (!waits || self.line.len() >= queue);
        if in_vain || self.line.len() >= queue.saturating_add(UNANSWERED) {
            return self.full();
        }
        let id = self.next;
        self.next += 1;
        let (whom, life) = whom();
        self.line.push_back(Waiter {
            id,
            weight,
            waits,
            whom,
            life,
        });
        Entered::Waits(id)
    }

    fn full(&mut self) -> Entered {
        self.tally.refused += 1;
        Entered::Refused(Refusal::bulkhead_full(Duration::ZERO))
    }

    /// Leaves the line; whom it held, and whether the task is to look again.
    pub(super) fn leave(&mut self, id: u64) -> (Option<(W, L)>, bool) {
        let Some(place) = self.place(id) else {
            return (None, false);
        };
        let left = self.line.remove(place);
        if place == 0 {
            self.poll_at = None;
        }
        (left.map(|waiter| (waiter.whom, waiter.life)), place == 0)
    }

    fn place(&self, id: u64) -> Option<usize> {
        self.line.binary_search_by_key(&id, |waiter| waiter.id).ok()
    }

    pub(super) fn step(&mut self, now: Instant, news: &mut News<W, L>) -> Step {
        self.leases.lapse(now, &mut news.lives);
        let polls = !self.line.is_empty() && self.poll_at.is_none_or(|at| at <= now);
        let withdraws = self.line.is_empty() && self.claimed;
        if polls || withdraws || self.presence.wants_probe() || self.leases.wants(now) {
            return Step::Ask(self.question(now));
        }
        let poll = self.poll_at.filter(|_| !self.line.is_empty());
        match poll.unwrap_or(Instant::NEVER).min(self.leases.next()) {
            Instant::NEVER => Step::Done,
            until => Step::Sleep(until),
        }
    }

    fn question(&mut self, now: Instant) -> Vec<String> {
        self.tally.questions += 1;
        let returns = self.leases.take_returns();
        let due = self.leases.due(now);
        let asking: Vec<Asking> = self.asking();
        let mut args = vec![
            self.settings.me.clone(),
            self.leases.length().as_micros().to_string(),
            self.settings.slots.to_string(),
            (self.settings.poll_every * PATIENCE)
                .as_micros()
                .to_string(),
            returns.len().to_string(),
            due.len().to_string(),
            asking.len().to_string(),
        ];
        args.extend(returns.iter().map(|each| each.name.clone()));
        for (_, lease) in &due {
            args.extend([lease.name.clone(), lease.fence.to_string()]);
        }
        for (each, waiter) in asking.iter().zip(&self.line) {
            args.extend([each.name.clone(), u8::from(waiter.waits).to_string()]);
        }
        self.asked = Some(Question {
            sent: now,
            returns,
            renewals: due.into_iter().map(|(serial, _)| serial).collect(),
            asking,
        });
        args
    }

    /// Each question asks under new names, so that one whose answer was lost can be taken back.
    fn asking(&mut self) -> Vec<Asking> {
        let (me, next) = (&self.settings.me, &mut self.next);
        let asking = self.line.iter().take(BATCH).map(|waiter| {
            let serial = *next;
            *next += 1;
            Asking {
                id: waiter.id,
                serial,
                name: format!("{me}-{serial}:{}", waiter.weight),
                weight: waiter.weight,
            }
        });
        asking.collect()
    }

    pub(super) fn answered(
        &mut self,
        now: Instant,
        answer: Result<&[i64], Failure>,
        news: &mut News<W, L>,
    ) {
        let Some(asked) = self.asked.take() else {
            return;
        };
        if !asked.renewals.is_empty() {
            self.leases.have_been_renewed(now);
        }
        // What has run out while it was being renewed was lost, and stays so.
        self.leases.lapse(now, &mut news.lives);
        match answer.and_then(|words| Reply::read(words, &asked)) {
            Ok(reply) => self.heard(now, asked, &reply, news),
            Err(failure) => self.unheard(now, asked, failure, news),
        }
    }

    fn heard(&mut self, now: Instant, asked: Question, reply: &Reply<'_>, news: &mut News<W, L>) {
        self.presence.answered();
        self.leases.answered();
        (self.used, self.claimed) = (reply.used, reply.claimed);
        for (serial, kept) in asked.renewals.iter().zip(reply.renewals) {
            match kept {
                1 => self.leases.renewed(*serial, asked.sent, &mut news.lives),
                _ => self.leases.lose(*serial, &mut news.lives),
            }
        }
        self.poll_at = None;
        let answered = reply.tokens.len();
        for (nth, (each, token)) in asked.asking.into_iter().zip(reply.tokens).enumerate() {
            let waits = reply.claimed && nth + 1 == answered;
            match token.unsigned_abs() {
                0 if waits => self.poll_again(now, each.id),
                0 => self.tell_full(each.id, news),
                fence => self.grant(each, fence, asked.sent, now, news),
            }
        }
        self.refuse_who_does_not_wait(news);
    }

    /// If the first has left meanwhile, the next one asks at once.
    fn poll_again(&mut self, now: Instant, id: u64) {
        if self.line.front().is_some_and(|first| first.id == id) {
            self.poll_at = Some(now.saturating_add(self.settings.poll_every));
        }
    }

    fn tell_full(&mut self, id: u64, news: &mut News<W, L>) {
        if let Some(waiter) = self.place(id).and_then(|place| self.line.remove(place)) {
            self.tally.refused += 1;
            news.answers.push((waiter.whom, Answer::Full));
        }
    }

    /// A lease for one that has left meanwhile is given back. So is one that has run out on
    /// its way, when this process was stopped for so long; who waits for it asks again.
    fn grant(
        &mut self,
        each: Asking,
        fence: u64,
        sent: Instant,
        now: Instant,
        news: &mut News<W, L>,
    ) {
        let Asking {
            id,
            serial,
            name,
            weight,
        } = each;
        let until = self.leases.ends(sent);
        let place = self.place(id).filter(|_| until > now);
        let Some(waiter) = place.and_then(|place| self.line.remove(place)) else {
            return self
                .leases
                .must_return(name, now.saturating_add(self.leases.length()));
        };
        self.tally.granted += 1;
        let lease = Lease {
            name,
            weight,
            fence,
        };
        let life = waiter.life.clone();
        let until = self.leases.hold(serial, lease, sent, waiter.life);
        news.lives.push((life.clone(), until));
        let granted = Answer::Granted {
            serial,
            fence,
            life,
        };
        news.answers.push((waiter.whom, granted));
    }

    /// Those behind one that waits would come after it.
    fn refuse_who_does_not_wait(&mut self, news: &mut News<W, L>) {
        if self.poll_at.is_none() {
            return;
        }
        let stay = self.line.iter().filter(|waiter| !waiter.waits);
        let ids: Vec<u64> = stay.map(|waiter| waiter.id).collect();
        for id in ids {
            self.tell_full(id, news);
        }
        while self.line.len() > self.settings.max_queue {
            let last = self.line.back().map_or(0, |waiter| waiter.id);
            self.tell_full(last, news);
        }
    }

    fn unheard(&mut self, now: Instant, asked: Question, failure: Failure, news: &mut News<W, L>) {
        self.tally.failures += 1;
        self.unanswered(asked, now);
        if self.presence.failed(now, failure) == Next::AskAgain {
            return;
        }
        self.leases.failed(now);
        (self.claimed, self.poll_at) = (false, None);
        let gone = self
            .line
            .drain(..)
            .map(|waiter| (waiter.whom, Answer::Away));
        news.answers.extend(gone);
    }

    /// What was asked for may have been given: it is taken back.
    fn unanswered(&mut self, asked: Question, now: Instant) {
        self.leases.put_back(asked.returns);
        let until = now.saturating_add(self.leases.length());
        for each in asked.asking {
            self.leases.must_return(each.name, until);
        }
    }

    /// What it may have got is given back. Whoever waits is asked for again.
    pub(super) fn forget_question(&mut self, now: Instant) {
        if let Some(asked) = self.asked.take() {
            self.leases.have_been_renewed(now);
            self.unanswered(asked, now);
        }
        self.poll_at = None;
        self.presence.given_up();
    }

    /// The task is gone: whoever waits is let go of.
    pub(super) fn stopped(&mut self, news: &mut News<W, L>) {
        (self.claimed, self.poll_at) = (false, None);
        news.left
            .extend(self.line.drain(..).map(|waiter| waiter.whom));
    }
}
