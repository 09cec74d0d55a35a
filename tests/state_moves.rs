//! State that changes its owner: kv 1.2.0 moves the counters of the store to the stats, which come, and kv 1.3.0
//! moves them back, and the stats go. Up, down and by the way back, under load, and killed at every step of the
//! pause: nothing is lost, and nothing is counted twice. Notes move from one notebook to another in many parts,
//! and whatever goes wrong with that leaves the old release as it was.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use kv_resp::Value;
use neurath_cli::cli::Folders;
use neurath_cli::control;
use neurath_cli::exit::code_of;
use neurath_cli::processes::TemporaryFolder;
use neurath_cli::redis::installed;
use neurath_cli::resp::Connection;
use neurath_cli::stage::{Stage, release};
use neurath_cli::testing::{NodeCommand, NodeProcess, free_port};
use neurath_node::catalog::ReleaseId;
use neurath_node::protocol::code;
use neurath_verify::{Options, Verifier};
use support::{
    Lines, PATIENCE, assert_all_ended, assert_no_orphans, catalog, copy, folder_in_memory,
    full_status, journal, quiet, wait_until,
};

fn ask(connection: &mut Connection, words: &[&str]) -> String {
    match connection.ask(words).expect("an answer") {
        Value::Bulk(bytes) | Value::Simple(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Value::Integer(number) => number.to_string(),
        other => panic!("{words:?}: {other:?}"),
    }
}

/// How far a client has counted: a key that is not there, which no answer has told of, is 0.
fn counter(connection: &mut Connection, key: &str) -> u64 {
    match connection.ask(&["GET", key]).expect("an answer") {
        Value::Null => 0,
        Value::Bulk(bytes) => String::from_utf8_lossy(&bytes).parse().expect("a number"),
        other => panic!("{key}: {other:?}"),
    }
}

/// What INFO says that was counted.
fn counted(address: &str) -> u64 {
    let mut connection = Connection::open(address).expect("a connection");
    let text = ask(&mut connection, &["INFO"]);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("changing_commands:"));
    let line = line.unwrap_or_else(|| panic!("INFO tells no counters: {text}"));
    line.trim().parse().expect("a number")
}

/// Clients that count by INCR, each a key of its own. What they have counted is the number of commands that have
/// changed something, if nobody else does.
struct Counting {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

const CLIENTS: u64 = 3;

impl Counting {
    fn start(address: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let threads = (0..CLIENTS).map(|client| {
            let (stop, answered) = (stop.clone(), answered.clone());
            let address = address.to_owned();
            std::thread::spawn(move || {
                let mut connection = Connection::open(&address).expect("a connection");
                let key = format!("counter-{client}");
                let mut last = counter(&mut connection, &key);
                while !stop.load(Ordering::Relaxed) {
                    let next = ask(&mut connection, &["INCR", &key]);
                    last += 1;
                    assert_eq!(next, last.to_string(), "{key}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        Self {
            threads: threads.collect(),
            stop,
            answered,
        }
    }

    /// Waits until so many more have been answered.
    #[track_caller]
    fn served(&self, more: u64) {
        let goal = self.answered.load(Ordering::Relaxed) + more;
        wait_until("the clients are served", || {
            self.answered.load(Ordering::Relaxed) >= goal
        });
    }

    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a client saw a wrong answer");
        }
    }
}

/// What the clients have counted, as the store says.
fn sum(address: &str) -> u64 {
    let mut connection = Connection::open(address).expect("a connection");
    let value = |client| counter(&mut connection, &format!("counter-{client}"));
    (0..CLIENTS).map(value).sum()
}

/// Nobody changes anything now: everything that did was counted once.
#[track_caller]
fn assert_counted(address: &str) {
    assert_eq!(counted(address), sum(address));
}

#[track_caller]
fn assert_serves(node: &NodeProcess, version: &str, components: &[&str]) {
    let status = full_status(node.directory());
    assert_eq!(status.release, Some(release(version)));
    let mut names: Vec<&str> = status
        .components
        .iter()
        .map(|one| &*one.component)
        .collect();
    names.sort_unstable();
    assert_eq!(names, components);
    assert_no_orphans(node.directory());
}

const WITH_STATS: [&str; 3] = ["gateway", "stats", "store"];
const WITHOUT: [&str; 2] = ["gateway", "store"];

#[test]
fn counters_move_up_down_and_back_under_load() {
    let stage = neurath_suite::kv(&["1.1.1", "1.2.0", "1.3.0"]);
    let node = stage.start("1.1.1").expect("a node");
    let (directory, address) = (node.directory(), node.address());
    let apply = |version: &str| {
        let load = Counting::start(address);
        load.served(200);
        control::apply(directory, &release(version), None, &quiet()).expect(version);
        load.served(200);
        load.finish();
    };
    let back = || {
        let load = Counting::start(address);
        load.served(200);
        control::rollback(directory, false, &quiet()).expect("the way back");
        load.served(200);
        load.finish();
    };
    let confirm = || control::confirm(directory, &quiet()).expect("confirmed");

    // Split, and back by the way down: what the stats have counted meanwhile comes with it.
    apply("1.2.0");
    assert_serves(&node, "1.2.0", &WITH_STATS);
    assert_counted(address);
    back();
    assert_serves(&node, "1.1.1", &WITHOUT);
    apply("1.2.0");
    assert_counted(address);
    confirm();
    // Merged, and back: the stats come again, with what the store has counted meanwhile, once.
    apply("1.3.0");
    assert_serves(&node, "1.3.0", &WITHOUT);
    assert_counted(address);
    back();
    assert_serves(&node, "1.2.0", &WITH_STATS);
    assert_counted(address);
    apply("1.3.0");
    confirm();
    // Down and up again as releases of their own.
    apply("1.2.0");
    assert_serves(&node, "1.2.0", &WITH_STATS);
    assert_counted(address);
    back();
    assert_serves(&node, "1.3.0", &WITHOUT);
    assert_counted(address);
    // From 1.1.1 the layout is the same: no move, and nothing is lost.
    apply("1.1.1");
    confirm();
    apply("1.3.0");
    assert_counted(address);
    assert_all_ended(&journal(directory));
}

/// The verifying client and redis-benchmark while the counters move.
#[test]
fn no_answer_is_wrong_while_counters_move() {
    let stage = neurath_suite::kv(&["1.1.1", "1.2.0", "1.3.0"]);
    let node = stage.start("1.1.1").expect("a node");
    let directory = node.directory();
    let options = Options {
        address: node.address().to_owned(),
        connections: 3,
        pipeline: 8,
        keys: 2_000,
        seed: 7,
        timeout: PATIENCE,
        ..Options::default()
    };
    options.expiry.store(true, Ordering::Relaxed);
    let verifier = Verifier::new(options).start();
    let benchmark = installed("redis-benchmark").map(|_| {
        let (host, port) = node.address().rsplit_once(':').expect("an address");
        let mut command = std::process::Command::new("redis-benchmark");
        command.args([
            "-h",
            host,
            "-p",
            port,
            "-t",
            "set,get,incr",
            "-n",
            "30000",
            "-q",
        ]);
        command.args(["-c", "10", "-P", "4", "-r", "1000"]);
        let piped = command.stdout(std::process::Stdio::piped());
        piped.spawn().expect("redis-benchmark runs")
    });
    let served = || {
        let goal = verifier.live().totals().requests + 1_000;
        wait_until("the load is served", || {
            verifier.live().totals().requests >= goal
        });
    };
    served();
    for version in ["1.2.0", "1.3.0", "1.2.0", "1.1.1"] {
        control::apply(directory, &release(version), None, &quiet()).expect(version);
        served();
        control::rollback(directory, false, &quiet()).expect("the way back");
        served();
        control::apply(directory, &release(version), None, &quiet()).expect(version);
        control::confirm(directory, &quiet()).expect("confirmed");
        served();
    }
    if let Some(benchmark) = benchmark {
        let output = benchmark.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        assert!(!said.contains("Error"), "{said}");
    }
    let report = verifier.finish();
    assert!(report.is_clean(), "{report}");
    assert!(report.requests > 5_000, "{report}");
}

/// A node with something counted, that is copied to be killed.
struct Prepared {
    stage: Stage,
    folder: tempfile::TempDir,
    /// The release that it is in, or goes back to.
    first: &'static str,
}

impl Prepared {
    /// In its first release; or in the next one, which is not confirmed: then its next start is the way back.
    fn new(first: &'static str, next: Option<&str>) -> Self {
        let prepared = Self {
            stage: neurath_suite::kv(&["1.1.1", "1.2.0", "1.3.0"]),
            folder: folder_in_memory(),
            first,
        };
        let mut command = prepared.stage.command(first);
        command.directory = prepared.folder.path().join("prepared");
        let node = NodeProcess::start(&command).expect("a node");
        prepared.stage.install(node.directory()).expect("installed");
        count(&node);
        if let Some(next) = next {
            control::apply(node.directory(), &release(next), None, &quiet()).expect("upgraded");
            count(&node);
        }
        node.kill();
        prepared
    }

    /// A fresh copy, to be killed at this point.
    fn copied(&self, kill: Option<usize>) -> NodeCommand {
        let mut command = self.stage.command(self.first);
        command.directory = self.folder.path().join("node");
        copy(&self.folder.path().join("prepared"), &command.directory);
        let log = ("NEURATH_FAULT_LOG".into(), self.log().into());
        command.environment.push(log);
        if let Some(number) = kill {
            let kill = ("NEURATH_FAULT_KILL".into(), number.to_string().into());
            command.environment.push(kill);
        }
        command
    }

    fn log(&self) -> std::path::PathBuf {
        self.folder.path().join("points")
    }

    /// The numbers of the points in a pause with a move, one of each run of the same name, and of the flip.
    fn points(&self, run: impl Fn(&NodeCommand)) -> (Vec<usize>, usize) {
        let _ = std::fs::remove_file(self.log());
        run(&self.copied(None));
        let text = std::fs::read_to_string(self.log()).expect("points are noted");
        let names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(_, name)| name)
            .collect();
        let moved = names
            .iter()
            .position(|name| *name == "upgrade.moved")
            .expect("a move");
        let before = names[..moved]
            .iter()
            .rposition(|name| *name == "upgrade.suspended");
        let after = names[moved..]
            .iter()
            .position(|name| *name == "upgrade.resumed" || *name == "upgrade.settled");
        let end = moved + after.expect("it is over");
        let flip = names[moved..]
            .iter()
            .position(|name| *name == "catalog.flip.before-write");
        let flip = moved + flip.expect("a flip");
        let points = before.unwrap_or(0)..=end;
        let points = points.filter(|at| *at == 0 || names[*at] != names[at - 1]);
        (points.map(|at| at + 1).collect(), flip + 1)
    }
}

/// Counts something, and waits until nobody does any more.
fn count(node: &NodeProcess) {
    let load = Counting::start(node.address());
    load.served(40);
    load.finish();
}

/// A node that was killed comes up in one of two releases, and everything was counted once.
#[track_caller]
fn assert_whole(prepared: &Prepared, point: usize, expected: Option<&str>, next: &str) {
    let mut command = prepared.stage.command(prepared.first);
    command.directory = prepared.folder.path().join("node");
    let node = NodeProcess::start(&command).expect("it starts again");
    let directory = node.directory();
    let status = control::status(directory).expect("a status");
    if let Some(expected) = expected {
        assert_eq!(status.release, Some(release(expected)), "killed at {point}");
    }
    assert_no_orphans(directory);
    assert_all_ended(&journal(directory));
    count(&node);
    if status.release != Some(release(next)) {
        control::apply(directory, &release(next), None, &quiet()).expect("upgraded");
    }
    assert_counted(node.address());
    node.stop().expect("it stops");
}

/// From `first` to `next`, killed in the pause.
fn killed_on_the_way(first: &'static str, next: &str) {
    let prepared = Prepared::new(first, None);
    let apply = |command: &NodeCommand| {
        let node = NodeProcess::start(command).expect("a node");
        // It may be killed meanwhile.
        let _ = control::apply(node.directory(), &release(next), None, &quiet());
    };
    let (points, flip) = prepared.points(apply);
    assert!(
        points.len() > 6 && points.contains(&flip),
        "{points:?}, {flip}"
    );
    for point in points {
        apply(&prepared.copied(Some(point)));
        let state = catalog(&prepared.folder.path().join("node"));
        let flipped = state.current == Some(release(next));
        assert_eq!(
            flipped,
            point > flip,
            "killed at {point}, and the flip is {flip}"
        );
        // What was not confirmed goes back.
        assert_whole(&prepared, point, Some(first), next);
    }
}

/// Back from `next`, by the start of a node in which it was not confirmed.
fn killed_on_the_way_back(first: &'static str, next: &str) {
    let prepared = Prepared::new(first, Some(next));
    let start = |command: &NodeCommand| drop(NodeProcess::start(command));
    let (points, flip) = prepared.points(start);
    assert!(
        points.len() > 6 && points.contains(&flip),
        "{points:?}, {flip}"
    );
    for point in points {
        start(&prepared.copied(Some(point)));
        assert_whole(&prepared, point, Some(first), next);
    }
}

#[test]
fn killed_while_counters_are_split_off() {
    killed_on_the_way("1.1.1", "1.2.0");
    killed_on_the_way_back("1.1.1", "1.2.0");
}

#[test]
fn killed_while_counters_are_merged() {
    killed_on_the_way("1.2.0", "1.3.0");
    killed_on_the_way_back("1.2.0", "1.3.0");
}

fn book(version: &str) -> ReleaseId {
    ReleaseId::new("book", version)
}

fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("it is made");
    std::fs::write(path, text).expect("the file is written");
}

/// A notebook, whose notes go to an archive that comes with 1.1.0; the move's table. Where the notebook listens, and
/// the archive.
fn archive(extra: &str) -> (Stage, String, String) {
    archive_of(extra, 1)
}

/// The same, with so many instances of the notebook.
fn archive_of(extra: &str, notebooks: u32) -> (Stage, String, String) {
    let folder = TemporaryFolder::new().expect("a folder");
    let address = || format!("127.0.0.1:{}", free_port().expect("a port"));
    let (notebook, archive) = (address(), address());
    let (old, new) = ("notebook_1", "notebook_moves");
    neurath_test_components::project(folder.path(), old, new, &notebook).expect("manifests");
    for version in ["1.0.0", "1.1.0"] {
        let path = format!("manifests/notebook/{version}.toml");
        let text = std::fs::read_to_string(folder.path().join(&path)).expect("the manifest");
        let instances = format!("instances = {notebooks}");
        write(
            folder.path(),
            &path,
            &text.replacen("instances = 1", &instances, 1),
        );
    }
    write(
        folder.path(),
        "manifests/archive/1.0.0.toml",
        "name = \"archive\"\nversion = \"1.0.0\"\nlibrary = \"neurath-test-components/archive\"\n\
         [region]\ninitial_size = \"1MiB\"\nlimit = \"64MiB\"\ndurability = \"process\"\n",
    );
    let moves = |from: &str, to: &str| {
        format!(
            "{{ move_state = \"notes\", from = [\"{from}\"], to = [\"{to}\"], extra = {{ {extra} }} }}"
        )
    };
    let (there, back) = (moves("notebook", "archive"), moves("archive", "notebook"));
    // Only what does not come back needs an end soon.
    let timeout = match extra.contains("loop") {
        true => "8s",
        false => "60s",
    };
    let load = format!("{{ load = \"notebook\", timeout = \"{timeout}\" }}");
    write(
        folder.path(),
        "manifests/notebook/1.1.0.appup.toml",
        &format!(
            "name = \"notebook\"\nversion = \"1.1.0\"\n\
             [[up]]\nfrom = \"~1.0\"\ninstructions = [{load}, {there}]\n\
             [[down]]\nto = \"~1.0\"\ninstructions = [{load}, {back}]\n"
        ),
    );
    let listens = |name: &str, version: &str, at: &str| {
        format!("{name} = {{ version = \"{version}\", config = {{ listen = \"{at}\" }} }}\n")
    };
    write(
        folder.path(),
        "releases/book/1.1.0.toml",
        &format!(
            "name = \"book\"\nversion = \"1.1.0\"\nnode = \"0.1.0\"\n[components]\n{}{}\
             [confirm]\nwindow = \"600s\"\n\
             [lints]\nD101 = {{ level = \"allow\", reason = \"its notes go back\" }}\n",
            listens("notebook", "1.1.0", &notebook),
            listens("archive", "1.0.0", &archive)
        ),
    );
    let folders = Folders {
        manifests: folder.path().join("manifests"),
        releases: folder.path().join("releases"),
    };
    let stage = Stage::of(folder, &folders, "book", &["1.0.0", "1.1.0"], &quiet());
    let stage = stage.expect("it is built").run_by(neurath_suite::program());
    (stage, notebook, archive)
}

fn note(number: usize) -> String {
    format!("note {number} {}", "x".repeat(number % 300 + 1))
}

fn add(client: &mut Lines, numbers: std::ops::Range<usize>) {
    for number in numbers {
        client.send(&format!("add {}", note(number)));
        client.receive().expect("an answer");
    }
}

#[track_caller]
fn assert_notes(address: &str, notes: impl Iterator<Item = usize>) {
    let mut client = Lines::open(address);
    let notes: Vec<usize> = notes.collect();
    assert_eq!(client.ask("count"), notes.len().to_string());
    for (at, number) in notes.into_iter().enumerate() {
        assert_eq!(client.ask(&format!("get {at}")), note(number), "note {at}");
    }
}

/// Many parts, from a component whose layout stays; and back, with what both got meanwhile.
#[test]
fn notes_move_in_parts_and_come_back() {
    let (stage, notebook, archive) = archive("part = 100");
    let node = stage.start("1.0.0").expect("a node");
    let directory = node.directory();
    add(&mut Lines::open(&notebook), 0..1_050);
    for _ in 0..2 {
        control::apply(directory, &book("1.1.0"), None, &quiet()).expect("they move");
        assert_notes(&notebook, 0..0);
        assert_notes(&archive, 0..1_050);
        assert_no_orphans(directory);
        // The way back as it was finds them where they were.
        control::rollback(directory, true, &quiet()).expect("as it was");
        assert_notes(&notebook, 0..1_050);
        assert_no_orphans(directory);
    }
    control::apply(directory, &book("1.1.0"), None, &quiet()).expect("they move");
    add(&mut Lines::open(&notebook), 2_000..2_010);
    add(&mut Lines::open(&archive), 1_050..1_070);
    control::rollback(directory, false, &quiet()).expect("with what was written since");
    assert_notes(&notebook, (2_000..2_010).chain(0..1_070));
    assert_no_orphans(directory);
    assert_all_ended(&journal(directory));
}

/// Whatever goes wrong, and at whichever end: the old release serves with all that it had.
#[test]
fn a_move_that_fails_leaves_everything_as_it_was() {
    for (fault, at, text) in [
        (
            "panic",
            "notebook",
            "move_out of notebook 1.1.0: it panicked: asked to",
        ),
        (
            "error",
            "notebook",
            "move_out of notebook 1.1.0: asked to refuse the move",
        ),
        (
            "loop",
            "notebook",
            "move_out of notebook 1.1.0: it did not end within",
        ),
        ("again", "notebook", "gives the part at 0 again"),
        ("huge", "notebook", "more than a part may have"),
        (
            "panic",
            "archive",
            "move_in of archive 1.0.0: it panicked: asked to",
        ),
        (
            "error",
            "archive",
            "move_in of archive 1.0.0: asked to refuse the move",
        ),
        (
            "loop",
            "archive",
            "move_in of archive 1.0.0: it did not end within",
        ),
    ] {
        let extra = format!("part = 100, fault = \"{fault}\", at = \"{at}\"");
        let (stage, notebook, archive) = archive(&extra);
        let node = stage.start("1.0.0").expect("a node");
        add(&mut Lines::open(&notebook), 0..250);
        let refused = control::apply(node.directory(), &book("1.1.0"), None, &quiet());
        let refused = refused.expect_err(fault);
        assert_eq!(code_of(&refused), code::UPGRADE_FAILED, "{refused:#}");
        let said = format!("{refused:#}");
        assert!(
            said.contains("move_state notes: ") && said.contains(text),
            "{said}"
        );
        assert_notes(&notebook, 0..250);
        add(&mut Lines::open(&notebook), 250..260);
        assert_notes(&notebook, 0..260);
        assert!(
            std::net::TcpStream::connect(&archive).is_err(),
            "the archive did not come"
        );
        assert_eq!(catalog(node.directory()).current, Some(book("1.0.0")));
        assert_no_orphans(node.directory());
        assert_all_ended(&journal(node.directory()));
    }
}

/// All notes of all instances, in order.
fn all_notes(address: &str, instances: u32) -> Vec<String> {
    let mut client = Lines::open(address);
    let mut all = Vec::new();
    for instance in 0..instances {
        let to = match instances {
            1 => String::new(),
            _ => format!("to {instance} "),
        };
        let count: usize = client.ask(&format!("{to}count")).parse().expect("a number");
        all.extend((0..count).map(|number| client.ask(&format!("{to}get {number}"))));
    }
    all.sort();
    all
}

/// Each instance gives, and each takes what is its own: nothing is given twice, also where the state that gives is
/// left behind.
#[test]
fn notes_of_several_instances_move() {
    let (stage, notebook, archive) = archive_of("part = 7", 4);
    let node = stage.start("1.0.0").expect("a node");
    let mut client = Lines::open(&notebook);
    let mut expected = Vec::new();
    for number in 0..200 {
        let text = format!("note {number}");
        client.ask(&format!("to {} add {text}", number % 4));
        expected.push(text);
    }
    expected.sort();
    control::apply(node.directory(), &book("1.1.0"), None, &quiet()).expect("they move");
    assert_eq!(all_notes(&archive, 1), expected);
    assert_eq!(all_notes(&notebook, 4), [""; 0]);
    control::rollback(node.directory(), false, &quiet()).expect("and back");
    assert_eq!(all_notes(&notebook, 4), expected);
    let of_first = client.ask("to 0 count");
    assert_eq!(of_first, "50", "each got its part");
    assert_no_orphans(node.directory());
}

/// What a rehearsal says of a move: the counters would come back.
#[test]
fn a_move_is_rehearsed() {
    let stage = neurath_suite::kv(&["1.2.0", "1.3.0"]);
    let node = stage.start("1.2.0").expect("a node");
    count(&node);
    let directory = node.directory().display().to_string();
    let words = [
        "relup", "rehearse", "kv-1.3.0", "--json", "--dir", &directory,
    ];
    let output = support::neurath(&words);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        support::stderr(&output)
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = text.lines().rfind(|line| line.contains("\"rehearsed\""));
    let told: serde_json::Value = serde_json::from_str(told.expect("it is told")).expect("JSON");
    assert!(
        told["rehearsal"]["way_back"]["same"]["stop_us"].is_u64(),
        "{told:#}"
    );
    assert_serves(&node, "1.2.0", &WITH_STATS);
    assert_counted(node.address());
}
