//! The graph of a node's states, as a page and as a picture.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Cause, Event, Phase, arrows};

/// Where a phase stands in the picture: column and row.
fn place(phase: Phase) -> (i32, i32) {
    match phase {
        Phase::HistoryEdited => (0, 0),
        Phase::Stopped => (1, 0),
        Phase::StoppedUnconfirmed => (3, 0),
        Phase::HistoryEditedUnconfirmed => (4, 0),
        Phase::Starting => (0, 1),
        Phase::StartingBack => (2, 1),
        Phase::Idle => (1, 2),
        Phase::Confirming => (2, 2),
        Phase::Stuck => (4, 2),
        Phase::Handling => (0, 3),
        Phase::GoingBack => (2, 3),
        Phase::Unconfirmed => (3, 3),
        Phase::Applying => (2, 4),
    }
}

const WIDTH: i32 = 170;
const HEIGHT: i32 = 44;
const STEP: (i32, i32) = (290, 150);
const MARGIN: i32 = 60;

fn centre(phase: Phase) -> (i32, i32) {
    let (column, row) = place(phase);
    (
        MARGIN + WIDTH / 2 + column * STEP.0,
        MARGIN + HEIGHT / 2 + row * STEP.1,
    )
}

/// The arrows between two phases, as one with all their labels.
fn bundled() -> BTreeMap<(Phase, Phase), Vec<Cause>> {
    let mut all: BTreeMap<_, Vec<Cause>> = BTreeMap::new();
    for (from, cause, to) in arrows() {
        all.entry((from, to)).or_default().push(cause);
    }
    all
}

/// The page with the graph in Mermaid, and a table of what can be asked for where.
pub fn page() -> String {
    let mut out = String::from(
        "# The states of a node\n\n\
         This page is made from `crates/neurath-node/src/lifecycle.rs`, which the node asks what is \
         legal, and which\na test walks: from every state there is a way to *idle*. What is in brackets \
         happens by itself.\n\n\
         ![The states of a node](states.svg)\n\n\
         | state | possible | by itself |\n|---|---|---|\n",
    );
    for phase in Phase::ALL {
        let commands: Vec<String> = phase
            .commands()
            .into_iter()
            .map(|one| format!("`{}`", one.line()))
            .collect();
        let events: Vec<String> = arrows()
            .into_iter()
            .filter(|(from, cause, _)| *from == phase && matches!(cause, Cause::Event(_)))
            .map(|(_, cause, to)| format!("{} {}", cause.label(), to.name()))
            .collect();
        let line = (phase.name(), commands.join(", "), events.join("; "));
        let _ = writeln!(out, "| {} | {} | {} |", line.0, line.1, line.2);
    }
    out.push_str("\n```mermaid\nstateDiagram-v2\n");
    let id = |phase: Phase| format!("{phase:?}");
    for phase in Phase::ALL {
        let _ = writeln!(out, "    state \"{}\" as {}", phase.name(), id(phase));
    }
    for ((from, to), causes) in bundled() {
        let labels: Vec<&str> = causes.iter().map(|cause| cause.label()).collect();
        let _ = writeln!(
            out,
            "    {} --> {}: {}",
            id(from),
            id(to),
            labels.join(" / ")
        );
    }
    out.push_str("```\n");
    out
}

/// The graph as SVG.
pub fn svg() -> String {
    let (right, bottom) = Phase::ALL
        .into_iter()
        .map(centre)
        .fold((0, 0), |most, at| (most.0.max(at.0), most.1.max(at.1)));
    let (width, height) = (right + WIDTH / 2 + MARGIN, bottom + HEIGHT / 2 + MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\" role=\"img\">\n\
         <title>The states of a node</title>\n\
         <style>.box{{fill:#fff;stroke:#456;stroke-width:1.5}}.idle{{fill:#dff0dc}}\
         .passing{{stroke-dasharray:5 3}}.command{{stroke:#235}}.event{{stroke:#a55}}\
         path{{fill:none;stroke-width:1.3}}.label{{paint-order:stroke;stroke:#fff;stroke-width:4px}}\
         text.command{{fill:#235;stroke:#fff}}text.event{{fill:#a33;stroke:#fff}}</style>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <defs><marker id=\"tip\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"7\" \
         markerHeight=\"7\" orient=\"auto-start-reverse\"><path d=\"M0 0L10 5L0 10z\" \
         style=\"fill:#567;stroke:none\"/></marker></defs>\n"
    );
    for ((from, to), mut causes) in bundled() {
        // A process may die everywhere, and what leads back to itself changes nothing: a line of text says so.
        causes.retain(|cause| *cause != Cause::Event(Event::Died));
        if from != to && !causes.is_empty() {
            arrow(&mut out, from, to, &causes);
        }
    }
    let _ = writeln!(
        out,
        "<text x=\"{MARGIN}\" y=\"{}\">A process that dies is then stopped: unconfirmed, if its release was. \
         Releases can also be unpacked and removed where a node is stopped, unconfirmed or stuck.</text>",
        height - 20
    );
    for phase in Phase::ALL {
        let (x, y) = centre(phase);
        let mut class = String::from("box");
        if phase == Phase::Idle {
            class.push_str(" idle");
        }
        if phase.is_passing() {
            class.push_str(" passing");
        }
        let _ = writeln!(
            out,
            "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"9\"/>\
             <text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            x - WIDTH / 2,
            y - HEIGHT / 2,
            y + 4,
            phase.name()
        );
    }
    out.push_str("</svg>\n");
    out
}

/// One arrow, bent to the right of its direction, so that there and back lie apart.
fn arrow(out: &mut String, from: Phase, to: Phase, causes: &[Cause]) {
    let class = match causes.iter().all(|cause| matches!(cause, Cause::Event(_))) {
        true => "event",
        false => "command",
    };
    let (start, end) = (centre(from), centre(to));
    let (start, end) = (edge(start, end), edge(end, start));
    let (dx, dy) = (end.0 - start.0, end.1 - start.1);
    let length = f64::from(dx * dx + dy * dy).sqrt().max(1.0);
    // Longer arrows bend more, around what stands between.
    let bend = 34.0 + length / 14.0;
    let shift = |d: i32| (f64::from(d) / length * bend).round() as i32;
    let middle = (
        i32::midpoint(start.0, end.0) - shift(dy),
        i32::midpoint(start.1, end.1) + shift(dx),
    );
    let at = (
        (start.0 + 2 * middle.0 + end.0) / 4,
        (start.1 + 2 * middle.1 + end.1) / 4,
    );
    let path = format!(
        "M{} {} Q{} {} {} {}",
        start.0, start.1, middle.0, middle.1, end.0, end.1
    );
    let _ = writeln!(
        out,
        "<path class=\"{class}\" d=\"{path}\" marker-end=\"url(#tip)\"/>"
    );
    let first = at.1 - 7 * (causes.len() as i32 - 1);
    for (number, cause) in causes.iter().enumerate() {
        let kind = match cause {
            Cause::Event(_) => "event",
            Cause::Command(_) => "command",
        };
        let y = first + 14 * number as i32;
        let _ = writeln!(
            out,
            "<text class=\"label {kind}\" x=\"{}\" y=\"{y}\" text-anchor=\"middle\">{}</text>",
            at.0,
            cause.label()
        );
    }
}

/// Where the line from the centre of a box to another point leaves the box.
fn edge(from: (i32, i32), to: (i32, i32)) -> (i32, i32) {
    let (dx, dy) = (f64::from(to.0 - from.0), f64::from(to.1 - from.1));
    let sideways = f64::from(WIDTH / 2) / dx.abs().max(1.0);
    let upright = f64::from(HEIGHT / 2) / dy.abs().max(1.0);
    let part = sideways.min(upright);
    (
        from.0 + (dx * part).round() as i32,
        from.1 + (dy * part).round() as i32,
    )
}
