//! Models: see `sync::model`. The law: what is in the account is what was paid in, less what
//! was taken out; never below nothing, and never above what it holds.

use std::sync::Arc;

use super::*;
use crate::sync::model::{bounded, exhaustive, spawn};

/// Half a retry for each call.
fn budget(reserve: u32) -> Arc<RetryBudget> {
    Arc::new(RetryBudget::with(RETRY / 2, reserve))
}

fn units(budget: &RetryBudget) -> u64 {
    let units = budget.account.balance.load(Ordering::Relaxed);
    assert!(units <= budget.account.capacity, "{units} units");
    units
}

fn withdraw(budget: &RetryBudget) -> u64 {
    u64::from(budget.withdraw())
}

/// Fails if the balance is read and written in two steps.
#[test]
fn the_last_retry_is_given_to_one() {
    exhaustive(|| {
        let budget = budget(1);
        let other = spawn(&budget, withdraw);
        assert_eq!(withdraw(&budget) + other.join().unwrap(), 1);
        assert_eq!(units(&budget), 0);
    });
}

#[test]
fn nothing_paid_in_is_lost() {
    exhaustive(|| {
        let budget = budget(2);
        assert!(budget.withdraw() && budget.withdraw());
        let other = spawn(&budget, |budget| {
            budget.deposit();
            budget.deposit();
            withdraw(budget)
        });
        budget.deposit();
        let mine = withdraw(&budget);
        let taken = mine + other.join().unwrap();
        assert_eq!(units(&budget) + taken * RETRY, 3 * RETRY / 2);
        assert_eq!(
            taken, 1,
            "a whole one was there when the last of both asked"
        );
    });
}

/// Fails if a deposit adds without a look at what there is.
#[test]
fn two_deposits_do_not_overfill_it() {
    exhaustive(|| {
        let budget = budget(1);
        let other = spawn(&budget, |budget| {
            budget.deposit();
            units(budget);
            budget.deposit();
        });
        budget.deposit();
        units(&budget);
        other.join().unwrap();
        assert_eq!(units(&budget), 3 * RETRY / 2);
    });
}

/// Fails if a retry that was not begun is given back twice, or over what others have paid in.
#[test]
fn what_is_given_back_can_be_taken_by_another() {
    exhaustive(|| {
        let budget = budget(1);
        let other = spawn(&budget, |budget| {
            let taken = Withdrawal::of(budget);
            let had = taken.is_some();
            drop(taken);
            budget.deposit();
            had
        });
        let mine = withdraw(&budget);
        let had = other.join().unwrap();
        assert!(had || mine == 1);
        assert_eq!(units(&budget), RETRY / 2 + (1 - mine) * RETRY);
    });
}

#[test]
fn three_threads_keep_the_account() {
    bounded(3, || {
        let budget = budget(1);
        let spender = spawn(&budget, |budget| {
            let taken = Withdrawal::of(budget);
            taken.map(Withdrawal::spend).is_some()
        });
        let waverer = spawn(&budget, |budget| {
            drop(Withdrawal::of(budget));
            budget.deposit();
        });
        let mine = withdraw(&budget);
        waverer.join().unwrap();
        let spent = mine + u64::from(spender.join().unwrap());
        assert!(spent <= 1, "half a retry was paid in");
        assert_eq!(units(&budget) + spent * RETRY, 3 * RETRY / 2);
    });
}
