//! A component graph as a drawing: in layers, dependencies below what depends on them.

use super::graph::{ComponentGraph, GraphChange, GraphNode};
use super::svg::{begin, escaped, text, width};
use std::collections::HashMap;
use std::fmt::Write as _;

const TOP: i64 = 84;
const HIGH: i64 = 50;
/// Between layers, between the rows of a layer that is too wide for one, and between boxes.
const LAYER_GAP: i64 = 76;
const ROW_GAP: i64 = 22;
const GAP: i64 = 26;
/// A layer that would be wider has several rows.
const WIDEST: i64 = 1400;
/// With more arrows, their labels would cover each other.
const LABELLED: usize = 24;

/// Where a box is.
#[derive(Clone, Copy, Default)]
struct Place {
    x: i64,
    y: i64,
    wide: i64,
}

pub(crate) fn graph(graph: &ComponentGraph) -> String {
    let edges = edges(graph);
    let layers = ordered(&layers(graph.nodes.len(), &edges), &edges);
    let (places, wide, high) = places(graph, &layers);
    let title = format!("{} {}", graph.name, graph.version);
    let description = format!(
        "{} components in layers; an arrow leads from each to what it needs",
        graph.nodes.len()
    );
    let (wide, high) = (wide.max(560), high + 56);
    let mut out = begin(wide, high, &title, &description);
    out.push_str(
        "  <defs><marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
         orient=\"auto\"><path d=\"M0 0 L8 4 L0 8 z\" fill=\"#7b8794\"/></marker></defs>\n",
    );
    text(&mut out, "text bold", 20, 34, 20, &title);
    let subtitle = match &graph.base {
        Some(base) => format!("{} components, compared with {base}", graph.nodes.len()),
        None => format!("{} components", graph.nodes.len()),
    };
    text(&mut out, "quiet", 20, 56, 13, &subtitle);
    for (from, to) in &edges {
        arrow(&mut out, places[*from], places[*to]);
    }
    for (node, place) in graph.nodes.iter().zip(&places) {
        draw(&mut out, node, *place);
    }
    if edges.len() <= LABELLED {
        requirements(&mut out, graph, &places);
    }
    legend(&mut out, graph, high - 22);
    out.push_str("</svg>\n");
    out
}

/// From each component to what it needs, where that is in the graph.
fn edges(graph: &ComponentGraph) -> Vec<(usize, usize)> {
    let at: HashMap<&str, usize> = graph
        .nodes
        .iter()
        .enumerate()
        .map(|(at, node)| (node.component.as_str(), at))
        .collect();
    let mut edges = Vec::new();
    for (from, node) in graph.nodes.iter().enumerate() {
        for one in &node.depends_on {
            edges.extend(at.get(one.component.as_str()).map(|to| (from, *to)));
        }
    }
    edges
}

/// The layer of each node, from above: one below the lowest that needs it. The nodes come with dependants first; an
/// edge against that order is one of a circle, and is left out.
fn layers(nodes: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut layer = vec![0; nodes];
    let mut needs = vec![Vec::new(); nodes];
    for (from, to) in edges.iter().filter(|(from, to)| from < to) {
        needs[*from].push(*to);
    }
    for from in 0..nodes {
        for to in &needs[from] {
            layer[*to] = layer[*to].max(layer[from] + 1);
        }
    }
    layer
}

/// The nodes of each layer, so that few arrows cross: each near the middle of what it is connected with.
fn ordered(layer: &[usize], edges: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let count = layer.iter().max().map_or(0, |last| last + 1);
    let mut layers = vec![Vec::new(); count];
    for (node, at) in layer.iter().enumerate() {
        layers[*at].push(node);
    }
    let mut near = vec![Vec::new(); layer.len()];
    for (from, to) in edges {
        near[*from].push(*to);
        near[*to].push(*from);
    }
    let mut rank = vec![0_i64; layer.len()];
    let settle = |nodes: &[usize], rank: &mut Vec<i64>| {
        // In thousandths of the layer's width, so that layers of different widths compare.
        let count = i64::try_from(nodes.len()).unwrap_or(1).max(1);
        for (node, at) in nodes.iter().zip(0_i64..) {
            rank[*node] = (2 * at + 1) * 500_000 / count;
        }
    };
    for nodes in &layers {
        settle(nodes, &mut rank);
    }
    for sweep in 0..6 {
        let mut order: Vec<usize> = (0..count).collect();
        if sweep % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let middle = |node: &usize| {
                let near = &near[*node];
                let sum: i64 = near.iter().map(|other| rank[*other]).sum();
                match i64::try_from(near.len()) {
                    Ok(count) if count > 0 => sum / count,
                    _ => rank[*node],
                }
            };
            layers[at].sort_by_cached_key(|node| (middle(node), rank[*node]));
            let nodes = layers[at].clone();
            settle(&nodes, &mut rank);
        }
    }
    layers
}

/// Where the boxes are, and how wide and high all of it is.
fn places(graph: &ComponentGraph, layers: &[Vec<usize>]) -> (Vec<Place>, i64, i64) {
    let wide = |node: &usize| {
        let node = &graph.nodes[*node];
        width(&node.component, 14).max(width(&node.versions(), 12)) + 34
    };
    let mut rows: Vec<(Vec<usize>, bool)> = Vec::new();
    for layer in layers {
        let (mut row, mut sum) = (Vec::new(), 0);
        for node in layer {
            if sum + wide(node) > WIDEST && !row.is_empty() {
                rows.push((std::mem::take(&mut row), false));
                sum = 0;
            }
            sum += wide(node) + GAP;
            row.push(*node);
        }
        rows.push((row, true));
    }
    let row_width = |row: &[usize]| row.iter().map(|node| wide(node) + GAP).sum::<i64>() - GAP;
    let widest = rows
        .iter()
        .map(|(row, _)| row_width(row))
        .max()
        .unwrap_or(0)
        .max(520);
    let mut places = vec![Place::default(); graph.nodes.len()];
    let mut y = TOP;
    for (row, last) in &rows {
        let mut x = 20 + (widest - row_width(row)) / 2;
        for node in row {
            places[*node] = Place {
                x,
                y,
                wide: wide(node),
            };
            x += wide(node) + GAP;
        }
        y += HIGH + if *last { LAYER_GAP } else { ROW_GAP };
    }
    (places, widest + 40, y - LAYER_GAP)
}

fn arrow(out: &mut String, from: Place, to: Place) {
    let (a, b) = (from.x + from.wide / 2, to.x + to.wide / 2);
    let (top, bottom) = if from.y < to.y {
        (from.y + HIGH, to.y - 2)
    } else {
        (from.y, to.y + HIGH + 2)
    };
    let bend = (bottom - top) / 2;
    let _ = writeln!(
        out,
        "  <path class=\"line\" d=\"M{a} {top} C{a} {} {b} {} {b} {bottom}\" marker-end=\"url(#head)\"/>",
        top + bend,
        bottom - bend
    );
}

fn draw(out: &mut String, node: &GraphNode, place: Place) {
    let class = match node.change {
        GraphChange::Same => "same",
        GraphChange::Changed => "new",
        GraphChange::Added => "added",
        GraphChange::Removed => "removed",
    };
    let Place { x, y, wide } = place;
    let _ = writeln!(
        out,
        "  <rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"{HIGH}\" rx=\"6\"/>"
    );
    text(
        out,
        "text bold middle",
        x + wide / 2,
        y + 21,
        14,
        &node.component,
    );
    let versions = node.versions().replace("->", "→");
    text(out, "quiet middle", x + wide / 2, y + 39, 12, &versions);
}

/// The requirement at each arrow.
fn requirements(out: &mut String, graph: &ComponentGraph, places: &[Place]) {
    let at: HashMap<&str, usize> = graph
        .nodes
        .iter()
        .enumerate()
        .map(|(at, node)| (node.component.as_str(), at))
        .collect();
    for (from, node) in graph.nodes.iter().enumerate() {
        for one in &node.depends_on {
            let Some(to) = at.get(one.component.as_str()) else {
                continue;
            };
            let (from, to) = (places[from], places[*to]);
            // In the middle: there the curve is at the mean of both ends.
            let (a, b) = (from.x + from.wide / 2, to.x + to.wide / 2);
            let (top, bottom) = (from.y + HIGH, to.y);
            let (x, y) = ((a + b) / 2, (top + bottom) / 2);
            let _ = writeln!(
                out,
                "  <text class=\"quiet middle\" x=\"{x}\" y=\"{}\" font-size=\"11\" stroke=\"#fff\" stroke-width=\"4\" \
                 paint-order=\"stroke\">{}</text>",
                y + 4,
                escaped(&one.requirement)
            );
        }
    }
}

fn legend(out: &mut String, graph: &ComponentGraph, y: i64) {
    let mut x = 20;
    for (change, class, words) in [
        (GraphChange::Same, "same", "does not change"),
        (GraphChange::Changed, "new", "another version"),
        (GraphChange::Added, "added", "added"),
        (GraphChange::Removed, "removed", "removed"),
    ] {
        if graph.base.is_none() || !graph.nodes.iter().any(|node| node.change == change) {
            continue;
        }
        let _ = writeln!(
            out,
            "  <rect class=\"{class}\" x=\"{x}\" y=\"{}\" width=\"22\" height=\"14\" rx=\"3\"/>",
            y - 11
        );
        text(out, "quiet", x + 30, y, 12, words);
        x += 30 + width(words, 12) + 22;
    }
}
