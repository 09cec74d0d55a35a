//! A plan as a drawing: a lane for each component, a column for each step.

use super::consequences::Consequences;
use super::lanes::{Lane, Segment, Serving, lanes};
use super::svg::{begin, escaped, text, width};
use crate::plan::Plan;
use neurath_manifest::Step;
use neurath_manifest::scalar::format_duration;
use semver::Version;
use std::collections::HashMap;
use std::fmt::Write as _;

/// Where the lanes begin, from above: room for the title and the names of the steps.
const TOP: i64 = 196;
/// The height of a lane, and of the bar in it.
const LANE: i64 = 48;
const BAR: i64 = 24;
/// Room below the lanes.
const BOTTOM: i64 = 104;
/// Room at the right: the names of the last steps lean over it.
const RIGHT: i64 = 112;

/// Sizes that depend on the plan.
struct Layout {
    left: i64,
    column: i64,
    lanes: i64,
    steps: i64,
}

impl Layout {
    fn of(plan: &Plan, lanes: &[Lane<'_>]) -> Self {
        let names = lanes.iter().map(|lane| width(lane.component, 14)).max();
        let steps = i64::try_from(plan.steps.len())
            .unwrap_or(i64::MAX / 4096)
            .max(1);
        Self {
            left: names.unwrap_or(0).max(60) + 40,
            column: (960 / steps).clamp(24, 72),
            lanes: i64::try_from(lanes.len()).unwrap_or(i64::MAX / 4096),
            steps,
        }
    }

    /// The middle of a step's column.
    fn at(&self, step: usize) -> i64 {
        self.left + i64::try_from(step).unwrap_or(0) * self.column + self.column / 2
    }

    fn end(&self) -> i64 {
        self.left + self.steps * self.column
    }

    /// The upper edge of a lane's bar.
    fn bar(&self, lane: usize) -> i64 {
        TOP + i64::try_from(lane).unwrap_or(0) * LANE + (LANE - BAR) / 2
    }

    fn floor(&self) -> i64 {
        TOP + self.lanes * LANE
    }
}

pub(crate) fn plan(plan: &Plan) -> String {
    let lanes = lanes(plan);
    let layout = Layout::of(plan, &lanes);
    let title = format!("{} {} → {}", plan.name, plan.from, plan.to);
    let (wide, high) = ((layout.end() + RIGHT).max(760), layout.floor() + BOTTOM);
    let description = format!(
        "{} steps from left to right, a lane for each of {} components: what runs, when messages wait, and what is done",
        plan.steps.len(),
        lanes.len()
    );
    let mut out = begin(wide, high, &title, &description);
    out.push_str(
        "  <defs><pattern id=\"wait\" width=\"7\" height=\"7\" patternUnits=\"userSpaceOnUse\" \
         patternTransform=\"rotate(45)\"><rect width=\"3\" height=\"7\" fill=\"#fff\" fill-opacity=\"0.75\"/></pattern></defs>\n",
    );
    text(&mut out, "text bold", 20, 34, 20, &title);
    let subtitle = subtitle(plan);
    text(&mut out, "quiet", 20, 56, 13, &subtitle);
    pauses(&mut out, plan, &layout);
    columns(&mut out, plan, &layout);
    let by_name: HashMap<&str, usize> = lanes
        .iter()
        .enumerate()
        .map(|(at, lane)| (lane.component, at))
        .collect();
    let last: HashMap<&str, Option<&Version>> = plan
        .routes
        .iter()
        .map(|route| (route.component.as_str(), route.versions.last()))
        .collect();
    for (at, lane) in lanes.iter().enumerate() {
        let last = last.get(lane.component).copied().flatten();
        draw_lane(&mut out, &layout, at, lane, last);
    }
    for (number, step) in plan.steps.iter().enumerate() {
        marks(&mut out, &layout, number, step, &by_name);
    }
    legend(&mut out, plan, &layout);
    out.push_str("</svg>\n");
    out
}

/// Which way, and what it costs.
fn subtitle(plan: &Plan) -> String {
    let stops = Consequences::of(plan).stops;
    let wait = stops.iter().filter_map(|stop| stop.at_most).max();
    let mut text = format!("{}, {} steps", plan.direction.as_str(), plan.steps.len());
    if let Some(wait) = wait {
        let _ = write!(text, "; messages wait at most {}", format_duration(wait));
    }
    text
}

/// Where messages wait, as a ground under the lanes.
fn pauses(out: &mut String, plan: &Plan, layout: &Layout) {
    let mut begun = None;
    for (number, step) in plan.steps.iter().enumerate() {
        match step {
            Step::Suspend { .. } | Step::Stop { .. } => begun = begun.or(Some(number)),
            Step::Resume { .. } | Step::Start { .. } => {
                if let Some(from) = begun.take() {
                    let (a, b) = (layout.at(from), layout.at(number));
                    let high = layout.floor() - TOP + 12;
                    let _ = writeln!(
                        out,
                        "  <rect class=\"pause\" x=\"{a}\" y=\"{}\" width=\"{}\" height=\"{high}\" rx=\"4\"/>",
                        TOP - 6,
                        b - a
                    );
                }
            }
            _ => {}
        }
    }
}

fn columns(out: &mut String, plan: &Plan, layout: &Layout) {
    let floor = layout.floor();
    for (number, step) in plan.steps.iter().enumerate() {
        let x = layout.at(number);
        let class = match step {
            Step::PointOfNoReturn => "flip",
            _ => "grid",
        };
        let _ = writeln!(
            out,
            "  <line class=\"{class}\" x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{}\"/>",
            TOP - 14,
            floor + 6
        );
        let _ = writeln!(
            out,
            "  <text class=\"text\" transform=\"translate({} {}) rotate(-38)\" font-size=\"12\">{}</text>",
            x - 2,
            TOP - 38,
            escaped(step.verb())
        );
        if layout.column >= 24 {
            text(
                out,
                "quiet middle",
                x,
                TOP - 20,
                11,
                &(number + 1).to_string(),
            );
        }
    }
    let point = plan
        .steps
        .iter()
        .position(|step| matches!(step, Step::PointOfNoReturn));
    if let Some(point) = point {
        let x = layout.at(point);
        text(
            out,
            "fliptext middle",
            x,
            floor + 24,
            12,
            "point of no return",
        );
    }
}

fn draw_lane(
    out: &mut String,
    layout: &Layout,
    at: usize,
    lane: &Lane<'_>,
    last: Option<&Version>,
) {
    let y = layout.bar(at);
    text(
        out,
        "text bold end",
        layout.left - 16,
        y + BAR - 7,
        14,
        lane.component,
    );
    for segment in &lane.segments {
        let a = segment.begun.map_or(layout.left, |step| layout.at(step));
        let b = segment.ended.map_or(layout.end(), |step| layout.at(step));
        let class = match (&segment.version, last) {
            _ if segment.serving == Serving::Absent => "gone",
            (Some(version), Some(last)) if last != version => "old",
            (Some(_), _) => "new",
            (None, _) => "same",
        };
        let _ = writeln!(
            out,
            "  <rect class=\"{class}\" x=\"{a}\" y=\"{y}\" width=\"{}\" height=\"{BAR}\" rx=\"3\"/>",
            b - a
        );
        if segment.serving == Serving::Waits {
            let _ = writeln!(
                out,
                "  <rect x=\"{a}\" y=\"{y}\" width=\"{}\" height=\"{BAR}\" rx=\"3\" fill=\"url(#wait)\"/>",
                b - a
            );
        }
        label(out, segment, a, b, y);
    }
}

/// The version over the beginning of its bar, where it fits.
fn label(out: &mut String, segment: &Segment, a: i64, b: i64, y: i64) {
    let Some(version) = &segment.version else {
        return;
    };
    let version = version.to_string();
    if segment.serving == Serving::Serves && width(&version, 11) <= b - a {
        text(out, "quiet", a + 3, y - 4, 11, &version);
    }
}

/// What a step does to each component that it names.
fn marks(
    out: &mut String,
    layout: &Layout,
    number: usize,
    step: &Step,
    lanes: &HashMap<&str, usize>,
) {
    let x = layout.at(number);
    for name in step.components() {
        let Some(lane) = lanes.get(name) else {
            continue;
        };
        let y = layout.bar(*lane) + BAR / 2;
        let shape = match step {
            Step::LoadObjectCode { .. } => {
                format!("<circle class=\"mark\" cx=\"{x}\" cy=\"{y}\" r=\"5\"/>")
            }
            Step::CodeChange { .. } => format!(
                "<path class=\"state\" d=\"M{x} {} L{} {y} L{x} {} L{} {y} z\"/>",
                y - 9,
                x + 9,
                y + 9,
                x - 9
            ),
            Step::Purge { .. } | Step::Remove { .. } => format!(
                "<path class=\"mark\" d=\"M{} {} l8 8 m0 -8 l-8 8\"/>",
                x - 4,
                y - 4
            ),
            Step::MoveState { .. } => format!(
                "<path class=\"state\" d=\"M{} {} h10 l6 7 l-6 7 h-10 z\"/>",
                x - 8,
                y - 7
            ),
            Step::ResetNode { .. } => format!(
                "<rect class=\"warn\" x=\"{}\" y=\"{}\" width=\"14\" height=\"14\"/>",
                x - 7,
                y - 7
            ),
            Step::Apply { .. } => {
                format!("<path class=\"mark\" d=\"M{x} {} l7 13 h-14 z\"/>", y - 8)
            }
            _ => continue,
        };
        let _ = writeln!(out, "  {shape}");
    }
}

/// What the shapes mean; only those that are there.
fn legend(out: &mut String, plan: &Plan, layout: &Layout) {
    let has = |is: fn(&Step) -> bool| plan.steps.iter().any(is);
    let bar = |class: &str| {
        format!("<rect class=\"{class}\" x=\"0\" y=\"-11\" width=\"26\" height=\"14\" rx=\"3\"/>")
    };
    let mut entries: Vec<(String, &str)> = Vec::new();
    if !plan.routes.is_empty() {
        entries.push((bar("old"), "the version before"));
        entries.push((bar("new"), "the version after"));
    }
    if has(|step| matches!(step, Step::Suspend { .. })) {
        let waits = format!(
            "{}<rect x=\"0\" y=\"-11\" width=\"26\" height=\"14\" rx=\"3\" fill=\"url(#wait)\"/>",
            bar("new")
        );
        entries.push((waits, "messages wait"));
    }
    if has(|step| matches!(step, Step::Stop { .. } | Step::Start { .. })) {
        entries.push((bar("gone"), "does not run"));
    }
    if has(|step| matches!(step, Step::LoadObjectCode { .. })) {
        let shape = "<circle class=\"mark\" cx=\"13\" cy=\"-4\" r=\"5\"/>";
        entries.push((shape.into(), "library made ready"));
    }
    if has(|step| matches!(step, Step::CodeChange { .. })) {
        let shape = "<path class=\"state\" d=\"M13 -13 L22 -4 L13 5 L4 -4 z\"/>";
        entries.push((shape.into(), "state converted"));
    }
    if has(|step| matches!(step, Step::MoveState { .. })) {
        let shape = "<path class=\"state\" d=\"M5 -11 h10 l6 7 l-6 7 h-10 z\"/>";
        entries.push((shape.into(), "state moved"));
    }
    if has(|step| matches!(step, Step::Apply { .. })) {
        let shape = "<path class=\"mark\" d=\"M13 -12 l7 13 h-14 z\"/>";
        entries.push((shape.into(), "hook called"));
    }
    if has(|step| matches!(step, Step::ResetNode { .. })) {
        let shape = "<rect class=\"warn\" x=\"6\" y=\"-11\" width=\"14\" height=\"14\"/>";
        entries.push((shape.into(), "state thrown away"));
    }
    if has(|step| matches!(step, Step::Purge { .. } | Step::Remove { .. })) {
        let shape = "<path class=\"mark\" d=\"M9 -8 l8 8 m0 -8 l-8 8\"/>";
        entries.push((shape.into(), "old code dropped"));
    }
    let (mut x, mut y) = (20, layout.floor() + 58);
    let edge = (layout.end() + RIGHT).max(760) - 20;
    for (shape, words) in entries {
        let wide = 34 + width(words, 12) + 22;
        if x + wide > edge {
            (x, y) = (20, y + 24);
        }
        let _ = writeln!(out, "  <g transform=\"translate({x} {y})\">{shape}</g>");
        text(out, "quiet", x + 34, y, 12, words);
        x += wide;
    }
}
