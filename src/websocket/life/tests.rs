//! Histories of one connection, and of a thousand.

use proptest::prelude::*;

use super::*;
use crate::retry::Jitter;

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

fn spans() -> Spans {
    Spans {
        ping_interval: 20 * SECOND,
        pong_timeout: 10 * SECOND,
        write_timeout: 30 * SECOND,
        stable_after: 10 * SECOND,
        backoff: Backoff::exponential(SECOND).jitter(Jitter::None),
    }
}

fn at(span: Duration) -> Instant {
    Instant::from_nanos(0).saturating_add(span)
}

fn up(now: Instant) -> Life {
    let mut life = Life::new(spans(), 1);
    assert_eq!(life.step(now), Step::Connect);
    assert!(life.connected(now));
    life
}

/// Connects at the first moment it may, and loses that connection after `lives`.
fn flap(life: &mut Life, now: &mut Instant, lives: Duration) -> Duration {
    let waited = match life.step(*now) {
        Step::WaitUntil(until) => until.since(*now),
        _ => Duration::ZERO,
    };
    if !waited.is_zero() {
        *now = now.saturating_add(waited);
        assert_eq!(life.step(*now), Step::Connect);
    }
    assert!(life.connected(*now));
    *now = now.saturating_add(lives);
    life.lost(*now);
    waited
}

/// Trap 53.
#[test]
fn connections_that_die_at_once_do_not_reset_the_back_off() {
    let mut life = Life::new(spans(), 1);
    let mut now = at(SECOND);
    let waits: Vec<Duration> = (0..50)
        .map(|_| flap(&mut life, &mut now, 10 * MILLI))
        .collect();
    let expected = [0, 1, 2, 4, 8, 16, 30, 30].map(Duration::from_secs);
    assert_eq!(waits[..8], expected);
    assert!(waits[6..].iter().all(|wait| *wait == 30 * SECOND));
}

#[test]
fn a_stable_connection_resets_it() {
    let mut life = Life::new(spans(), 1);
    let mut now = at(SECOND);
    for _ in 0..5 {
        flap(&mut life, &mut now, 10 * MILLI);
    }
    assert_eq!(flap(&mut life, &mut now, 10 * SECOND), 16 * SECOND);
    assert_eq!(flap(&mut life, &mut now, MILLI), SECOND);
    assert_eq!(flap(&mut life, &mut now, MILLI), 2 * SECOND);
}

#[test]
fn a_server_that_says_when_to_come_back_is_asked_after_that_and_the_back_off() {
    let mut life = Life::new(spans(), 1);
    let now = at(SECOND);
    for (hint, expected) in [(40, 41), (0, 2), (86_400, 304)] {
        life.phase = Phase::Connecting;
        life.failed(now, hint * SECOND);
        let until = now.saturating_add(expected * SECOND);
        assert_eq!(life.step(now), Step::WaitUntil(until));
    }
}

#[test]
fn without_a_back_off_it_does_not_spin() {
    let backoff = Backoff::none();
    let mut life = Life::new(Spans { backoff, ..spans() }, 1);
    let now = at(SECOND);
    assert_eq!(life.step(now), Step::Connect);
    life.failed(now, Duration::ZERO);
    let until = now.saturating_add(10 * MILLI);
    assert_eq!(life.step(now), Step::WaitUntil(until));
}

#[test]
fn a_silent_peer_is_pinged_once_and_then_dead() {
    let mut life = up(at(Duration::ZERO));
    assert_eq!(life.check(at(19 * SECOND)), Health::Fine(at(20 * SECOND)));
    assert_eq!(life.check(at(20 * SECOND)), Health::Ping);
    life.wrote(at(20 * SECOND));
    life.wrote(at(21 * SECOND));
    assert_eq!(life.check(at(21 * SECOND)), Health::Fine(at(30 * SECOND)));
    assert_eq!(life.check(at(30 * SECOND)), Health::Silent);
}

#[test]
fn whatever_is_heard_is_a_sign_of_life() {
    let mut life = up(at(Duration::ZERO));
    assert_eq!(life.check(at(20 * SECOND)), Health::Ping);
    life.wrote(at(20 * SECOND));
    life.heard(at(29 * SECOND));
    assert_eq!(life.check(at(30 * SECOND)), Health::Fine(at(49 * SECOND)));
}

/// Trap 62.
#[test]
fn an_hour_in_which_we_slept_is_one_ping_and_no_dead_peer() {
    let mut life = up(at(Duration::ZERO));
    let late = at(3600 * SECOND);
    assert_eq!(life.check(late), Health::Ping);
    life.wrote(late);
    assert_eq!(life.check(late), Health::Fine(at(3610 * SECOND)));
}

#[test]
fn a_peer_that_talks_and_never_reads_is_given_up() {
    let mut life = up(at(Duration::ZERO));
    life.blocked(at(SECOND));
    life.heard(at(25 * SECOND));
    life.blocked(at(25 * SECOND));
    assert_eq!(life.check(at(30 * SECOND)), Health::Fine(at(31 * SECOND)));
    life.heard(at(31 * SECOND));
    assert_eq!(life.check(at(31 * SECOND)), Health::Stalled);
    life.wrote(at(31 * SECOND));
    assert_eq!(life.check(at(31 * SECOND)), Health::Fine(at(51 * SECOND)));
}

#[test]
fn a_peer_that_reads_slowly_is_not_given_up() {
    let mut life = up(at(Duration::ZERO));
    for second in 1..300 {
        life.blocked(at(second * SECOND));
        // Its silence is no sign: the ping stands behind what it reads.
        assert!(matches!(
            life.check(at(second * SECOND)),
            Health::Fine(_) | Health::Ping
        ));
        if second % 20 == 0 {
            life.advanced();
        }
    }
    life.wrote(at(300 * SECOND));
    assert_eq!(life.check(at(300 * SECOND)), Health::Fine(at(310 * SECOND)));
    assert_eq!(life.check(at(310 * SECOND)), Health::Silent);
}

#[test]
fn closed_is_for_good() {
    let now = at(SECOND);
    let mut idle = Life::new(spans(), 1);
    idle.close();
    let mut connecting = Life::new(spans(), 1);
    connecting.step(now);
    connecting.close();
    assert!(!connecting.connected(now));
    let mut down = up(now);
    down.lost(now);
    down.close();
    let mut open = up(now);
    open.close();
    assert_eq!(open.check(now), Health::Closing);
    open.lost(now);
    for mut life in [idle, connecting, down, open] {
        life.failed(now, Duration::ZERO);
        life.lost(now);
        life.orphaned();
        life.close();
        assert_eq!((life.step(now), life.phase), (Step::End, Phase::Closed));
    }
}

#[test]
fn an_orphan_can_be_taken_up_again() {
    let mut life = up(at(SECOND));
    life.orphaned();
    assert_eq!(life.totals().lost, 1);
    assert_eq!(life.step(at(SECOND)), Step::Connect);
}

#[test]
fn what_has_happened_is_counted() {
    let mut life = Life::new(spans(), 1);
    let mut now = at(SECOND);
    for _ in 0..2 {
        flap(&mut life, &mut now, MILLI);
    }
    for _ in 0..3 {
        let Step::WaitUntil(until) = life.step(now) else {
            panic!("it is down");
        };
        now = until;
        assert_eq!(life.step(now), Step::Connect);
        life.failed(now, Duration::ZERO);
    }
    let expected = Totals {
        connects: 2,
        failed_connects: 3,
        lost: 2,
    };
    assert_eq!(life.totals(), expected);
}

#[test]
fn its_state_says_how_long_it_is_up_and_when_it_tries_again() {
    let mut life = Life::new(spans(), 1);
    assert_eq!(life.state(at(SECOND)), LinkState::Idle);
    life.step(at(SECOND));
    assert_eq!(life.state(at(SECOND)), LinkState::Connecting);
    life.connected(at(SECOND));
    let age = 2 * SECOND;
    assert_eq!(life.state(at(3 * SECOND)), LinkState::Up { age });
    life.lost(at(3 * SECOND));
    let retry_after = SECOND;
    assert_eq!(life.state(at(3 * SECOND)), LinkState::Down { retry_after });
    life.close();
    assert_eq!(life.state(at(3 * SECOND)), LinkState::Closed);
    let mut closing = up(at(SECOND));
    closing.close();
    assert_eq!(closing.state(at(SECOND)), LinkState::Closed);
}

/// Trap 95: a thousand clients lose one server at the same moment, and it is away for 3 s.
#[test]
fn a_thousand_clients_come_back_spread_over_the_jitter() {
    let spans = Spans {
        backoff: Backoff::exponential(SECOND),
        ..spans()
    };
    let (lost, back) = (at(60 * SECOND), at(63 * SECOND));
    let mut attempts = Vec::new();
    let mut arrivals = Vec::new();
    let mut random = fastrand::Rng::with_seed(9);
    for _ in 0..1000 {
        let mut life = Life::new(spans, random.u64(..));
        life.step(at(Duration::ZERO));
        life.connected(at(Duration::ZERO));
        life.lost(lost);
        let mut now = lost;
        loop {
            match life.step(now) {
                Step::WaitUntil(until) => now = until,
                Step::Connect if now < back => {
                    attempts.push(now.since(lost));
                    life.failed(now, Duration::ZERO);
                }
                Step::Connect => break arrivals.push(now.since(back)),
                Step::End => panic!("it is not closed"),
            }
        }
    }
    let busiest = |times: &[Duration]| {
        let mut slots = std::collections::BTreeMap::new();
        for time in times {
            *slots.entry(time.as_millis() / 100).or_insert(0) += 1;
        }
        slots.into_values().max().unwrap()
    };
    assert!(busiest(&attempts) < 200, "{} at once", busiest(&attempts));
    assert!(busiest(&arrivals) < 100, "{} at once", busiest(&arrivals));
    arrivals.sort_unstable();
    let (middle, longest) = (arrivals[500], arrivals[999]);
    assert!(middle > SECOND && middle < 8 * SECOND, "{middle:?}");
    assert!(longest <= 30 * SECOND, "{longest:?}");
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Pass(u64),
    Connected,
    Failed,
    Lost,
    Heard,
    Wrote,
    Blocked,
    Advanced,
    Orphaned,
    Close,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..20_000_u64).prop_map(Event::Pass),
        4 => Just(Event::Connected),
        2 => Just(Event::Failed),
        2 => Just(Event::Lost),
        3 => Just(Event::Heard),
        2 => Just(Event::Wrote),
        2 => Just(Event::Blocked),
        1 => Just(Event::Advanced),
        1 => Just(Event::Orphaned),
        1 => Just(Event::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::models::cases("websocket"), ..ProptestConfig::default() })]

    /// The rules, each told from the whole history.
    #[test]
    fn it_keeps_the_rules(events in proptest::collection::vec(event(), 0..150)) {
        let mut life = Life::new(spans(), 1);
        let mut now = at(SECOND);
        let mut closed = false;
        let (mut up_since, mut heard, mut blocked, mut ping) = (None, now, None, None);
        let mut asked = false;
        let mut failures = 0_u32;
        for event in events {
            let was = life.phase;
            match event {
                Event::Pass(millis) => now = now.saturating_add(Duration::from_millis(millis)),
                Event::Connected => if life.connected(now) {
                    (up_since, heard, blocked, ping) = (Some(now), now, None, None);
                    asked = false;
                },
                Event::Failed => {
                    life.failed(now, Duration::ZERO);
                    failures += u32::from(was == Phase::Connecting);
                }
                Event::Lost => {
                    life.lost(now);
                    if let Some(since) = up_since.take() {
                        if now.since(since) >= spans().stable_after { failures = 0; }
                        failures += u32::from(!closed);
                    }
                }
                Event::Heard => { life.heard(now); heard = now; ping = None; asked = false; }
                Event::Wrote => {
                    life.wrote(now);
                    blocked = None;
                    if asked { ping = ping.or(Some(now)); }
                }
                Event::Blocked => { life.blocked(now); blocked = blocked.or(Some(now)); }
                Event::Advanced => { life.advanced(); blocked = None; }
                Event::Orphaned => { life.orphaned(); up_since = None; }
                Event::Close => { life.close(); closed = true; }
            }
            prop_assert_eq!(life.is_closed(), closed);
            prop_assert_eq!(life.is_up(), up_since.is_some() && !closed);
            if let Phase::Down { until } = life.phase {
                if was != life.phase {
                    let shift = failures.saturating_sub(1).min(5);
                    let expected = Duration::from_secs(1 << shift).min(30 * SECOND);
                    prop_assert_eq!(until.since(now), expected);
                }
            }
            match life.check(now) {
                Health::Closing => prop_assert!(!life.is_up()),
                Health::Stalled => prop_assert!(now.since(blocked.unwrap()) >= 30 * SECOND),
                Health::Silent => prop_assert!(now.since(ping.unwrap()) >= 10 * SECOND),
                Health::Ping => {
                    prop_assert!(!asked && now.since(heard) >= 20 * SECOND);
                    asked = true;
                }
                Health::Fine(until) => {
                    prop_assert!(until > now);
                    // Longer only for a ping that is to be written, which says so itself.
                    let is_under_way = asked && ping.is_none();
                    prop_assert!(is_under_way || until.since(now) <= 20 * SECOND);
                }
            }
            if !life.is_up() {
                match life.step(now) {
                    Step::Connect => prop_assert!(!closed),
                    Step::WaitUntil(until) => prop_assert!(!closed && until > now),
                    Step::End => prop_assert!(closed || life.phase == Phase::Connecting),
                }
            }
        }
    }
}
