//! A pool of 16 idle objects: one is checked out and comes back.

use std::future::Future;
use std::sync::Arc;

use mainstay::pool::{Check, Pool, Pooled};

use crate::calls::{Answer, Failed, ok};
use crate::floor::pool::Shelf;
use crate::row::{Row, each};

const OBJECTS: usize = 16;

/// Makes numbers, for three kinds of pool.
#[derive(Debug)]
struct Numbers;

impl mainstay::pool::Manage for Numbers {
    type Object = u64;
    type Error = Failed;

    async fn create(&self) -> Answer {
        ok().await
    }
}

impl deadpool::managed::Manager for Numbers {
    type Type = u64;
    type Error = Failed;

    async fn create(&self) -> Answer {
        ok().await
    }

    async fn recycle(
        &self,
        _: &mut u64,
        _: &deadpool::managed::Metrics,
    ) -> deadpool::managed::RecycleResult<Failed> {
        Ok(())
    }
}

impl bb8::ManageConnection for Numbers {
    type Connection = u64;
    type Error = Failed;

    async fn connect(&self) -> Answer {
        ok().await
    }

    async fn is_valid(&self, _: &mut u64) -> Result<(), Failed> {
        Ok(())
    }

    fn has_broken(&self, _: &mut u64) -> bool {
        false
    }
}

pub(super) fn lend(row: &mut Row) {
    row.shared().goal(22.0).note(
        "async-channel is a queue: who holds an object must remember to send it back. deadpool's \
         unmanaged pool and the channel neither make nor check objects. Nobody checks here; ours \
         with the default check reads the clock twice, and is shown aside.",
    );
    let shelf = Arc::new(Shelf::new(OBJECTS as u64));
    row.floor(
        "objects behind one lock",
        each!(shelf => shelf.get().map(|lent| lent.object)),
    )
    .anchor(19.6);

    let (sender, receiver) = async_channel::bounded(OBJECTS);
    (0..OBJECTS as u64).for_each(|object| sender.try_send(object).expect("room"));
    row.peer(
        "async-channel",
        "recv and try_send",
        each!(sender, receiver => {
            let object = receiver.recv().await.expect("open");
            sender.try_send(object)
        }),
    )
    .anchor(65.4);
    deadpools(row);
    let pool = in_runtime(
        bb8::Pool::builder()
            .max_size(OBJECTS as u32)
            .min_idle(OBJECTS as u32)
            .test_on_check_out(false)
            .build(Numbers),
    );
    let pool = pool.expect("a pool");
    row.peer(
        "bb8",
        "get, no test",
        each!(pool => *pool.get().await.expect("an object")),
    )
    .anchor(181.8);

    let pool = ours(Check::Never);
    row.ours("get", each!(pool => *pool.get().await.expect("an object")));
    row.aside(
        "mainstay",
        "try_get",
        each!(pool => *pool.try_get().expect("an object")),
    );
    row.aside(
        "mainstay",
        "get, owned",
        each!(pool => *Pooled::into_owned(pool.get().await.expect("an object"))),
    );
    let pool = ours(Check::default());
    row.aside(
        "mainstay",
        "get, default check",
        each!(pool => {
            *pool.get().await.expect("an object")
        }),
    );
}

fn deadpools(row: &mut Row) {
    let pool = deadpool::unmanaged::Pool::from((0..OBJECTS as u64).collect::<Vec<_>>());
    row.peer(
        "deadpool",
        "unmanaged",
        each!(pool => *pool.get().await.expect("an object")),
    )
    .anchor(95.6);
    let pool = deadpool::managed::Pool::builder(Numbers).max_size(OBJECTS);
    let pool: deadpool::managed::Pool<Numbers> = pool.build().expect("a pool");
    in_runtime(futures::future::join_all((0..OBJECTS).map(|_| pool.get())));
    row.peer(
        "deadpool",
        "managed",
        each!(pool => *pool.get().await.expect("an object")),
    )
    .anchor(170.8);
}

/// Filled with objects that nobody has.
fn ours(check: Check) -> Pool<Numbers> {
    let pool = Pool::builder(Numbers).max_size(OBJECTS).check(check);
    let pool = pool.build().expect("a pool");
    in_runtime(futures::future::join_all((0..OBJECTS).map(|_| pool.get())));
    pool
}

/// On a thread of its own: the rows are made in a runtime's context, where nothing may block.
fn in_runtime<F: Future<Output: Send> + Send>(future: F) -> F::Output {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| crate::meter::runtime().block_on(future));
        thread.join().expect("it does not panic")
    })
}
