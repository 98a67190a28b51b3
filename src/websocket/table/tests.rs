//! The table against a list of everything that ever happened.

use proptest::prelude::*;

use super::*;

type Calls = Table<&'static str, u64>;

fn sent(table: &mut Calls, slot: u64) -> u64 {
    let id = table.begin("body", Wants::Reply, slot);
    while table.take().is_some() {}
    id
}

#[test]
fn each_gets_its_own_in_any_order() {
    let mut table = Calls::new();
    let ids: Vec<u64> = (0..5).map(|slot| sent(&mut table, slot)).collect();
    for n in [3, 0, 4, 1, 2] {
        assert_eq!(table.reply(Some(ids[n])), Some(n as u64));
    }
    assert_eq!((table.len(), table.strays()), (0, Strays::default()));
}

#[test]
fn late_second_and_foreign_replies_are_counted_apart() {
    let mut table = Calls::new();
    let answered = sent(&mut table, 1);
    let dropped = sent(&mut table, 2);
    assert_eq!(table.reply(Some(answered)), Some(1));
    table.give_up(dropped);
    for id in [
        Some(answered),
        Some(dropped),
        Some(dropped),
        Some(99),
        None,
        Some(0),
    ] {
        assert_eq!(table.reply(id), None);
    }
    let strays = table.strays();
    assert_eq!((strays.duplicate, strays.late, strays.unknown), (2, 1, 3));
}

#[test]
fn a_reply_to_what_was_not_sent_yet_answers_nobody() {
    let mut table = Calls::new();
    let id = table.begin("body", Wants::Reply, 1);
    assert_eq!(table.reply(Some(id)), None);
    assert_eq!((table.strays().unknown, table.len()), (1, 1));
    assert!(table.take().is_some());
    assert_eq!(table.reply(Some(id)), Some(1));
}

#[test]
fn what_was_dropped_in_the_queue_is_not_sent() {
    let mut table = Calls::new();
    let first = table.begin("first", Wants::Reply, 1);
    table.begin("second", Wants::Reply, 2);
    table.give_up(first);
    assert_eq!(table.take().map(|out| out.body), Some("second"));
    assert_eq!(table.take(), None);
}

#[test]
fn a_lost_connection_takes_what_was_sent_and_nothing_else() {
    let mut table = Calls::new();
    sent(&mut table, 1);
    table.begin("queued", Wants::Reply, 2);
    assert_eq!(table.lose(), [1]);
    assert_eq!((table.len(), table.queued()), (1, 1));
    assert_eq!(table.take().map(|out| out.id), Some(Some(2)));
    assert_eq!(table.clear(), [(2, true)]);
}

#[test]
fn a_notification_is_done_when_it_is_sent() {
    let mut table = Calls::new();
    let id = table.begin("tick", Wants::Dispatch, 7);
    let out = table.take();
    let expected = Outgoing {
        body: "tick",
        id: None,
        done: Some(7),
    };
    assert_eq!(out, Some(expected));
    assert_eq!((table.len(), table.reply(Some(id))), (0, None));
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut table = Calls::new();
    for slot in 0..3 * REMEMBERED as u64 {
        let id = sent(&mut table, slot);
        table.give_up(id);
    }
    assert_eq!((table.len(), table.given_up.len()), (0, REMEMBERED));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Begin(bool),
    Take,
    Reply(u64),
    GiveUp(u64),
    Lose,
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<bool>().prop_map(Step::Begin),
        4 => Just(Step::Take),
        4 => (0..24_u64).prop_map(Step::Reply),
        2 => (0..24_u64).prop_map(Step::GiveUp),
        1 => Just(Step::Lose),
        1 => Just(Step::Clear),
    ]
}

/// What became of a call, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Queued,
    Sent,
    Answered,
    Dispatched,
    GivenUp,
    Lost,
    Unsent,
}

#[derive(Default)]
struct Model {
    calls: Vec<(Wants, Fate)>,
    strays: Strays,
}

impl Model {
    fn take(&mut self) -> Option<u64> {
        let at = self.calls.iter().position(|call| call.1 == Fate::Queued)?;
        self.calls[at].1 = match self.calls[at].0 {
            Wants::Reply => Fate::Sent,
            Wants::Dispatch => Fate::Dispatched,
        };
        Some(at as u64 + 1)
    }

    fn reply(&mut self, id: u64) -> Option<u64> {
        let at = usize::try_from(id.wrapping_sub(1)).ok();
        let fate = at
            .and_then(|at| self.calls.get_mut(at))
            .map(|call| &mut call.1);
        match fate {
            None | Some(Fate::Queued) => self.strays.unknown += 1,
            Some(fate @ Fate::Sent) => {
                *fate = Fate::Answered;
                return Some(id);
            }
            Some(fate @ (Fate::GivenUp | Fate::Lost)) => {
                *fate = Fate::Answered;
                self.strays.late += 1;
            }
            Some(_) => self.strays.duplicate += 1,
        }
        None
    }

    fn give_up(&mut self, id: u64) -> Option<u64> {
        let at = usize::try_from(id.wrapping_sub(1)).ok()?;
        let fate = &mut self.calls.get_mut(at)?.1;
        *fate = match fate {
            Fate::Queued => Fate::Unsent,
            Fate::Sent => Fate::GivenUp,
            _ => return None,
        };
        Some(id)
    }

    fn end(&mut self, which: &[Fate], fate: Fate) -> Vec<u64> {
        let mut ended = Vec::new();
        for (at, call) in self.calls.iter_mut().enumerate() {
            if which.contains(&call.1) {
                call.1 = fate;
                ended.push(at as u64 + 1);
            }
        }
        ended
    }

    fn count(&self, which: &[Fate]) -> usize {
        self.calls
            .iter()
            .filter(|call| which.contains(&call.1))
            .count()
    }
}

proptest! {
    #[test]
    fn it_does_what_the_list_says(steps in proptest::collection::vec(step(), 0..200)) {
        let mut table = Calls::new();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Begin(replies) => {
                    let wants = if replies { Wants::Reply } else { Wants::Dispatch };
                    model.calls.push((wants, Fate::Queued));
                    let slot = model.calls.len() as u64;
                    prop_assert_eq!(table.begin("body", wants, slot), slot);
                }
                Step::Take => {
                    let taken = table.take().map(|out| out.id.or(out.done).unwrap());
                    prop_assert_eq!(taken, model.take());
                }
                Step::Reply(id) => prop_assert_eq!(table.reply(Some(id)), model.reply(id)),
                Step::GiveUp(id) => prop_assert_eq!(table.give_up(id), model.give_up(id)),
                Step::Lose => {
                    prop_assert_eq!(table.lose(), model.end(&[Fate::Sent], Fate::Lost));
                }
                Step::Clear => {
                    let cleared = table.clear();
                    let sent = cleared.iter().filter(|(_, sent)| *sent).map(|(slot, _)| *slot);
                    let sent: Vec<u64> = sent.collect();
                    prop_assert_eq!(&sent, &model.end(&[Fate::Sent], Fate::GivenUp));
                    let unsent = model.end(&[Fate::Queued], Fate::Unsent);
                    prop_assert_eq!(cleared.len(), sent.len() + unsent.len());
                }
            }
            prop_assert_eq!(table.len(), model.count(&[Fate::Queued, Fate::Sent]));
            prop_assert_eq!(table.queued(), model.count(&[Fate::Queued]));
            prop_assert_eq!(table.strays(), model.strays);
        }
    }
}
