//! Models of the slot between a task and its handle: see `sync::model`. The task itself is
//! tokio's, and is not run here.

use std::sync::atomic::AtomicU32;

use super::*;
use crate::scope::Scope;
use crate::sync::model::{exhaustive, spawn};

/// A result whose drops are counted.
struct Counted(Arc<AtomicU32>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A result is taken, or dropped by whoever comes second, and never kept by a slot that nobody
/// looks at. Fails where `take` leaves `Awaited` behind.
#[test]
fn a_result_is_taken_or_dropped_by_who_comes_second() {
    exhaustive(|| {
        let scope = Scope::new();
        let shared = Arc::clone(&scope.shared);
        let (key, _) = shared
            .registry
            .lock()
            .enter("task".into(), crate::time::now())
            .unwrap();
        let slot = Slot::<Counted, ()>::new(shared, key);
        let drops = Arc::new(AtomicU32::new(0));
        let result = Counted(Arc::clone(&drops));
        let task = spawn(&slot, move |slot| {
            slot.begun.store(true, Ordering::Relaxed);
            slot.put(Ok(result));
        });
        // The handle is dropped.
        drop(slot.take());
        task.join().unwrap();
        assert_eq!(drops.load(Ordering::SeqCst), 1, "it is still in the slot");
        assert!(slot.has_begun());
        assert!(slot.take().is_none());
    });
}
