//! `neurath node …`

use crate::cli::{Node, NodeStart, OfNode};
use crate::control;
use crate::exit::CommandError;
use crate::node_process;
use crate::numbers;
use crate::output::Output;
use crate::processes::Watched;
use crate::service_manager::{self, JournalFormat, logs_to_journal};
use crate::table::Table;
use crate::testing::{END, LOG, NodeCommand};
use anyhow::{Context as _, anyhow};
use neurath_manifest::scalar::format_duration;
use neurath_node::catalog::{ReleaseId, ReleaseStatus};
use neurath_node::client::Client;
use neurath_node::directory::check_name;
use neurath_node::handover::{Launch, NodeDescription, trial};
use neurath_node::node::NodeOptions;
use neurath_node::protocol::{ComponentStatus, Outcome, Request, Status};
use neurath_node::trust::read_key;
use rustix::io::Errno;
use serde_json::json;
use std::ffi::OsString;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[cfg(test)]
mod passed_on;
mod reboot;

pub fn run(command: Node, output: &Output) -> anyhow::Result<()> {
    match command {
        Node::Start(start) if start.foreground => foreground(start, output),
        Node::Start(start) => background(&start, output),
        Node::Stop(OfNode { dir }) => stop(&dir, output),
        Node::Status(OfNode { dir }) => status(&dir, output),
        Node::Restart(OfNode { dir }) => restart(&dir, output),
        Node::RebootOld {
            release,
            node,
            take_over_within,
            execute,
        } => {
            let reboot = reboot::Reboot {
                dir: node.dir,
                release,
                take_over_within,
            };
            reboot.run(execute, output)
        }
        Node::Trust {
            key,
            name,
            node,
            execute,
        } => trust(&node.dir, &key, name, execute, output),
        Node::Distrust {
            name,
            node,
            execute,
        } => distrust(&node.dir, name, execute, output),
        Node::Metrics(OfNode { dir }) => metrics(&dir, output),
        Node::Describe => {
            print!("{}", NodeDescription::of(crate::version()).to_json());
            Ok(())
        }
    }
}

fn foreground(start: NodeStart, output: &Output) -> anyhow::Result<()> {
    if start.trial {
        let report = trial::report(&start.node.dir, crate::version());
        println!("{}", serde_json::to_string(&report)?);
        return Ok(());
    }
    // Before there are other threads, and before this process is worth anything to whoever ends it.
    neurath_node::signals::hold();
    neurath_node::descriptors::raise_limit();
    // Another program in the same process has done it already.
    if start.detach && start.keep.is_none() {
        leave_session()?;
    }
    let place = node_process::Place::of(&start);
    let launch = launch(&start);
    // Before anything is taken over from whoever started this process: that is for the program that serves.
    if let node_process::Place::Start(_) = &place {
        node_process::run_by_its_own(&start.node.dir, &launch, start.try_again)?;
    }
    // Before there are other threads: it changes the environment.
    let handed_over = service_manager::sockets();
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
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(output.colour());
    // A log that is there already is another's: it is not replaced.
    let _ = match logs_to_journal() {
        true => log.event_format(JournalFormat::default()).try_init(),
        false => log.try_init(),
    };
    let options = NodeOptions {
        directory: start.node.dir,
        release: start.release,
        release_source: Some(start.from),
        launch: Some(launch),
        accept_power_loss: start.lost.accept_power_loss,
        reset_state: start.lost.reset_state,
        try_again: start.try_again,
        sockets: Arc::new(handed_over),
    };
    node_process::run(options, place)
}

/// Begins a session, so that what ends the terminal does not end the node. A process that leads a group already is
/// not let do that, and has no need to: whoever made it the leader has set it apart.
fn leave_session() -> anyhow::Result<()> {
    match rustix::process::setsid() {
        Ok(_) | Err(Errno::PERM) => Ok(()),
        Err(error) => Err(error).context("cannot begin a session"),
    }
}

/// How whoever takes this node's place is started.
fn launch(start: &NodeStart) -> Launch {
    let mut arguments: Vec<OsString> = ["node", "start", "--foreground", "--dir"]
        .map(OsString::from)
        .into();
    arguments.push(start.node.dir.clone().into());
    arguments.push("--from".into());
    arguments.push(start.from.clone().into());
    arguments.extend(within(start.take_over_within));
    if start.tied {
        arguments.push("--tied".into());
    }
    Launch {
        arguments,
        version: crate::version().into(),
        within: start.take_over_within,
    }
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
    let command = in_background(start)?;
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

/// The command of a node in the background, with all that was said of it.
fn in_background(start: &NodeStart) -> std::io::Result<NodeCommand> {
    let release = start.release.as_ref().map(ToString::to_string);
    let dir = &start.node.dir;
    let mut command = NodeCommand::of_this_program(dir, release.as_deref(), &start.from)?;
    command.more = within(start.take_over_within);
    command.more.extend(start.lost.arguments());
    if start.try_again {
        command.more.push("--try-again".into());
    }
    Ok(command)
}

fn within(limit: Duration) -> Vec<OsString> {
    vec!["--take-over-within".into(), format_duration(limit).into()]
}

fn stop(dir: &Path, output: &Output) -> anyhow::Result<()> {
    stop_and_wait(dir)?;
    output.text("stopped");
    output.json(&json!({ "kind": "stopped" }));
    Ok(())
}

fn stop_and_wait(dir: &Path) -> anyhow::Result<()> {
    // Not the number that the node tells: it may count otherwise than here, as in a container.
    let process = match Client::connect(dir)?.node()?.pid {
        Some(pid) => Watched::of(pid)?,
        None => None,
    };
    control::stop(dir)?;
    // The socket goes first: the node has ended when its process has. One that is out of sight is believed.
    if let Some(process) = process
        && !process.ends_within(END)?
    {
        let message = format!("the node in {} has not ended within {END:?}", dir.display());
        return Err(CommandError::Operator(message).into());
    }
    Ok(())
}

fn restart(dir: &Path, output: &Output) -> anyhow::Result<()> {
    let stop_us = control::restart(dir, output)?;
    output.text(&format!(
        "restarted; clients waited {}",
        numbers::micros(stop_us)
    ));
    output.json(&json!({ "kind": "restarted", "stop_us": stop_us }));
    Ok(())
}

fn trust(
    dir: &Path,
    file: &Path,
    name: Option<String>,
    execute: bool,
    output: &Output,
) -> anyhow::Result<()> {
    read_key(file).map_err(|problem| anyhow!("{}: {problem}", file.display()))?;
    let key = std::fs::read_to_string(file)?;
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let name = name.unwrap_or_else(|| stem.into_owned());
    check_name("key", &name).map_err(|error| CommandError::Usage(error.to_string()))?;
    if !execute {
        output.text(&format!(
            "the node would trust the key {name}; --execute does it"
        ));
        output.json(&json!({ "kind": "trust", "name": name, "done": false }));
        return Ok(());
    }
    trusted(dir, Request::Trust { name, key }, output)
}

fn distrust(dir: &Path, name: String, execute: bool, output: &Output) -> anyhow::Result<()> {
    if !execute {
        output.text(&format!(
            "the node would trust {name} no more; --execute does it"
        ));
        output.json(&json!({ "kind": "trust", "name": name, "done": false }));
        return Ok(());
    }
    trusted(dir, Request::Distrust { name }, output)
}

fn trusted(dir: &Path, request: Request, output: &Output) -> anyhow::Result<()> {
    match control::ask_or_offline(dir, request)? {
        Outcome::Trusted { keys } => {
            output.text(&match keys.as_slice() {
                [] => String::from("no key is trusted: every release is taken, signed or not"),
                keys => format!("trusted: {}", keys.join(", ")),
            });
            output.json(&json!({ "kind": "trusted", "keys": keys }));
            Ok(())
        }
        other => control::unexpected(&other),
    }
}

fn metrics(dir: &Path, output: &Output) -> anyhow::Result<()> {
    match control::ask(dir, &Request::Metrics, |_| ())? {
        Outcome::Metrics { text } => {
            output.text(&text);
            output.json(&json!({ "kind": "metrics", "text": text }));
            Ok(())
        }
        other => control::unexpected(&other),
    }
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
    let name = |release: &Option<ReleaseId>| match release {
        Some(release) => format!("{release}"),
        None => String::from("none"),
    };
    let mut head = Table::new(&["", ""]);
    let mut line = |what: &str, value: String| {
        if !value.is_empty() {
            head.row([what.to_owned(), value]);
        }
    };
    let unconfirmed = if status.unconfirmed {
        " (not confirmed yet)"
    } else {
        ""
    };
    line("release", format!("{}{unconfirmed}", name(&status.release)));
    let by_itself = status.confirm_by_ms.map(|ms| {
        let when = numbers::utc(ms);
        format!("goes back by itself at {when}, unless it is confirmed")
    });
    line("confirm by", by_itself.unwrap_or_default());
    line("stuck", status.stuck.clone().unwrap_or_default());
    line("permanent", name(&status.permanent));
    let others = |wanted| {
        let those = status.releases.iter().filter(|one| one.status == wanted);
        let names: Vec<String> = those.map(|one| one.release.to_string()).collect();
        names.join(", ")
    };
    line("unpacked", others(ReleaseStatus::Unpacked));
    line("old", others(ReleaseStatus::Old));
    let takes = match (&status.trust.signed_only, status.trust.keys.as_slice()) {
        (true, []) => String::from("nothing: no trusted key can be read"),
        (true, keys) => format!("signed by {}", keys.join(" or ")),
        (false, _) => String::from("signed or not, for development: no key is trusted"),
    };
    line("takes releases", takes);
    line(
        "state",
        status
            .phase
            .map(|one| one.name().to_owned())
            .unwrap_or_default(),
    );
    if let Some(flight) = &status.in_flight {
        let step = flight.now.as_ref().map(|one| {
            let since = numbers::utc(one.since_ms);
            format!(
                ", step {} of {} since {since}: {}",
                one.index + 1,
                one.of,
                one.step
            )
        });
        let of = name(&flight.release);
        line(
            "in flight",
            format!(
                "{of}, asked for by {}{}",
                flight.who,
                step.unwrap_or_default()
            ),
        );
    }
    if let Some(interrupted) = &status.interrupted {
        line(
            "interrupted",
            format!("the upgrade to {}", interrupted.release),
        );
    }
    let abi = match status.abi {
        Some((lowest, highest)) if lowest == highest => format!(", ABI {lowest}"),
        Some((lowest, highest)) => format!(", ABI {lowest} to {highest}"),
        None => String::new(),
    };
    line("node", format!("{}{abi}", status.node));
    line("listens on", status.listen.join(", "));
    line("connections", numbers::count(status.connections));
    line(
        "runs for",
        numbers::micros(status.uptime_ms.saturating_mul(1000)),
    );
    line("process", status.pid.to_string());
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
    for one in &status.components {
        if let Some(sweep) = &one.sweep {
            out.push_str(&format!("\n{}.{}: {sweep}\n", one.component, one.instance));
        }
    }
    for one in &status.components {
        if let Some(why) = &one.last_failure {
            let name = format!("{}.{}", one.component, one.instance);
            let again = match one.state == ComponentStatus::ENDED {
                true => String::from("it has ended"),
                false => format!("started again {} times", one.restarts),
            };
            out.push_str(&format!("\n{name}: {again}; its last failure: {why}\n"));
        }
    }
    for one in &status.retained {
        out.push_str(&format!("\nstill in use: {one}\n"));
    }
    for one in &status.health {
        out.push_str(&format!("\ncheck: {one}\n"));
    }
    for one in &status.deleted_by_confirm {
        out.push_str(&format!(
            "\ndeleted when the release is confirmed: the state of {one}\n"
        ));
    }
    for one in &status.reset {
        out.push_str(&format!("\n{one}\n"));
    }
    if !status.snapshots.is_empty() {
        let bytes = status.snapshots.iter().map(|one| one.bytes).sum();
        out.push_str(&format!(
            "\nsnapshots of states that were thrown away: {}, {}\n",
            status.snapshots.len(),
            numbers::bytes(bytes)
        ));
        for one in &status.snapshots {
            out.push_str(&format!("  {one}\n"));
        }
    }
    if let Some(trouble) = &status.journal {
        out.push_str(&format!("\nthe journal: {trouble}\n"));
    }
    if !status.next.is_empty() {
        out.push_str("\nnext:\n");
        for one in &status.next {
            out.push_str(&format!("  {one}\n"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use neurath_node::lifecycle::Phase;
    use neurath_node::protocol::{
        InFlight, KeptSnapshot, KnownRelease, ResetState, StepNow, Sweep, Trust,
    };

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
                sweep: Some(Sweep {
                    segments: 200,
                    passed: 50,
                    converted: 40,
                    failure: Some("segment 7: no".into()),
                }),
                restarts: 3,
                last_failure: Some("panicked: odd".into()),
            }],
            connections: 3,
            uptime_ms: 1500,
            pid: 7,
            listen: vec!["127.0.0.1:7379".into()],
            retained: Vec::new(),
            node: "0.1.0".into(),
            abi: Some((1, 2)),
            phase: Some(Phase::Unconfirmed),
            in_flight: Some(InFlight {
                phase: Phase::Applying,
                release: Some(ReleaseId::new("kv", "1.2.0")),
                who: "user 0".into(),
                since_ms: 1_700_000_000_000,
                step: None,
                now: Some(StepNow {
                    step: "code_change store".into(),
                    index: 3,
                    of: 10,
                    since_ms: 1_700_000_001_000,
                }),
            }),
            next: vec!["neurath relup confirm".into()],
            confirm_by_ms: Some(1_700_000_000_000),
            stuck: None,
            interrupted: None,
            trust: Trust::default(),
            releases: vec![KnownRelease {
                release: ReleaseId::new("kv", "0.9.0"),
                status: ReleaseStatus::Old,
            }],
            health: vec!["tcp 127.0.0.1:7379: holds (0 of 2 failed)".into()],
            deleted_by_confirm: vec!["audit.0".into()],
            journal: Some("/kv/journal: there is no room".into()),
            snapshots: vec![KeptSnapshot {
                name: "store.0.1".into(),
                component: "store".into(),
                instance: 0,
                version: "1.0.0".into(),
                release: ReleaseId::new("kv", "1.0.0"),
                file: "/kv/regions/store.0.1".into(),
                bytes: 64 << 20,
                made_ms: 0,
                way_back: true,
            }],
            reset: vec![ResetState {
                component: "store".into(),
                instance: 0,
                transactions: Some(12),
                live_bytes: Some(2048),
                snapshot: true,
            }],
        };
        let text = shown(&status);
        assert!(text.contains("check: tcp 127.0.0.1:7379: holds"), "{text}");
        assert!(text.contains("kv-1.1.0 (not confirmed yet)"), "{text}");
        assert!(text.contains("store"), "{text}");
        assert!(text.contains("64.0 MiB"), "{text}");
        assert!(text.contains("0.1.0, ABI 1 to 2"), "{text}");
        let flight = "kv-1.2.0, asked for by user 0, step 4 of 10 since 2023-11-14 22:13:21";
        assert!(text.contains(flight), "{text}");
        let medium = "the medium of store.0: statx says no DAX; backend `page`";
        assert!(text.contains(medium), "{text}");
        let sweep = "store.0: its state is converted, 50 of 200 segments (25 %); code_change failed, segment 7: no";
        assert!(text.contains(sweep), "{text}");
        let failed = "store.0: started again 3 times; its last failure: panicked: odd";
        assert!(text.contains(failed), "{text}");
        assert!(text.contains("old             kv-0.9.0"), "{text}");
        assert!(text.contains("no key is trusted"), "{text}");
        assert!(text.contains("the state of audit.0"), "{text}");
        let lost = "the way back throws away the state of store.0 made since its reset: 12 transactions, 2048 bytes";
        assert!(text.contains(lost), "{text}");
        let kept = "thrown away: 1, 64.0 MiB\n  store.0.1: store 1.0.0 of kv-1.0.0, 67108864 bytes, \
                    /kv/regions/store.0.1; the way back needs it\n";
        assert!(text.contains(kept), "{text}");
        assert!(text.contains("the journal: /kv/journal: there"), "{text}");
        assert!(text.ends_with("next:\n  neurath relup confirm\n"), "{text}");
    }
}
