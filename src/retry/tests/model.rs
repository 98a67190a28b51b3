//! The driver against a slow, obvious model: whatever the results, verdicts, delays and
//! limits, the attempts, the time and the final error are the same.
use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Reply {
    Good,
    /// An `Ok` that is not good enough.
    Poor,
    Busy,
    /// An error that names the time to come back, in milliseconds.
    Named(u64),
    Fatal,
}

/// All spans are in milliseconds.
#[derive(Clone, Debug)]
struct Case {
    /// How long each attempt takes and what it yields; the last one stands for all others.
    script: Vec<(u64, Reply)>,
    delays: Vec<u64>,
    max_attempts: u32,
    max_elapsed: Option<u64>,
    max_retry_after: u64,
    limit: Option<u64>,
    reserve: Option<u32>,
}

#[derive(Debug, PartialEq)]
enum Outcome {
    /// The attempt whose result was returned.
    Done(u32),
    /// The attempt whose error was returned; there were no more.
    Failed(u32),
    TimedOut {
        attempts: u32,
        last: Option<u32>,
    },
}

/// A few milliseconds, often the same, so that ties happen.
fn span() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1..6u64, 1..40u64]
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        1 => Just(Reply::Good),
        1 => Just(Reply::Poor),
        4 => Just(Reply::Busy),
        2 => span().prop_map(Reply::Named),
        1 => Just(Reply::Fatal),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let script = prop::collection::vec((span(), reply()), 1..8);
    let delays = prop::collection::vec(span(), 0..8);
    let max_attempts = prop_oneof![1..6u32, Just(u32::MAX)];
    let limits = (
        prop::option::of(1..60u64),
        0..30u64,
        prop::option::of(0..80u64),
    );
    let reserve = prop::option::of(0..6u32);
    (script, delays, max_attempts, limits, reserve).prop_map(
        |(script, delays, max_attempts, (max_elapsed, max_retry_after, limit), reserve)| Case {
            script,
            delays,
            max_attempts,
            max_elapsed,
            max_retry_after,
            limit,
            reserve,
        },
    )
}

impl Case {
    fn step(&self, attempt: u32) -> (u64, Reply) {
        let at = usize::try_from(attempt - 1).unwrap();
        self.script[at.min(self.script.len() - 1)]
    }

    /// The model: what comes out, and when.
    fn predict(&self) -> (Outcome, u64) {
        let (mut time, mut attempts, mut last) = (0, 0, None);
        let mut delays = self.delays.iter();
        let mut reserve = self.reserve.unwrap_or(u32::MAX);
        loop {
            attempts += 1;
            let (latency, reply) = self.step(attempts);
            if self.limit.is_some_and(|limit| time + latency > limit) {
                return (Outcome::TimedOut { attempts, last }, self.limit.unwrap());
            }
            time += latency;
            let outcome = match reply {
                Reply::Good | Reply::Poor => Outcome::Done(attempts),
                Reply::Busy | Reply::Named(_) | Reply::Fatal => Outcome::Failed(attempts),
            };
            let own = delays.next();
            let delay = match reply {
                Reply::Good | Reply::Fatal => None,
                Reply::Named(wait) => own.and((wait <= self.max_retry_after).then_some(wait)),
                Reply::Poor | Reply::Busy => own.copied(),
            };
            let limits = [self.limit, self.max_elapsed];
            let too_late = |delay| limits.iter().flatten().any(|limit| time + delay >= *limit);
            let Some(delay) = delay.filter(|delay| !too_late(*delay)) else {
                return (outcome, time);
            };
            if attempts == self.max_attempts || reserve == 0 {
                return (outcome, time);
            }
            reserve -= 1;
            if let Outcome::Failed(attempt) = outcome {
                last = Some(attempt);
            }
            time += delay;
        }
    }

    async fn run(&self) -> (Outcome, u64) {
        let millis = Duration::from_millis;
        let delays: Vec<_> = self.delays.iter().copied().map(millis).collect();
        let builder = Retry::builder()
            .max_attempts(self.max_attempts)
            .max_elapsed(self.max_elapsed.map_or(Duration::MAX, millis))
            .max_retry_after(millis(self.max_retry_after));
        let builder = match self.reserve {
            Some(reserve) => builder.budget(RetryBudget::new(0.0, reserve).unwrap()),
            None => builder.no_budget(),
        };
        let judge = |result: Result<&u32, &Error<u32>>| {
            let attempt = result
                .copied()
                .unwrap_or_else(|error| *error.last().unwrap());
            match self.step(attempt).1 {
                Reply::Good | Reply::Fatal => Verdict::Stop,
                Reply::Poor | Reply::Busy => Verdict::Retry,
                Reply::Named(wait) => Verdict::RetryAfter(millis(wait)),
            }
        };
        let retry = builder
            .delays(|| delays.clone())
            .classify(judge)
            .build()
            .unwrap();
        let tries = Cell::new(0);
        let operation = || {
            tries.set(tries.get() + 1);
            let attempt = tries.get();
            let (latency, reply) = self.step(attempt);
            async move {
                sleep(millis(latency)).await;
                match reply {
                    Reply::Good | Reply::Poor => Ok(attempt),
                    Reply::Busy | Reply::Named(_) | Reply::Fatal => Err(attempt),
                }
            }
        };
        let start = now();
        let limit = self.limit.map_or(Duration::MAX, millis);
        let outcome = match operation.retry(&retry).timeout(limit).await {
            Ok(attempt) => Outcome::Done(attempt),
            Err(Error::Operation {
                error, attempts, ..
            }) => {
                assert_eq!(error, attempts);
                Outcome::Failed(attempts)
            }
            Err(Error::TimedOut { attempts, last, .. }) => Outcome::TimedOut { attempts, last },
            Err(error) => panic!("{error}"),
        };
        let time = u64::try_from(now().since(start).as_millis()).unwrap();
        (outcome, time)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::models::cases("retry"), ..ProptestConfig::default() })]
    #[test]
    fn behaves_like_the_slow_model(case in case()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        prop_assert_eq!(runtime.block_on(case.run()), case.predict(), "{:?}", case);
    }
}
