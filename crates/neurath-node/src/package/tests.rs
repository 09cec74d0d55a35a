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
            unpacked.release.library_bytes("store").unwrap(),
            b"the code"
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

#[test]
fn every_cut_is_refused_and_a_retry_works() {
    let place = Place::new();
    place.packed();
    let whole = fs::read(place.file()).unwrap();
    for length in 0..whole.len() {
        fs::write(place.file(), &whole[..length]).unwrap();
        let error = place.refused();
        let cut = matches!(
            error,
            PackageError::Cut { .. } | PackageError::NotAPackage { .. }
        );
        assert!(cut, "{length} of {}: {error:?}", whole.len());
    }
    // The archive alone cut, in a whole stream.
    let tar = archive(&entries(&{
        fs::write(place.file(), &whole).unwrap();
        place.file()
    }));
    for length in (0..tar.len() - 1024).step_by(100) {
        fs::write(place.file(), gzip(&tar[..length])).unwrap();
        place.refused();
    }
    fs::write(place.file(), &whole).unwrap();
    unpack(&place.file(), &place.to()).unwrap();
}

#[test]
fn every_flipped_byte_is_refused_or_changes_nothing() {
    let place = Place::new();
    place.packed();
    let whole = fs::read(place.file()).unwrap();
    let trusted = trusting(&[("key", &place.key)]);
    let inflated = |bytes: &[u8]| {
        let mut out = Vec::new();
        GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
        out
    };
    let good = inflated(&whole);
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x41;
        fs::write(place.file(), &bytes).unwrap();
        let admit = |seal: &Seal| {
            trusted
                .check(&seal.statement().release(), Some(seal))
                .map(drop)
        };
        if let Ok(unpacked) = unpack_if(&place.file(), &place.to(), admit) {
            // The head of the compression has bytes that mean nothing, and one text has several
            // compressions.
            assert!(inflated(&bytes) == good, "byte {at}");
            let code = unpacked.release.library_bytes("store").unwrap();
            assert_eq!(code, b"the code");
            fs::remove_dir_all(place.to()).unwrap();
        } else {
            let left = fs::read_dir(place.to()).map(|entries| entries.count());
            assert_eq!(left.unwrap_or(0), 0, "byte {at}");
        }
    }
}

#[test]
fn entries_that_lead_out_are_refused() {
    for path in [
        "../evil",
        "/etc/evil",
        "lib/../../evil",
        "lib/..",
        "..",
        "lib\\..\\evil",
    ] {
        for at in 0..6 {
            let place = Place::new();
            edited(&place, |all| all.insert(at, entry(path, b"x")));
            let error = place.refused();
            assert!(
                matches!(error, PackageError::Escapes { .. }),
                "{path} at {at}: {error}"
            );
        }
        // In the place of a file that the manifest lists.
        let place = Place::new();
        edited(&place, |all| all[4] = entry(path, &all[4].1.clone()));
        assert!(matches!(place.refused(), PackageError::Escapes { .. }));
    }
}

#[test]
fn entries_that_are_no_files_are_refused() {
    for kind in [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::Directory,
        EntryType::GNUSparse,
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
        EntryType::Continuous,
        EntryType::new(b'Z'),
    ] {
        for at in 1..6 {
            let place = Place::new();
            edited(&place, |all| {
                let (header, _) = &mut all[at];
                header.set_entry_type(kind);
                header.as_mut_bytes()[157..168].copy_from_slice(b"/etc/passwd");
                header.set_cksum();
            });
            let error = place.refused();
            assert!(
                matches!(error, PackageError::Kind { .. }),
                "{kind:?} at {at}: {error}"
            );
        }
    }
}

#[test]
fn a_package_that_lies_is_refused() {
    // Twice the same.
    let place = Place::new();
    edited(&place, |all| {
        let again = all[4].clone();
        all.insert(5, again);
    });
    assert!(matches!(place.refused(), PackageError::Duplicate { .. }));
    // Another order, a name that is not listed, one that is missing, one too many.
    let edits: [fn(&mut Vec<Entry>); 5] = [
        |all| all.swap(3, 4),
        |all| all[4] = entry("lib/store-1.0.1.so", &all[4].1.clone()),
        |all| drop(all.remove(3)),
        |all| all.push(entry("lib/more.so", b"x")),
        |all| drop(all.remove(2)),
    ];
    for (number, edit) in edits.into_iter().enumerate() {
        let place = Place::new();
        edited(&place, edit);
        let error = place.refused();
        assert!(
            matches!(error, PackageError::Unexpected { .. }),
            "{number}: {error}"
        );
    }
    // Other bytes, and another length.
    let place = Place::new();
    edited(&place, |all| all[4].1[0] ^= 1);
    assert!(matches!(place.refused(), PackageError::Hash { .. }));
    let place = Place::new();
    edited(&place, |all| {
        all[4] = entry("lib/store-1.0.0.so", b"the code!")
    });
    assert!(matches!(place.refused(), PackageError::Size { .. }));
    let place = Place::new();
    edited(&place, |all| {
        let text = String::from_utf8(all[2].1.clone()).unwrap();
        all[2] = entry("MANIFEST.json", text.replace("kv", "vk").as_bytes());
    });
    assert!(matches!(place.refused(), PackageError::Hash { .. }));
}

/// A package whose statement and manifest are made by whoever holds the key, or by anybody where no key is
/// asked for.
fn stated(place: &Place, manifest: &str, edit: impl FnOnce(&mut Statement)) {
    let mut statement = place.packed();
    let all = entries(&place.file());
    statement.manifest = blake3::hash(manifest.as_bytes()).to_hex().to_string();
    statement.manifest_size = manifest.len() as u64;
    edit(&mut statement);
    let text = statement.to_text().unwrap();
    let mut parts = vec![
        entry(STATEMENT, text.as_bytes()),
        entry("MANIFEST.json", manifest.as_bytes()),
    ];
    parts.extend_from_slice(&all[3..]);
    fs::write(place.file(), gzip(&archive(&parts))).unwrap();
}

fn manifest(place: &Place) -> String {
    place.packed();
    String::from_utf8(entries(&place.file())[2].1.clone()).unwrap()
}

#[test]
fn a_forged_manifest_is_refused() {
    let place = Place::new();
    let good = manifest(&place);
    stated(&place, &good, |_| ());
    unpack(&place.file(), &place.to()).unwrap();
    fs::remove_dir_all(place.to()).unwrap();
    for (from, to) in [
        ("lib/store-1.0.0.so", "../store-1.0.0.so"),
        ("lib/store-1.0.0.so", "/lib/store-1.0.0.so"),
        ("lib/store-1.0.0.so", "lib/deep/store-1.0.0.so"),
        ("lib/store-1.0.0.so", "release.toml"),
        ("\"size\": 8", "\"size\": 999999999999"),
        ("\"format\": 1", "\"format\": 9"),
        ("\"name\": \"kv\"", "\"name\": \"vk\""),
        ("1.1.0", "1.1.1"),
        ("{", "["),
    ] {
        let forged = good.replacen(from, to, 1);
        assert_ne!(forged, good);
        stated(&place, &forged, |_| ());
        let error = place.refused();
        assert!(
            matches!(error, PackageError::Release(_)),
            "{from} {to}: {error}"
        );
    }
    let wrong: [fn(&mut Statement); 8] = [
        |one| one.bytes += 1,
        |one| one.files += 1,
        |one| one.bytes = MAX_BYTES + 1,
        |one| one.sequence = 0,
        |one| one.name = "../kv".to_owned(),
        |one| one.version = "1/../2".to_owned(),
        |one| one.manifest = "00".to_owned(),
        |one| one.manifest_size = u64::MAX,
    ];
    for (number, edit) in wrong.into_iter().enumerate() {
        stated(&place, &good, edit);
        let error = place.refused();
        let named = matches!(
            error,
            PackageError::Statement { .. } | PackageError::TooLarge { .. }
        );
        assert!(named, "{number}: {error}");
    }
    stated(&place, &good, |one| one.neurath_package = 2);
    let error = place.refused();
    assert!(
        matches!(error, PackageError::Format { found: 2, .. }),
        "{error}"
    );
}

#[test]
fn a_bomb_is_refused_before_it_is_unpacked() {
    let zeros = vec![0; 1 << 20];
    let bomb = |prefix: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(prefix).unwrap();
        for _ in 0..64 {
            encoder.write_all(&zeros).unwrap();
        }
        encoder.finish().unwrap()
    };
    // A text that claims to be large, a library that does, a file that is larger than its head says, and
    // an end without end.
    for at in 0..6 {
        let place = Place::new();
        place.packed();
        let mut all = entries(&place.file());
        all.truncate(at + 1);
        all[at].0.set_size(64 << 20);
        all[at].0.set_cksum();
        let mut bytes = archive(&all);
        bytes.truncate(bytes.len() - 1024);
        fs::write(place.file(), bomb(&bytes)).unwrap();
        let error = place.refused();
        let named = matches!(
            error,
            PackageError::TooLarge { .. } | PackageError::Size { .. }
        );
        assert!(named, "{at}: {error}");
    }
    let place = Place::new();
    place.packed();
    let bytes = archive(&entries(&place.file()));
    fs::write(place.file(), bomb(&bytes)).unwrap();
    assert!(matches!(place.refused(), PackageError::Trailing { .. }));
}

#[test]
fn what_follows_the_end_is_refused() {
    let place = Place::new();
    place.packed();
    let good = fs::read(place.file()).unwrap();
    let again = [&good[..], &good[..]].concat();
    for bytes in [again, [&good[..], b"x"].concat()] {
        fs::write(place.file(), bytes).unwrap();
        assert!(matches!(place.refused(), PackageError::Trailing { .. }));
    }
    let mut tar = archive(&entries(&{
        fs::write(place.file(), &good).unwrap();
        place.file()
    }));
    tar.extend_from_slice(&archive(&[entry("more", b"x")]));
    fs::write(place.file(), gzip(&tar)).unwrap();
    assert!(matches!(place.refused(), PackageError::Trailing { .. }));
}

#[test]
fn what_is_no_package_is_named() {
    let place = Place::new();
    fs::write(place.file(), "a text that is long enough").unwrap();
    assert!(matches!(place.refused(), PackageError::NotAPackage { .. }));
    fs::write(place.file(), gzip(b"a text")).unwrap();
    place.refused();
    let mut named = GzBuilder::new().write(Vec::new(), Compression::fast());
    named
        .write_all(&archive(&[entry("hello", b"world")]))
        .unwrap();
    fs::write(place.file(), named.finish().unwrap()).unwrap();
    assert!(matches!(place.refused(), PackageError::NotAPackage { .. }));
    fs::remove_file(place.file()).unwrap();
    assert!(matches!(place.refused(), PackageError::Io { .. }));
    fs::create_dir(place.file()).unwrap();
    assert!(matches!(place.refused(), PackageError::NotAPackage { .. }));
}

#[test]
fn signatures_are_checked_before_anything_else() {
    let place = Place::new();
    let statement = place.packed();
    let other = key();
    let admit = |trusted: TrustedKeys| {
        move |seal: &Seal| {
            let release = seal.statement().release();
            trusted.check(&release, Some(seal)).map(drop)
        }
    };
    let file = place.file();
    // No key trusts nobody in particular; of several, one suffices.
    unpack_if(&file, &place.to(), admit(trusting(&[]))).unwrap();
    let both = [("a", &other), ("b", &place.key)];
    unpack_if(&file, &place.to(), admit(trusting(&both))).unwrap();
    let unpacked = unpack(&file, &place.to()).unwrap();
    let signer_of = trusting(&both).check(&statement.release(), Some(&unpacked.seal));
    assert_eq!(signer_of.unwrap(), Some("b".to_owned()));
    fs::remove_dir_all(place.to()).unwrap();
    let error = unpack_if(&file, &place.to(), admit(trusting(&[("a", &other)]))).unwrap_err();
    assert!(
        matches!(error, PackageError::Trust(TrustError::NotTrusted { .. })),
        "{error}"
    );
    assert!(!place.to().exists());
    // Somebody else's statement under our signature.
    edited(&place, |all| {
        let text = String::from_utf8(all[0].1.clone()).unwrap();
        all[0] = entry(
            STATEMENT,
            text.replace("\"sequence\": 7", "\"sequence\": 8")
                .as_bytes(),
        );
    });
    let trusted = || trusting(&[("b", &place.key)]);
    let error = unpack_if(&file, &place.to(), admit(trusted())).unwrap_err();
    assert!(matches!(
        error,
        PackageError::Trust(TrustError::NotTrusted { .. })
    ));
    edited(&place, |all| drop(all.remove(1)));
    let error = unpack_if(&file, &place.to(), admit(trusted())).unwrap_err();
    assert!(matches!(
        error,
        PackageError::Trust(TrustError::Unsigned { .. })
    ));
    edited(&place, |all| all[1] = entry(SIGNATURE, b"no signature"));
    let error = unpack_if(&file, &place.to(), admit(trusted())).unwrap_err();
    assert!(matches!(
        error,
        PackageError::Trust(TrustError::Unreadable { .. })
    ));
    assert!(!place.to().exists());
}

#[test]
fn a_bad_key_beside_good_ones() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new();
    place.packed();
    let unpacked = unpack(&place.file(), &place.to()).unwrap();
    let release = unpacked.release.id();
    assert!(
        !TrustedKeys::read(&folder.path().join("none"))
            .unwrap()
            .are_configured()
    );
    fs::write(folder.path().join("README"), "no key").unwrap();
    assert!(!TrustedKeys::read(folder.path()).unwrap().are_configured());
    fs::write(folder.path().join("bad.pub"), "no key").unwrap();
    let bad = TrustedKeys::read(folder.path()).unwrap();
    // A spoilt key does not open the door.
    assert!(bad.are_configured() && bad.names().is_empty());
    assert!(bad.check(&release, Some(&unpacked.seal)).is_err());
    assert!(bad.check(&release, None).is_err());
    let text = place.key.pk.to_box().unwrap().into_string();
    fs::write(folder.path().join("good.pub"), text).unwrap();
    let keys = TrustedKeys::read(folder.path()).unwrap();
    assert_eq!(keys.names(), ["good"]);
    assert_eq!(keys.unreadable().keys().collect::<Vec<_>>(), ["bad"]);
    let signed = keys.check(&release, Some(&unpacked.seal)).unwrap();
    assert_eq!(signed.as_deref(), Some("good"));
}

#[test]
fn numbers_only_grow() {
    let place = Place::new();
    place.packed();
    let seal = unpack(&place.file(), &place.to()).unwrap().seal;
    let seen = |sequence, epoch, manifest: &str| Seen {
        sequence,
        epoch,
        manifest: manifest.to_owned(),
    };
    let own = seal.statement().manifest.clone();
    let allowed = [None, Some(seen(6, 0, "another")), Some(seen(7, 2, &own))];
    for known in &allowed {
        check_numbers(&seal, known.as_ref(), false).unwrap();
    }
    let same = check_numbers(&seal, Some(&seen(7, 0, "another")), true);
    assert!(matches!(same, Err(TrustError::Twice { .. })));
    let older = seen(8, 2, "another");
    let refused = check_numbers(&seal, Some(&older), false);
    assert!(matches!(refused, Err(TrustError::Sequence { seen: 8, .. })));
    check_numbers(&seal, Some(&older), true).unwrap();
    // No downgrade crosses the floor, whatever is allowed.
    let floor = seen(6, 3, "another");
    let refused = check_numbers(&seal, Some(&floor), true);
    assert!(matches!(refused, Err(TrustError::Epoch { floor: 3, .. })));
    let release = ReleaseId::new("kv", "1.0.0");
    assert!(check_epoch(&release, None, Some(&floor)).is_err());
    check_epoch(&release, None, Some(&seen(9, 0, &own))).unwrap();
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
        unpacked.release.library_bytes("store").unwrap(),
        b"the code"
    );
}

/// The package of the fixture, signed by the stock command `minisign` 0.11 in place of our own.
#[test]
fn a_signature_of_the_stock_command_is_taken() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let stock = fixtures.join("minisign-0.11");
    let signature = fs::read(stock.join("PACKAGE.json.minisig")).unwrap();
    let place = Place::new();
    fs::copy(
        fixtures.join("package-1/kv-1.1.0.neurath.tar.gz"),
        place.file(),
    )
    .unwrap();
    let keys = TrustedKeys::read(&stock).unwrap();
    let admit = |seal: &Seal| {
        let signer = keys.check(&seal.statement().release(), Some(seal))?;
        assert_eq!(signer.as_deref(), Some("key"));
        Ok(())
    };
    // Our own key's signature is none of a key that is trusted.
    unpack_if(&place.file(), &place.to(), admit).expect_err("signed by another key");
    let sign = |bytes: &[u8]| {
        edited(&place, |entries| {
            let at = entries.iter().position(|one| name(one) == SIGNATURE);
            entries[at.unwrap()] = entry(SIGNATURE, bytes);
        });
    };
    sign(&signature);
    let unpacked = unpack_if(&place.file(), &place.to(), admit).unwrap();
    assert_eq!(unpacked.release.id(), ReleaseId::new("kv", "1.1.0"));
    // Changed in its trusted comment, it is refused.
    let text = String::from_utf8(signature).unwrap();
    let other = text.replace(
        "signed by the stock command",
        "signed by the stock commando",
    );
    assert_ne!(other, text);
    sign(other.as_bytes());
    unpack_if(&place.file(), &place.to(), admit).expect_err("its comment was changed");
}

/// The stock command, where it is installed, verifies what we sign.
#[test]
fn the_stock_command_verifies_our_signatures() {
    let minisign = || std::process::Command::new("minisign");
    if minisign().arg("-v").output().is_err() {
        eprintln!("skipped: `minisign` is not installed (apt-get install minisign)");
        return;
    }
    let place = Place::new();
    place.packed();
    let folder = place.folder.path();
    for one in entries(&place.file()) {
        if [STATEMENT, SIGNATURE].contains(&&*name(&one)) {
            fs::write(folder.join(name(&one)), &one.1).unwrap();
        }
    }
    let key = place.key.pk.to_box().unwrap().into_string();
    fs::write(folder.join("ours.pub"), key).unwrap();
    let verified = || {
        let mut command = minisign();
        command.arg("-V").arg("-p").arg(folder.join("ours.pub"));
        command.arg("-m").arg(folder.join(STATEMENT));
        command.output().unwrap()
    };
    let output = verified();
    assert!(output.status.success(), "{output:?}");
    // And not what was changed.
    let mut statement = fs::read(folder.join(STATEMENT)).unwrap();
    statement[10] ^= 1;
    fs::write(folder.join(STATEMENT), statement).unwrap();
    assert!(!verified().status.success());
}
