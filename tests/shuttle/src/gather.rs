//! The gather: at most so many at once, each item once, nothing left when it has ended.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::gather::gather;
use mainstay::{Error, Resilient as _};
use tokio::sync::{Semaphore, oneshot};

use crate::stage::{Crowd, Failed, MS, Stage, below, check, cut, once_in, turns};

const ITEMS: usize = 5;
const LIMIT: usize = 2;

/// What items have in common: who is there, how often each has begun, and what they wait for.
struct Yard {
    crowd: Arc<Crowd>,
    begun: Mutex<[u32; ITEMS]>,
    /// Each waits for a word of its own, and then for a permit that all share.
    words: Mutex<Vec<Option<oneshot::Receiver<()>>>>,
    permits: Semaphore,
}

impl Yard {
    fn new() -> (Arc<Self>, Vec<oneshot::Sender<()>>) {
        let (senders, words) = (0..ITEMS)
            .map(|_| oneshot::channel())
            .map(|(send, word)| (send, Some(word)))
            .unzip();
        let yard = Self {
            crowd: Arc::default(),
            begun: Mutex::default(),
            words: Mutex::new(words),
            permits: Semaphore::new(1),
        };
        (Arc::new(yard), senders)
    }

    async fn item(self: Arc<Self>, number: usize) -> Result<usize, Failed> {
        let _here = self.crowd.enter();
        self.begun.lock().unwrap()[number] += 1;
        let word = self.words.lock().unwrap()[number].take();
        word.expect("begun once").await.expect("told");
        let _permit = self.permits.acquire().await.expect("never closed");
        tokio::task::yield_now().await;
        if number == 3 { Err(Failed) } else { Ok(number) }
    }

    fn items(self: &Arc<Self>) -> Vec<impl Future<Output = Result<usize, Failed>> + use<>> {
        (0..ITEMS).map(|n| Arc::clone(self).item(n)).collect()
    }

    /// Whether or not it came to its end.
    fn kept_the_limit(&self) {
        assert!(self.crowd.most() <= LIMIT, "{} at once", self.crowd.most());
        assert!(self.begun.lock().unwrap().iter().all(|times| *times <= 1));
        assert_eq!(self.permits.available_permits(), 1, "a permit is lost");
    }

    fn all_done(&self, ended: &[Result<usize, Error<Failed>>]) {
        assert_eq!(ended.len(), ITEMS);
        for (number, outcome) in ended.iter().enumerate() {
            match outcome {
                Ok(value) => assert_eq!(*value, number),
                Err(error) => assert!(number == 3 && error.last() == Some(&Failed), "{error}"),
            }
        }
        assert_eq!(*self.begun.lock().unwrap(), [1; ITEMS]);
    }
}

/// Says the words in an order of its own, when it pleases.
async fn teller(mut words: Vec<oneshot::Sender<()>>) {
    while !words.is_empty() {
        turns().await;
        let _ = words.swap_remove(below(words.len())).send(());
    }
}

async fn collected(stage: Stage) {
    let (yard, words) = Yard::new();
    let tells = stage.actor(teller(words));
    let gathered = cut(gather(yard.items()).limit(LIMIT).into_future()).await;
    assert_eq!(yard.crowd.here(), 0, "an item outlives its gather");
    if let Some(gathered) = gathered {
        assert!(gathered.is_complete());
        yard.all_done(gathered.outcomes());
    }
    tells.await.expect("not aborted");
    yard.kept_the_limit();
}

/// In the task that awaits it, which is dropped at any point. Fails where the mark of who was woken
/// is not cleared when it is looked at.
#[test]
fn a_gather_drives_each_item_once() {
    check(collected);
}

async fn in_tasks(stage: Stage) {
    let (yard, words) = Yard::new();
    let tells = stage.actor(teller(words));
    let gathered = cut(gather(yard.items()).limit(LIMIT).spawned().into_future()).await;
    match gathered {
        Some(gathered) => {
            assert_eq!(yard.crowd.here(), 0, "a task outlives its gather");
            yard.all_done(gathered.outcomes());
        }
        // A drop cannot wait for tasks: they have gone when nothing refers to the yard.
        None => stage.until(|| Arc::strong_count(&yard) == 1).await,
    }
    tells.await.expect("not aborted");
    yard.kept_the_limit();
}

/// In tasks of their own; the gather is dropped at any point. Fails where the drop aborts no task.
#[test]
fn a_gather_of_tasks_leaves_none() {
    check(in_tasks);
}

async fn streamed(stage: Stage) {
    let (yard, words) = Yard::new();
    let tells = stage.actor(teller(words));
    let mut outcomes = gather(yard.items()).limit(LIMIT).as_finished();
    let mut seen: Vec<Option<Result<usize, Error<Failed>>>> = (0..ITEMS).map(|_| None).collect();
    let stops_after = below(2 * ITEMS);
    for _ in 0..stops_after {
        // A dropped `next` loses nothing.
        if let Some(next) = cut(outcomes.next()).await {
            let Some((number, outcome)) = next else { break };
            assert!(seen[number].replace(outcome).is_none(), "told twice");
        }
        turns().await;
    }
    if once_in(2) {
        while let Some((number, outcome)) = outcomes.next().await {
            assert!(seen[number].replace(outcome).is_none(), "told twice");
        }
        assert!(outcomes.is_complete());
        let all: Vec<_> = seen.into_iter().flatten().collect();
        yard.all_done(&all);
    }
    drop(outcomes);
    assert_eq!(yard.crowd.here(), 0, "an item outlives its stream");
    tells.await.expect("not aborted");
    yard.kept_the_limit();
}

/// As a stream, whose `next` is dropped and asked for again. Fails where the mark of who was woken
/// is not cleared when it is looked at.
#[test]
fn a_stream_of_outcomes_tells_each_once() {
    check(streamed);
}

async fn in_background(stage: Stage) {
    let (yard, words) = Yard::new();
    let tells = stage.actor(teller(words));
    let spawned = once_in(2);
    let source = gather(yard.items()).limit(LIMIT);
    let mut outcomes = if spawned {
        source.spawned().in_background(1)
    } else {
        source.in_background(1)
    };
    let mut seen: Vec<Option<Result<usize, Error<Failed>>>> = (0..ITEMS).map(|_| None).collect();
    let gives_up = once_in(3);
    loop {
        match cut(outcomes.next()).await {
            None if gives_up => break,
            None => {}
            Some(None) => {
                assert!(outcomes.is_complete());
                let all: Vec<_> = seen.into_iter().flatten().collect();
                yard.all_done(&all);
                break;
            }
            Some(Some((number, outcome))) => {
                assert!(seen[number].replace(outcome).is_none(), "told twice");
            }
        }
        turns().await;
    }
    drop(outcomes);
    stage.until(|| Arc::strong_count(&yard) == 1).await;
    tells.await.expect("not aborted");
    yard.kept_the_limit();
}

/// In a task in the background, with room for one outcome, and a consumer that comes and goes.
/// Fails where who takes an outcome does not wake the task that waits for room.
#[test]
fn a_gather_in_the_background_tells_each_once() {
    check(in_background);
}

async fn limited(stage: Stage) {
    let (yard, mut words) = Yard::new();
    // One word is never said.
    let _unsaid = words.pop();
    let tells = stage.actor(teller(words));
    let deadline = Duration::from_millis(4);
    let items = yard.items();
    let gathered = gather(items.into_iter().map(|item| item.timeout(2 * MS)))
        .limit(LIMIT)
        .deadline(deadline)
        .await;
    let begun = yard.begun.lock().unwrap().iter().sum::<u32>() as usize;
    assert_eq!(gathered.len(), begun, "an outcome for each that had begun");
    assert!(begun >= LIMIT);
    assert_eq!(yard.crowd.here(), 0, "an item outlives its gather");
    tells.await.expect("not aborted");
    yard.kept_the_limit();
}

/// With time limits, each and all, which pass while others are woken. Fails where the timer does
/// not wake the gather.
#[test]
fn a_gather_ends_at_its_deadline() {
    check(limited);
}
