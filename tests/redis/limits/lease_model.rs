//! The script of the bulkhead against a slow and obvious model, on a clock of the test's.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use proptest::prelude::*;
use redis::{Connection, Script};

use super::take_model::CLOCK;
use crate::redis_server::RedisServer;

const LEASE: &str = include_str!("../../../src/redis/limits/slots/lease.lua");
const START: i64 = 1_700_000_000_000_000;
const PATIENCE: i64 = 200_000;
const LENGTH: i64 = 3_000_000;
const SLOTS: i64 = 5;

#[derive(Debug, Default)]
struct Question {
    given_back: Vec<String>,
    renewed: Vec<(String, i64)>,
    asked: Vec<(String, bool)>,
}

#[derive(Debug, Default)]
struct Model {
    at: i64,
    fence: i64,
    leases: BTreeMap<String, i64>,
    /// Since when, till when, how heavy.
    claims: BTreeMap<String, (i64, i64, i64)>,
}

fn weight(lease: &str) -> i64 {
    lease.rsplit(':').next().unwrap().parse().unwrap()
}

impl Model {
    fn used(&self) -> i64 {
        self.leases.keys().map(|lease| weight(lease)).sum()
    }

    fn ask(&mut self, clock: i64, me: &str, question: &Question) -> Vec<i64> {
        let mut now = clock;
        let back = self.at - clock;
        if back > 1_000_000 {
            self.at = clock;
            self.leases.values_mut().for_each(|ends| *ends -= back);
            for claim in self.claims.values_mut() {
                *claim = (claim.0 - back, claim.1 - back, claim.2);
            }
        } else if back > 0 {
            now = self.at;
        }
        self.at = self.at.max(now);
        for lease in &question.given_back {
            self.leases.remove(lease);
        }
        self.leases.retain(|_, ends| *ends > now);
        let mut answer = vec![now, 0, 0];
        for (lease, token) in &question.renewed {
            let known = self.leases.contains_key(lease);
            let room = self.used() + weight(lease) <= SLOTS;
            if known || room {
                self.leases.insert(lease.clone(), now + LENGTH);
            }
            if !known && room {
                self.fence = self.fence.max(*token);
            }
            answer.push(i64::from(known || room));
        }
        let mut place = self.claims.remove(me).map(|mine| {
            let late = mine.1 < now;
            if late { now } else { mine.0 }
        });
        self.claims.retain(|_, claim| claim.1 >= now);
        for (lease, waits) in &question.asked {
            let ahead = self.claims.iter().filter(|(name, claim)| {
                place.is_none_or(|since| (claim.0, name.as_str()) < (since, me))
            });
            let ahead: i64 = ahead.map(|(_, claim)| claim.2).sum();
            if self.used() + ahead + weight(lease) <= SLOTS {
                self.leases.insert(lease.clone(), now + LENGTH);
                self.fence = (self.fence + 1).max(now);
                answer.push(self.fence);
                place = None;
                continue;
            }
            answer.push(0);
            if *waits {
                answer[2] = 1;
                let claim = (place.unwrap_or(now), now + PATIENCE, weight(lease));
                self.claims.insert(me.to_owned(), claim);
                break;
            }
        }
        answer[1] = self.used();
        answer
    }
}

struct Real {
    connection: Connection,
    script: Script,
    key: String,
}

impl Real {
    fn ask(&mut self, clock: i64, me: &str, question: &Question) -> Vec<i64> {
        let mut call = self.script.prepare_invoke();
        call.key(format!("{}:leases", self.key))
            .key(format!("{}:book", self.key));
        call.arg(clock).arg(me).arg(LENGTH).arg(SLOTS).arg(PATIENCE);
        call.arg(question.given_back.len())
            .arg(question.renewed.len())
            .arg(question.asked.len());
        for lease in &question.given_back {
            call.arg(lease);
        }
        for (lease, token) in &question.renewed {
            call.arg(lease).arg(*token);
        }
        for (lease, waits) in &question.asked {
            call.arg(lease).arg(i32::from(*waits));
        }
        call.invoke(&mut self.connection).unwrap()
    }

    fn lose(&mut self, what: &str) {
        let key = format!("{}:{what}", self.key);
        let () = redis::cmd("DEL")
            .arg(key)
            .query(&mut self.connection)
            .unwrap();
    }
}

#[derive(Clone, Debug)]
enum Op {
    Pass(i64),
    /// By one of three: how many to give back and to renew of what it had, and what to ask for.
    Ask(u8, usize, usize, Vec<(u8, bool)>),
    /// The server comes back without its data.
    Forget,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let span = prop_oneof![
        4 => 0..100_000_i64,
        2 => 0..4_000_000_i64,
        1 => -4_000_000..0_i64,
    ];
    let asked = prop::collection::vec((1..=3_u8, any::<bool>()), 0..4);
    let op = prop_oneof![
        6 => span.prop_map(Op::Pass),
        12 => (0..3_u8, 0..3_usize, 0..4_usize, asked)
            .prop_map(|(who, back, renewed, asked)| Op::Ask(who, back, renewed, asked)),
        1 => Just(Op::Forget),
    ];
    prop::collection::vec(op, 1..60)
}

/// Whatever the history: the same answers, never more than the slots, tokens that rise, and a
/// lease that is given back late changes nothing for whoever has the slot now.
#[test]
fn the_script_does_what_the_model_does() {
    let server = RedisServer::start();
    let client = redis::Client::open(server.url()).unwrap();
    let real = Real {
        connection: client.get_connection().unwrap(),
        script: Script::new(&format!("{CLOCK}{LEASE}")),
        key: String::new(),
    };
    let (real, case) = (RefCell::new(real), Cell::new(0));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(&ops(), |ops| {
            let mut real = real.borrow_mut();
            case.set(case.get() + 1);
            real.key = format!("case-{}", case.get());
            let mut model = Model::default();
            let (mut clock, mut highest, mut forgot_at) = (START, 0, 0);
            // What each process believes to hold, also where that is long over.
            let mut had: Vec<Vec<(String, i64)>> = vec![Vec::new(); 3];
            let mut names = 0;
            for op in ops {
                let (who, back, renewed, asked) = match op {
                    Op::Ask(who, back, renewed, asked) => (who, back, renewed, asked),
                    Op::Pass(span) => {
                        clock += span;
                        continue;
                    }
                    Op::Forget => {
                        model = Model::default();
                        real.lose("leases");
                        real.lose("book");
                        forgot_at = highest;
                        continue;
                    }
                };
                let mine = &mut had[usize::from(who)];
                let mut question = Question::default();
                for _ in 0..back.min(mine.len()) {
                    question.given_back.push(mine.remove(0).0);
                }
                question.renewed = mine.iter().take(renewed).cloned().collect();
                for (heavy, waits) in asked {
                    names += 1;
                    question
                        .asked
                        .push((format!("{who}-{names}:{heavy}"), waits));
                }
                let me = format!("{who}");
                let expected = model.ask(clock, &me, &question);
                let said = real.ask(clock, &me, &question);
                prop_assert_eq!(&said, &expected);
                prop_assert!(said[1] <= SLOTS, "{} slots in use", said[1]);
                let tokens = &said[3 + question.renewed.len()..];
                for (token, (lease, _)) in tokens.iter().zip(question.asked) {
                    if *token > 0 {
                        // After a loss they rise with the clock, or with who renews.
                        prop_assert!(*token > highest || clock <= forgot_at);
                        highest = highest.max(*token);
                        mine.push((lease, *token));
                    }
                }
            }
            Ok(())
        })
        .unwrap();
}

/// A server that evicts keys may evict one of the two.
#[test]
fn one_key_without_the_other_is_made_good() {
    let server = RedisServer::start();
    let client = redis::Client::open(server.url()).unwrap();
    let mut real = Real {
        connection: client.get_connection().unwrap(),
        script: Script::new(&format!("{CLOCK}{LEASE}")),
        key: "half".to_owned(),
    };
    let ask = |name: &str| Question {
        asked: vec![(name.to_owned(), false)],
        ..Question::default()
    };
    let first = real.ask(START, "a", &ask("a-1:3"));
    assert_eq!(first, [START, 3, 0, START]);
    real.lose("book");
    // The weights are counted anew, and the token rises with the clock.
    let second = real.ask(START + 1, "a", &ask("a-2:3"));
    assert_eq!(second, [START + 1, 3, 0, 0]);
    let third = real.ask(START + 2, "a", &ask("a-3:2"));
    assert_eq!(third, [START + 2, 5, 0, START + 2]);
    real.lose("leases");
    let fourth = real.ask(START + 3, "a", &ask("a-4:5"));
    assert_eq!(fourth, [START + 3, 5, 0, START + 3]);
}
