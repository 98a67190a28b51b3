//! The decisions of one process about a rate that many share: who is asked for, in what order,
//! and what an answer means for whom.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::away::{Failure, Look, Next, Presence};
use super::super::driver::Step;
use super::super::line::{Entered, Tally};
use super::super::quota::Quota;
use crate::error::Refusal;
use crate::time::Instant;

/// How many calls one question is for. The server does nothing else meanwhile: 64 take it some
/// 20 µs.
const BATCH: usize = 64;

/// How much later than it could a process may come for its permits, and keep its turn: what a
/// timer and a busy machine may be late.
const GRACE: Duration = Duration::from_millis(250);

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Granted,
    /// Its permits would be there after this.
    Refused(Duration),
    /// Redis did not answer.
    Away,
}

#[derive(Debug)]
struct Waiter<W> {
    id: u64,
    permits: u32,
    until: Instant,
    whom: W,
}

#[derive(Debug)]
pub(super) struct State<W> {
    me: String,
    quota: Quota,
    max_queue: usize,
    /// By number, and thereby in order of arrival.
    line: VecDeque<Waiter<W>>,
    next: u64,
    /// Whom the question is for that is under way.
    asked: Vec<(u64, u32)>,
    /// When the permits of the first in line would be there, if it has asked.
    due: Option<(u64, Instant)>,
    /// Whether Redis holds a claim of this process.
    claimed: bool,
    pub(super) presence: Presence,
    pub(super) tally: Tally,
}

impl<W> State<W> {
    pub(super) fn new(me: String, quota: Quota, max_queue: usize, presence: Presence) -> Self {
        Self {
            me,
            quota,
            max_queue,
            line: VecDeque::new(),
            next: 0,
            asked: Vec::new(),
            due: None,
            claimed: false,
            presence,
            tally: Tally::default(),
        }
    }

    pub(super) const fn quota(&self) -> &Quota {
        &self.quota
    }

    /// How many wait, and for how many permits.
    pub(super) fn queued(&self) -> (usize, u64) {
        let permits = self.line.iter().map(|waiter| u64::from(waiter.permits));
        (self.line.len(), permits.sum())
    }

    /// Takes a place in line, unless it is known to be of no use.
    pub(super) fn enter(
        &mut self,
        permits: u32,
        until: Instant,
        now: Instant,
        whom: impl FnOnce() -> W,
    ) -> Entered {
        let burst = self.quota.burst();
        if permits > burst {
            return Entered::Refused(Refusal::too_large(permits, burst));
        }
        if permits == 0 && self.line.is_empty() {
            return Entered::Free;
        }
        let due = self.due_behind(permits);
        let full = self.line.len() >= self.max_queue;
        if full || due.is_some_and(|due| due > until) {
            self.tally.refused += 1;
            let wait = due.unwrap_or(now).since(now);
            return Entered::Refused(Refusal::rate_limited(wait));
        }
        let id = self.next;
        self.next += 1;
        self.line.push_back(Waiter {
            id,
            permits,
            until,
            whom: whom(),
        });
        Entered::Waits(id)
    }

    /// When the permits of a newcomer would be there, at the earliest.
    fn due_behind(&self, permits: u32) -> Option<Instant> {
        let (_, due) = self.due?;
        let behind = self
            .line
            .iter()
            .skip(1)
            .map(|waiter| u64::from(waiter.permits));
        let permits = behind.sum::<u64>() + u64::from(permits);
        Some(due.saturating_add(self.quota.time_for(permits)))
    }

    /// Leaves the line; whom it held, and whether the task is to look again.
    pub(super) fn leave(&mut self, id: u64) -> (Option<W>, bool) {
        let Some(place) = self.place(id) else {
            return (None, false);
        };
        let left = self.line.remove(place);
        let whom = left.map(|waiter| waiter.whom);
        (whom, self.forget_due(id))
    }

    fn place(&self, id: u64) -> Option<usize> {
        self.line.binary_search_by_key(&id, |waiter| waiter.id).ok()
    }

    /// Whoever comes after it has to ask anew.
    fn forget_due(&mut self, id: u64) -> bool {
        let was_due = self.due.is_some_and(|(first, _)| first == id);
        if was_due {
            self.due = None;
        }
        was_due
    }

    pub(super) fn step(&mut self, now: Instant) -> Step {
        if let (Some(first), Some((id, due))) = (self.line.front(), self.due) {
            if first.id == id && due > now {
                return Step::Sleep(due);
            }
        }
        if self.line.is_empty() && !self.claimed && !self.presence.wants_probe() {
            return Step::Done;
        }
        self.due = None;
        self.tally.questions += 1;
        Step::Ask(self.question(now))
    }

    /// Without anyone in line, it takes the claim back, or only looks whether Redis is there.
    fn question(&mut self, now: Instant) -> Vec<String> {
        let capacity = self.quota.cost(self.quota.burst());
        let mut args = vec![
            self.me.clone(),
            self.quota.unit().to_string(),
            capacity.micros.to_string(),
            capacity.part.to_string(),
            GRACE.as_micros().to_string(),
        ];
        self.asked.clear();
        for waiter in self.line.iter().take(BATCH) {
            let cost = self.quota.cost(waiter.permits);
            let patience = micros(waiter.until.since(now));
            let words = [cost.micros, cost.part, patience];
            args.extend(words.map(|word| word.to_string()));
            self.asked.push((waiter.id, waiter.permits));
        }
        args
    }

    pub(super) fn answered(
        &mut self,
        now: Instant,
        answer: Result<&[i64], Failure>,
        news: &mut Vec<(W, Answer)>,
    ) {
        let asked = std::mem::take(&mut self.asked);
        let reply = answer.and_then(|words| Reply::read(words, asked.len()));
        match reply {
            Ok(reply) => self.heard(now, &asked, &reply, news),
            Err(failure) => self.unheard(now, failure, news),
        }
    }

    fn heard(
        &mut self,
        now: Instant,
        asked: &[(u64, u32)],
        reply: &Reply<'_>,
        news: &mut Vec<(W, Answer)>,
    ) {
        self.presence.answered();
        self.claimed = reply.claimed;
        let mut spare = 0;
        for (nth, (&(id, permits), wait)) in asked.iter().zip(reply.waits()).enumerate() {
            let Some(place) = self.place(id) else {
                // It has left meanwhile. What was taken for it is for those behind it.
                spare += if wait.is_zero() {
                    u64::from(permits)
                } else {
                    0
                };
                continue;
            };
            if wait.is_zero() {
                self.tell(place, Answer::Granted, news);
            } else if reply.claimed && nth + 1 == reply.words.len() {
                self.due = Some((id, now.saturating_add(wait)));
            } else {
                self.tell(place, Answer::Refused(wait), news);
            }
        }
        self.hand_on(spare, news);
        self.refuse_the_hopeless(now, news);
    }

    /// Taken an instant ago and used now: nothing is saved for later, which would be a burst
    /// on top of the bucket's.
    fn hand_on(&mut self, mut spare: u64, news: &mut Vec<(W, Answer)>) {
        while let Some(first) = self.line.front() {
            let (id, permits) = (first.id, u64::from(first.permits));
            if spare == 0 || permits > spare {
                return;
            }
            spare -= permits;
            self.forget_due(id);
            self.tell(0, Answer::Granted, news);
        }
    }

    /// Whoever could not be served in time is told so at once.
    fn refuse_the_hopeless(&mut self, now: Instant, news: &mut Vec<(W, Answer)>) {
        let Some((_, first_due)) = self.due else {
            return;
        };
        let (mut place, mut permits) = (1, 0);
        while let Some(waiter) = self.line.get(place) {
            let behind = permits + u64::from(waiter.permits);
            let due = first_due.saturating_add(self.quota.time_for(behind));
            if due > waiter.until {
                self.tell(place, Answer::Refused(due.since(now)), news);
            } else {
                (place, permits) = (place + 1, behind);
            }
        }
    }

    fn unheard(&mut self, now: Instant, failure: Failure, news: &mut Vec<(W, Answer)>) {
        self.tally.failures += 1;
        match self.presence.failed(now, failure) {
            Next::AskAgain => {}
            Next::Away => self.clear(Answer::Away, news),
        }
    }

    /// Everyone in line gets this answer; a claim runs out by itself.
    fn clear(&mut self, answer: Answer, news: &mut Vec<(W, Answer)>) {
        (self.claimed, self.due) = (false, None);
        while !self.line.is_empty() {
            self.tell(0, answer, news);
        }
    }

    fn tell(&mut self, place: usize, answer: Answer, news: &mut Vec<(W, Answer)>) {
        let Some(waiter) = self.line.remove(place) else {
            return;
        };
        match answer {
            Answer::Granted => self.tally.granted += 1,
            Answer::Refused(_) => self.tally.refused += 1,
            Answer::Away => {}
        }
        news.push((waiter.whom, answer));
    }

    /// What it may have taken stays taken. Whoever waits is asked for again.
    pub(super) fn forget_question(&mut self) {
        self.asked.clear();
        self.due = None;
        self.presence.given_up();
    }

    /// The task is gone: whoever waits is let go of.
    pub(super) fn stopped(&mut self) -> Vec<W> {
        (self.claimed, self.due) = (false, None);
        self.line.drain(..).map(|waiter| waiter.whom).collect()
    }

    pub(super) fn look(&mut self, now: Instant) -> Look {
        self.presence.look(now)
    }
}

/// The most patience that the script is told: 35 years. More would not be whole numbers.
const PATIENT: u64 = 1 << 50;

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).map_or(PATIENT, |micros| micros.min(PATIENT))
}

/// What the script says.
struct Reply<'a> {
    claimed: bool,
    words: &'a [i64],
}

impl<'a> Reply<'a> {
    fn read(words: &'a [i64], asked: usize) -> Result<Self, Failure> {
        let [now, claimed @ (0 | 1), words @ ..] = words else {
            return Err(Failure::Failed);
        };
        let claimed = *claimed == 1;
        let fits = if claimed {
            (1..=asked).contains(&words.len())
        } else {
            words.len() == asked
        };
        if !fits || *now < 0 || words.iter().any(|word| *word < 0) {
            return Err(Failure::Failed);
        }
        Ok(Self { claimed, words })
    }

    fn waits(&self) -> impl Iterator<Item = Duration> + '_ {
        let micros = self.words.iter().map(|word| word.unsigned_abs());
        micros.map(Duration::from_micros)
    }
}
