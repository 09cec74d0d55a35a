use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::*;

fn sample(sequence: u64) -> State {
    let region = |component: &str, instance, generation| RegionEntry {
        component: component.to_owned(),
        instance,
        generation,
        file: format!("{component}.{instance}.{generation}"),
        fingerprint: "9f3c5a7e".to_owned(),
        version: "1.1.0".to_owned(),
    };
    State {
        current: Some(ReleaseId::new("shop", "1.1.0")),
        permanent: Some(ReleaseId::new("shop", "1.0.0")),
        regions: vec![region("store", 0, 4), region("store", 1, 5)],
        previous: Some(Previous {
            release: ReleaseId::new("shop", "1.0.0"),
            regions: vec![region("store", 0, 2), region("store", 1, 3)],
            plan_id: "3b1f".to_owned(),
            reset: Vec::new(),
        }),
        unconfirmed_since_ms: Some(1_700_000_000_000),
        next_generation: 6,
        sequence,
        ..State::default()
    }
}

/// A state with all that format 2 has.
fn full_2(sequence: u64) -> State {
    let entry = |version: &str, ran| ReleaseEntry {
        release: ReleaseId::new("shop", version),
        manifest: "77".repeat(32),
        sequence: 3,
        epoch: 1,
        ran,
    };
    let mut state = State {
        releases: vec![entry("1.0.0", true), entry("1.2.0", false)],
        journal: Some(Mark {
            sequence: 40,
            chain: "55".repeat(32),
        }),
        ..sample(sequence)
    };
    state.take_in(entry("1.1.0", true));
    state.settle_releases();
    state
}

/// A state with all that format 6 has.
fn full(sequence: u64) -> State {
    let mut state = full_5(sequence);
    let previous = state.previous.as_mut().unwrap();
    previous.reset.push(ResetEntry {
        component: "store".to_owned(),
        instance: 1,
        sequence: 2,
    });
    let region = previous.regions[1].clone();
    state.snapshots.push(SnapshotEntry {
        region,
        release: ReleaseId::new("shop", "1.0.0"),
        made_ms: 1_700_000_000_456,
    });
    state.starts = 2;
    state.migrations.push(Migrated {
        component: "store".to_owned(),
        instances: vec![(0, 4), (1, 5)],
        from_version: "1.0.0".to_owned(),
        to_version: "1.1.0".to_owned(),
        from_schema: "5d02a9c1".to_owned(),
        to_schema: "9f3c5a7e".to_owned(),
        name: "code_change".to_owned(),
        library: "store 1.1.0".to_owned(),
        strategy: "incremental".to_owned(),
        back: false,
        release: "shop-1.1.0".to_owned(),
        at_ms: 1_700_000_000_456,
        operation: "apply-7".to_owned(),
    });
    state
}

/// A state with all that format 5 has.
fn full_5(sequence: u64) -> State {
    State {
        program_before: Some(ProgramBefore {
            release: ReleaseId::new("shop", "1.0.0"),
            blake3: "33".repeat(32),
        }),
        ..full_4(sequence)
    }
}

/// A state with all that format 3 has.
fn full_3(sequence: u64) -> State {
    let undo = serde_json::json!({ "apply": { "component": "store", "hook": "thaw" } });
    State {
        undo: vec![undo],
        ..full_2(sequence)
    }
}

/// A state with all that format 4 has.
fn full_4(sequence: u64) -> State {
    let library = |release: &str, version: &str| SweepLibrary {
        release: ReleaseId::new("shop", release),
        version: version.to_owned(),
    };
    let link = |to: &str, libraries| SweepLink {
        to: to.to_owned(),
        libraries,
        extra: "{\"ttl\":60}".to_owned(),
    };
    State {
        sweeps: vec![SweepEntry {
            component: "store".to_owned(),
            instance: 1,
            from: "5d02a9c1".to_owned(),
            links: vec![
                link("77aa01fe", vec![library("1.0.5", "1.0.5")]),
                link(
                    "9f3c5a7e",
                    vec![library("1.1.0", "1.1.0"), library("1.0.5", "1.0.5")],
                ),
            ],
            now_ms: 1_700_000_000_123,
        }],
        ..full_3(sequence)
    }
}

#[test]
fn a_commit_is_found_at_the_next_opening() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalog = Catalog::create(folder.path()).unwrap();
    assert_eq!(catalog.state(), &State::default());
    assert!(matches!(
        Catalog::create(folder.path()),
        Err(CatalogError::Exists { .. })
    ));
    for sequence in 1..20 {
        catalog.commit(sample(sequence)).unwrap();
        let opened = Catalog::open(folder.path()).unwrap();
        assert_eq!(opened.state(), &sample(sequence));
        assert_eq!(opened.generation(), catalog.generation());
        assert!(opened.damaged().is_empty());
    }
    assert_eq!(
        std::fs::metadata(catalog.path()).unwrap().len(),
        2 * SLOT_BYTES as u64
    );
    assert!(catalog.state().names_region_file("store.1.3"));
    assert!(!catalog.state().names_region_file("store.1.1"));
    assert_eq!(catalog.state().region("store", 1).unwrap().generation, 5);
}

fn choose_state(bytes: &[u8]) -> Result<State, CatalogError> {
    choose(Path::new("catalog"), bytes).map(|chosen| chosen.2)
}

fn two_commits() -> (Vec<u8>, usize, usize) {
    let folder = tempfile::tempdir().unwrap();
    let mut catalog = Catalog::create(folder.path()).unwrap();
    catalog.commit(sample(1)).unwrap();
    catalog.commit(sample(2)).unwrap();
    let used = encode(Path::new(""), 0, &sample(2)).unwrap().len();
    (std::fs::read(catalog.path()).unwrap(), catalog.slot, used)
}

#[test]
fn every_damaged_byte_of_the_newest_slot_gives_the_older_state() {
    let (mut bytes, newest, used) = two_commits();
    let start = newest * SLOT_BYTES;
    for at in 0..bytes.len() {
        // All bits where something is stored; one pattern in the rest of the slots, which nothing reads.
        let masks: &[u8] = if at % SLOT_BYTES < used {
            &[1, 2, 4, 8, 16, 32, 64, 128, 255]
        } else {
            &[255]
        };
        if at % SLOT_BYTES >= used && at % 997 != 0 {
            continue;
        }
        for mask in masks {
            bytes[at] ^= mask;
            let expected = if (start..start + used).contains(&at) {
                sample(1)
            } else {
                sample(2)
            };
            assert_eq!(
                choose_state(&bytes).unwrap(),
                expected,
                "byte {at} mask {mask}"
            );
            bytes[at] ^= mask;
        }
    }
}

#[test]
fn damage_in_both_slots_is_an_error_that_names_the_fields() {
    let (bytes, _, used) = two_commits();
    for at in 0..used {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x20;
        bytes[SLOT_BYTES + used - 1 - at] ^= 0x04;
        let error = choose_state(&bytes).unwrap_err();
        assert!(matches!(error, CatalogError::BothSlots { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("slot 0: `") && text.contains("slot 1: `"),
            "{text}"
        );
    }
}

#[test]
fn every_truncation_gives_a_committed_state_or_an_error() {
    for commits in [2, 3] {
        let folder = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::create(folder.path()).unwrap();
        for sequence in 1..=commits {
            catalog.commit(sample(sequence)).unwrap();
        }
        let bytes = std::fs::read(catalog.path()).unwrap();
        let used = encode(Path::new(""), 0, &sample(2)).unwrap().len();
        for length in 0..bytes.len() {
            if length % SLOT_BYTES > used && length % 997 != 0 {
                continue;
            }
            let result = choose_state(&bytes[..length]);
            if length < used {
                assert!(
                    matches!(result, Err(CatalogError::BothSlots { .. })),
                    "{length}"
                );
            } else {
                let in_first = if catalog.slot == 0 {
                    commits
                } else {
                    commits - 1
                };
                let expected = if length < SLOT_BYTES + used {
                    in_first
                } else {
                    commits
                };
                assert_eq!(result.unwrap(), sample(expected), "{length}");
            }
        }
    }
}

#[test]
fn a_draft_is_flipped_as_it_was_made_and_never_over_a_later_commit() {
    let dir = tempfile::tempdir().unwrap();
    let mut catalog = Catalog::create(dir.path()).unwrap();
    catalog.commit(full(1)).unwrap();
    let before = std::fs::read(catalog.path()).unwrap();
    let draft = catalog.draft(full(2)).unwrap();
    catalog.touch(&draft);
    assert_eq!(std::fs::read(catalog.path()).unwrap(), before);
    assert!(catalog.precedes(&draft));
    let made = draft.state().clone();
    assert_eq!(catalog.flip(draft).unwrap().sequence, 1);
    assert_eq!(catalog.state(), &made);
    catalog.settle().unwrap();
    let found = Catalog::open(dir.path()).unwrap();
    assert_eq!((found.state(), found.generation()), (&made, 4));

    let draft = catalog.draft(full(3)).unwrap();
    catalog.commit(full(4)).unwrap();
    assert!(!catalog.precedes(&draft));
    let before = std::fs::read(catalog.path()).unwrap();
    assert!(matches!(
        catalog.flip(draft),
        Err(CatalogError::Overtaken { generation: 5, .. })
    ));
    assert_eq!(std::fs::read(catalog.path()).unwrap(), before);
    assert_eq!(catalog.state().sequence, 4);
}

#[test]
fn a_torn_commit_falls_back_and_the_next_one_heals() {
    let (bytes, newest, used) = two_commits();
    let folder = tempfile::tempdir().unwrap();
    for torn in (0..used).step_by(37) {
        let mut bytes = bytes.clone();
        bytes[newest * SLOT_BYTES..][torn..used].fill(0);
        std::fs::write(folder.path().join(FILE_NAME), &bytes).unwrap();
        let mut catalog = Catalog::open(folder.path()).unwrap();
        assert_eq!(catalog.state(), &sample(1));
        assert_eq!(catalog.damaged().len(), 1);
        assert_eq!(catalog.damaged()[0].slot, newest);
        catalog.commit(sample(3)).unwrap();
        let opened = Catalog::open(folder.path()).unwrap();
        assert_eq!(opened.state(), &sample(3));
        assert!(opened.damaged().is_empty());
    }
}

#[test]
fn a_file_of_a_newer_format_is_refused_and_never_undone() {
    let (mut bytes, newest, used) = two_commits();
    let slot = &mut bytes[newest * SLOT_BYTES..][..used];
    slot[8] = FORMAT as u8 + 1;
    let checksum = xxh3_64(&slot[..used - CHECKSUM_BYTES]);
    slot[used - CHECKSUM_BYTES..].copy_from_slice(&checksum.to_le_bytes());
    assert!(matches!(
        choose_state(&bytes),
        Err(CatalogError::NewerFormat { found, .. }) if found == FORMAT + 1
    ));
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalog = Catalog::create(folder.path()).unwrap();
    catalog.commit(sample(1)).unwrap();
    let mut large = sample(2);
    large.regions = vec![large.regions[0].clone(); 2000];
    assert!(matches!(
        catalog.commit(large),
        Err(CatalogError::TooLarge { .. })
    ));
    assert_eq!(catalog.state(), &sample(1));
    assert_eq!(Catalog::open(folder.path()).unwrap().state(), &sample(1));
}

#[test]
fn a_failed_write_is_an_error_and_the_state_before_holds() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalog = Catalog::create(folder.path()).unwrap();
    catalog.commit(sample(1)).unwrap();
    // A handle that cannot write stands for a file system that refuses.
    catalog.file = File::open(catalog.path()).unwrap();
    assert!(matches!(
        catalog.commit(sample(2)),
        Err(CatalogError::Undecided { .. })
    ));
    assert!(matches!(
        catalog.commit(sample(2)),
        Err(CatalogError::Poisoned { .. })
    ));
    assert_eq!(catalog.state(), &sample(1));
    assert_eq!(Catalog::open(folder.path()).unwrap().state(), &sample(1));
}

#[test]
fn a_missing_catalog_is_named() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(
        Catalog::open(folder.path()),
        Err(CatalogError::Missing { .. })
    ));
}

fn opened_fixture(name: &str) -> (Catalog, Vec<u8>, tempfile::TempDir) {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name);
    let bytes = std::fs::read(fixture.join(FILE_NAME)).unwrap();
    let copy = tempfile::tempdir().unwrap();
    std::fs::write(copy.path().join(FILE_NAME), &bytes).unwrap();
    (Catalog::open(copy.path()).unwrap(), bytes, copy)
}

/// Format 1: it must be read for ever.
#[test]
fn the_fixture_of_format_1_is_read_and_goes_on() {
    let (mut opened, _, folder) = opened_fixture("catalog-1");
    assert_eq!(opened.state(), &sample(2));
    assert_eq!(opened.generation(), 4);
    opened.commit(full(3)).unwrap();
    let again = Catalog::open(folder.path()).unwrap();
    assert_eq!(again.state(), &full(3));
    assert!(again.damaged().is_empty());
}

/// Format 2: it must be read for ever.
#[test]
fn the_fixture_of_format_2_is_read_and_goes_on() {
    let (mut opened, _, folder) = opened_fixture("catalog-2");
    assert_eq!(opened.state(), &full_2(2));
    opened.commit(full(3)).unwrap();
    let again = Catalog::open(folder.path()).unwrap();
    assert_eq!(again.state(), &full(3));
    assert!(again.damaged().is_empty());
}

/// Format 3: it must be read for ever.
#[test]
fn the_fixture_of_format_3_is_read_and_goes_on() {
    let (mut opened, _, folder) = opened_fixture("catalog-3");
    assert_eq!(opened.state(), &full_3(2));
    opened.commit(full(3)).unwrap();
    let again = Catalog::open(folder.path()).unwrap();
    assert_eq!(again.state(), &full(3));
    assert!(again.damaged().is_empty());
}

/// Format 4: it must be read for ever.
#[test]
fn the_fixture_of_format_4_is_read_and_goes_on() {
    let (mut opened, _, folder) = opened_fixture("catalog-4");
    assert_eq!(opened.state(), &full_4(2));
    opened.commit(full(3)).unwrap();
    let again = Catalog::open(folder.path()).unwrap();
    assert_eq!(again.state(), &full(3));
    assert!(again.damaged().is_empty());
}

/// Format 5: it must be read for ever.
#[test]
fn the_fixture_of_format_5_is_read_and_goes_on() {
    let (mut opened, _, folder) = opened_fixture("catalog-5");
    assert_eq!(opened.state(), &full_5(2));
    opened.commit(full(3)).unwrap();
    let again = Catalog::open(folder.path()).unwrap();
    assert_eq!(again.state(), &full(3));
    assert!(again.damaged().is_empty());
}

/// Format 6 as committed: it must be read for ever. `NEURATH_WRITE_FIXTURES=1` made it, once.
#[test]
fn the_fixture_of_format_6_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalog = Catalog::create(folder.path()).unwrap();
    catalog.commit(full(1)).unwrap();
    catalog.commit(full(2)).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/catalog-6");
    if std::env::var_os("NEURATH_WRITE_FIXTURES").is_some() && !fixture.exists() {
        std::fs::create_dir_all(&fixture).unwrap();
        std::fs::copy(catalog.path(), fixture.join(FILE_NAME)).unwrap();
    }
    let (opened, bytes, _folder) = opened_fixture("catalog-6");
    assert_eq!(opened.state(), &full(2));
    assert_eq!(
        bytes,
        std::fs::read(catalog.path()).unwrap(),
        "format 6 is no longer written as it was"
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), second in any::<bool>()) {
        let (mut file, _, _) = two_commits();
        let at = if second { SLOT_BYTES } else { 0 };
        file[at + 8..at + 8 + bytes.len()].copy_from_slice(&bytes);
        let _ = choose_state(&file);
        let _ = choose_state(&bytes);
    }
}
