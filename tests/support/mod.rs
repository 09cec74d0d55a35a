//! What several of these tests need.
#![allow(dead_code, missing_docs)]

pub mod load;
pub mod play;
pub mod schema;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use neurath_cli::output::MessageFormat;
use neurath_node::catalog::{Catalog, State};
use neurath_node::journal::{Kind, Record};
use neurath_node::protocol::{ComponentStatus, Status};
use neurath_node::release::{ComponentSources, ReleasePackage, Sources};

/// How long anything that must happen may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn quiet() -> neurath_cli::output::Output {
    neurath_cli::output::Output::new(MessageFormat::Json)
}

/// Waits until this is so.
#[track_caller]
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < until, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The status of a node, once it is so. One that is asked for while the core or the event loop is at work for long tells of
/// before, or of less.
#[track_caller]
pub fn status_once(directory: &Path, what: &str, so: impl Fn(&Status) -> bool) -> Status {
    let until = Instant::now() + PATIENCE;
    loop {
        let status = neurath_cli::control::status(directory).expect("a status");
        if so(&status) {
            return status;
        }
        assert!(
            Instant::now() < until,
            "{what}: not within {PATIENCE:?}: {status:#?}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The status of a node whose event loop answers: what it says of its instances, it knows from them.
#[track_caller]
pub fn full_status(directory: &Path) -> Status {
    status_once(directory, "the event loop answers", |status| {
        let mut all = status.components.iter();
        all.all(|one| one.state != ComponentStatus::SILENT)
    })
}

/// Waits until a node has ended by itself; how it has.
#[track_caller]
pub fn ended(node: &neurath_cli::testing::NodeProcess) -> String {
    let mut how = String::new();
    wait_until("the node ends", || match node.check() {
        Ok(()) => false,
        Err(error) => {
            how = format!("{error:#}");
            true
        }
    });
    how
}

/// The real command, to its end.
pub fn neurath<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Output {
    let mut command = Command::new(neurath_suite::program());
    command
        .args(arguments)
        .output()
        .expect("the command is run")
}

/// The real command, about the node in a directory.
pub fn ask(directory: &Path, words: &[&str]) -> Output {
    let directory = directory.display().to_string();
    let mut all = words.to_vec();
    all.extend(["--dir", &directory]);
    neurath(&all)
}

/// The same, which must be done.
#[track_caller]
pub fn ok(directory: &Path, words: &[&str]) {
    let output = ask(directory, words);
    let code = output.status.code();
    assert_eq!(code, Some(0), "{words:?}: {}", stderr(&output));
}

/// Each file and folder of a node, and a hash of what it holds. A log is no part of the state, nor is the lock,
/// which names its last holder, nor room at the end of a region.
pub fn everything(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let entry = entry.expect("an entry");
            let (path, kind) = (entry.path(), entry.file_type().expect("a type"));
            let name = path.display().to_string();
            if kind.is_dir() {
                folders.push(path);
                found.insert(name, Vec::new());
            } else if kind.is_file() && !name.ends_with(".log") && !name.ends_with("/lock") {
                let mut bytes = std::fs::read(&path).expect("a file");
                if folder.ends_with("regions") {
                    let used = bytes.iter().rposition(|byte| *byte != 0);
                    bytes.truncate(used.map_or(0, |last| last + 1));
                }
                found.insert(name, blake3::hash(&bytes).as_bytes().to_vec());
            }
        }
    }
    found
}

/// The same, once nothing changes any more: behind what a client is told, room in the regions is made ready and given back,
/// and what a conversion has left is looked for.
pub fn at_rest(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut before = everything(directory);
    wait_until("the node is at rest", || {
        std::thread::sleep(Duration::from_millis(300));
        let last = std::mem::replace(&mut before, everything(directory));
        last == before
    });
    before
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What the catalog of a node says, whether the node runs or not.
pub fn catalog(directory: &Path) -> State {
    let catalog = Catalog::open(directory).expect("the catalog is readable");
    catalog.state().clone()
}

pub fn journal(directory: &Path) -> Vec<Record> {
    neurath_node::journal::read_all(directory.join("journal")).expect("the journal is readable")
}

/// Fails unless every operation of a journal has begun once and ended once, in this order.
#[track_caller]
pub fn assert_all_ended(records: &[Record]) {
    let mut open: Vec<&str> = Vec::new();
    for record in records {
        let id = record.operation_id.as_str();
        match &record.kind {
            Kind::Started { .. } => open.push(id),
            Kind::Ended { .. } => {
                let at = open.iter().position(|one| *one == id);
                open.remove(
                    at.unwrap_or_else(|| panic!("{id} ends and never began: {records:#?}")),
                );
            }
            _ => {}
        }
    }
    assert!(open.is_empty(), "{open:?} never ended: {records:#?}");
}

/// Fails unless the regions' files are exactly those that the catalog names.
#[track_caller]
pub fn assert_no_orphans(directory: &Path) {
    let state = catalog(directory);
    let previous = state.previous.iter().flat_map(|one| &one.regions);
    let kept = state.snapshots.iter().map(|one| &one.region);
    let mut named: Vec<String> = state
        .regions
        .iter()
        .chain(previous)
        .chain(kept)
        .map(|one| one.file.clone())
        .collect();
    named.sort();
    named.dedup();
    let files = std::fs::read_dir(directory.join("regions")).expect("the folder of regions");
    let mut found: Vec<String> = files
        .map(|file| {
            file.expect("a file")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    found.sort();
    assert_eq!(
        found, named,
        "the files in regions/, and those that the catalog names"
    );
}

/// Copies the folder of a node that does not run. Holes stay holes.
pub fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    let mut command = Command::new("cp");
    command.args(["--recursive", "--sparse=always", "--reflink=auto"]);
    let copied = command.arg(from).arg(to).status().expect("cp");
    assert!(copied.success(), "cannot copy {}", from.display());
    // The copy of a socket is of no use.
    let _ = std::fs::remove_file(to.join("control.sock"));
}

/// A temporary folder, in memory where the system has a place for that: a killed process leaves
/// there what it leaves on a disk, and a sync costs nothing.
pub fn folder_in_memory() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    folder.expect("a temporary folder")
}

/// A temporary folder on the disk of the build: durability `power` cannot be had in memory.
pub fn folder_on_disk() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder")
}

/// A client of the notebook.
pub struct Lines {
    stream: BufReader<TcpStream>,
}

impl Lines {
    pub fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self {
            stream: BufReader::new(stream),
        }
    }

    pub fn send(&mut self, line: &str) {
        let line = format!("{line}\n");
        let sent = self.stream.get_mut().write_all(line.as_bytes());
        sent.expect("the line is sent");
    }

    /// The next line; nothing if the connection was closed.
    pub fn receive(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => None,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Ok(_) => Some(line.trim_end().to_owned()),
            Err(error) => panic!("no answer: {error}"),
        }
    }

    #[track_caller]
    pub fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.receive()
            .unwrap_or_else(|| panic!("`{line}`: the connection was closed"))
    }
}

/// The notebook, with an edit of the project's folder before it is built.
pub fn book_edited(old: &str, new: &str, edit: impl FnOnce(&Path)) -> neurath_cli::stage::Stage {
    try_book_edited(old, new, edit).expect("the notebook is built")
}

/// The same, which may be refused.
pub fn try_book_edited(
    old: &str,
    new: &str,
    edit: impl FnOnce(&Path),
) -> anyhow::Result<neurath_cli::stage::Stage> {
    use neurath_cli::cli::Folders;
    use neurath_cli::stage::Stage;
    let folder = neurath_cli::processes::TemporaryFolder::new().expect("a folder");
    let port = neurath_cli::testing::free_port().expect("a port");
    let address = format!("127.0.0.1:{port}");
    neurath_test_components::project(folder.path(), old, new, &address).expect("manifests");
    edit(folder.path());
    let folders = Folders {
        manifests: folder.path().join("manifests"),
        releases: folder.path().join("releases"),
    };
    let stage = Stage::of(folder, &folders, "book", &["1.0.0", "1.1.0"], &quiet())?;
    Ok(stage.run_by(neurath_suite::program()))
}

/// The notebook in three versions; 1.2 leads only to 1.1, whose library is `middle`, and 1.1 to 1.0.
pub fn book_of_three(middle: &str) -> neurath_cli::stage::Stage {
    book_of_three_edited(middle, |_| {})
}

/// The same, with an edit of the project's folder before it is built.
pub fn book_of_three_edited(middle: &str, edit: impl FnOnce(&Path)) -> neurath_cli::stage::Stage {
    use neurath_cli::cli::Folders;
    use neurath_cli::stage::Stage;
    let folder = neurath_cli::processes::TemporaryFolder::new().expect("a folder");
    let port = neurath_cli::testing::free_port().expect("a port");
    let address = format!("127.0.0.1:{port}");
    neurath_test_components::project(folder.path(), "notebook_1", middle, &address)
        .expect("manifests");
    for (old, new) in [
        (
            "manifests/notebook/1.1.0.toml",
            "manifests/notebook/1.2.0.toml",
        ),
        (
            "manifests/notebook/1.1.0.appup.toml",
            "manifests/notebook/1.2.0.appup.toml",
        ),
        ("releases/book/1.1.0.toml", "releases/book/1.2.0.toml"),
    ] {
        let text = std::fs::read_to_string(folder.path().join(old)).expect(old);
        let text = text
            .replace("1.1.0", "1.2.0")
            .replace("~1.0", "~1.1")
            .replace(middle, "notebook_3");
        std::fs::write(folder.path().join(new), text).expect(new);
    }
    edit(folder.path());
    let folders = Folders {
        manifests: folder.path().join("manifests"),
        releases: folder.path().join("releases"),
    };
    let versions = ["1.0.0", "1.1.0", "1.2.0"];
    let stage = Stage::of(folder, &folders, "book", &versions, &quiet());
    stage
        .expect("the notebook is built")
        .run_by(neurath_suite::program())
}

/// The notebook's release 1.1.0 with another library.
pub fn book_with_library(built: &Path, to: &Path, library: PathBuf) {
    let good = ReleasePackage::open(&built.join("book-1.1.0")).expect("the good release");
    let text = |path: &str| {
        let text = good
            .text(path)
            .unwrap_or_else(|| panic!("{path} is in the release"));
        (path.to_owned(), text.to_owned())
    };
    let sources = Sources {
        release: text("release.toml"),
        relup: Some(text("relup.toml")),
        components: vec![ComponentSources {
            manifest: text("components/notebook-1.1.0.toml"),
            appup: Some(text("appups/notebook-1.1.0.appup.toml")),
            library,
        }],
        node: None,
    };
    ReleasePackage::assemble(to, &sources).expect("the broken release is assembled");
}

/// The libraries that a node's process has mapped.
pub fn mapped(node: &neurath_cli::testing::NodeProcess) -> usize {
    let pid = neurath_cli::control::status(node.directory())
        .expect("a status")
        .pid;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("the maps");
    let libraries = node.directory().join("libraries");
    let name = |line: &str| line.split_whitespace().last().map(str::to_owned);
    let mut all: Vec<String> = maps.lines().filter_map(name).collect();
    all.retain(|path| Path::new(path).starts_with(&libraries));
    all.sort();
    all.dedup();
    all.len()
}
