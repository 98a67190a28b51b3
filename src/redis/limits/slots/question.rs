//! What is asked in one go, and what the answer says.

use super::super::away::Failure;
use super::leases::Return;
use crate::time::Instant;

/// One who is asked for: who waits, and under which name he gets his lease.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) id: u64,
    pub(super) serial: u64,
    pub(super) name: String,
    pub(super) weight: u32,
}

/// The question that is under way.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) sent: Instant,
    pub(super) returns: Vec<Return>,
    pub(super) renewals: Vec<u64>,
    pub(super) asking: Vec<Asking>,
}

/// What the script says.
pub(super) struct Reply<'a> {
    pub(super) used: u64,
    pub(super) claimed: bool,
    pub(super) renewals: &'a [i64],
    pub(super) tokens: &'a [i64],
}

impl<'a> Reply<'a> {
    pub(super) fn read(words: &'a [i64], asked: &Question) -> Result<Self, Failure> {
        let [now, used, claimed @ (0 | 1), words @ ..] = words else {
            return Err(Failure::Failed);
        };
        let (renewals, tokens) = words
            .split_at_checked(asked.renewals.len())
            .ok_or(Failure::Failed)?;
        let claimed = *claimed == 1;
        let (count, most) = (tokens.len(), asked.asking.len());
        let fits = if claimed {
            (1..=most).contains(&count)
        } else {
            count == most
        };
        if !fits || *now < 0 || *used < 0 || words.iter().any(|word| *word < 0) {
            return Err(Failure::Failed);
        }
        Ok(Self {
            used: used.unsigned_abs(),
            claimed,
            renewals,
            tokens,
        })
    }
}
