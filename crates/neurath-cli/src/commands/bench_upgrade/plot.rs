//! The figures as a picture: how long nobody is served, by the number of entries, both by powers of ten.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::figures::Row;

const WIDTH: f64 = 820.0;
const HEIGHT: f64 = 440.0;
/// The sides of the plot.
const LEFT: f64 = 80.0;
const RIGHT: f64 = 540.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 390.0;
const COLOURS: [&str; 6] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
];

/// The lines of the plot by their names: entries and microseconds of each point.
type Lines = BTreeMap<String, Vec<(f64, f64)>>;

fn lines(rows: &[Row]) -> Lines {
    let mut lines = Lines::new();
    for row in rows {
        let entries = row.entries as f64;
        let mut add = |name: String, stop: f64| {
            let line = lines.entry(name).or_default();
            if line.last().is_none_or(|last| last.0 != entries) {
                line.push((entries, stop.max(1.0)));
            }
        };
        add(format!("here: {}", row.strategy), row.measured.stop);
        for peer in &row.peers {
            let how = match (peer.name.starts_with("erlang"), row.strategy) {
                (true, "keep") => ", code only",
                (true, _) => ", state changed",
                (false, _) => "",
            };
            add(format!("{}{how}", peer.name), peer.stop);
        }
    }
    lines
}

/// The powers of ten that these values lie between.
fn span(values: impl Iterator<Item = f64> + Clone) -> (i32, i32) {
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(1.0, f64::max);
    let low = if low.is_finite() { low } else { 1.0 };
    let (low, high) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    (low, high.max(low + 1))
}

fn time(power: i32) -> String {
    match power {
        6.. => format!("{} s", 10_f64.powi(power - 6)),
        3.. => format!("{} ms", 10_f64.powi(power - 3)),
        _ => format!("{} \u{b5}s", 10_f64.powi(power)),
    }
}

fn number(power: i32) -> String {
    match power {
        6.. => format!("{} M", 10_f64.powi(power - 6)),
        3.. => format!("{} k", 10_f64.powi(power - 3)),
        _ => format!("{}", 10_f64.powi(power)),
    }
}

/// Where values lie in the picture.
struct Scale {
    across: (i32, i32),
    up: (i32, i32),
}

impl Scale {
    fn place(value: f64, (low, high): (i32, i32), from: f64, to: f64) -> f64 {
        from + (value.log10() - f64::from(low)) / f64::from(high - low) * (to - from)
    }

    fn x(&self, entries: f64) -> f64 {
        Self::place(entries, self.across, LEFT, RIGHT)
    }

    fn y(&self, stop: f64) -> f64 {
        Self::place(stop, self.up, BOTTOM, TOP)
    }
}

/// The picture.
pub(super) fn svg(rows: &[Row]) -> String {
    let lines = lines(rows);
    let all = || lines.values().flatten();
    let scale = Scale {
        across: span(all().map(|point| point.0)),
        up: span(all().map(|point| point.1)),
    };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    grid(&mut out, &scale);
    for (number, (name, points)) in lines.iter().enumerate() {
        line(&mut out, &scale, number, (name, points));
    }
    // Writing into a string cannot fail.
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">entries</text>\n\
         <text x=\"{LEFT}\" y=\"18\">how long nobody is served</text>\n</svg>",
        (LEFT + RIGHT) / 2.0,
        BOTTOM + 40.0
    );
    out
}

fn grid(out: &mut String, scale: &Scale) {
    for power in scale.across.0..=scale.across.1 {
        let at = scale.x(10_f64.powi(power));
        let _ = writeln!(
            out,
            "<path d=\"M{at:.1} {TOP}V{BOTTOM}\" stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"{:.1}\" \
             text-anchor=\"middle\">{}</text>",
            BOTTOM + 18.0,
            number(power)
        );
    }
    for power in scale.up.0..=scale.up.1 {
        let at = scale.y(10_f64.powi(power));
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {at:.1}H{RIGHT}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            at + 4.0,
            time(power)
        );
    }
}

/// A line, its points, and its name beside the plot.
fn line(out: &mut String, scale: &Scale, number: usize, (name, points): (&str, &[(f64, f64)])) {
    let colour = COLOURS[number % COLOURS.len()];
    let places: Vec<(f64, f64)> = points
        .iter()
        .map(|&(entries, stop)| (scale.x(entries), scale.y(stop)))
        .collect();
    let path: Vec<String> = places
        .iter()
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    let _ = writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
        path.join(" ")
    );
    for (x, y) in places {
        let _ = writeln!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
        );
    }
    let at = TOP + 20.0 * number as f64 + 10.0;
    let (from, text) = (RIGHT + 16.0, RIGHT + 42.0);
    let _ = writeln!(
        out,
        "<path d=\"M{from} {at}h20\" stroke=\"{colour}\" stroke-width=\"2\"/>\
         <text x=\"{text}\" y=\"{:.1}\">{name}</text>",
        at + 4.0
    );
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::rows;

    #[test]
    fn each_line_is_drawn_within_the_picture() {
        let text = super::svg(&rows());
        assert_eq!(text.matches("<polyline").count(), 3, "{text}");
        assert!(text.contains("1 M") && text.contains("10 ms"), "{text}");
        for point in text.split("points=\"").skip(1) {
            let points = point.split_once('"').expect("its end").0;
            for pair in points.split(' ') {
                let (x, y) = pair.split_once(',').expect("two numbers");
                let (x, y): (f64, f64) = (x.parse().expect("x"), y.parse().expect("y"));
                let within = (80.0..=540.0).contains(&x) && (30.0..=390.0).contains(&y);
                assert!(within, "{pair}");
            }
        }
        let nothing = super::svg(&[]);
        assert!(
            !nothing.contains("NaN") && !nothing.contains("inf"),
            "{nothing}"
        );
    }
}
