//! The production clock, next to the system's.
use std::time::{Duration, Instant};

use mainstay::time::now;

#[test]
fn keeps_pace_with_the_systems_clock() {
    let (start, system) = (now(), Instant::now());
    std::thread::sleep(Duration::from_millis(50));
    let (inner, outer) = (system.elapsed(), now().since(start));
    let (upper, end) = (system.elapsed(), Duration::from_micros(500));
    assert!(
        outer + end >= inner && outer <= upper + end,
        "{inner:?} <= {outer:?} <= {upper:?}"
    );
}

#[test]
fn never_goes_back() {
    let mut last = now();
    for _ in 0..100_000 {
        let next = now();
        assert!(next >= last);
        last = next;
    }
}
