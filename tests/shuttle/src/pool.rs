//! The pool: never above its maximum, no object lost, everybody served, nobody left waiting.

use std::sync::Arc;
use std::time::Duration;

use mainstay::pool::{Check, Manage, Pool, Pooled};
use mainstay::{Error, Refusal};

use crate::stage::{
    Crowd, Failed, MS, Member, Stage, abort_one, check, cut, once_in, runtime_turns, turn, turns,
};

const MAX: usize = 2;

/// Objects that take their time to come, to be checked and to go, and sometimes fail to.
struct Objects {
    alive: Arc<Crowd>,
    lent: Arc<Crowd>,
    fails: bool,
}

struct Object {
    _alive: Member,
}

impl Manage for Objects {
    type Object = Object;
    type Error = Failed;

    const CHECK: Check = Check::Always;

    async fn create(&self) -> Result<Object, Failed> {
        // From its beginning a creation takes up a place.
        let alive = self.alive.enter();
        runtime_turns().await;
        if self.fails && once_in(4) {
            return Err(Failed);
        }
        Ok(Object { _alive: alive })
    }

    async fn check(&self, _: &mut Object) -> Result<(), Failed> {
        if once_in(2) {
            tokio::task::yield_now().await;
        }
        if self.fails && once_in(4) {
            return Err(Failed);
        }
        Ok(())
    }

    async fn close(&self, object: Object) {
        runtime_turns().await;
        drop(object);
    }
}

struct Play {
    stage: Stage,
    pool: Pool<Objects>,
    alive: Arc<Crowd>,
    lent: Arc<Crowd>,
}

fn play(stage: Stage, fails: bool, min_idle: usize) -> Play {
    let (alive, lent) = (Arc::new(Crowd::default()), Arc::new(Crowd::default()));
    let objects = Objects {
        alive: Arc::clone(&alive),
        lent: Arc::clone(&lent),
        fails,
    };
    let mut builder = Pool::builder(objects).max_size(MAX).min_idle(min_idle);
    if min_idle > 0 {
        builder = builder.idle_time(5 * MS);
    }
    let pool = builder.build().expect("a pool");
    Play {
        stage,
        pool,
        alive,
        lent,
    }
}

/// One who comes twice, gives up at times, and gives the object back in every way there is.
async fn user(pool: Pool<Objects>) {
    for _ in 0..2 {
        let Some(got) = cut(pool.get()).await else {
            continue;
        };
        match got {
            Ok(mut object) => {
                let _lent = pool.manager().lent.enter();
                turns().await;
                if once_in(4) {
                    Pooled::mark_broken(&mut object);
                }
                if once_in(4) {
                    Pooled::discard(object);
                } else if once_in(4) {
                    let owned = Pooled::into_owned(object);
                    turn().await;
                    drop(owned);
                }
            }
            Err(error) => {
                let refused = error.refusal() == Some(Refusal::ShutDown);
                assert!(refused || pool.manager().fails, "not served: {error}");
            }
        }
    }
}

impl Play {
    /// Three users, one of whom may be aborted.
    async fn users(&self) {
        let users: Vec<_> = (0..3)
            .map(|_| self.stage.actor(user(self.pool.clone())))
            .collect();
        abort_one(&users).await.expect("not aborted");
        for one in users {
            // Who was aborted is an error here; who waits for ever ends the schedule.
            let _ = one.await;
        }
    }

    /// Nobody holds anything and nothing is under way: everything adds up, and the whole of the
    /// pool can be had at once.
    async fn all_there(&self) {
        let at_rest = || {
            let s = self.pool.snapshot();
            s.creating + s.changing_hands + s.closing == 0
        };
        self.stage.until(at_rest).await;
        let s = self.pool.snapshot();
        assert_eq!((s.pending, s.in_use, s.size), (0, 0, s.idle), "{s:?}");
        assert_eq!(s.created, s.size as u64 + s.closed.total(), "{s:?}");
        assert_eq!(self.alive.here(), s.size, "an object is lost");
        let mut all = Vec::new();
        for _ in 0..MAX {
            match self.pool.get().await {
                Ok(object) => all.push(object),
                Err(Error::Operation { .. }) => assert!(self.pool.manager().fails),
                Err(error) => panic!("not served: {error}"),
            }
        }
        drop(all);
    }

    fn never_above(&self) {
        assert!(self.alive.most() <= MAX, "{} objects", self.alive.most());
        assert!(self.lent.most() <= MAX, "{} lent", self.lent.most());
    }

    async fn end(self) {
        let report = self.pool.close_within(Duration::from_secs(1)).await;
        assert!(report.is_drained, "{report:?}");
        assert_eq!(report.snapshot.pending, 0);
        assert_eq!(self.alive.here(), 0, "an object outlives its pool");
        self.never_above();
    }
}

async fn gets_and_drops(stage: Stage) {
    let play = play(stage, false, 0);
    play.users().await;
    play.all_there().await;
    play.end().await;
}

/// Gets that are given up, objects that come back in every way. Fails where an object that was
/// handed to one who gives up is not given on.
#[test]
fn the_pool_loses_nothing() {
    check(gets_and_drops);
}

async fn failures(stage: Stage) {
    let play = play(stage, true, 0);
    play.users().await;
    play.all_there().await;
    play.end().await;
}

/// As above, where creations and checks fail. Fails where that object is not given on.
#[test]
fn the_pool_survives_failures() {
    check(failures);
}

async fn kept(stage: Stage) {
    let play = play(stage, false, 1);
    play.users().await;
    play.end().await;
}

/// With a keeper in the background, which creates up to the minimum and ends what is idle. Fails
/// where objects whose end is under way are not counted.
#[test]
fn the_pool_with_a_keeper_stays_below_its_maximum() {
    check(kept);
}

async fn closed_meanwhile(stage: Stage) {
    let play = play(stage, false, 0);
    let pool = play.pool.clone();
    let closes = play.stage.actor(async move {
        turns().await;
        pool.close();
        assert!(pool.try_get().is_err());
        pool.drained().await;
        let s = pool.snapshot();
        assert_eq!((s.size, s.pending), (0, 0), "{s:?}");
    });
    play.users().await;
    closes.await.expect("not aborted");
    let refused = play
        .pool
        .get()
        .await
        .is_err_and(|error| error.refusal() == Some(Refusal::ShutDown));
    assert!(refused);
    play.end().await;
}

/// Closed while it is in use: whoever waits is told, and the drain comes. Fails where a close
/// wakes nobody.
#[test]
fn the_pool_closes_under_load() {
    check(closed_meanwhile);
}
