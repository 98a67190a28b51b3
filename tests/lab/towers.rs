//! The tower services, plain and boxed, around one whose readiness holds a permit.

use std::sync::Arc;

use mainstay::testing::Point;
use mainstay::{BoxError, Error, Pipeline};
use tokio::task::yield_now;
use tokio::time::sleep;
use tower::limit::ConcurrencyLimit;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::Oops;
use crate::trial::{Trial, trial};
use crate::world::{Gates, MILLI, retry};

type Ours = BoxCloneSyncService<u32, u32, BoxError>;

/// A service behind a pipeline, and the same service as somebody else has it.
struct World {
    ours: Ours,
    theirs: Ours,
    gates: Gates,
}

/// Fails so often as the request says; one request at a time.
fn inner() -> impl Service<u32, Response = u32, Error = Oops, Future: Send + 'static>
+ Clone
+ Send
+ Sync
+ 'static {
    let answer = |request: u32| async move {
        yield_now().await;
        sleep(2 * MILLI).await;
        if request == 0 {
            Ok(7)
        } else {
            Err(Oops(request))
        }
    };
    ConcurrencyLimit::new(service_fn(answer), 1)
}

/// What stands in front of the service.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    Boxed,
    Once,
}

fn world(kind: Kind, gates: Gates) -> World {
    let inner = inner();
    let theirs = inner.clone().map_err(BoxError::from);
    let pipeline = Pipeline::builder("tower")
        .timeout(900 * MILLI)
        .circuit_breaker(gates.breaker.clone())
        .bulkhead(gates.bulkhead.clone())
        .timeout(20 * MILLI);
    let ours = match kind {
        Kind::Once => {
            let pipeline = pipeline.build().unwrap();
            let service = pipeline.layer_once().layer(inner);
            BoxCloneSyncService::new(service.map_err(BoxError::from))
        }
        Kind::Plain => {
            let pipeline = pipeline.retry(retry(&gates)).build().unwrap();
            let service = pipeline.layer().layer(inner);
            BoxCloneSyncService::new(service.map_err(BoxError::from))
        }
        Kind::Boxed => {
            let pipeline = pipeline.retry(retry(&gates)).build().unwrap();
            let inner = inner.map_err(BoxError::from);
            BoxCloneSyncService::new(pipeline.layer().boxed().layer(inner))
        }
    };
    World {
        ours,
        theirs: BoxCloneSyncService::new(theirs),
        gates,
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = Vec::new();
    let plain: &[&str] = &["tower::ServiceFuture"];
    let boxed: &[&str] = &["tower::ServiceFuture", "tower::BoxedFuture"];
    for (kind, named, covers) in [
        (Kind::Plain, "plain", plain),
        (Kind::Boxed, "boxed", boxed),
        (Kind::Once, "once", plain),
    ] {
        for (state, least, make) in [
            ("free", 4, (|| Gates::free().loose()) as fn() -> Gates),
            ("full", 4, || Gates::full(1).loose()),
            ("forced open", 1, || Gates::forced_open().loose()),
        ] {
            for (how, request) in [("well", 0), ("failing", 1)] {
                let name = format!("tower: {named}, {state}, {how}");
                all.push(trial(name, covers, least, move |lab| async move {
                    let call = move |world: Arc<World>| async move {
                        let mut service = world.ours.clone();
                        let _ = service.ready().await.unwrap().call(request).await;
                    };
                    let actor = |world: Arc<World>| async move {
                        let mut theirs = world.theirs.clone();
                        let direct = async {
                            let _ = theirs.ready().await.unwrap().call(0).await;
                        };
                        let ours = async {
                            yield_now().await;
                            world.gates.release();
                            let _ = world.ours.clone().oneshot(1).await;
                        };
                        futures_util::future::join(direct, ours).await;
                    };
                    let check = async |world: &World, _: &Point| {
                        let next = async || {
                            // The permit that readiness takes is back as well.
                            world.theirs.clone().oneshot(0).await.unwrap();
                            let ours = world.ours.clone().oneshot(0).await;
                            ours.map_err(|error| panic!("the next request: {error}"))
                                .map_err(|(): ()| Error::operation(Oops(0)))
                        };
                        world.gates.are_whole(next).await;
                    };
                    lab.run_beside(async || world(kind, make()), call, actor, check)
                        .await
                }));
            }
        }
    }
    all
}
