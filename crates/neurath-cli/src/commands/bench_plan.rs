//! `neurath bench plan`: how long planning takes, beside Erlang's planner.

use crate::cli::{BenchPlan, Folders};
use crate::erlang::{self, Took};
use crate::manifests::Project;
use crate::numbers::{count, median};
use crate::output::Output;
use crate::processes::{self, TemporaryFolder};
use crate::projects::{RELEASE, Shape, VERSIONS, of_shape};
use crate::table::Table;
use anyhow::Context as _;
use semver::Version;
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

/// Medians over the runs, in milliseconds.
struct Ours {
    total: f64,
    read: f64,
    plan: f64,
}

/// What is known of Erlang's planner at one size.
enum Peer {
    Took(Took),
    /// Longer than this.
    Over(Duration),
    /// Not asked: a smaller size took too long, or it is not installed.
    Unasked,
}

pub fn run(command: &BenchPlan, output: &Output) -> anyhow::Result<()> {
    processes::end_all_when_interrupted()?;
    let without_peer = erlang::missing();
    if let Some(reason) = &without_peer {
        output.progress(&format!("{reason}: nothing beside Erlang's planner"));
    }
    let patience = Duration::from_secs_f64(command.peer_seconds);
    let mut asked = without_peer.is_none();
    let mut table = Table::new(&[
        "components>",
        "neurath ms>",
        "of it reading>",
        "planning>",
        "make_relup ms>",
        "of it reading>",
        "ratio>",
    ]);
    let mut results = Vec::new();
    for &components in &command.components {
        output.progress(&format!(
            "{} components in a {}",
            count(components),
            command.shape.as_str()
        ));
        let components = usize::try_from(components)?;
        let ours = measure(command.shape, components, command.runs)?;
        let peer = match asked {
            true => ask(command.shape, components, patience)?,
            false => Peer::Unasked,
        };
        asked &= !matches!(peer, Peer::Over(_));
        table.row(row(components, &ours, &peer));
        results.push(entry(
            command.shape,
            components,
            &ours,
            &peer,
            without_peer.as_deref(),
        ));
    }
    output.text(&format!(
        "a {}, up and down, medians of {}\n\n{}",
        command.shape.as_str(),
        command.runs,
        table.render()
    ));
    match results.as_slice() {
        [one] => output.json(one),
        several => output.json(&Value::from(several)),
    }
    Ok(())
}

fn ask(shape: Shape, components: usize, patience: Duration) -> anyhow::Result<Peer> {
    let took = erlang::make_relup(shape, components, patience)?;
    Ok(took.map_or(Peer::Over(patience), Peer::Took))
}

/// Reads a project from its files and makes its relup, both ways, as text.
fn measure(shape: Shape, components: usize, runs: u32) -> anyhow::Result<Ours> {
    let folder = TemporaryFolder::new()?;
    for (path, text) in of_shape(shape, components) {
        let path = folder.path().join(path);
        let parent = path.parent().context("a file of a project has a folder")?;
        fs::create_dir_all(parent)?;
        fs::write(path, text)?;
    }
    let folders = Folders {
        manifests: folder.path().join("manifests"),
        releases: folder.path().join("releases"),
    };
    let [old, new] = VERSIONS.map(Version::parse);
    let (old, new) = (old?, new?);
    let (mut total, mut read, mut plan) = (Vec::new(), Vec::new(), Vec::new());
    // The first run meets cold files, and does not count.
    for run in 0..=runs {
        let begun = Instant::now();
        let project = Project::read(&folders)?;
        let done_reading = Instant::now();
        let relup = project.relup(RELEASE, &new, std::slice::from_ref(&old))?;
        let text = neurath_plan::relup_to_toml(&relup);
        let done = Instant::now();
        anyhow::ensure!(text.len() > components, "the relup is empty");
        if run > 0 {
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            total.push(ms(done - begun));
            read.push(ms(done_reading - begun));
            plan.push(ms(done - done_reading));
        }
    }
    Ok(Ours {
        total: median(&total),
        read: median(&read),
        plan: median(&plan),
    })
}

fn row(components: usize, ours: &Ours, peer: &Peer) -> [String; 7] {
    let (total, read, ratio) = match peer {
        Peer::Took(took) => (
            format!("{:.1}", took.total_ms),
            format!("{:.1}", took.read_ms),
            format!("{:.0}", took.total_ms / ours.total),
        ),
        Peer::Over(limit) => (
            format!("over {}", limit.as_millis()),
            "-".into(),
            format!("over {:.0}", limit.as_secs_f64() * 1e3 / ours.total),
        ),
        Peer::Unasked => ("-".into(), "-".into(), "-".into()),
    };
    [
        count(components as u64),
        format!("{:.2}", ours.total),
        format!("{:.2}", ours.read),
        format!("{:.2}", ours.plan),
        total,
        read,
        ratio,
    ]
}

fn entry(
    shape: Shape,
    components: usize,
    ours: &Ours,
    peer: &Peer,
    without_peer: Option<&str>,
) -> Value {
    let took = match peer {
        Peer::Took(took) => Some(took),
        _ => None,
    };
    let over = match peer {
        Peer::Over(limit) => Some(limit.as_secs_f64() * 1e3),
        _ => None,
    };
    json!({
        "kind": "bench_plan",
        "shape": shape.as_str(),
        "components": components,
        "ms": ours.total,
        "read_ms": ours.read,
        "plan_ms": ours.plan,
        "peer_ms": took.map(|took| took.total_ms),
        "peer_read_ms": took.map(|took| took.read_ms),
        "peer_over_ms": over,
        "without_peer": without_peer,
    })
}
