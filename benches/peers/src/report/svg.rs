//! The plot: for each row the floor, the best peer and this crate, on a logarithmic scale.

use std::fmt::Write as _;

use super::short;
use crate::outcome::{Outcome, Unit};
use crate::row::Role;
use crate::run::Findings;

const WIDTH: f64 = 960.0;
/// Where the bars begin, and how long they may be.
const LEFT: f64 = 330.0;
const SPAN: f64 = 560.0;
const BAR: f64 = 9.0;
const ROW: f64 = 36.0;
const TOP: f64 = 64.0;
/// The scale, in nanoseconds.
const FROM: f64 = 0.5;
const TO: f64 = 2000.0;

const BARS: [(Role, &str, &str); 3] = [
    (Role::Floor, "floor", "#9aa5b1"),
    (Role::Peer, "best peer", "#d98e32"),
    (Role::Ours, "mainstay", "#2b6cb0"),
];

pub(crate) fn svg(findings: &Findings) -> String {
    let outcomes = findings.outcomes.iter();
    let rows: Vec<_> = outcomes.filter(|one| one.unit == Unit::Nanos).collect();
    let height = TOP + ROW * rows.len() as f64 + 30.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#1a202c\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    legend(&mut text);
    grid(&mut text, height - 30.0);
    for (nth, outcome) in rows.iter().enumerate() {
        row(&mut text, TOP + ROW * nth as f64, outcome);
    }
    text.push_str("</svg>\n");
    text
}

/// How far to the right.
fn x(nanos: f64) -> f64 {
    let part = (nanos / FROM).ln() / (TO / FROM).ln();
    LEFT + SPAN * part.clamp(0.0, 1.0)
}

fn legend(text: &mut String) {
    let _ = writeln!(
        text,
        "<text x=\"10\" y=\"24\" font-size=\"15\">One call, in nanoseconds (logarithmic)</text>"
    );
    for (nth, (_, name, color)) in BARS.iter().enumerate() {
        let at = LEFT + 130.0 * nth as f64;
        let _ = writeln!(
            text,
            "<rect x=\"{at}\" y=\"14\" width=\"12\" height=\"12\" fill=\"{color}\"/>\
             <text x=\"{}\" y=\"24\">{name}</text>",
            at + 18.0
        );
    }
}

fn grid(text: &mut String, bottom: f64) {
    for nanos in [1.0, 10.0, 100.0, 1000.0] {
        let at = x(nanos);
        let _ = writeln!(
            text,
            "<line x1=\"{at:.1}\" y1=\"{}\" x2=\"{at:.1}\" y2=\"{bottom}\" stroke=\"#e2e8f0\"/>\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            TOP - 8.0,
            TOP - 14.0,
            short(nanos).trim_end_matches(".00").trim_end_matches(".0"),
        );
    }
}

fn row(text: &mut String, top: f64, outcome: &Outcome) {
    let threads = if outcome.threads == 1 {
        ""
    } else {
        ", two threads"
    };
    let _ = writeln!(
        text,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" font-size=\"11\">{}{threads}</text>",
        LEFT - 8.0,
        top + 18.0,
        outcome.name,
    );
    for (nth, (role, _, color)) in BARS.iter().enumerate() {
        let Some(nanos) = outcome.least(*role).filter(|nanos| nanos.is_finite()) else {
            continue;
        };
        let (y, end) = (top + (BAR + 1.0) * nth as f64, x(nanos));
        let _ = writeln!(
            text,
            "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{color}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"9\">{}</text>",
            end - LEFT,
            end + 4.0,
            y + 8.0,
            short(nanos),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::findings;

    #[test]
    fn the_scale_is_logarithmic_and_ends_at_its_ends() {
        assert!((x(FROM) - LEFT).abs() < 1e-9);
        assert!((x(TO * 9.0) - LEFT - SPAN).abs() < 1e-9);
        assert!((x(100.0) - x(10.0) - (x(10.0) - x(1.0))).abs() < 1e-9);
    }

    #[test]
    fn each_row_has_its_bars() {
        let picture = svg(&findings());
        assert!(picture.contains(">some row</text>"));
        // The background, three in the legend, three of each row.
        assert_eq!(picture.matches("<rect").count(), 1 + 3 + 2 * 3);
    }
}
