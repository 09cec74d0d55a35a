//! Regions of durability `power` on a real file system: what was made durable is there when the
//! process and its memory are gone.
//!
//! The files are in the build's folder, or in the one that `NEURATH_POWER_DIR` names. There, the
//! backend must be the one that `NEURATH_POWER_BACKEND` names: `cargo xtask dax` runs these tests
//! on persistent memory that way.

use std::path::{Path, PathBuf};

use neurath_pmem::inspect::{self, CheckOptions};
use neurath_pmem::region::format::{Header, PAGE, SUPERBLOCK_AT, Superblock};
use neurath_pmem::region::{Backend, Durability, OpenError, Region, RegionError, RegionOptions};
use neurath_pmem::schema::{encode, encoded_len};
use neurath_pmem::{Bytes, Handle, Map, P, Pmem, Tx, TxError};

#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
struct State {
    values: Map<u32, Bytes>,
}

const LEN: usize = encoded_len(State::SCHEMA);
const SCHEMA: [u8; LEN] = encode(State::SCHEMA);
/// The journal has 512 KiB then.
const LIMIT: u64 = 4 << 20;

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Tx(#[from] TxError),
    #[error(transparent)]
    Region(#[from] RegionError),
}

fn options(durability: Durability, limit: u64) -> RegionOptions {
    RegionOptions {
        durability,
        ..RegionOptions::new("power", 0, limit)
    }
}

/// A region's place in the build's folder; gone when it is dropped.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let name = format!("{name}-{}.region", std::process::id());
        let folder = std::env::var_os("NEURATH_POWER_DIR").map(PathBuf::from);
        let path = folder.unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
        let path = path.join(name);
        let _ = std::fs::remove_file(&path);
        Place(path)
    }
}

/// Whether a commit is durable when it returns, not only when it was waited for.
fn at_once(region: &Region) -> bool {
    matches!(
        region.detection().outcome,
        Ok(Backend::Byte | Backend::Line)
    )
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A new region with a root; none where the folder is on a file system that is memory.
fn make(path: &Path, limit: u64) -> Option<Region> {
    let made = Region::create(path, &options(Durability::Power, limit), &SCHEMA);
    let mut region = match made {
        Err(OpenError::Durability { reason, .. }) if reason.contains("is memory") => {
            println!("not tested: {reason}");
            assert!(!path.exists(), "nothing is left of it");
            return None;
        }
        made => made.expect("made"),
    };
    assert_eq!(region.durability(), Durability::Power);
    if let Ok(wanted) = std::env::var("NEURATH_POWER_BACKEND") {
        let found = region.detection();
        let backend = found.outcome.as_ref().map(Backend::to_string);
        assert_eq!(backend, Ok(wanted), "{found}");
    }
    region.attach(&Handle::new());
    let empty = State { values: Map::EMPTY };
    let root = region.transact(|tx| Ok::<_, Failure>(tx.alloc(&empty)?));
    region.set_root(root.expect("a root").to_ref());
    region.commit().expect("committed");
    region.make_durable().expect("durable");
    Some(region)
}

fn open(path: &Path, limit: u64) -> Region {
    let options = options(Durability::Power, limit);
    let mut region = Region::open(path, &options, Some(State::FINGERPRINT)).expect("opened");
    region.attach(&Handle::new());
    region
}

fn value(n: u32, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| (i as u32 ^ n.wrapping_mul(31)) as u8)
        .collect()
}

fn set(region: &mut Region, n: u32, len: usize) {
    let done = region.transact(|tx| {
        let root: P<State> = tx.root();
        let mut state = tx.read(root)?;
        let value = Bytes::new(tx, &value(n, len))?;
        if let Some(old) = state.values.insert(tx, &n, &value)? {
            old.free_owned(tx)?;
        }
        Ok::<_, Failure>(tx.write(root, &state)?)
    });
    done.expect("committed");
}

fn get(region: &mut Region, n: u32) -> Option<Vec<u8>> {
    let found = region.transact(|tx: &mut Tx<'_>| {
        let state: State = tx.read(tx.root())?;
        let value = state.values.get(tx, &n)?;
        Ok::<_, Failure>(
            value
                .map(|value| value.get(tx).map(<[u8]>::to_vec))
                .transpose()?,
        )
    });
    found.expect("read")
}

#[test]
fn what_was_made_durable_is_there_and_what_was_not_is_not() {
    let place = Place::new("durable");
    let Some(mut region) = make(&place.0, LIMIT) else {
        return;
    };
    set(&mut region, 1, 100);
    set(&mut region, 2, 100);
    region.make_durable().expect("durable");
    set(&mut region, 3, 100);
    // The process dies; its memory was its own, unless the memory was the medium.
    let third = at_once(&region).then(|| value(3, 100));
    drop(region);
    let mut region = open(&place.0, LIMIT);
    assert_eq!(get(&mut region, 1), Some(value(1, 100)));
    assert_eq!(get(&mut region, 2), Some(value(2, 100)));
    assert_eq!(get(&mut region, 3), third);
    region.close().expect("closed");
    let report = inspect::check_file(&place.0, inspect::Level::L3).expect("looked at");
    assert!(report.is_clean(), "{report:#?}");
}

#[test]
fn many_laps_of_the_log_lose_nothing() {
    let place = Place::new("laps");
    let Some(mut region) = make(&place.0, 64 << 20) else {
        return;
    };
    // A journal of 8 MiB: some laps and a half.
    let mut newest = std::collections::BTreeMap::new();
    for n in 0..3000 {
        let (key, len) = (n % 61, 500 + (n as usize * 37) % 9000);
        set(&mut region, key, len);
        newest.insert(key, len);
        if n % 7 == 0 {
            region.make_durable().expect("durable");
        }
        if n % 997 == 996 {
            region.make_durable().expect("durable");
            drop(region);
            region = open(&place.0, 64 << 20);
        }
    }
    region.make_durable().expect("durable");
    drop(region);
    let report = inspect::check_file(&place.0, inspect::Level::L3).expect("looked at");
    assert!(report.is_sound() && report.replayed > 0, "{report:#?}");
    let mut region = open(&place.0, 64 << 20);
    for (key, len) in newest {
        assert_eq!(get(&mut region, key), Some(value(key, len)), "{key}");
    }
}

#[test]
fn an_object_larger_than_the_log_is_durable_as_well() {
    let place = Place::new("large");
    let Some(mut region) = make(&place.0, 64 << 20) else {
        return;
    };
    let large = 20 << 20;
    set(&mut region, 1, 100);
    set(&mut region, 2, large);
    set(&mut region, 1, 50);
    region.make_durable().expect("durable");
    drop(region);
    let mut region = open(&place.0, 64 << 20);
    assert!(get(&mut region, 2) == Some(value(2, large)));
    assert_eq!(get(&mut region, 1), Some(value(1, 50)));
}

/// The file as it would be found after the machine went down and came up again.
fn on_another_boot(path: &Path) {
    let mut bytes = std::fs::read(path).expect("read");
    let header = Header::parse(&bytes).expect("a header");
    for at in SUPERBLOCK_AT {
        let slot = &mut bytes[at as usize..(at + PAGE) as usize];
        if let Ok(superblock) = Superblock::parse(slot, &header) {
            let boot_id = [7; 16];
            let encoded = Superblock {
                boot_id,
                ..superblock
            }
            .encode(&header);
            slot[..encoded.len()].copy_from_slice(&encoded);
        }
    }
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn a_loss_of_power_is_an_ordinary_recovery_for_power_only() {
    let place = Place::new("boot");
    let Some(mut region) = make(&place.0, LIMIT) else {
        return;
    };
    set(&mut region, 1, 100);
    region.make_durable().expect("durable");
    drop(region);
    on_another_boot(&place.0);
    let report = inspect::check(std::fs::read(&place.0).expect("read"), CheckOptions::here());
    assert!(report.is_sound(), "{report:#?}");
    assert_eq!(get(&mut open(&place.0, LIMIT), 1), Some(value(1, 100)));

    let other = Place::new("boot-process");
    let process = options(Durability::Process, LIMIT);
    drop(Region::create(&other.0, &process, &SCHEMA).expect("made"));
    on_another_boot(&other.0);
    let refused = Region::open(&other.0, &process, None);
    assert!(
        matches!(refused, Err(OpenError::PowerLost { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_log_that_is_no_journal_is_refused_for_power_on_an_ordinary_file() {
    let place = Place::new("form");
    match make(&place.0, LIMIT) {
        None => return,
        // No journal is needed there.
        Some(region) if at_once(&region) => return,
        Some(_) => {}
    }
    let other = Place::new("form-process");
    let process = options(Durability::Process, LIMIT);
    drop(Region::create(&other.0, &process, &SCHEMA).expect("made"));
    let before = std::fs::read(&other.0).expect("read");
    let refused = Region::open(&other.0, &options(Durability::Power, LIMIT), None);
    let text = refused.expect_err("refused").to_string();
    assert!(text.contains("its log is not a journal"), "{text}");
    assert!(std::fs::read(&other.0).expect("read") == before);
    // The other way round, more is given than was asked for.
    let mut region = Region::open(&place.0, &process, None).expect("opened");
    assert_eq!(region.durability(), Durability::Power);
    region.attach(&Handle::new());
    assert_eq!(get(&mut region, 1), None);
}

#[test]
fn a_region_that_survives_a_loss_of_power_is_copied_while_it_is_used() {
    let place = Place::new("copied");
    let Some(mut region) = make(&place.0, 64 << 20) else {
        return;
    };
    for n in 0..200 {
        set(&mut region, n, 1000 + n as usize);
    }
    let source = region.begin_snapshot().expect("begun");
    let copy = Place::new("copy");
    let made = std::thread::scope(|scope| {
        let copying = scope.spawn(|| inspect::snapshot_live(source, &copy.0));
        let mut n = 200;
        // At least some while it copies, and no more than it keeps in memory.
        while n < 260 || (!copying.is_finished() && n < 10_000) {
            set(&mut region, n % 230, 500 + n as usize % 999);
            region.make_durable().expect("durable");
            n += 1;
        }
        copying.join().expect("no panic")
    });
    let made = made.expect("copied");
    assert!(made.report.is_clean(), "{:#?}", made.report);
    region.close().expect("closed");
    let mut opened = open(&copy.0, 64 << 20);
    assert_eq!(opened.durability(), Durability::Power);
    // It is the state at one commit: what was there when it began, and nothing half.
    for n in 0..200 {
        let found = get(&mut opened, n).expect("it was there before");
        assert_eq!(found, value(n, found.len()), "{n}");
    }
    set(&mut opened, 7, 70);
    opened.make_durable().expect("durable");
    drop(opened);
    assert_eq!(get(&mut open(&copy.0, 64 << 20), 7), Some(value(7, 70)));
}
