//! The findings, for people and for programs.

pub(crate) mod json;
pub(crate) mod markdown;
pub(crate) mod svg;
pub(crate) mod table;

/// A figure with as many digits as it deserves.
pub(crate) fn short(figure: f64) -> String {
    match figure {
        _ if figure.is_nan() => "–".into(),
        _ if figure < 9.995 => format!("{figure:.2}"),
        _ if figure < 99.95 => format!("{figure:.1}"),
        _ => grouped(figure),
    }
}

/// A large number, in groups of three digits.
fn grouped(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// It, or a dash.
pub(crate) fn or_dash(figure: Option<f64>) -> String {
    figure.map_or_else(|| "–".into(), short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goals::Goal;
    use crate::machine::{Machine, Primitive};
    use crate::outcome::Outcome;
    use crate::outcome::tests::{figure, outcome};
    use crate::row::Role;
    use crate::run::Findings;

    /// A row that meets its goal and one that does not.
    pub(super) fn findings() -> Findings {
        let row = |name: &str, nanos| Outcome {
            name: name.into(),
            goals: vec![Goal::Nanos(12.0)],
            notes: vec!["Not alike."],
            ..outcome(vec![
                figure(Role::Floor, "floor", 5.0, None),
                figure(Role::Peer, "tokio", 40.0, None),
                figure(Role::Ours, "mainstay", nanos, None),
            ])
        };
        Findings {
            machine: Machine {
                processor: "some processor".into(),
                cores: 2,
                system: "some system".into(),
                rustc: "some compiler".into(),
                date: "2000-01-01".into(),
                versions: vec![("tokio".into(), "1.0.0".into())],
                primitives: vec![Primitive {
                    name: "clock",
                    here: 20.0,
                    there: 20.0,
                }],
            },
            outcomes: vec![row("some row", 10.0), row("slow row", 90.0)],
            quick: false,
        }
    }

    #[test]
    fn programs_find_each_figure() {
        let value = json::json(&findings());
        assert_eq!(value["versions"]["tokio"], "1.0.0");
        assert_eq!(value["rows"][0]["to_best_peer"], 0.25);
        assert_eq!(value["rows"][1]["verdict"], "missed");
        assert_eq!(value["rows"][0]["entrants"][1]["crate"], "tokio");
        assert!(value["rows"][0]["entrants"][1]["allocations"].is_null());
    }

    #[test]
    fn figures_have_the_digits_they_deserve() {
        assert_eq!(short(0.934), "0.93");
        assert_eq!(short(9.999), "10.0");
        assert_eq!(short(388.4), "388");
        assert_eq!(short(3_245_721.0), "3 245 721");
        assert_eq!(short(f64::NAN), "–");
    }
}
