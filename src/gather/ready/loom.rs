//! Models: see `sync::model`.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use super::*;
use crate::sync::atomic::AtomicU32;
use crate::sync::model::{block_on, bounded, exhaustive};
use crate::sync::thread;

/// As the gather's driver does it: rounds until so many marks have been seen, and a sleep when
/// there is nobody to be polled.
fn gather(ready: &mut Ready, wanted: usize, mut seen: impl FnMut(u64, usize)) {
    let mut found = 0;
    block_on(poll_fn(|cx| {
        ready.wake_up();
        while found < wanted {
            let others = ready.begin_round() & (TIMER | SOURCE);
            found += others.count_ones() as usize;
            seen(others, usize::MAX);
            while let Some(seat) = ready.next() {
                found += 1;
                seen(0, seat);
            }
            if found < wanted && ready.is_quiet() && ready.sleep(cx) {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }));
}

/// Who is woken is looked at, however the wake-up and the sleep meet, and what it has written is
/// seen. Fails where `sleep` looks first and stores 0 then, and where the marks are relaxed.
#[test]
fn nobody_who_is_woken_is_overlooked() {
    exhaustive(|| {
        let mut ready = Ready::new();
        let seat = ready.waker_of(3);
        let written = Arc::new(AtomicU32::new(0));
        let writes = Arc::clone(&written);
        let other = thread::spawn(move || {
            writes.store(7, Ordering::Relaxed);
            seat.wake();
        });
        let mut seats = Vec::new();
        gather(&mut ready, 1, |_, seat| {
            if seat != usize::MAX {
                assert_eq!(written.load(Ordering::Relaxed), 7);
                seats.push(seat);
            }
        });
        assert_eq!(seats, [3]);
        other.join().unwrap();
    });
}

/// One who is woken again after it was named is named again. Fails where a seat's bit is only
/// read when it is named, and cleared later.
#[test]
fn who_is_woken_again_is_named_again() {
    exhaustive(|| {
        let mut ready = Ready::new();
        let seat = ready.waker_of(0);
        let written = Arc::new(AtomicU32::new(0));
        let writes = Arc::clone(&written);
        let other = thread::spawn(move || {
            for step in 1..=2 {
                writes.store(step, Ordering::Relaxed);
                seat.wake_by_ref();
            }
        });
        // Two wake-ups may be one mark; the last one is never before what was written last.
        let mut last = 0;
        block_on(poll_fn(|cx| {
            ready.wake_up();
            loop {
                ready.begin_round();
                while ready.next().is_some() {
                    last = written.load(Ordering::Relaxed);
                }
                if last == 2 {
                    return Poll::Ready(());
                }
                if ready.is_quiet() && ready.sleep(cx) {
                    return Poll::Pending;
                }
            }
        }));
        other.join().unwrap();
    });
}

/// Two seats of one chunk and the timer: the first to set a bit marks for the others too. Fails
/// where a seat marks the summary before its own bit, and where a round forgets the timer.
#[test]
fn seats_that_are_woken_together_are_all_named() {
    bounded(3, || {
        let mut ready = Ready::new();
        let (first, second) = (ready.waker_of(0), ready.waker_of(1));
        let timer = ready.waker_of_bit(TIMER);
        let others = [
            thread::spawn(move || first.wake()),
            thread::spawn(move || {
                second.wake();
                timer.wake();
            }),
        ];
        let (mut marks, mut seats) = (0, Vec::new());
        gather(&mut ready, 3, |others, seat| {
            marks |= others;
            if seat != usize::MAX {
                seats.push(seat);
            }
        });
        seats.sort_unstable();
        assert_eq!((marks, seats), (TIMER, vec![0, 1]));
        for other in others {
            other.join().unwrap();
        }
    });
}
