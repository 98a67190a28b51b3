//! A budget that many callers share, so that retries stay a fraction of the calls.
//!
//! Without it every caller that sees an outage multiplies its load by the number of its
//! attempts, at every layer. The scheme is that of Finagle's `RetryBudget`, without its
//! clock: a call deposits a fraction of a retry, a retry withdraws a whole one.

#[cfg(all(test, mainstay_loom))]
mod loom;

use std::borrow::Borrow;
use std::sync::Arc;

use crate::config::{ConfigError, require};
use crate::sync::atomic::{AtomicU64, Ordering};

/// One retry, in the units of the balance. A ratio is exact to a billionth.
const RETRY: u64 = 1_000_000_000;

/// Allows so many retries for each call, and some in reserve.
///
/// A clone is the same budget: give one to several policies and they share it. The first `n`
/// calls are tried again at most `ratio * n + reserve` times, and any `n` calls in a row at
/// most `ratio * (n + 1) + reserve` times (where a reserve of 0 counts as 1).
///
/// One call has one budget: a retry inside of another takes its retries from the outermost
/// one's, so that both together make at most `(1 + ratio) * n` attempts of `n` calls (and the
/// reserve). A call knows of those around it in one pipeline, by
/// [`through`](crate::Call::through), and by [`during`](crate::Call::during). Layers that do
/// not know of each other multiply: three with the defaults make at most
/// `1.2 * 1.2 * 1.2 = 1.73` calls of the last out of one (and their reserves), where three
/// attempts each without budgets make 27.
///
/// Defaults (of every [`Retry`](super::Retry) that is given none): ratio 0.2, reserve 100.
/// A fifth is enough for the failures of a healthy service and leaves a failing one at most
/// 1.2 times its load; the reserve is what lets a rarely used client try again at all.
///
/// # Threads
///
/// The balance is one number that all clones share, and exact. While it is full a call only
/// reads it; below that, each call and each retry writes it.
///
/// # Examples
///
/// ```
/// use mainstay::retry::RetryBudget;
///
/// # fn main() -> Result<(), mainstay::ConfigError> {
/// let budget = RetryBudget::new(0.5, 1)?;
/// assert!(budget.withdraw()); // the reserve
/// assert!(!budget.withdraw());
/// budget.deposit();
/// budget.deposit();
/// assert!(budget.withdraw());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RetryBudget {
    account: Arc<Account>,
}

#[derive(Debug)]
struct Account {
    balance: AtomicU64,
    deposit: u64,
    capacity: u64,
}

impl RetryBudget {
    /// A budget of `ratio` retries for each call, that starts with `reserve` retries and
    /// never saves more than that and one call's deposit.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] unless `ratio` is from 0 to 1000.
    pub fn new(ratio: f64, reserve: u32) -> Result<Self, ConfigError> {
        require(
            (0.0..=1000.0).contains(&ratio),
            "ratio",
            ratio,
            "from 0 to 1000",
        )?;
        Ok(Self::with(billionths(ratio), reserve))
    }

    fn with(deposit: u64, reserve: u32) -> Self {
        // Room for one more deposit: cutting a fraction off would bend the ratio.
        let capacity = u64::from(reserve.max(1)) * RETRY + deposit;
        Self {
            account: Arc::new(Account {
                balance: AtomicU64::new(u64::from(reserve) * RETRY),
                deposit,
                capacity,
            }),
        }
    }

    /// Counts a call. Costs one load while the budget is full, as it is when all is well.
    #[inline]
    pub fn deposit(&self) {
        let Account {
            balance,
            deposit,
            capacity,
        } = &*self.account;
        // Relaxed throughout: the balance is one number and guards no other memory.
        let mut now = balance.load(Ordering::Relaxed);
        while now < *capacity {
            let then = now.saturating_add(*deposit).min(*capacity);
            match balance.compare_exchange_weak(now, then, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => now = other,
            }
        }
    }

    /// Takes a retry out; `false` when there is none.
    #[inline]
    #[must_use]
    pub fn withdraw(&self) -> bool {
        self.account
            .balance
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |balance| {
                balance.checked_sub(RETRY)
            })
            .is_ok()
    }

    fn give_back(&self) {
        let Account {
            balance, capacity, ..
        } = &*self.account;
        let _ = balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |balance| {
            Some(balance.saturating_add(RETRY).min(*capacity))
        });
    }

    /// How many retries could be had now.
    #[must_use]
    pub fn balance(&self) -> u64 {
        self.account.balance.load(Ordering::Relaxed) / RETRY
    }
}

/// A retry that was taken out. Dropped before the next attempt begins, it goes back; an
/// attempt that a policy further in then refuses has begun.
///
/// It borrows the budget. One that outlives the poll, while its retry waits, owns it.
#[derive(Debug)]
pub(super) struct Withdrawal<B: Borrow<RetryBudget>> {
    /// `None` once the retry has begun.
    budget: Option<B>,
}

impl<'b> Withdrawal<&'b RetryBudget> {
    /// Takes a retry out; `None` when there is none.
    #[inline]
    pub(super) fn of(budget: &'b RetryBudget) -> Option<Self> {
        budget.withdraw().then(|| Self {
            budget: Some(budget),
        })
    }

    pub(super) fn into_owned(mut self) -> Withdrawal<RetryBudget> {
        Withdrawal {
            budget: self.budget.take().cloned(),
        }
    }
}

impl<B: Borrow<RetryBudget>> Withdrawal<B> {
    /// The retry begins.
    #[inline]
    pub(super) fn spend(mut self) {
        self.budget = None;
    }
}

impl<B: Borrow<RetryBudget>> Drop for Withdrawal<B> {
    #[inline]
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.borrow().give_back();
        }
    }
}

impl Default for RetryBudget {
    /// Ratio 0.2, reserve 100.
    fn default() -> Self {
        Self::with(RETRY / 5, 100)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the ratio was checked to be from 0 to 1000"
)]
fn billionths(ratio: f64) -> u64 {
    (ratio * 1e9).round() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: crate::models::cases("budget"), ..ProptestConfig::default() })]

        /// Trap 54: whoever takes all that there is gets exactly what was paid in.
        #[test]
        fn what_can_be_had_is_exact(deposit in 0..3 * RETRY, reserve in 0..20u32, calls in 0..100u32) {
            let budget = RetryBudget::with(deposit, reserve);
            let mut granted = (0..reserve).filter(|_| budget.withdraw()).count();
            for _ in 0..calls {
                budget.deposit();
                granted += std::iter::repeat_with(|| budget.withdraw()).take_while(|had| *had).count();
            }
            let paid_in = u64::from(reserve) * RETRY + deposit * u64::from(calls);
            prop_assert_eq!(granted as u64, paid_in / RETRY);
        }

        /// The reference: one number, and those that are held.
        #[test]
        fn behaves_like_a_purse(
            deposit in 0..3 * RETRY,
            reserve in prop_oneof![0..4u32, Just(u32::MAX)],
            deeds in prop::collection::vec(0..8u8, 0..80),
        ) {
            let budget = RetryBudget::with(deposit, reserve);
            let most = u128::from(reserve.max(1)) * u128::from(RETRY) + u128::from(deposit);
            let mut purse = u128::from(reserve) * u128::from(RETRY);
            let mut held = Vec::new();
            for deed in deeds {
                let has_one = purse >= RETRY.into();
                match deed {
                    0..3 => {
                        budget.deposit();
                        purse = (purse + u128::from(deposit)).min(most);
                    }
                    3 => {
                        prop_assert_eq!(budget.withdraw(), has_one);
                        purse -= if has_one { RETRY.into() } else { 0 };
                    }
                    4 | 5 => {
                        let withdrawal = Withdrawal::of(&budget);
                        prop_assert_eq!(withdrawal.is_some(), has_one);
                        purse -= if has_one { RETRY.into() } else { 0 };
                        held.extend(withdrawal.map(Withdrawal::into_owned));
                    }
                    6 => if let Some(withdrawal) = held.pop() {
                        withdrawal.spend();
                    },
                    _ => if held.pop().is_some() {
                        purse = (purse + u128::from(RETRY)).min(most);
                    },
                }
                prop_assert_eq!(u128::from(budget.balance()), purse / u128::from(RETRY));
            }
        }

        #[test]
        fn no_stretch_of_calls_has_more_than_its_share(
            deposit in 0..3 * RETRY,
            reserve in 0..5u32,
            deposits in prop::collection::vec(any::<bool>(), 0..60),
        ) {
            let budget = RetryBudget::with(deposit, reserve);
            let granted: Vec<bool> = deposits
                .iter()
                .map(|deposits| {
                    if *deposits {
                        budget.deposit();
                    }
                    !deposits && budget.withdraw()
                })
                .collect();
            for start in 0..deposits.len() {
                let calls = deposits[start..].iter().filter(|deposits| **deposits).count() as u64;
                let retries = granted[start..].iter().filter(|granted| **granted).count() as u64;
                let share = deposit * (calls + 1) + u64::from(reserve.max(1)) * RETRY;
                prop_assert!(retries * RETRY <= share);
            }
        }
    }

    /// Trap 54.
    #[test]
    fn every_ratio_is_exact() {
        for (ratio, retries) in [(0.75, 7_500), (0.2, 2_000), (0.333, 3_330), (1.5, 10_000)] {
            let budget = RetryBudget::new(ratio, 0).unwrap();
            let granted = (0..10_000)
                .filter(|_| {
                    budget.deposit();
                    budget.withdraw()
                })
                .count();
            assert_eq!(granted, retries, "ratio {ratio}");
        }
    }

    #[test]
    fn never_saves_more_than_the_reserve() {
        let budget = RetryBudget::new(0.5, 3).unwrap();
        (0..1_000).for_each(|_| budget.deposit());
        assert_eq!(budget.balance(), 3);
        assert_eq!((0..10).filter(|_| budget.withdraw()).count(), 3);
    }

    #[test]
    fn a_ratio_of_zero_leaves_the_reserve_only() {
        let budget = RetryBudget::new(0.0, 2).unwrap();
        budget.deposit();
        assert_eq!((0..10).filter(|_| budget.withdraw()).count(), 2);
        let none = RetryBudget::new(0.0, 0).unwrap();
        (0..100).for_each(|_| none.deposit());
        assert!(!none.withdraw());
    }

    #[test]
    fn clones_share_the_balance() {
        let budget = RetryBudget::new(0.0, 1).unwrap();
        assert!(budget.clone().withdraw());
        assert!(!budget.withdraw());
    }

    #[test]
    fn two_threads_never_withdraw_more_than_was_deposited() {
        let budget = RetryBudget::new(0.5, 10).unwrap();
        let rounds = crate::testing::rounds(20_000);
        let take = || {
            (0..rounds)
                .filter(|_| {
                    budget.deposit();
                    budget.withdraw()
                })
                .count()
        };
        let (a, b) = std::thread::scope(|s| {
            let other = s.spawn(take);
            (take(), other.join().unwrap())
        });
        let (least, most) = (rounds as usize - 10, rounds as usize + 10);
        assert!((least..=most).contains(&(a + b)), "{} retries", a + b);
    }

    #[test]
    fn bad_ratios_are_refused() {
        for ratio in [-0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1000.1] {
            let error = RetryBudget::new(ratio, 1).unwrap_err();
            assert_eq!(error.field(), "ratio");
        }
        assert!(RetryBudget::new(1000.0, u32::MAX).is_ok());
    }
}
