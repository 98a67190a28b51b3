//! The script of the rate limiter against a slow and obvious model, on a clock of the test's.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use proptest::prelude::*;
use redis::{Connection, Script};

use crate::redis_server::RedisServer;

/// The clock comes from the test, and nothing expires on the server's own.
pub(super) const CLOCK: &str = "
local now = tonumber(table.remove(ARGV, 1))
local redis = setmetatable({ call = function(name, ...)
  if name == 'PEXPIRE' then return 1 end
  return redis.call(name, ...)
end }, { __index = redis })
";

const TAKE: &str = include_str!("../../../src/redis/limits/rate/take.lua");
const GRACE: i64 = 250_000;
const START: i64 = 1_700_000_000_000_000;

/// All in fractions of a microsecond, `unit` of them.
#[derive(Clone, Debug)]
struct Claim {
    since: i64,
    till: i64,
    cost: i128,
}

#[derive(Debug)]
struct Model {
    unit: i128,
    cost: i128,
    burst: i128,
    full: i128,
    at: i64,
    claims: BTreeMap<String, Claim>,
}

impl Model {
    fn new(permits: i128, per_nanos: i128, burst: i128) -> Self {
        let shared = gcd(per_nanos, permits * 1000);
        Self {
            unit: permits * 1000 / shared,
            cost: per_nanos / shared,
            burst,
            full: 0,
            at: 0,
            claims: BTreeMap::new(),
        }
    }

    fn ask(&mut self, clock: i64, me: &str, calls: &[(i128, i64)]) -> Vec<i64> {
        let mut now = clock;
        let back = self.at - clock;
        if back > 1_000_000 {
            self.full -= i128::from(back) * self.unit;
            self.at = clock;
            for claim in self.claims.values_mut() {
                claim.since -= back;
                claim.till -= back;
            }
        } else if back > 0 {
            now = self.at;
        }
        let fine = i128::from(now) * self.unit;
        let mut full = self.full.max(fine);
        let mut mine = self.claims.remove(me);
        if let Some(mine) = mine.as_mut().filter(|mine| mine.till < now) {
            mine.since = now;
        }
        self.claims.retain(|_, claim| claim.till >= now);
        let mut place = mine.map(|mine| mine.since);
        let mut answer = vec![now, 0];
        for &(permits, patience) in calls {
            let ahead: i128 = self
                .claims
                .iter()
                .filter(|(name, claim)| {
                    place.is_none_or(|since| (claim.since, name.as_str()) < (since, me))
                })
                .map(|(_, claim)| claim.cost)
                .sum();
            let cost = permits * self.cost;
            let over = full + ahead + cost - (fine + self.burst * self.cost);
            if over <= 0 {
                full += cost;
                self.full = full;
                self.at = self.at.max(now);
                place = None;
                answer.push(0);
                continue;
            }
            let wait = i64::try_from((over + self.unit - 1) / self.unit).unwrap();
            answer.push(wait);
            if wait <= patience {
                answer[1] = 1;
                let claim = Claim {
                    since: place.unwrap_or(now),
                    till: now + wait + GRACE,
                    cost,
                };
                self.claims.insert(me.to_owned(), claim);
                break;
            }
        }
        answer
    }
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The real one, given what the crate would give it.
struct Real {
    connection: Connection,
    script: Script,
    key: String,
}

impl Real {
    fn ask(&mut self, model: &Model, clock: i64, me: &str, calls: &[(i128, i64)]) -> Vec<i64> {
        let split = |fine: i128| [fine / model.unit, fine % model.unit];
        let mut call = self.script.prepare_invoke();
        call.key(&self.key).arg(clock).arg(me);
        call.arg(model.unit.to_string());
        for word in split(model.burst * model.cost) {
            call.arg(word.to_string());
        }
        call.arg(GRACE);
        for &(permits, patience) in calls {
            for word in split(permits * model.cost) {
                call.arg(word.to_string());
            }
            call.arg(patience);
        }
        call.invoke(&mut self.connection).unwrap()
    }
}

#[derive(Clone, Debug)]
enum Op {
    Pass(i64),
    Ask(u8, Vec<(u8, i64)>),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let span = prop_oneof![
        4 => 0..50_000_i64,
        2 => 0..2_000_000_i64,
        1 => -3_000_000..0_i64,
        1 => -50_000..0_i64,
    ];
    let patience = prop_oneof![Just(0), 0..400_000_i64, Just(1_i64 << 50)];
    let calls = prop::collection::vec((0..=7_u8, patience), 0..5);
    let op = prop_oneof![
        2 => span.prop_map(Op::Pass),
        3 => (0..3_u8, calls).prop_map(|(who, calls)| Op::Ask(who, calls)),
    ];
    prop::collection::vec(op, 1..60)
}

/// Traps 37, 38 and 39: nothing is rounded away, a clock that goes back adds nothing, and
/// whatever the history, any window holds at most its burst and what came in it.
#[test]
fn the_script_does_what_the_model_does() {
    let server = RedisServer::start();
    let client = redis::Client::open(server.url()).unwrap();
    let real = Real {
        connection: client.get_connection().unwrap(),
        script: Script::new(&format!("{CLOCK}{TAKE}")),
        key: String::new(),
    };
    let (real, case) = (RefCell::new(real), Cell::new(0));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let rates = prop_oneof![
        Just((3_i128, 1_000_000_000_i128, 7_i128)),
        Just((997, 1_000_000_000, 20)),
        Just((7, 99_999_999, 7)),
        Just((1000, 1_000_000, 13)),
    ];
    runner
        .run(&(rates, ops()), |((permits, per, burst), ops)| {
            let mut real = real.borrow_mut();
            case.set(case.get() + 1);
            real.key = format!("case-{}", case.get());
            let mut model = Model::new(permits, per, burst);
            let mut clock = START;
            let mut admitted = Vec::new();
            for op in ops {
                match op {
                    Op::Pass(span) => clock += span,
                    Op::Ask(who, calls) => {
                        let me = format!("{who}");
                        let calls: Vec<_> =
                            calls.iter().map(|&(n, p)| (i128::from(n), p)).collect();
                        let expected = model.ask(clock, &me, &calls);
                        let said = real.ask(&model, clock, &me, &calls);
                        prop_assert_eq!(&said, &expected);
                        let taken = calls.iter().zip(&said[2..]);
                        let taken: i128 = taken
                            .filter(|(_, wait)| **wait == 0)
                            .map(|(call, _)| call.0)
                            .sum();
                        admitted.push((clock, taken));
                    }
                }
            }
            check_windows(&model, &admitted)?;
            Ok(())
        })
        .unwrap();
}

/// In every window of the server's clock, as long as it only goes forward in it.
fn check_windows(model: &Model, admitted: &[(i64, i128)]) -> Result<(), TestCaseError> {
    for (nth, &(begin, _)) in admitted.iter().enumerate() {
        let (mut sum, mut last) = (0, begin);
        for &(at, taken) in &admitted[nth..] {
            if at < last {
                break;
            }
            (sum, last) = (sum + taken, at);
            let allowed = model.burst * model.cost + i128::from(at - begin) * model.unit;
            prop_assert!(sum * model.cost <= allowed, "{sum} from {begin} to {at}");
        }
    }
    Ok(())
}

/// Trap 38, to and fro: however often the clock is set back and forward again, by whatever the
/// script waits out, it brings nothing.
#[test]
fn a_clock_that_swings_brings_no_permits() {
    let server = RedisServer::start();
    let client = redis::Client::open(server.url()).unwrap();
    let mut real = Real {
        connection: client.get_connection().unwrap(),
        script: Script::new(&format!("{CLOCK}{TAKE}")),
        key: "swing".to_owned(),
    };
    let model = Model::new(10, 1_000_000_000, 5);
    let mut taken = 0;
    for swing in 0..200 {
        let clock = START + if swing % 2 == 0 { 900_000 } else { 0 };
        let answer = real.ask(&model, clock, "a", &[(1, 0)]);
        taken += i32::from(answer[2] == 0);
    }
    assert_eq!(taken, 5);
}

/// What was booked under another rate is not misread: it is time, whatever the unit.
#[test]
fn another_rate_finds_the_time_that_is_booked() {
    let server = RedisServer::start();
    let client = redis::Client::open(server.url()).unwrap();
    let mut real = Real {
        connection: client.get_connection().unwrap(),
        script: Script::new(&format!("{CLOCK}{TAKE}")),
        key: "rates".to_owned(),
    };
    let slow = Model::new(3, 1_000_000_000, 3);
    assert_eq!(real.ask(&slow, START, "a", &[(3, 0)]), [START, 0, 0]);
    let fast = Model::new(7, 1_000_000_000, 7);
    // A second is booked, and the other limiter's burst is a second too: one of its permits,
    // a seventh of a second, would be there after that.
    assert_eq!(real.ask(&fast, START, "b", &[(1, 0)])[2], 142_858);
    assert_eq!(real.ask(&fast, START + 142_858, "b", &[(1, 0)])[2], 0);
}
