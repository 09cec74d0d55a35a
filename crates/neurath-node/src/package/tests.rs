//! What was packed comes out, and only that. Releases in their places; the fixture of format 1.

mod hostile;
mod trust;

use std::fs;
use std::io::{Read as _, Write as _};

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use minisign::KeyPair;
use tar::{EntryType, Header};

use super::*;
use crate::catalog::ReleaseId;
use crate::release::{ComponentSources, ReleasePackage, Sources};
use crate::trust::{Seen, TrustedKeys, check_epoch, check_numbers};

const COMPONENT: &str = "name = \"store\"\nversion = \"1.0.0\"\nlibrary = \"kv-store\"\n\n\
    [region]\ninitial_size = \"64MiB\"\nlimit = \"1GiB\"\ndurability = \"process\"\n";

fn release_text(version: &str) -> String {
    format!(
        "name = \"kv\"\nversion = \"{version}\"\nnode = \"0.1.0\"\n\n\
         [components]\nstore = {{ version = \"1.0.0\" }}\n"
    )
}

fn assemble(folder: &Path, version: &str, code: &[u8]) -> ReleasePackage {
    let library = folder.join("libstore.so");
    fs::write(&library, code).unwrap();
    let sources = Sources {
        release: ("release".to_owned(), release_text(version)),
        relup: None,
        components: vec![ComponentSources {
            manifest: ("component".to_owned(), COMPONENT.to_owned()),
            appup: None,
            library,
        }],
        node: None,
    };
    ReleasePackage::assemble(&folder.join("built"), &sources).unwrap()
}

fn key() -> KeyPair {
    KeyPair::generate_unencrypted_keypair().unwrap()
}

fn signer(key: &KeyPair) -> impl FnMut(&[u8], &str) -> Result<String, SignError> {
    |bytes, comment| {
        let signed = minisign::sign(None, &key.sk, bytes, Some(comment), None);
        Ok(signed.unwrap().into_string())
    }
}

fn trusting(keys: &[(&str, &KeyPair)]) -> TrustedKeys {
    let mut trusted = TrustedKeys::default();
    for (name, pair) in keys {
        let text = pair.pk.to_box().unwrap().into_string();
        let key = minisign_verify::PublicKey::decode(&text).unwrap();
        trusted.add(name, key);
    }
    trusted
}

/// A folder with a package in it, and an empty place to unpack to.
struct Place {
    folder: tempfile::TempDir,
    key: KeyPair,
}

impl Place {
    fn new() -> Place {
        // In memory where there is a place for that: these tests sync much.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Place {
            folder: folder.unwrap(),
            key: key(),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("kv-1.1.0.neurath.tar.gz")
    }

    fn to(&self) -> PathBuf {
        self.folder.path().join("node")
    }

    fn packed(&self) -> Statement {
        let release = assemble(self.folder.path(), "1.1.0", b"the code");
        pack(&release, &self.file(), (7, 2), Some(&mut signer(&self.key))).unwrap()
    }

    /// Unpacks what must be refused, and looks that nothing stays.
    #[track_caller]
    fn refused(&self) -> PackageError {
        let error = unpack(&self.file(), &self.to()).expect_err("must be refused");
        let left = fs::read_dir(self.to()).map(|entries| entries.count());
        assert!(left.unwrap_or(0) == 0, "something stays: {error}");
        error
    }
}

type Entry = (Header, Vec<u8>);

fn entries(file: &Path) -> Vec<Entry> {
    let mut archive = tar::Archive::new(GzDecoder::new(fs::File::open(file).unwrap()));
    let read = archive.entries().unwrap().raw(true).map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.header().clone(), bytes)
    });
    read.collect()
}

fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    for (header, bytes) in entries {
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn entry(name: &str, bytes: &[u8]) -> Entry {
    let mut header = Header::new_ustar();
    // As it stands: `set_path` would refuse what is hostile.
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(EntryType::Regular);
    header.set_size(bytes.len() as u64);
    header.set_mode(0o444);
    header.set_cksum();
    (header, bytes.to_vec())
}

fn name(entry: &Entry) -> String {
    String::from_utf8(entry.0.path_bytes().into_owned()).unwrap()
}

/// Writes the package again, with its entries changed.
fn edited(place: &Place, edit: impl FnOnce(&mut Vec<Entry>)) {
    place.packed();
    let mut all = entries(&place.file());
    edit(&mut all);
    fs::write(place.file(), gzip(&archive(&all))).unwrap();
}

#[test]
fn what_was_packed_comes_out() {
    let place = Place::new();
    let statement = place.packed();
    assert_eq!(statement.release(), ReleaseId::new("kv", "1.1.0"));
    let names: Vec<String> = entries(&place.file()).iter().map(name).collect();
    let all = [
        STATEMENT,
        SIGNATURE,
        "MANIFEST.json",
        "components/store-1.0.0.toml",
        "lib/store-1.0.0.so",
        "release.toml",
    ];
    assert_eq!(names, all);
    let built = ReleasePackage::open(&place.folder.path().join("built/kv-1.1.0")).unwrap();
    for _ in 0..2 {
        let unpacked = unpack(&place.file(), &place.to()).unwrap();
        assert_eq!(unpacked.release.hash(), built.hash());
        assert_eq!(
            *unpacked.release.library_bytes("store").unwrap(),
            *b"the code"
        );
        assert_eq!(unpacked.seal.statement(), &statement);
        let opened = ReleasePackage::open(&place.to().join("kv-1.1.0")).unwrap();
        assert_eq!(opened.seal(), Some(&unpacked.seal));
        assert_eq!(fs::read_dir(place.to()).unwrap().count(), 1);
    }
    // A copy of it keeps the seal.
    let copy = ReleasePackage::open(&place.to().join("kv-1.1.0")).unwrap();
    let copy = copy.install(&place.folder.path().join("copy")).unwrap();
    assert_eq!(copy.seal().unwrap().statement(), &statement);
}

#[test]
fn a_package_is_the_same_each_time_but_for_its_signature() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| {
        let place = folder.path().join(name);
        fs::create_dir(&place).unwrap();
        let release = assemble(&place, "1.1.0", b"the code");
        let file = place.join(name);
        pack(&release, &file, (7, 2), None).unwrap();
        fs::read(file).unwrap()
    });
    assert_eq!(a, b);
    let (first, second) = (Place::new(), Place::new());
    assert_eq!(first.packed(), second.packed());
    assert_eq!(entries(&first.file())[0].1, entries(&second.file())[0].1);
}

#[test]
fn a_release_in_the_place_gets_the_later_seal_and_another_one_is_kept() {
    let place = Place::new();
    let release = assemble(place.folder.path(), "1.1.0", b"the code");
    release.install(&place.to()).unwrap();
    let sequence = |place: &Place| {
        let release = ReleasePackage::open(&place.to().join("kv-1.1.0")).unwrap();
        release.seal().map(|seal| seal.statement().sequence)
    };
    assert_eq!(sequence(&place), None);
    place.packed();
    unpack(&place.file(), &place.to()).unwrap();
    assert_eq!(sequence(&place), Some(7));
    pack(&release, &place.file(), (6, 0), None).unwrap();
    unpack(&place.file(), &place.to()).unwrap();
    assert_eq!(sequence(&place), Some(7));
    // Another release under the same name.
    let other = tempfile::tempdir().unwrap();
    let other = assemble(other.path(), "1.1.0", b"other code");
    pack(&other, &place.file(), (8, 2), None).unwrap();
    let error = unpack(&place.file(), &place.to()).unwrap_err();
    assert!(
        matches!(error, PackageError::Release(ReleaseError::Exists(_))),
        "{error}"
    );
    assert_eq!(fs::read_dir(place.to()).unwrap().count(), 1);
}

/// Format 1 as released: it must be read for ever. `NEURATH_WRITE_FIXTURES=1` made it, once.
#[test]
fn the_fixture_of_format_1_is_read() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/package-1");
    let file = fixture.join("kv-1.1.0.neurath.tar.gz");
    if std::env::var_os("NEURATH_WRITE_FIXTURES").is_some() && !fixture.exists() {
        let place = Place::new();
        place.packed();
        fs::create_dir_all(&fixture).unwrap();
        fs::copy(place.file(), &file).unwrap();
        let key = place.key.pk.to_box().unwrap().into_string();
        fs::write(fixture.join("key.pub"), key).unwrap();
    }
    let keys = TrustedKeys::read(&fixture).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let admit = |seal: &Seal| {
        let signer = keys.check(&seal.statement().release(), Some(seal))?;
        assert_eq!(signer.as_deref(), Some("key"));
        Ok(())
    };
    let unpacked = unpack_if(&file, folder.path(), admit).unwrap();
    assert_eq!(unpacked.release.id(), ReleaseId::new("kv", "1.1.0"));
    assert_eq!(unpacked.seal.statement().sequence, 7);
    assert_eq!(unpacked.seal.statement().epoch, 2);
    assert_eq!(
        *unpacked.release.library_bytes("store").unwrap(),
        *b"the code"
    );
}
