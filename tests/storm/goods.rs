//! What a pool lends and a queue works on: every object and item has a name and a fate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use mainstay::pool::{HookFuture, Manage};
use tokio::time::sleep;

use crate::support::Oops;
use crate::world::{Bomb, Counted, Doom, Phase, World, locked, unwind};

pub(crate) const OBJECTS: usize = 4;

pub(crate) struct Objects {
    pub(crate) world: Arc<World>,
    alive: Mutex<BTreeSet<u32>>,
    used: Mutex<BTreeSet<u32>>,
    next: AtomicU32,
}

impl Objects {
    pub(crate) fn new(world: &Arc<World>) -> Arc<Self> {
        Arc::new(Self {
            world: Arc::clone(world),
            alive: Mutex::default(),
            used: Mutex::default(),
            next: AtomicU32::new(0),
        })
    }

    pub(crate) fn alive(&self) -> usize {
        locked(&self.alive).len()
    }

    fn make(self: &Arc<Self>) -> Object {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut alive = locked(&self.alive);
        alive.insert(id);
        let now = alive.len();
        drop(alive);
        self.world
            .law(now <= OBJECTS, "pool: size", || format!("{now} objects"));
        Object {
            id,
            ledger: Arc::clone(self),
            lent_by_detach: false,
        }
    }
}

pub(crate) struct Object {
    pub(crate) id: u32,
    ledger: Arc<Objects>,
    /// Out of the pool: it counts no more.
    lent_by_detach: bool,
}

impl Object {
    /// Marks the object as in use; nobody else may hold it.
    pub(crate) fn user(&self) -> User {
        let first = locked(&self.ledger.used).insert(self.id);
        let world = &self.ledger.world;
        world.law(first, "pool: one user", || format!("object {}", self.id));
        User(self.id, Arc::clone(&self.ledger))
    }

    pub(crate) fn detached(&mut self) {
        self.lent_by_detach = true;
        locked(&self.ledger.alive).remove(&self.id);
    }
}

/// One use of an object.
pub(crate) struct User(u32, Arc<Objects>);

impl Drop for User {
    fn drop(&mut self) {
        locked(&self.1.used).remove(&self.0);
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        if self.lent_by_detach {
            return;
        }
        let was = locked(&self.ledger.alive).remove(&self.id);
        let world = &self.ledger.world;
        world.law(was, "pool: dropped twice", || format!("object {}", self.id));
        if world.phase() == Phase::Panics && world.one_in(8) && !std::thread::panicking() {
            world.fault("panic in an object's drop");
            unwind();
        }
    }
}

pub(crate) struct Maker(pub(crate) Arc<Objects>);

impl Maker {
    /// What goes wrong apart from creations.
    async fn chores(&self, what: &'static str) -> Result<(), Oops> {
        let world = &self.0.world;
        if world.is_calm() || !world.one_in(6) {
            return Ok(());
        }
        world.fault(what);
        match world.below(4) {
            0 => Err(Oops(1)),
            1 => unwind(),
            2 => std::future::pending().await,
            _ => {
                sleep(world.span(0, 300)).await;
                Ok(())
            }
        }
    }
}

impl Manage for Maker {
    type Object = Object;
    type Error = Oops;

    async fn create(&self) -> Result<Object, Oops> {
        let world = &self.0.world;
        let plan = world.plan();
        world.carry_out(plan).await?;
        Ok(self.0.make())
    }

    async fn check(&self, _: &mut Object) -> Result<(), Oops> {
        self.chores("check").await
    }

    fn reusable(&self, _: &mut Object) -> bool {
        let world = &self.0.world;
        if world.phase() == Phase::Panics && world.one_in(8) {
            world.fault("panic in reusable");
            unwind();
        }
        world.is_calm() || !world.one_in(20)
    }

    async fn close(&self, object: Object) {
        let _ = self.chores("close").await;
        drop(object);
    }
}

/// A pool's hook.
pub(crate) fn hook(
    world: &Arc<World>,
) -> impl for<'a> Fn(&'a mut Object) -> HookFuture<'a, Oops> + Send + Sync + use<> {
    let world = Arc::clone(world);
    move |_| {
        let world = Arc::clone(&world);
        if world.phase() == Phase::Panics && world.one_in(10) {
            world.fault("panic in a hook");
            unwind();
        }
        Box::pin(async move {
            if !world.is_calm() && world.one_in(12) {
                world.fault("hook");
                return Err(Oops(2));
            }
            Ok(())
        })
    }
}

/// The items of a queue, from their making to their outcome.
pub(crate) struct Items {
    pub(crate) world: Arc<World>,
    next: AtomicU32,
    /// Items that are somewhere.
    alive: Mutex<BTreeSet<u32>>,
    begun: Mutex<BTreeSet<u32>>,
    /// How often each number had an outcome.
    outcomes: Mutex<BTreeMap<u64, u32>>,
    pub(crate) running: AtomicU32,
    pub(crate) workers: u32,
}

impl Items {
    pub(crate) fn new(world: &Arc<World>, workers: u32) -> Arc<Self> {
        Arc::new(Self {
            world: Arc::clone(world),
            next: AtomicU32::new(0),
            alive: Mutex::default(),
            begun: Mutex::default(),
            outcomes: Mutex::default(),
            running: AtomicU32::new(0),
            workers,
        })
    }

    pub(crate) fn item(self: &Arc<Self>) -> Item {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        locked(&self.alive).insert(id);
        Item(id, Arc::clone(self))
    }

    pub(crate) fn alive(&self) -> usize {
        locked(&self.alive).len()
    }

    pub(crate) fn outcome(&self, number: u64) {
        let mut outcomes = locked(&self.outcomes);
        let times = outcomes.entry(number).or_default();
        *times += 1;
        let times = *times;
        drop(outcomes);
        self.world.law(times == 1, "queue: one outcome", || {
            format!("item {number} has had {times}")
        });
    }

    pub(crate) fn outcomes(&self) -> u64 {
        locked(&self.outcomes).len() as u64
    }

    /// The handler.
    pub(crate) async fn work(item: Item) -> Result<u32, Oops> {
        let items = Arc::clone(&item.1);
        let (_running, now) = Counted::up(&items.running);
        items.world.law(now <= items.workers, "queue: workers", || {
            format!("{now} at work")
        });
        let first = locked(&items.begun).insert(item.0);
        items
            .world
            .law(first, "queue: begun twice", || format!("item {}", item.0));
        let plan = items.world.plan();
        // A queue has no time limit of its own.
        match plan.doom {
            Doom::Hangs => Err(Oops(3)),
            _ => items.world.carry_out(plan).await,
        }
    }
}

pub(crate) struct Item(u32, Arc<Items>);

impl Drop for Item {
    fn drop(&mut self) {
        let was = locked(&self.1.alive).remove(&self.0);
        let world = &self.1.world;
        world.law(was, "queue: dropped twice", || format!("item {}", self.0));
        let panics = world.phase() == Phase::Panics && world.one_in(8);
        if panics {
            world.fault("panic in an item's drop");
        }
        drop(Bomb::armed(panics));
    }
}
