//! P15: steps across nodes have a deadline and one decision: all of the nodes go on from a meeting point, or none.

mod support;

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use neurath_cli::cli::Folders;
use neurath_cli::control;
use neurath_cli::processes::TemporaryFolder;
use neurath_cli::stage::Stage;
use neurath_cli::testing::{NodeCommand, NodeProcess};
use neurath_node::lifecycle::Phase;
use support::load::Client;
use support::{ask, assert_all_ended, copy, journal, ok, quiet, stderr, wait_until};

/// The first one decides.
const NAMES: [&str; 3] = ["east", "north", "west"];
/// Longer than anything here takes.
const LONG: &str = "5m";

/// A project whose way to 1.1.0 has a meeting point.
fn project(folder: &Path, deadline: &str) -> Folders {
    copy(Path::new("manifests"), &folder.join("manifests"));
    copy(Path::new("releases"), &folder.join("releases"));
    let appup = folder.join("manifests/store/1.1.0.appup.toml");
    let text = std::fs::read_to_string(&appup).expect("the appup");
    let nodes = NAMES.map(|name| format!("\"{name}\"")).join(", ");
    let met = format!(
        "from = \"~1.0\"\ninstructions = [\n{{ sync_nodes = \"all\", nodes = [{nodes}], deadline = \"{deadline}\" }},\n{{ update"
    );
    let changed = text.replacen("from = \"~1.0\"\ninstructions = [{ update", &met, 1);
    assert_ne!(changed, text);
    std::fs::write(appup, changed).expect("it is written");
    let _ = std::fs::remove_file(folder.join("releases/kv/1.1.0.relup.toml"));
    Folders {
        manifests: folder.join("manifests"),
        releases: folder.join("releases"),
    }
}

/// Nodes that know each other, each with a port and a build of its own.
struct Nodes {
    _stages: Vec<Stage>,
    commands: Vec<NodeCommand>,
    running: Vec<Option<NodeProcess>>,
}

impl Nodes {
    /// `environment`: a variable for one of them.
    fn start(deadline: &str, environment: Option<(&str, &str, &str)>) -> Nodes {
        let folder = TemporaryFolder::new().expect("a folder");
        let folders = project(folder.path(), deadline);
        let stage = |_| {
            let stage = Stage::new(&folders, &["1.0.0", "1.1.0"], &quiet());
            stage.expect("kv is built").run_by(neurath_suite::program())
        };
        let stages: Vec<Stage> = NAMES.iter().map(stage).collect();
        let mut commands: Vec<NodeCommand> =
            stages.iter().map(|stage| stage.command("1.0.0")).collect();
        let places: Vec<PathBuf> = commands.iter().map(|one| one.directory.clone()).collect();
        for (at, command) in commands.iter_mut().enumerate() {
            std::fs::create_dir_all(&command.directory).expect("a folder");
            let others = NAMES
                .iter()
                .zip(&places)
                .filter(|(name, _)| **name != NAMES[at]);
            let lines: Vec<String> = others
                .map(|(name, place)| format!("{name} = \"{}\"\n", place.display()))
                .collect();
            let text = format!("name = \"{}\"\n[nodes]\n{}", NAMES[at], lines.concat());
            std::fs::write(command.directory.join("nodes.toml"), text).expect("nodes.toml");
            if let Some((name, variable, value)) = environment
                && name == NAMES[at]
            {
                command.environment.push((variable.into(), value.into()));
            }
        }
        let start = |(command, stage): (&NodeCommand, &Stage)| {
            let node = NodeProcess::start(command).expect("a node");
            stage.install(node.directory()).expect("releases");
            Some(node)
        };
        let running = commands.iter().zip(&stages).map(start).collect();
        Nodes {
            _stages: stages,
            commands,
            running,
        }
    }

    fn directory(&self, name: &str) -> PathBuf {
        self.commands[place(name)].directory.clone()
    }

    /// Begins the upgrade of one of them.
    fn apply(&self, name: &str) -> JoinHandle<std::process::Output> {
        let directory = self.directory(name);
        std::thread::spawn(move || ask(&directory, &["relup", "apply", "kv-1.1.0", "--execute"]))
    }

    fn runs(&self, name: &str) -> String {
        let status = control::status(&self.directory(name)).expect("a status");
        status.release.expect("a release").version
    }

    /// Waits until one of them is at the meeting point, or on its way there.
    fn under_way(&self, name: &str) {
        wait_until("it is under way", || {
            let status = control::status(&self.directory(name)).expect("a status");
            let step = status.in_flight.and_then(|flight| flight.step);
            step.is_some_and(|step| step.step.starts_with("sync_nodes"))
        });
    }

    /// Waits until one of them has been killed, and starts it again, as it was meant to be.
    fn start_again(&mut self, name: &str) {
        let at = place(name);
        let node = self.running[at].take().expect("it was started");
        wait_until("it is killed", || node.check().is_err());
        drop(node);
        self.commands[at].environment.clear();
        let node = NodeProcess::start(&self.commands[at]).expect("it starts again");
        self.running[at] = Some(node);
    }

    /// Every node serves in this release, and its history has no loose ends.
    #[track_caller]
    fn assert_all_run(&self, versions: [&str; 3]) {
        for (name, version) in NAMES.into_iter().zip(versions) {
            assert_eq!(self.runs(name), version, "{name}");
            let node = self.running[place(name)].as_ref().expect("it runs");
            assert_eq!(Client::open(node.address()).ask("SET a b"), "+OK");
            assert_all_ended(&journal(&self.directory(name)));
        }
    }
}

fn place(name: &str) -> usize {
    NAMES.iter().position(|one| *one == name).expect("a name")
}

#[track_caller]
fn done(upgrade: JoinHandle<std::process::Output>) {
    let output = upgrade.join().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

/// It failed, the old release serves, and this is named.
#[track_caller]
fn refused(upgrade: JoinHandle<std::process::Output>, named: &str) {
    let output = upgrade.join().expect("it ends");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(40), "{text}");
    assert!(
        text.contains("sync_nodes all") && text.contains(named),
        "{text}"
    );
}

#[test]
fn all_go_on_when_the_last_one_is_there() {
    for last in NAMES {
        let nodes = Nodes::start(LONG, None);
        let first = NAMES.into_iter().filter(|name| *name != last);
        let first: Vec<_> = first.map(|name| (name, nodes.apply(name))).collect();
        for (name, _) in &first {
            nodes.under_way(name);
            let node = nodes.running[place(name)].as_ref().expect("it runs");
            assert_eq!(Client::open(node.address()).ask("SET a b"), "+OK");
            assert_eq!(nodes.runs(name), "1.0.0");
        }
        let last = nodes.apply(last);
        first.into_iter().for_each(|(_, upgrade)| done(upgrade));
        done(last);
        nodes.assert_all_run(["1.1.0"; 3]);
        // A way back waits for nobody.
        ok(
            &nodes.directory("north"),
            &["relup", "rollback", "--execute"],
        );
        nodes.assert_all_run(["1.1.0", "1.0.0", "1.1.0"]);
        // And who is late joins those who went on.
        done(nodes.apply("north"));
        ok(
            &nodes.directory("east"),
            &["relup", "rollback", "--execute"],
        );
        done(nodes.apply("east"));
        nodes.assert_all_run(["1.1.0"; 3]);
    }
}

#[test]
fn one_that_does_not_come_keeps_all_where_they_are() {
    for missing in NAMES {
        let nodes = Nodes::start("1s", None);
        let others = NAMES.into_iter().filter(|name| *name != missing);
        let others: Vec<_> = others.map(|name| nodes.apply(name)).collect();
        for upgrade in others {
            refused(upgrade, "");
        }
        nodes.assert_all_run(["1.0.0"; 3]);
        // The next try meets anew.
        let again = NAMES.map(|name| nodes.apply(name));
        let ends: Vec<_> = again
            .into_iter()
            .map(|one| one.join().expect("it ends"))
            .collect();
        let codes: Vec<_> = ends.iter().map(|end| end.status.code()).collect();
        assert!(codes == [Some(0); 3] || codes == [Some(40); 3], "{codes:?}");
    }
}

#[test]
fn one_who_gives_up_decides_for_all() {
    for (gives_up, waits) in [("east", "north"), ("north", "east")] {
        let nodes = Nodes::start(LONG, None);
        let both = [gives_up, waits].map(|name| nodes.apply(name));
        nodes.under_way(gives_up);
        nodes.under_way(waits);
        let aborted = nodes.directory(gives_up);
        ok(&aborted, &["relup", "abort", "--execute"]);
        for upgrade in both {
            refused(upgrade, gives_up);
        }
        nodes.assert_all_run(["1.0.0"; 3]);
    }
}

/// Whoever has voted waits for the decision beyond its deadline, and it is the same for all.
#[test]
fn what_was_decided_outlives_the_node_that_decided() {
    for (point, goes_on) in [("meeting.recorded", true), ("meeting.deciding", false)] {
        let mut nodes = Nodes::start("15s", Some(("east", "NEURATH_FAULT_KILL_AT", point)));
        let decides = nodes.apply("east");
        let others = [nodes.apply("north"), nodes.apply("west")];
        let end = decides.join().expect("it ends");
        assert_ne!(end.status.code(), Some(0));
        std::thread::sleep(Duration::from_secs(16));
        for name in ["north", "west"] {
            let status = control::status(&nodes.directory(name)).expect("a status");
            assert_eq!(status.phase, Some(Phase::Applying), "{name} is in doubt");
        }
        nodes.start_again("east");
        match goes_on {
            true => others.into_iter().for_each(done),
            false => others.into_iter().for_each(|one| refused(one, "east")),
        }
        let then = if goes_on { "1.1.0" } else { "1.0.0" };
        nodes.assert_all_run(["1.0.0", then, then]);
        if goes_on {
            ok(&nodes.directory("east"), &["relup", "resume", "--execute"]);
            nodes.assert_all_run(["1.1.0"; 3]);
        }
    }
}

#[test]
fn one_that_dies_is_missed_before_its_vote_and_joins_the_others_after_it() {
    for (point, goes_on) in [("meeting.voting", false), ("meeting.learned", true)] {
        let deadline = if goes_on { LONG } else { "15s" };
        let mut nodes = Nodes::start(deadline, Some(("west", "NEURATH_FAULT_KILL_AT", point)));
        let [east, north, west] = NAMES.map(|name| nodes.apply(name));
        assert_ne!(west.join().expect("it ends").status.code(), Some(0));
        match goes_on {
            true => [east, north].into_iter().for_each(done),
            false => [east, north]
                .into_iter()
                .for_each(|one| refused(one, "west")),
        }
        nodes.start_again("west");
        let then = if goes_on { "1.1.0" } else { "1.0.0" };
        nodes.assert_all_run([then, then, "1.0.0"]);
        if goes_on {
            ok(&nodes.directory("west"), &["relup", "resume", "--execute"]);
            nodes.assert_all_run(["1.1.0"; 3]);
        }
    }
}

#[test]
fn who_is_not_known_is_named_before_anything_stops() {
    let nodes = Nodes::start(LONG, None);
    let file = nodes.directory("north").join("nodes.toml");
    std::fs::write(&file, "name = \"north\"\n[nodes]\neast = \"/nowhere\"\n")
        .expect("it is written");
    let unknown = nodes.apply("north").join().expect("it ends");
    assert_eq!(unknown.status.code(), Some(40));
    let text = stderr(&unknown);
    assert!(
        text.contains("`west`") && text.contains("nodes.toml"),
        "{text}"
    );
    std::fs::remove_file(&file).expect("it is removed");
    let text = stderr(&nodes.apply("north").join().expect("it ends"));
    assert!(
        text.contains("name = ") && text.contains("nodes.toml"),
        "{text}"
    );
    nodes.assert_all_run(["1.0.0"; 3]);
}
