//! `neurath node …`

use crate::cli::{Node, NodeStart, OfNode};
use crate::control;
use crate::exit::CommandError;
use crate::node_process;
use crate::numbers;
use crate::output::Output;
use crate::processes;
use crate::table::Table;
use crate::testing::{END, LOG, NodeCommand};
use neurath_node::node::NodeOptions;
use neurath_node::protocol::Status;
use serde_json::json;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

pub fn run(command: Node, output: &Output) -> anyhow::Result<()> {
    match command {
        Node::Start(start) if start.foreground => foreground(start, output),
        Node::Start(start) => background(&start, output),
        Node::Stop(OfNode { dir }) => stop(&dir, output),
        Node::Status(OfNode { dir }) => status(&dir, output),
    }
}

fn foreground(start: NodeStart, output: &Output) -> anyhow::Result<()> {
    if start.detach {
        rustix::process::setsid()?;
    }
    if start.tied {
        std::thread::spawn(|| {
            // Nothing is ever sent: this returns when whoever started the node is gone.
            let _ = std::io::stdin().read(&mut [0]);
            // Not even an orderly stop: it would not be told from one that was asked for.
            std::process::exit(i32::from(crate::exit::INTERRUPTED));
        });
    }
    let filter = tracing_subscriber::EnvFilter::try_from_env("NEURATH_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(output.colour())
        .try_init();
    let from = start.from.is_dir().then_some(start.from);
    node_process::run(NodeOptions {
        directory: start.node.dir,
        release: start.release,
        release_source: from,
    })
}

fn background(start: &NodeStart, output: &Output) -> anyhow::Result<()> {
    let dir = &start.node.dir;
    if let Ok(running) = control::status(dir) {
        let message = format!(
            "a node (process {}) already runs in {}",
            running.pid,
            dir.display()
        );
        return Err(CommandError::Operator(message).into());
    }
    let release = start.release.as_ref().map(ToString::to_string);
    let command = NodeCommand::of_this_program(dir, release.as_deref(), &start.from)?;
    output.progress(&format!(
        "starting a node in {}; its log is {LOG} there",
        dir.display()
    ));
    let status = command.start_in_background()?;
    let listen = status.listen.join(", ");
    let release = status
        .release
        .as_ref()
        .map_or_else(|| "no release".to_owned(), ToString::to_string);
    output.text(&format!(
        "{release} runs as process {}, and listens on {listen}",
        status.pid
    ));
    output.json(&json!({
        "kind": "started",
        "release": release,
        "pid": status.pid,
        "listen": status.listen,
    }));
    Ok(())
}

fn stop(dir: &Path, output: &Output) -> anyhow::Result<()> {
    let pid = control::status(dir)?.pid;
    control::stop(dir)?;
    let until = Instant::now() + END;
    // The socket goes first: the node has ended when its process has.
    while processes::is_alive(pid) {
        if Instant::now() >= until {
            let message = format!("the node in {} has not ended within {END:?}", dir.display());
            return Err(CommandError::Operator(message).into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    output.text("stopped");
    output.json(&json!({ "kind": "stopped" }));
    Ok(())
}

fn status(dir: &Path, output: &Output) -> anyhow::Result<()> {
    let status = control::status(dir)?;
    let mut value = serde_json::to_value(&status)?;
    if let Some(object) = value.as_object_mut() {
        object.shift_insert(0, "kind".to_owned(), json!("status"));
    }
    output.json(&value);
    output.text(&shown(&status));
    Ok(())
}

fn shown(status: &Status) -> String {
    let name = |release: &Option<_>| match release {
        Some(release) => format!("{release}"),
        None => String::from("none"),
    };
    let release: &Option<neurath_node::catalog::ReleaseId> = &status.release;
    let mut head = Table::new(&["", ""]);
    let unconfirmed = if status.unconfirmed {
        " (not confirmed yet)"
    } else {
        ""
    };
    head.row([
        "release".to_owned(),
        format!("{}{unconfirmed}", name(release)),
    ]);
    head.row(["permanent".to_owned(), name(&status.permanent)]);
    head.row(["listens on".to_owned(), status.listen.join(", ")]);
    head.row(["connections".to_owned(), numbers::count(status.connections)]);
    head.row([
        "runs for".to_owned(),
        numbers::micros(status.uptime_ms.saturating_mul(1000)),
    ]);
    head.row(["process".to_owned(), status.pid.to_string()]);
    let mut components = Table::new(&[
        "component",
        "instance>",
        "version",
        "state",
        "region>",
        "durability",
        "generation>",
    ]);
    for one in &status.components {
        components.row([
            one.component.clone(),
            one.instance.to_string(),
            one.version.clone(),
            one.state.clone(),
            numbers::bytes(one.region_bytes),
            one.durability.clone(),
            one.generation.to_string(),
        ]);
    }
    let mut out = format!("{}\n{}", head.render(), components.render());
    for one in status
        .components
        .iter()
        .filter(|one| one.durability == "power")
    {
        let (name, steps) = (&one.component, one.detection.join("; "));
        out.push_str(&format!(
            "\nthe medium of {name}.{}: {steps}\n",
            one.instance
        ));
    }
    for one in &status.retained {
        out.push_str(&format!(
            "\nnot unloaded: {}: {}\n",
            one.library, one.reason
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use neurath_node::catalog::ReleaseId;
    use neurath_node::protocol::ComponentStatus;

    #[test]
    fn a_status_is_shown() {
        let status = Status {
            release: Some(ReleaseId::new("kv", "1.1.0")),
            permanent: Some(ReleaseId::new("kv", "1.0.0")),
            unconfirmed: true,
            components: vec![ComponentStatus {
                component: "store".into(),
                instance: 0,
                version: "1.1.0".into(),
                state: "running".into(),
                region_bytes: 64 << 20,
                durability: "power".into(),
                detection: vec!["statx says no DAX".into(), "backend `page`".into()],
                generation: 2,
            }],
            connections: 3,
            uptime_ms: 1500,
            pid: 7,
            listen: vec!["127.0.0.1:7379".into()],
            retained: Vec::new(),
        };
        let text = shown(&status);
        assert!(text.contains("kv-1.1.0 (not confirmed yet)"), "{text}");
        assert!(text.contains("store"), "{text}");
        assert!(text.contains("64.0 MiB"), "{text}");
        let medium = "the medium of store.0: statx says no DAX; backend `page`";
        assert!(text.contains(medium), "{text}");
    }
}
