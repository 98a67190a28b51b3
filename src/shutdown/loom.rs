//! Models of what a request, the sections and the end decide: see `sync::model`. The phases are
//! tasks of tokio's, and a thread of std's keeps their pace: neither is run here.

use super::*;
use crate::sync::model::{block_on, bounded, exhaustive, spawn};

fn shutdown() -> Arc<Shutdown> {
    let built = Shutdown::builder()
        .closing("client", || async { Ok::<_, &str>(()) })
        .build();
    Arc::new(built.unwrap())
}

/// One request is the first, and sections are refused when it is noted, for whoever comes second
/// as well. Fails where the sections are closed after the lock.
#[test]
fn one_request_is_the_first() {
    exhaustive(|| {
        let shutdown = shutdown();
        let notes = |shutdown: &Shutdown| {
            let first = shutdown.shared.note(Cause::Request);
            assert!(shutdown.protect().is_err(), "a section after the request");
            first
        };
        let other = spawn(&shutdown, notes);
        let mine = notes(&shutdown);
        assert!(mine != other.join().unwrap());
    });
}

/// A section that was let in is waited for, and none comes later. Fails where a section counts
/// itself in after it has looked.
#[test]
fn sections_are_waited_for_or_refused() {
    bounded(3, || {
        let shutdown = shutdown();
        let inside = spawn(&shutdown, |shutdown| shutdown.protect().is_ok());
        let late = spawn(&shutdown, |shutdown| shutdown.protect().is_ok());
        shutdown.shared.note(Cause::Request);
        block_on(shutdown.shared.sections.drained());
        assert_eq!(shutdown.shared.sections.in_flight(), 0);
        assert!(shutdown.protect().is_err());
        inside.join().unwrap();
        late.join().unwrap();
        assert_eq!(shutdown.shared.sections.in_flight(), 0);
    });
}

/// It ends once, whoever ends it, and everyone gets that report. Fails where it is
/// said to be done before the report is there.
#[test]
fn it_ends_once() {
    exhaustive(|| {
        let shutdown = shutdown();
        shutdown.shared.note(Cause::Request);
        let ends = |shutdown: &Shutdown| {
            shutdown.shared.finish();
            shutdown.shared.report.get().cloned().unwrap()
        };
        let other = spawn(&shutdown, ends);
        let mine = ends(&shutdown);
        assert_eq!(mine, other.join().unwrap());
        assert!(shutdown.shared.done.is_cancelled());
    });
}

/// One who counts a component while it ends sees it before or after, and the end is kept. Fails
/// where a state that was looked at is put back over a later one.
#[test]
fn what_has_ended_stays_ended() {
    exhaustive(|| {
        let shutdown = shutdown();
        let counts = spawn(&shutdown, |shutdown| {
            let counts = shutdown.shared.components[0].component.counts();
            assert_eq!(counts.in_flight + counts.completed, 1);
        });
        block_on(shutdown.shared.components[0].component.drained());
        assert_eq!(
            shutdown.shared.components[0].component.counts().completed,
            1
        );
        counts.join().unwrap();
    });
}
