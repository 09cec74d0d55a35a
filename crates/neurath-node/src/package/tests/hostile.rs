//! Packages that are cut, changed, escape, lie or burst are refused, and nothing of them stays.

use super::*;

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
            assert_eq!(*code, *b"the code");
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
