//! The rows of the table, in its order.

mod adaptive;
mod bulkhead;
mod circuit_breaker;
mod fallback;
mod gather;
mod hedge;
pub(crate) mod pending;
mod pool;
mod rate_limit;
mod retry;
mod stack;
mod timeout;
mod tracking;

use crate::row::Row;

/// A row that is filled when it is its turn.
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    fill: fn(&mut Row),
}

impl Plan {
    /// Inside of a runtime's context: some peers start tasks of their own.
    pub(crate) fn row(&self) -> Row {
        let mut row = Row::new(self.name);
        (self.fill)(&mut row);
        row
    }
}

const fn plan(name: &'static str, fill: fn(&mut Row)) -> Plan {
    Plan { name, fill }
}

pub(crate) const ALL: &[Plan] = &[
    plan("bare future, ready at once", timeout::bare),
    plan("timeout, ready at once", timeout::ready),
    plan(
        "timeout, pending once, other timers armed",
        timeout::pending_among_others,
    ),
    plan(
        "timeout, pending once, no other timer",
        timeout::pending_alone,
    ),
    plan("retry, first attempt succeeds", retry::first),
    plan("retry, 3 failures, zero delay, then ok", retry::fourth),
    plan("rate limit, admit", rate_limit::admit),
    plan("rate limit, a call", rate_limit::call),
    plan(
        "breaker closed, count window 100",
        circuit_breaker::closed_by_count,
    ),
    plan(
        "breaker closed, time window",
        circuit_breaker::closed_by_time,
    ),
    plan("breaker open, refusal", circuit_breaker::open),
    plan("bulkhead, admit and release", bulkhead::admit),
    plan("hedge, primary ready", hedge::primary),
    plan("adaptive limiter, admit", adaptive::admit),
    plan("fallback not used", fallback::unused),
    plan("stack of five", stack::five),
    plan("stack of five as a tower layer", stack::layer),
    plan(
        "gather of 10 000 ready, limit 64, per future",
        gather::ready,
    ),
    plan(
        "gather of 10 000 yielding, limit 64, per future",
        gather::yielding,
    ),
    plan("pool, check out and return an idle object", pool::lend),
    plan("track a future", tracking::track),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Role;

    fn rows() -> Vec<Row> {
        let runtime = crate::meter::runtime();
        let _context = runtime.enter();
        ALL.iter().map(Plan::row).collect()
    }

    #[test]
    fn every_peer_takes_part() {
        let rows = rows();
        let takes_part = |name: &str| {
            let by = |who: &str| who.split(" + ").any(|part| part == name);
            rows.iter()
                .any(|row| row.entrants.iter().any(|one| by(one.who.by)))
        };
        for peer in crate::machine::PEERS {
            assert!(takes_part(peer), "{peer} is in no row");
        }
    }

    #[test]
    fn every_row_has_a_floor_and_whoever_is_missing_is_said_to_be() {
        for row in rows() {
            let has = |role| row.entrants.iter().any(|one| one.who.role == role);
            assert!(has(Role::Floor), "{}", row.name);
            let bare = row.name.starts_with("bare");
            let missing = row
                .notes
                .iter()
                .any(|note| note.contains("not in this crate"));
            assert!(has(Role::Ours) || missing || bare, "{}", row.name);
            assert!(has(Role::Peer) || bare, "{}", row.name);
        }
    }

    #[test]
    fn every_entrant_runs() {
        let (runtime, rows) = (crate::meter::runtime(), rows());
        let _context = runtime.enter();
        for row in rows.iter().filter(|row| row.calls == 1) {
            for entrant in &row.entrants {
                assert!(
                    entrant.work().run(&runtime, 2).cpu > 0,
                    "{}",
                    entrant.who.how
                );
            }
        }
    }
}
