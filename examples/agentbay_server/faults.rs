//! What shall go wrong: rules, and the decision for each call.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A status (429) with a hint when to come back; nothing has happened.
    Throttle,
    /// Status 503 with a page of HTML; nothing has happened.
    Unavailable,
    /// Status 200 that says no; nothing has happened.
    Refuse,
    /// The connection is closed; nothing has happened.
    LostRequest,
    /// It has happened, and the connection is closed without a reply.
    LostReply,
    /// It has happened, and the reply comes late.
    SlowReply,
    /// It has happened, and the reply is one half of its JSON.
    TruncatedReply,
    /// It has happened, and the connection breaks in the middle of the reply.
    CutReply,
    /// The deletion takes longer; goes together with any other.
    SlowDelete,
}

/// When something goes wrong: the first rule that fits decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    pub(crate) kind: Kind,
    /// Actions (`CreateMcpSession`) and tools (`write_file`); empty: all.
    #[serde(default)]
    pub(crate) on: Vec<String>,
    /// So many calls that fit go well first.
    #[serde(default)]
    pub(crate) skip: u32,
    /// So many go wrong; without it there is no end.
    #[serde(default)]
    pub(crate) next: Option<u32>,
    /// How many of the calls that fit go wrong, from 0 to 1.
    #[serde(default = "always")]
    pub(crate) probability: f64,
    /// How much longer a slow reply or deletion takes.
    #[serde(default = "second")]
    pub(crate) delay_ms: u64,
    /// The status of a throttled one. The service's older gateways say 400.
    #[serde(default = "too_many")]
    pub(crate) status: u16,
    /// The hint of a throttled one.
    #[serde(default = "second")]
    pub(crate) retry_after_ms: u64,
}

const fn always() -> f64 {
    1.0
}

const fn too_many() -> u16 {
    429
}

const fn second() -> u64 {
    1_000
}

impl Rule {
    /// Everything goes wrong in this way.
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            on: Vec::new(),
            skip: 0,
            next: None,
            probability: always(),
            delay_ms: second(),
            status: too_many(),
            retry_after_ms: second(),
        }
    }

    pub(crate) fn on(mut self, name: &str) -> Self {
        self.on.push(name.to_owned());
        self
    }

    pub(crate) fn next(mut self, calls: u32) -> Self {
        self.next = Some(calls);
        self
    }

    pub(crate) fn skip(mut self, calls: u32) -> Self {
        self.skip = calls;
        self
    }

    pub(crate) fn probability(mut self, part: f64) -> Self {
        self.probability = part;
        self
    }

    pub(crate) fn delay_ms(mut self, ms: u64) -> Self {
        self.delay_ms = ms;
        self
    }

    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn retry_after_ms(mut self, ms: u64) -> Self {
        self.retry_after_ms = ms;
        self
    }

    pub(crate) fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms)
    }

    fn fits(&self, names: &[&str]) -> bool {
        self.on.is_empty() || self.on.iter().any(|on| names.contains(&on.as_str()))
    }

    /// Whether this call, which fits, goes wrong.
    fn strikes(&mut self, random: &mut fastrand::Rng) -> bool {
        if self.next == Some(0) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        let strikes = random.f64() < self.probability;
        if strikes {
            self.next = self.next.map(|left| left - 1);
        }
        strikes
    }
}

/// As on the command line: `throttle:on=CreateMcpSession:next=2:retry_after_ms=300`.
impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let kind = parts.next().unwrap_or_default();
        let kind = serde_json::from_value(kind.into()).map_err(|_| format!("no fault {kind:?}"))?;
        let mut rule = Self::new(kind);
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let wrong = |_| format!("{name} needs a number, not {value:?}");
            match name {
                "on" => rule.on.push(value.to_owned()),
                "skip" => rule.skip = value.parse().map_err(wrong)?,
                "next" => rule.next = Some(value.parse().map_err(wrong)?),
                "status" => rule.status = value.parse().map_err(wrong)?,
                "delay_ms" => rule.delay_ms = value.parse().map_err(wrong)?,
                "retry_after_ms" => rule.retry_after_ms = value.parse().map_err(wrong)?,
                "probability" => {
                    rule.probability = value
                        .parse()
                        .map_err(|_| format!("{name} needs a number, not {value:?}"))?;
                }
                _ => return Err(format!("{name} is unknown")),
            }
        }
        check(std::slice::from_ref(&rule))?;
        Ok(rule)
    }
}

/// What happens to one call.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Decision {
    pub(crate) fault: Option<Rule>,
    pub(crate) delete_delay: Option<Duration>,
}

/// The rules and their random source.
#[derive(Debug)]
pub(crate) struct Faults {
    rules: Vec<Rule>,
    random: fastrand::Rng,
    given: BTreeMap<Kind, u64>,
}

impl Faults {
    pub(crate) fn new(rules: Vec<Rule>, seed: u64) -> Self {
        Self {
            rules,
            random: fastrand::Rng::with_seed(seed),
            given: BTreeMap::new(),
        }
    }

    /// Decides on a call that goes by these names. A rule that comes after the one which
    /// decided is neither asked nor counted down.
    pub(crate) fn decide(&mut self, names: &[&str]) -> Decision {
        let mut decision = Decision::default();
        let deletes = names.iter().any(|name| DELETIONS.contains(name));
        for rule in &mut self.rules {
            let slow = rule.kind == Kind::SlowDelete;
            let open = if slow {
                deletes && decision.delete_delay.is_none()
            } else {
                decision.fault.is_none()
            };
            if !open || !rule.fits(names) || !rule.strikes(&mut self.random) {
                continue;
            }
            *self.given.entry(rule.kind).or_default() += 1;
            if slow {
                decision.delete_delay = Some(rule.delay());
            } else {
                decision.fault = Some(rule.clone());
            }
        }
        decision
    }

    /// Replaces the rules, and the random source where a seed is given.
    pub(crate) fn set(&mut self, rules: Vec<Rule>, seed: Option<u64>) -> Result<(), String> {
        check(&rules)?;
        self.rules = rules;
        if let Some(seed) = seed {
            self.random = fastrand::Rng::with_seed(seed);
        }
        Ok(())
    }

    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub(crate) fn given(&self) -> &BTreeMap<Kind, u64> {
        &self.given
    }
}

pub(crate) const DELETIONS: [&str; 2] = ["DeleteSessionAsync", "ReleaseMcpSession"];

/// A rule that waits for longer than this would be taken for a server that hangs.
const LONGEST_MS: u64 = 600_000;

fn check(rules: &[Rule]) -> Result<(), String> {
    for rule in rules {
        if !(0.0..=1.0).contains(&rule.probability) {
            return Err("probability is from 0 to 1".to_owned());
        }
        if !(400..600).contains(&rule.status) {
            return Err("status is from 400 to 599".to_owned());
        }
        if rule.delay_ms > LONGEST_MS || rule.retry_after_ms > LONGEST_MS {
            return Err(format!("a time is {LONGEST_MS} ms at most"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(faults: &mut Faults, calls: usize, names: &[&str]) -> Vec<Option<Kind>> {
        (0..calls)
            .map(|_| faults.decide(names).fault.map(|rule| rule.kind))
            .collect()
    }

    #[test]
    fn a_rule_strikes_so_often_after_so_many() {
        let rule = Rule::new(Kind::Throttle).skip(1).next(2);
        let mut faults = Faults::new(vec![rule], 0);
        let throttle = Some(Kind::Throttle);
        assert_eq!(
            kinds(&mut faults, 5, &["GetSession"]),
            [None, throttle, throttle, None, None]
        );
        assert_eq!(faults.given()[&Kind::Throttle], 2);
    }

    #[test]
    fn a_rule_strikes_its_actions_and_tools_only() {
        let rules = vec![
            Rule::new(Kind::Refuse).on("GetSession"),
            Rule::new(Kind::LostReply).on("write_file"),
        ];
        let mut faults = Faults::new(rules, 0);
        assert_eq!(kinds(&mut faults, 1, &["ListSession"]), [None]);
        assert_eq!(kinds(&mut faults, 1, &["GetSession"]), [Some(Kind::Refuse)]);
        assert_eq!(
            kinds(&mut faults, 1, &["CallMcpTool", "write_file"]),
            [Some(Kind::LostReply)]
        );
    }

    #[test]
    fn the_first_rule_that_fits_decides_and_the_others_keep_their_count() {
        let rules = vec![
            Rule::new(Kind::Throttle).next(1),
            Rule::new(Kind::Unavailable).next(1),
        ];
        let mut faults = Faults::new(rules, 0);
        assert_eq!(
            kinds(&mut faults, 3, &["GetSession"]),
            [Some(Kind::Throttle), Some(Kind::Unavailable), None]
        );
    }

    #[test]
    fn a_slow_delete_goes_together_with_a_lost_reply() {
        let rules = vec![
            Rule::new(Kind::LostReply),
            Rule::new(Kind::SlowDelete).delay_ms(7),
        ];
        let mut faults = Faults::new(rules, 0);
        let decision = faults.decide(&["DeleteSessionAsync"]);
        assert_eq!(decision.fault.unwrap().kind, Kind::LostReply);
        assert_eq!(decision.delete_delay, Some(Duration::from_millis(7)));
        assert_eq!(faults.decide(&["GetSession"]).delete_delay, None);
    }

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        let rules = vec![Rule::new(Kind::LostReply).probability(0.3)];
        let run = |seed| {
            kinds(
                &mut Faults::new(rules.clone(), seed),
                1_000,
                &["GetSession"],
            )
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let struck = run(7).iter().flatten().count();
        assert!((250..350).contains(&struck), "{struck}");
    }

    #[test]
    fn the_command_line_has_every_setting() {
        let text = "throttle:on=GetSession:on=shell:skip=1:next=2:probability=0.5:delay_ms=3:status=400:retry_after_ms=4";
        let rule = Rule::new(Kind::Throttle)
            .on("GetSession")
            .on("shell")
            .skip(1)
            .next(2)
            .probability(0.5)
            .delay_ms(3)
            .status(400)
            .retry_after_ms(4);
        assert_eq!(text.parse(), Ok(rule));
        for wrong in [
            "",
            "nothing",
            "throttle:next=x",
            "throttle:probability=2",
            "throttle:probability=NaN",
            "throttle:when=now",
            "throttle:status=200",
            "slow_reply:delay_ms=600001",
        ] {
            assert!(wrong.parse::<Rule>().is_err(), "{wrong}");
        }
    }
}
