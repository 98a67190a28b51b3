//! Line plots as SVG, with logarithmic axes, readable on white and on black.

use std::fmt::Write as _;

use crate::growth::series::{Figure, Series};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 48.0;
/// Between two lines of the legend.
const LEADING: f64 = 17.0;

/// Told apart by who cannot tell red from green, on either background.
const COLOURS: [&str; 6] = [
    "#2f7fd1", "#e07b1f", "#1f9e77", "#c2559d", "#8a6fd1", "#b08a00",
];
const GREY: &str = "#808080";
/// The yardsticks are grey; these tell them apart.
const DASHES: [&str; 3] = [
    " stroke-dasharray=\"6 4\"",
    " stroke-dasharray=\"2 3\"",
    " stroke-dasharray=\"9 3 2 3\"",
];

/// A logarithmic axis over whole decades.
struct Axis {
    low: i32,
    high: i32,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min).log10().floor() as i32;
        let most = values.fold(0.0, f64::max).log10().ceil() as i32;
        Self {
            low: least,
            high: most.max(least + 1),
            from,
            to,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let part = (value.log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        self.from + (self.to - self.from) * part
    }

    fn decades(&self) -> impl Iterator<Item = f64> + use<> {
        (self.low..=self.high).map(|decade| 10_f64.powi(decade))
    }
}

/// The whole picture.
pub(crate) fn svg(figure: &Figure) -> String {
    let lines = figure.ours.len() + figure.yardsticks.len();
    let top = TOP + LEADING * lines as f64;
    let bottom = HEIGHT + LEADING * lines as f64 - BOTTOM;
    let all = || {
        let series = figure.ours.iter().chain(&figure.yardsticks);
        series.flat_map(|series| &series.points)
    };
    let x = Axis::over(all().map(|p| p.size as f64), LEFT, WIDTH - RIGHT);
    let y = Axis::over(all().map(|p| p.cost), bottom, top);

    let mut out = head(figure, bottom + BOTTOM);
    grid(&mut out, &x, &y, figure);
    for (n, series) in figure.ours.iter().enumerate() {
        let colour = COLOURS[n % COLOURS.len()];
        line(&mut out, series, (&x, &y), colour, "");
        legend(&mut out, &series.name, n, colour, "");
    }
    for (n, series) in figure.yardsticks.iter().enumerate() {
        let dashes = DASHES[n % DASHES.len()];
        line(&mut out, series, (&x, &y), GREY, dashes);
        legend(&mut out, &series.name, figure.ours.len() + n, GREY, dashes);
    }
    out.push_str("</svg>\n");
    out
}

fn head(figure: &Figure, height: f64) -> String {
    let title = escaped(figure.title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"{GREY}\" role=\"img\">\n\
         <title>{title}</title>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\" font-weight=\"600\">{title}</text>\n"
    )
}

fn grid(out: &mut String, x: &Axis, y: &Axis, figure: &Figure) {
    let (bottom, top) = (y.from, y.to);
    for decade in x.decades() {
        let at = x.place(decade);
        rule(out, (at, bottom), (at, top));
        text(out, (at, bottom + 16.0), "middle", &power(decade));
    }
    for decade in y.decades() {
        let at = y.place(decade);
        rule(out, (x.from, at), (x.to, at));
        text(out, (x.from - 8.0, at + 4.0), "end", &power(decade));
    }
    let middle = f64::midpoint(x.from, x.to);
    text(out, (middle, bottom + 36.0), "middle", figure.axis);
    let unit = format!("{} per operation", figure.unit);
    text(out, (x.to, 22.0), "end", &unit);
}

fn rule(out: &mut String, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        out,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{GREY}\" \
         stroke-opacity=\"0.25\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(out: &mut String, at: (f64, f64), anchor: &str, words: &str) {
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
        at.0,
        at.1,
        escaped(words)
    );
}

fn line(out: &mut String, series: &Series, axes: (&Axis, &Axis), colour: &str, dashes: &str) {
    let places = series
        .points
        .iter()
        .map(|point| (axes.0.place(point.size as f64), axes.1.place(point.cost)));
    let places: Vec<_> = places.collect();
    let path: Vec<_> = places
        .iter()
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    let _ = writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>",
        path.join(" ")
    );
    for (x, y) in places {
        let _ = writeln!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
        );
    }
}

fn legend(out: &mut String, name: &str, nth: usize, colour: &str, dashes: &str) {
    let y = 40.0 + LEADING * nth as f64;
    let _ = writeln!(
        out,
        "<line x1=\"{LEFT}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"{colour}\" \
         stroke-width=\"2\"{dashes}/>",
        LEFT + 24.0
    );
    text(out, (LEFT + 32.0, y + 4.0), "start", name);
}

/// A power of ten, in figures as long as they are short.
fn power(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", v / 1e6),
        v if v >= 1e3 => format!("{}k", v / 1e3),
        v => format!("{v}"),
    }
}

fn escaped(words: &str) -> String {
    let words = words.replace('&', "&amp;");
    words.replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::growth::series::tests::{figure, series};

    #[test]
    fn every_point_is_inside_of_the_picture() {
        let drawn = svg(&figure(
            series("a & b", |n| 3.0 * n),
            series("flat", |_| 20.0),
        ));
        let circles = drawn.lines().filter(|line| line.starts_with("<circle"));
        let mut seen = 0;
        for circle in circles {
            let number = |name: &str| {
                let after = circle.split(name).nth(1)?;
                after.split('"').next()?.parse::<f64>().ok()
            };
            let number = |name| number(name).expect("a number");
            let (x, y) = (number("cx=\""), number("cy=\""));
            assert!((LEFT..=WIDTH).contains(&x) && (TOP..=HEIGHT).contains(&y));
            seen += 1;
        }
        assert_eq!(seen, 10);
        assert!(drawn.contains("a &amp; b") && drawn.ends_with("</svg>\n"));
    }

    #[test]
    fn axes_cover_whole_decades() {
        let axis = Axis::over([3.0, 250.0].into_iter(), 0.0, 100.0);
        assert_eq!(
            axis.decades().collect::<Vec<_>>(),
            [1.0, 10.0, 100.0, 1000.0]
        );
        assert!((axis.place(10.0) - 100.0 / 3.0).abs() < 1e-9);
        let narrow = Axis::over([10.0, 10.0].into_iter(), 0.0, 100.0);
        assert!(narrow.place(10.0).is_finite());
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([1.0, 100.0, 1e4, 1e6].map(power), ["1", "100", "10k", "1M"]);
    }
}
