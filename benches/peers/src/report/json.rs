//! The figures, for programs.

use serde_json::{Map, Value, json};

use crate::goals::{self, Judgement};
use crate::outcome::{Figure, Outcome};
use crate::row::Role;
use crate::run::Findings;

pub(crate) fn json(findings: &Findings) -> Value {
    let machine = &findings.machine;
    let scale = machine.scale();
    let primitives = machine
        .primitives
        .iter()
        .map(|one| json!({ "name": one.name, "ns": one.here, "reference_ns": one.there }));
    let versions = machine.versions.iter();
    let versions = versions.map(|(name, version)| (name.clone(), json!(version)));
    json!({
        "quick": findings.quick,
        "date": machine.date,
        "processor": machine.processor,
        "cores": machine.cores,
        "system": machine.system,
        "rustc": machine.rustc,
        "scale": scale,
        "primitives": primitives.collect::<Vec<_>>(),
        "versions": versions.collect::<Map<_, _>>(),
        "rows": findings.outcomes.iter().map(|one| row(one, scale)).collect::<Vec<_>>(),
    })
}

fn row(outcome: &Outcome, machine: f64) -> Value {
    let judgements = goals::judge(outcome, machine);
    json!({
        "name": outcome.name,
        "threads": outcome.threads,
        "unit": outcome.unit.name(),
        "scale": goals::scale(outcome, machine),
        "ours": outcome.least(Role::Ours),
        "best_peer": outcome.least(Role::Peer),
        "floor": outcome.least(Role::Floor),
        "to_best_peer": outcome.ratio_to(Role::Peer),
        "to_floor": outcome.ratio_to(Role::Floor),
        "goals": judgements.iter().map(goal).collect::<Vec<_>>(),
        "verdict": goals::verdict(outcome, machine).name(),
        "measured_times": outcome.times,
        "notes": outcome.notes,
        "entrants": outcome.figures.iter().map(entrant).collect::<Vec<_>>(),
    })
}

fn goal(one: &Judgement) -> Value {
    json!({
        "goal": one.goal,
        "limit": one.limit,
        "measured": one.measured,
        "met": one.met(),
    })
}

fn entrant(figure: &Figure) -> Value {
    let (who, sample) = (&figure.who, &figure.sample);
    json!({
        "role": who.role.name(),
        "crate": who.by,
        "how": who.how,
        "note": who.note,
        "median": sample.median,
        "p10": sample.p10,
        "min": sample.min,
        "rounds": sample.rounds,
        "allocations": sample.allocations,
        "bytes": sample.bytes,
        "reference_ns": who.anchor,
    })
}
