use std::os::unix::fs::{PermissionsExt, symlink};

use super::{
    disk::{MANIFEST, MANIFEST_HASH, Manifest},
    *,
};

const COMPONENT: &str = "name = \"store\"\nversion = \"1.0.0\"\nlibrary = \"kv-store\"\n\n\
    [region]\ninitial_size = \"64MiB\"\nlimit = \"1GiB\"\ndurability = \"process\"\n";
const APPUP: &str =
    "[[up]]\nfrom = \"0.9.0\"\ninstructions = [{ restart_component = \"store\" }]\n";
const RELEASE_TEXT: &str = "name = \"kv\"\nversion = \"1.1.0\"\nnode = \"0.1.0\"\n\n[components]\nstore = { version = \"1.0.0\" }\n";
const RELUP_TEXT: &str = "name = \"kv\"\nversion = \"1.1.0\"\n\n[[up]]\nfrom = \"1.0.0\"\n\
    script = [{ restart_node = true }]\n";

fn sources(dir: &Path) -> Sources {
    let library = dir.join("libstore.so");
    fs::write(&library, b"the code").unwrap();
    Sources {
        release: ("releases/kv/1.1.0.toml".to_owned(), RELEASE_TEXT.to_owned()),
        relup: Some(("relup".to_owned(), RELUP_TEXT.to_owned())),
        components: vec![ComponentSources {
            manifest: (
                "manifests/store/1.0.0.toml".to_owned(),
                COMPONENT.to_owned(),
            ),
            appup: None,
            library,
        }],
        node: None,
    }
}

fn assembled() -> (tempfile::TempDir, ReleasePackage) {
    let dir = tempfile::tempdir().unwrap();
    let package =
        ReleasePackage::assemble(&dir.path().join("releases"), &sources(dir.path())).unwrap();
    (dir, package)
}

fn overwrite(path: &Path, text: &str) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, text).unwrap();
}

/// Changes the manifest, and its hash with it.
fn forge(package: &ReleasePackage, edit: impl FnOnce(&mut Manifest)) -> String {
    let path = package.dir().join(MANIFEST);
    let mut manifest = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut manifest);
    let text = serde_json::to_string(&manifest).unwrap();
    overwrite(&path, &text);
    let hash = blake3::hash(text.as_bytes());
    overwrite(&package.dir().join(MANIFEST_HASH), &format!("{hash}\n"));
    refusal(package)
}

fn refusal(package: &ReleasePackage) -> String {
    ReleasePackage::open(package.dir())
        .expect_err("must be refused")
        .to_string()
}

#[test]
fn what_was_assembled_opens() {
    let (dir, package) = assembled();
    assert_eq!(package.dir(), dir.path().join("releases/kv-1.1.0"));
    assert_eq!(
        (package.name(), package.version().as_str()),
        ("kv", "1.1.0")
    );
    assert_eq!(package.component("store").unwrap().library, "kv-store");
    assert_eq!(*package.library_bytes("store").unwrap(), *b"the code");
    assert_eq!(
        package.library_hash("store"),
        Some(blake3::hash(b"the code"))
    );
    assert!(package.relup().is_some() && package.appup("store").is_none());
    assert_eq!(package.text(RELEASE), Some(RELEASE_TEXT));
    assert!(package.library_bytes("gateway").is_err());
    let paths: Vec<_> = package.files().map(|file| file.path.as_str()).collect();
    let all = [
        "components/store-1.0.0.toml",
        "lib/store-1.0.0.so",
        RELEASE,
        RELUP,
    ];
    assert_eq!(paths, all);
    let left: Vec<_> = fs::read_dir(dir.path().join("releases")).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing temporary stays");
}

#[test]
fn a_release_never_changes() {
    let (dir, package) = assembled();
    let dest = dir.path().join("releases");
    let again = ReleasePackage::assemble(&dest, &sources(dir.path())).unwrap();
    assert_eq!(again.hash(), package.hash());
    let mut other = sources(dir.path());
    fs::write(&other.components[0].library, b"other code").unwrap();
    let error = ReleasePackage::assemble(&dest, &other).unwrap_err();
    assert!(matches!(error, ReleaseError::Exists(_)), "{error}");
    assert_eq!(*package.library_bytes("store").unwrap(), *b"the code");
    other.components.clear();
    let error = ReleasePackage::assemble(&dest, &other).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("give that component to the build"),
        "{error}"
    );
    let mut twice = sources(dir.path());
    twice.components.push(twice.components[0].clone());
    assert!(
        ReleasePackage::assemble(&dest, &twice)
            .unwrap_err()
            .to_string()
            .contains("twice")
    );
}

#[test]
fn installs_a_verified_copy() {
    let (dir, package) = assembled();
    let copy = package.install(&dir.path().join("node")).unwrap();
    assert_eq!(copy.dir(), dir.path().join("node/kv-1.1.0"));
    assert_eq!(copy.hash(), package.hash());
    assert_eq!(
        package.install(&dir.path().join("node")).unwrap().hash(),
        package.hash()
    );
    overwrite(&package.dir().join("lib/store-1.0.0.so"), "bad code");
    let error = package.install(&dir.path().join("other")).unwrap_err();
    assert!(error.to_string().contains("changed while"), "{error}");
    assert!(!dir.path().join("other/kv-1.1.0").exists());
}

#[test]
fn every_change_of_a_file_is_found() {
    let names = [
        "components/store-1.0.0.toml",
        "lib/store-1.0.0.so",
        RELEASE,
        RELUP,
    ];
    for name in names.into_iter().chain([MANIFEST, MANIFEST_HASH]) {
        let (_dir, package) = assembled();
        let path = package.dir().join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[3] ^= 1;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&path, &bytes).unwrap();
        assert!(refusal(&package).contains("hash"), "{name}");
        bytes.push(b'\n');
        fs::write(&path, &bytes).unwrap();
        refusal(&package);
        fs::remove_file(&path).unwrap();
        assert!(refusal(&package).contains("is missing"), "{name}");
    }
}

#[test]
fn what_is_not_listed_is_refused() {
    for name in [
        "README",
        "lib/other.so",
        "components/.hidden",
        "appups",
        "extra/x",
    ] {
        let (_dir, package) = assembled();
        let path = package.dir().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "x").unwrap();
        assert!(refusal(&package).contains("does not list it"), "{name}");
    }
    let (dir, package) = assembled();
    let library = package.dir().join("lib/store-1.0.0.so");
    fs::remove_file(&library).unwrap();
    symlink(dir.path().join("libstore.so"), &library).unwrap();
    assert!(refusal(&package).contains("symbolic link"));
    let (dir, package) = assembled();
    fs::rename(package.dir().join("lib"), dir.path().join("lib")).unwrap();
    symlink(dir.path().join("lib"), package.dir().join("lib")).unwrap();
    assert!(refusal(&package).contains("symbolic link"));
}

#[test]
fn a_forged_manifest_names_no_path_outside() {
    let bad = [
        "../lib/x.so",
        "/lib/x.so",
        "lib/../x.so",
        "lib//x.so",
        "lib/.so",
        "lib/.x.so",
    ];
    for path in bad
        .into_iter()
        .chain(["", "MANIFEST.json", "lib", "lib/x/y.so", "lib/x\0.so"])
    {
        let (_dir, package) = assembled();
        let text = forge(&package, |manifest| {
            manifest.files[1].path = path.to_owned()
        });
        assert!(
            text.contains("no path of a release's file"),
            "{path}: {text}"
        );
    }
    let (_dir, package) = assembled();
    let text = forge(&package, |manifest| {
        manifest.files.push(manifest.files[0].clone())
    });
    assert!(text.contains("twice"), "{text}");
    let (_dir, package) = assembled();
    assert!(forge(&package, |manifest| manifest.format = 2).contains("in format 2"));
    let (_dir, package) = assembled();
    assert!(forge(&package, |manifest| manifest.version = "9.9.9".to_owned()).contains("that of"));
    let (_dir, package) = assembled();
    assert!(forge(&package, |manifest| manifest.files[1].size = u64::MAX).contains("larger"));
    let (_dir, package) = assembled();
    assert!(forge(&package, |manifest| manifest.files[1].size = 3).contains("size"));
    let (_dir, package) = assembled();
    let text = forge(&package, |manifest| {
        manifest.files[1].blake3 = "A".repeat(64)
    });
    assert!(text.contains("not a BLAKE3 hash"), "{text}");
}

#[test]
fn an_appup_of_a_component_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut sources = sources(dir.path());
    sources.components[0].appup = Some(("appup".to_owned(), APPUP.to_owned()));
    let package = ReleasePackage::assemble(dir.path(), &sources).unwrap();
    assert!(package.appup("store").is_some());
    sources.components[0].appup = Some(("appup".to_owned(), "[[up]]\nfro = 1\n".to_owned()));
    let error = ReleasePackage::assemble(dir.path(), &sources).unwrap_err();
    assert!(matches!(error, ReleaseError::Content(_)));
}
