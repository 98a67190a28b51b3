//! The registry against a slow, obvious one, in random histories.

use proptest::prelude::*;

use crate::scope::effects::{Effects, Ending, Turn};
use crate::scope::report::{TaskFailure, TaskState};
use crate::scope::state::{Key, Registry};
use crate::shutdown::Counts;
use crate::time::Instant;

fn enter(registry: &mut Registry<usize, usize>, name: &'static str) -> Key {
    let entered = registry.enter(name.into(), Instant::from_nanos(1));
    entered.expect("it is open").0
}

fn end(registry: &mut Registry<usize, usize>, key: Key, how: Ending) -> Vec<usize> {
    registry
        .end(key, how, || Instant::from_nanos(ABORT_AT))
        .wake
}

#[test]
fn who_stops_waiting_gets_the_waker_back_and_is_not_told() {
    let mut registry = Registry::new(1, false);
    let key = enter(&mut registry, "one");
    let (mut stays, mut goes) = (None, None);
    assert!(!registry.poll_idle(&mut stays, &mut Some(1)));
    assert!(!registry.poll_idle(&mut goes, &mut Some(2)));
    let place = goes.expect("it has a place");
    assert_eq!(registry.stop_waiting(place), Some(2));
    assert_eq!(end(&mut registry, key, Ending::Completed), [1]);
}

#[test]
fn an_end_lets_in_one_and_no_more() {
    let mut registry = Registry::new(1, false);
    let [first, second, third] = ["a", "b", "c"].map(|name| enter(&mut registry, name));
    let turn = |registry: &mut Registry<usize, usize>, key| registry.turn(key, &mut Some(7));
    assert_eq!(turn(&mut registry, third), Turn::Wait);
    assert!(end(&mut registry, first, Ending::Completed).is_empty());
    assert_eq!(turn(&mut registry, second), Turn::Begin);
    assert_eq!(turn(&mut registry, third), Turn::Wait);
}

#[test]
fn the_first_error_since_errors_are_noted_is_kept_apart() {
    let mut registry = Registry::new(3, false);
    let fail = |registry: &mut _, name| {
        let key = enter(registry, name);
        end(registry, key, Ending::Failed("no".into()));
    };
    fail(&mut registry, "before");
    assert_eq!(registry.noted_error(), None);
    registry.note_errors();
    assert_eq!(registry.noted_error(), None);
    fail(&mut registry, "first");
    fail(&mut registry, "second");
    let name = |failure: Option<TaskFailure>| failure.expect("there is one").name;
    assert_eq!(name(registry.noted_error()), "first");
    assert_eq!(name(registry.first_error()), "before");
}

#[derive(Clone, Debug)]
enum Op {
    Enter,
    Turn(u16),
    Attach(u16),
    End(u16, u16),
    Abort(u16),
    Close,
    Cancel(u64),
    AbortAll(u64),
    Outside,
    Idle,
}

/// Drawn as numbers: a choice of strategies makes a tree for each that is not chosen, which
/// takes longer than the test itself.
fn op() -> impl Strategy<Value = Op> {
    (0..34u8, any::<u16>(), 60..80u64).prop_map(|(kind, at, span)| match kind {
        0..8 => Op::Enter,
        8..14 => Op::Turn(at),
        14..18 => Op::Attach(at),
        18..26 => Op::End(at / 4, at % 4),
        26..28 => Op::Abort(at),
        28 => Op::Close,
        29 => Op::Cancel(span),
        30 => Op::AbortAll(span),
        31 => Op::Outside,
        _ => Op::Idle,
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Queued,
    Given,
    Never,
    Outside,
}

#[derive(Clone, Debug)]
struct Task {
    key: Key,
    number: usize,
    place: Place,
    /// It has told how to be woken.
    waker: bool,
    attached: bool,
    demanded: bool,
}

/// Everyone in a row, in the order in which they came.
#[derive(Default)]
struct Model {
    limit: usize,
    tasks: Vec<Task>,
    closed: bool,
    cancelled: bool,
    /// The shortest of all.
    abort_at: Option<u64>,
    ended: Counts,
    first_error: Option<usize>,
}

impl Model {
    fn given(&self) -> usize {
        self.tasks
            .iter()
            .filter(|task| task.place == Place::Given)
            .count()
    }

    /// Moves the queue up; those who are to be woken.
    fn settle(&mut self) -> Vec<usize> {
        let mut woken = Vec::new();
        while self.given() < self.limit {
            let mut queue = self
                .tasks
                .iter_mut()
                .filter(|task| task.place == Place::Queued);
            let Some(next) = queue.next() else { break };
            next.place = Place::Given;
            woken.extend(std::mem::take(&mut next.waker).then_some(next.number));
        }
        woken
    }

    /// Whether it shortened the time of a cancel before.
    fn shorten(&mut self, abort_at: u64) -> bool {
        let before = self.abort_at;
        self.abort_at = Some(before.unwrap_or(abort_at).min(abort_at));
        before.is_some_and(|before| abort_at < before)
    }

    fn cancel(&mut self) -> Vec<usize> {
        if std::mem::replace(&mut self.cancelled, true) {
            return Vec::new();
        }
        let mut woken = Vec::new();
        for task in self
            .tasks
            .iter_mut()
            .filter(|task| task.place == Place::Queued)
        {
            task.place = Place::Never;
            woken.extend(std::mem::take(&mut task.waker).then_some(task.number));
        }
        woken
    }

    fn abort_all(&mut self) -> Vec<usize> {
        let mut aborted = Vec::new();
        for task in &mut self.tasks {
            aborted.extend((task.attached && !task.demanded).then_some(task.number));
            task.demanded = true;
        }
        aborted
    }
}

const ABORT_AT: u64 = 70;
const WAITER: usize = usize::MAX;

fn sorted(mut list: Vec<usize>) -> Vec<usize> {
    list.sort_unstable();
    list
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::models::cases("scope"), ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_the_slow_registry(
        limit in prop_oneof![1..4usize, Just(usize::MAX)],
        cancel_on_error: bool,
        ops in prop::collection::vec(op(), 0..50),
    ) {
        let mut registry = Registry::<usize, usize>::new(limit, cancel_on_error);
        let mut model = Model { limit, ..Model::default() };
        let mut entered = 0;
        let mut cancelled = 0;
        let mut waits = None;
        let mut told = true;
        for op in ops {
            let pick = |at: u16| usize::from(at).checked_rem(model.tasks.len());
            match op {
                Op::Enter => {
                    let key = registry.enter(entered.to_string().into(), Instant::from_nanos(1));
                    prop_assert_eq!(key.is_some(), !model.closed && !model.cancelled);
                    if let Some((key, has_place)) = key {
                        prop_assert_eq!(has_place, model.given() < limit);
                        let place = if model.given() < limit { Place::Given } else { Place::Queued };
                        let (waker, attached, demanded) = (false, false, false);
                        model.tasks.push(Task { key, number: entered, place, waker, attached, demanded });
                    }
                    entered += 1;
                }
                Op::Turn(at) => {
                    let Some(at) = pick(at) else { continue };
                    let task = &mut model.tasks[at];
                    let mut waker = Some(task.number);
                    let turn = registry.turn(task.key, &mut waker);
                    prop_assert_eq!(turn, match task.place {
                        Place::Queued => Turn::Wait,
                        Place::Given | Place::Outside => Turn::Begin,
                        Place::Never => Turn::Never,
                    });
                    if task.place == Place::Queued {
                        prop_assert_eq!(waker.is_some(), task.waker, "exchanged for the old one");
                        task.waker = true;
                    }
                }
                Op::Attach(at) => {
                    let Some(at) = pick(at) else { continue };
                    let task = &mut model.tasks[at];
                    if !task.attached {
                        let back = registry.attach(task.key, task.number);
                        prop_assert_eq!(back, task.demanded.then_some((task.number, true)));
                        task.attached = true;
                    }
                }
                Op::End(at, how) => {
                    let Some(at) = pick(at) else { continue };
                    let task = model.tasks.remove(at);
                    let begun = matches!(task.place, Place::Given | Place::Outside);
                    let mut error = false;
                    let how = match how {
                        0 => { model.ended.completed += 1; Ending::Completed }
                        1 => { model.ended.failed += 1; error = true; Ending::Failed("no".into()) }
                        2 => { model.ended.panicked += 1; error = true; Ending::Panicked("oh".into()) }
                        _ if begun && task.demanded => { model.ended.aborted += 1; Ending::Dropped { begun } }
                        _ => { model.ended.cancelled += 1; Ending::Dropped { begun } }
                    };
                    if error && model.first_error.is_none() {
                        model.first_error = Some(task.number);
                    }
                    let effects = registry.end(task.key, how, || Instant::from_nanos(ABORT_AT));
                    let fatal = error && cancel_on_error;
                    prop_assert_eq!(effects.cancelled, fatal && !model.cancelled);
                    cancelled += u32::from(effects.cancelled);
                    prop_assert_eq!(effects.unused.is_some(), task.attached && !task.demanded);
                    prop_assert!(!effects.sooner, "an error shortens nobody's time");
                    if fatal && !model.cancelled {
                        model.abort_at = Some(ABORT_AT);
                    }
                    let mut woken = if fatal { model.cancel() } else { Vec::new() };
                    woken.extend(task.waker.then_some(task.number));
                    woken.extend(model.settle());
                    if model.tasks.is_empty() && !told {
                        told = true;
                        woken.push(WAITER);
                    }
                    prop_assert_eq!(sorted(effects.wake), sorted(woken));
                    // A late means to abort comes back unused.
                    prop_assert_eq!(registry.attach(task.key, 7), Some((7, false)));
                }
                Op::Abort(at) => {
                    let Some(at) = pick(at) else { continue };
                    let task = &mut model.tasks[at];
                    let by = registry.abort(task.key);
                    prop_assert_eq!(by, (task.attached && !task.demanded).then_some(task.number));
                    task.demanded = true;
                }
                Op::Close => {
                    registry.close();
                    model.closed = true;
                }
                Op::Outside => {
                    let key = registry.enter_outside(entered.to_string().into(), Instant::from_nanos(1), entered);
                    let (place, waker, attached, demanded) = (Place::Outside, false, true, false);
                    model.tasks.push(Task { key, number: entered, place, waker, attached, demanded });
                    entered += 1;
                }
                Op::Cancel(abort_at) | Op::AbortAll(abort_at) => {
                    let all = matches!(op, Op::AbortAll(_));
                    let at = Instant::from_nanos(abort_at);
                    let first = !model.cancelled;
                    let woken = model.cancel();
                    let effects = if all {
                        registry.abort_all(at)
                    } else {
                        let mut effects = Effects::default();
                        registry.shorten(at, &mut effects);
                        effects
                    };
                    prop_assert_eq!(effects.cancelled, first);
                    prop_assert_eq!(effects.sooner, model.shorten(abort_at));
                    cancelled += u32::from(effects.cancelled);
                    prop_assert_eq!(sorted(effects.wake), sorted(woken));
                    let aborted = if all { model.abort_all() } else { Vec::new() };
                    prop_assert_eq!(sorted(effects.abort), sorted(aborted));
                }
                Op::Idle => {
                    let idle = registry.poll_idle(&mut waits, &mut Some(WAITER));
                    prop_assert_eq!(idle, model.tasks.is_empty());
                    told = idle;
                    if idle {
                        if let Some(place) = waits.take() {
                            registry.stop_waiting(place);
                        }
                    }
                }
            }
            prop_assert!(cancelled <= 1, "cancelled once");
            prop_assert!(model.given() <= limit);
            prop_assert_eq!(registry.abort_at(), model.abort_at.map(Instant::from_nanos));
            prop_assert_eq!(registry.abort_at().is_some(), model.cancelled);
            let mut counts = model.ended;
            counts.in_flight = model.tasks.len() as u64;
            prop_assert_eq!(registry.counts(), counts);
            let first = registry.first_error().map(|failure| failure.name.to_string());
            prop_assert_eq!(first, model.first_error.map(|number| number.to_string()));
            let tasks = registry.tasks(Instant::from_nanos(3));
            prop_assert_eq!(tasks.len(), model.tasks.len());
            for (task, expected) in tasks.iter().zip(&model.tasks) {
                prop_assert_eq!(&*task.name, expected.number.to_string());
                prop_assert_eq!(task.age.as_nanos(), 2);
                prop_assert_eq!(task.state, match expected.place {
                    _ if model.cancelled || expected.demanded => TaskState::Cancelling,
                    Place::Queued => TaskState::Queued,
                    _ => TaskState::Running,
                });
            }
        }
    }
}
