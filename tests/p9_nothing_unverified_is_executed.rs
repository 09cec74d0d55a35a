//! P9: nothing is executed that was not verified. A node that trusts a key maps no code of a
//! release that is not signed, signed by somebody else, changed after it was verified, or of an epoch
//! that is over.

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use neurath_cli::control;
use neurath_cli::stage::Stage;
use neurath_cli::testing::{NodeCommand, NodeProcess};
use neurath_node::catalog::ReleaseStatus;
use neurath_node::release::ReleasePackage;
use support::{Lines, catalog, neurath, stderr};

const REFUSED: i32 = 23;
const DAMAGED: i32 = 20;

/// A node with keys and packages beside it.
struct Play {
    stage: Stage,
    folder: tempfile::TempDir,
    command: NodeCommand,
}

impl Play {
    /// The new version leaves a mark when it is mapped.
    fn new() -> Self {
        Self::on(neurath_suite::book("notebook_1", "leaves_a_mark"))
    }

    fn on(stage: Stage) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = stage.command("1.0.0");
        let mark = folder.path().join("mark");
        command
            .environment
            .push(("NEURATH_TEST_MARK".into(), mark.into_os_string()));
        for name in ["ours", "theirs"] {
            let key = folder.path().join(name).display().to_string();
            ok(&neurath(&["release", "keygen", &key, "--no-password"]));
        }
        Self {
            stage,
            folder,
            command,
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Whether the new version's code has ever run.
    fn is_marked(&self) -> bool {
        self.folder.path().join("mark").exists()
    }

    fn releases(&self) -> PathBuf {
        self.command.directory.join("releases")
    }

    /// A package of a release in the folder `from`.
    fn pack(&self, from: &Path, version: &str, numbers: [u64; 2], key: &str) -> String {
        let of = from.file_name().unwrap_or_default().to_string_lossy();
        let file = self.path(&format!("{of}-{version}-{}.neurath.tar.gz", numbers[0]));
        let (release, key) = (format!("book-{version}"), self.path(key));
        let [sequence, epoch] = numbers.map(|number| number.to_string());
        let from = from.display().to_string();
        ok(&neurath(&[
            "release",
            "pack",
            &release,
            "--from",
            &from,
            "--out",
            &file,
            "--key",
            &key,
            "--sequence",
            &sequence,
            "--epoch",
            &epoch,
        ]));
        file
    }

    /// A command about the node, which is to be carried out.
    fn ask(&self, words: &[&str]) -> Output {
        let directory = self.command.directory.display().to_string();
        let mut all = words.to_vec();
        all.extend(["--dir", &directory, "--execute"]);
        neurath(&all)
    }

    #[track_caller]
    fn refused(&self, words: &[&str], code: i32, said: &str) {
        let output = self.ask(words);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {text}");
        assert!(text.contains(said), "{words:?}: {text}");
        assert!(!self.is_marked(), "{words:?}: the code has run");
    }
}

#[track_caller]
fn ok(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

/// Another release 1.1.0: the same, with a newer release file.
fn other(built: &Path, to: &Path) {
    use neurath_node::release::{ComponentSources, Sources};
    let good = ReleasePackage::open(&built.join("book-1.1.0")).expect("the release");
    let text = |path: &str| {
        let text = good.text(path).unwrap_or_else(|| panic!("{path}"));
        (path.to_owned(), text.to_owned())
    };
    let (name, release) = text("release.toml");
    let sources = Sources {
        release: (name, format!("{release}\n# another one\n")),
        relup: Some(text("relup.toml")),
        components: vec![ComponentSources {
            manifest: text("components/notebook-1.1.0.toml"),
            appup: Some(text("appups/notebook-1.1.0.appup.toml")),
            library: good.dir().join("lib/notebook-1.1.0.so"),
        }],
        node: None,
    };
    ReleasePackage::assemble(to, &sources).expect("the other release");
}

/// Writes over a file of an installed release.
fn overwrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("the file");
    change(&mut bytes);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).expect("its mode");
    std::fs::write(path, bytes).expect("it is written");
}

#[test]
fn only_what_a_trusted_key_signed_and_nobody_changed_is_mapped() {
    let play = Play::new();
    let built = play.stage.built().to_owned();
    let node = NodeProcess::start(&play.command).expect("a node");
    let status = || control::status(&play.command.directory).expect("status");
    assert!(!status().trust.signed_only, "a new node is for development");

    // A key cannot be trusted while what runs is not signed by it. Then it is.
    let ours = play.path("ours.pub");
    play.refused(&["node", "trust", &ours], REFUSED, "book-1.0.0 is in use");
    let first = play.pack(&built, "1.0.0", [1, 0], "ours");
    ok(&play.ask(&["release", "unpack", &first]));
    ok(&play.ask(&["node", "trust", &ours]));
    assert_eq!(status().trust.keys, ["ours"]);
    assert!(status().trust.signed_only);

    // Not signed, in a folder and in a package; signed by somebody else.
    let from = built.display().to_string();
    let unsigned = ["relup", "apply", "book-1.1.0", "--from", &from];
    play.refused(&unsigned, REFUSED, "is not signed");
    let file = play.path("unsigned.neurath.tar.gz");
    ok(&neurath(&[
        "release",
        "pack",
        "book-1.1.0",
        "--from",
        &from,
        "--out",
        &file,
        "--unsigned",
        "--sequence",
        "2",
    ]));
    play.refused(&["release", "unpack", &file], REFUSED, "is not signed");
    play.refused(&["relup", "apply", &file], REFUSED, "is not signed");
    let theirs = play.pack(&built, "1.1.0", [2, 0], "theirs");
    play.refused(
        &["release", "unpack", &theirs],
        REFUSED,
        "no trusted key has signed",
    );
    assert_eq!(names(&play.releases()), ["book-1.0.0"], "nothing stays");

    // Every part of a package that is changed.
    let good = play.pack(&built, "1.1.0", [5, 3], "ours");
    let whole = std::fs::read(&good).expect("the package");
    let spoilt = play.path("spoilt.neurath.tar.gz");
    // The last compressed byte, before gzip's checksum and length, has bits that say nothing.
    let says_nothing = whole.len() - 9;
    let some = (10..whole.len()).step_by(whole.len() / 60);
    for at in some.filter(|at| *at != says_nothing) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        std::fs::write(&spoilt, bytes).expect("it is written");
        let output = play.ask(&["relup", "apply", &spoilt]);
        assert!(
            matches!(output.status.code(), Some(DAMAGED | REFUSED)),
            "byte {at} of {}: {output:?}",
            whole.len()
        );
        assert!(!play.is_marked(), "byte {at}");
    }
    assert_eq!(names(&play.releases()), ["book-1.0.0"], "nothing stays");

    // Numbers only grow.
    ok(&play.ask(&["release", "unpack", &good]));
    let another = play.folder.path().join("another");
    other(&built, &another);
    let same = play.pack(&another, "1.1.0", [5, 3], "ours");
    play.refused(
        &["release", "unpack", &same],
        REFUSED,
        "another package has already",
    );
    let older = play.pack(&another, "1.1.0", [4, 3], "ours");
    play.refused(&["release", "unpack", &older], REFUSED, "older package");
    // As a step of an upgrade as well, also where it is only tried; the advice is one that can be followed.
    play.refused(&["relup", "apply", &older], REFUSED, "--allow-older");
    let directory = play.command.directory.display().to_string();
    let dry = ["relup", "apply", &older, "--dir", &directory];
    assert_eq!(neurath(&dry).status.code(), Some(REFUSED));
    ok(&neurath(&[&dry[..], &["--allow-older"]].concat()));
    // What the node has already need not be taken in again.
    play.refused(&["relup", "apply", &first], 2, "current release already");

    // Changed between the check and the use.
    let installed = play.releases().join("book-1.1.0");
    let kept = play.folder.path().join("kept");
    support::copy(&installed, &kept);
    let restore = || {
        std::fs::remove_dir_all(&installed).expect("removed");
        support::copy(&kept, &installed);
    };
    let apply = ["relup", "apply", "book-1.1.0"];
    let check = ["release", "check", "book-1.1.0", "--dir"];
    for name in [
        "lib/notebook-1.1.0.so",
        "MANIFEST.json",
        "release.toml",
        "SEAL.json",
    ] {
        overwrite(&installed.join(name), |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
        let output = play.ask(&apply);
        assert_ne!(output.status.code(), Some(0), "{name}");
        assert!(!play.is_marked(), "{name}: {}", stderr(&output));
        let directory = play.command.directory.display().to_string();
        let found = neurath(&[&check[..], &[directory.as_str()]].concat());
        assert_ne!(found.status.code(), Some(0), "{name}");
        restore();
    }
    std::fs::remove_file(installed.join("SEAL.json")).expect("removed");
    play.refused(&apply, REFUSED, "is not signed");
    // A whole, signed release of the same name in its place.
    std::fs::remove_dir_all(&installed).expect("removed");
    let elsewhere = play.folder.path().join("elsewhere");
    let release = neurath_node::package::unpack(Path::new(&same), &elsewhere);
    support::copy(release.expect("it is a package").release.dir(), &installed);
    play.refused(&apply, DAMAGED, "was changed after it was unpacked");
    restore();

    // As it was, it is mapped: the mark is a mark.
    assert_eq!(
        status().release.map(|one| one.version).as_deref(),
        Some("1.0.0")
    );
    ok(&play.ask(&apply));
    assert!(play.is_marked());
    assert_eq!(Lines::open(node.address()).ask("version"), "1.1.0");

    // Its epoch begins with its confirmation, and then nothing goes back behind it.
    let directory = play.command.directory.display().to_string();
    ok(&neurath(&["relup", "confirm", "--dir", &directory]));
    let back = play.ask(&["relup", "apply", "book-1.0.0"]);
    assert_eq!(back.status.code(), Some(REFUSED), "{}", stderr(&back));
    assert!(stderr(&back).contains("epoch"), "{}", stderr(&back));
    let reboot = play.ask(&["node", "reboot-old", "book-1.0.0"]);
    assert_eq!(reboot.status.code(), Some(REFUSED), "{}", stderr(&reboot));
    ok(&play.ask(&["release", "remove", "book-1.0.0"]));
    let again = play.ask(&["release", "unpack", &first, "--allow-older"]);
    assert_eq!(again.status.code(), Some(REFUSED), "{}", stderr(&again));
    node.check().expect("the node lives");

    // What is changed while nobody looks does not come up again.
    node.stop().expect("an orderly stop");
    let library = installed.join("lib/notebook-1.1.0.so");
    overwrite(&library, |bytes| bytes[1000] ^= 1);
    std::fs::remove_file(play.path("mark")).expect("the mark");
    let error = NodeProcess::start(&play.command).expect_err("it must not start");
    assert!(format!("{error:#}").contains("hash"), "{error:#}");
    assert!(!play.is_marked());
    // And is mended by the package that it came from.
    ok(&play.ask(&["release", "unpack", &good]));
    let node = NodeProcess::start(&play.command).expect("it is mended");
    assert_eq!(Lines::open(node.address()).ask("version"), "1.1.0");
    let state = catalog(&play.command.directory);
    let permanent = state.permanent.clone().expect("a release");
    assert_eq!(state.status(&permanent), Some(ReleaseStatus::Permanent));
}

/// A way that leads through a release between maps that release's code as well: it has to be as good as the
/// one that is asked for.
#[test]
fn a_release_that_a_way_leads_through_is_verified_before_anything_is_mapped() {
    let play = Play::on(support::book_of_three("leaves_a_mark"));
    let built = play.stage.built().to_owned();
    let node = NodeProcess::start(&play.command).expect("a node");
    // The middle one is of an epoch that is over once that of 1.0.0 has begun.
    let unpack = |version: &str, numbers| {
        let package = play.pack(&built, version, numbers, "ours");
        ok(&play.ask(&["release", "unpack", &package]));
    };
    unpack("1.1.0", [2, 2]);
    unpack("1.2.0", [3, 3]);
    unpack("1.0.0", [4, 3]);
    ok(&play.ask(&["node", "trust", &play.path("ours.pub")]));
    let apply = ["relup", "apply", "book-1.2.0"];
    play.refused(
        &apply,
        DAMAGED,
        "book-1.1.0 is of epoch 2, and this node is in epoch 3",
    );

    // A package of a later epoch in its place, whose signature is then gone, and whose library is another.
    unpack("1.1.0", [5, 3]);
    let middle = play.releases().join("book-1.1.0");
    let kept = play.folder.path().join("kept");
    support::copy(&middle, &kept);
    std::fs::remove_file(middle.join("SEAL.json")).expect("removed");
    play.refused(&apply, DAMAGED, "book-1.1.0 is not signed");
    let restore = || {
        std::fs::remove_dir_all(&middle).expect("removed");
        support::copy(&kept, &middle);
    };
    restore();
    overwrite(&middle.join("lib/notebook-1.1.0.so"), |bytes| {
        bytes[1000] ^= 1
    });
    play.refused(&apply, DAMAGED, "no way leads through book-1.1.0");
    assert_eq!(Lines::open(node.address()).ask("version"), "1.0.0");

    // As it was, the way leads through it, and its code is mapped.
    restore();
    ok(&play.ask(&apply));
    assert!(play.is_marked());
    assert_eq!(Lines::open(node.address()).ask("version"), "1.2.0");
    node.stop().expect("stopped");
}

/// What is loaded is a private copy, which only the node's user can read, and whose bytes are those that
/// were verified.
#[test]
fn what_is_mapped_is_what_was_verified() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let node = stage.start("1.0.0").expect("a node");
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", node.pid())).expect("its maps");
    let store = node
        .directory()
        .join("libraries")
        .canonicalize()
        .expect("the store");
    let mut found = 0;
    for line in maps.lines().filter(|line| line.contains("r-xp")) {
        let Some(path) = line.split_whitespace().nth(5).map(Path::new) else {
            continue;
        };
        assert!(
            !path.starts_with(node.directory()) || path.starts_with(&store),
            "{line}"
        );
        if path.starts_with(&store) {
            found += 1;
            let release = ReleasePackage::open(&node.directory().join("releases/book-1.0.0"));
            let hash = release.expect("the release").library_hash("notebook");
            let bytes = std::fs::read(path).expect("the copy");
            assert_eq!(Some(blake3::hash(&bytes)), hash);
            let mode = path.metadata().expect("its mode").permissions().mode();
            assert_eq!(mode & 0o777, 0o400);
        }
    }
    assert_eq!(found, 1, "{maps}");
    let mode = store.metadata().expect("its mode").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}
