//! `Lazy`: one caller or several, an initialiser that fails, panics or is retried.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use mainstay::Pipeline;
use mainstay::prelude::*;
use mainstay::testing::Point;
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::support::Oops;
use crate::trial::{Trial, trial};
use crate::world::MILLI;

/// A value that is made slowly, and not always.
struct World {
    lazy: Lazy<u32, Oops>,
    executions: Arc<AtomicU32>,
    running: Arc<AtomicU32>,
}

struct Running(Arc<AtomicU32>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Its first executions fail, or one of them panics.
fn world(failing: u32, panics: Option<u32>, retries: bool) -> World {
    let (executions, running) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
    let (count, run) = (Arc::clone(&executions), Arc::clone(&running));
    let mut lazy = Lazy::new(move || {
        let number = count.fetch_add(1, SeqCst);
        run.fetch_add(1, SeqCst);
        let running = Running(Arc::clone(&run));
        async move {
            let _running = running;
            yield_now().await;
            sleep(2 * MILLI).await;
            yield_now().await;
            assert!(panics != Some(number), "the initialiser's own");
            if number < failing {
                Err(Oops(number))
            } else {
                Ok(7)
            }
        }
    });
    if retries {
        let retry = Retry::builder().backoff(Backoff::constant(MILLI));
        let pipeline = Pipeline::builder("value").retry(retry).timeout(9 * MILLI);
        lazy = lazy.through(&pipeline.build().unwrap());
    }
    World {
        lazy,
        executions,
        running,
    }
}

/// A name, how many polls it takes at least, and what makes it.
type State = (&'static str, usize, fn() -> World);

pub(crate) fn trials() -> Vec<Trial> {
    let states: [State; 5] = [
        ("made at once", 3, || world(0, None, false)),
        ("fails first", 3, || world(1, None, false)),
        ("panics first", 3, || world(0, Some(0), false)),
        ("retried", 6, || world(1, None, true)),
        ("all attempts fail", 6, || world(3, None, true)),
    ];
    let mut all = Vec::new();
    for (name, least, make) in states {
        let get = |world: Arc<World>| async move {
            let _ = world.lazy.get().await;
        };
        let check = async |world: &World, _: &Point| {
            for _ in 0..2 {
                // A failure is for those who waited; the next one begins anew.
                let _ = world.lazy.get().await;
            }
            assert_eq!(world.lazy.get().await, Ok(&7));
            let executions = world.executions.load(SeqCst);
            assert_eq!(world.lazy.get().await, Ok(&7));
            assert_eq!(world.executions.load(SeqCst), executions, "made once");
            assert_eq!(world.running.load(SeqCst), 0, "executions");
        };
        all.push(trial(
            format!("lazy: {name}, alone"),
            &["lazy::Get"],
            least,
            move |lab| async move { lab.shuffles(0).run(async || make(), get, check).await },
        ));
        all.push(trial(
            format!("lazy: {name}, with two others"),
            &["lazy::Get"],
            1,
            move |lab| async move {
                let actor = move |world: Arc<World>| async move {
                    let cut = async {
                        yield_now().await;
                        let _ = tokio::time::timeout(MILLI, world.lazy.get()).await;
                    };
                    let _ = futures_util::future::join(world.lazy.get(), cut).await;
                };
                lab.run_beside(async || make(), get, actor, check).await
            },
        ));
    }
    all
}
