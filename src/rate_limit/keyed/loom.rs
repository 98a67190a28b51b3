//! Models: see `sync::model`. One key: where two stand in the table is a matter of chance.

use std::sync::Arc;

use super::*;
use crate::sync::model::{bounded, exhaustive, spawn};

fn tenants(burst: u32) -> Arc<KeyedRateLimiter<u8>> {
    let builder = RateLimiter::per_second(1).burst(burst).keyed().max_keys(8);
    Arc::new(builder.build().unwrap())
}

fn take(tenants: &KeyedRateLimiter<u8>) -> u32 {
    u32::from(tenants.try_acquire(&1, 1).is_ok())
}

/// The way of one who has to wait, or who sets limits for a key.
fn take_of_own(tenants: &KeyedRateLimiter<u8>) -> u32 {
    let own = tenants.limiter(&1).unwrap();
    u32::from(own.try_acquire(1).is_ok())
}

/// Fails if a key that is not known is looked for and remembered under two locks.
#[test]
fn two_who_bring_a_key_share_its_burst() {
    exhaustive(|| {
        let tenants = tenants(1);
        let other = spawn(&tenants, take);
        assert_eq!(take(&tenants) + other.join().unwrap(), 1);
        assert_eq!(tenants.keys(), 1);
    });
}

#[test]
fn three_who_bring_a_key_share_its_burst() {
    bounded(3, || {
        let tenants = tenants(2);
        let others = [0, 1].map(|_| spawn(&tenants, take));
        let mine = take(&tenants);
        let others: u32 = others.map(|other| other.join().unwrap()).iter().sum();
        assert_eq!(mine + others, 2);
    });
}

/// Fails if the word is marked by one who does not keep takers out.
#[test]
fn a_key_that_gets_a_limiter_of_its_own_keeps_its_permits() {
    exhaustive(|| {
        let tenants = tenants(2);
        assert_eq!(take(&tenants), 1);
        let other = spawn(&tenants, take_of_own);
        assert_eq!(take(&tenants) + other.join().unwrap(), 1);
        assert_eq!(take(&tenants) + take_of_own(&tenants), 0);
    });
}

#[test]
fn two_who_want_a_limiter_of_a_key_get_the_same() {
    bounded(3, || {
        let tenants = tenants(1);
        let others = [spawn(&tenants, take_of_own), spawn(&tenants, take_of_own)];
        let mine = take(&tenants);
        let others: u32 = others.map(|other| other.join().unwrap()).iter().sum();
        assert_eq!(mine + others, 1);
        assert_eq!(tenants.keys(), 1);
    });
}

/// Fails if `change_all` reads the limits before it has the lock of a part.
#[test]
fn of_two_changes_at_once_the_later_holds_for_all() {
    exhaustive(|| {
        let tenants = tenants(1);
        let own = tenants.limiter(&1).unwrap();
        let other = spawn(&tenants, |tenants| tenants.set_burst(2).unwrap());
        tenants.set_burst(3).unwrap();
        other.join().unwrap();
        let limits = tenants.shared.limits.lock().burst;
        assert_eq!(own.snapshot().burst, limits);
        assert!([2, 3].contains(&limits));
    });
}
