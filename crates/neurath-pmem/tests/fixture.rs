//! A region of format 1, kept for ever: every later version must read it, or say that it
//! cannot. `fixtures/region-v1.hex` holds its 64-byte lines that are not zero.

use std::path::Path;
use std::time::Duration;

use neurath_pmem::history::{Migration, Strategy};
use neurath_pmem::inspect::{self, CheckOptions, Code, DataLimits};
use neurath_pmem::region::{Durability, Region, RegionError, RegionOptions, Swept};
use neurath_pmem::schema::{SchemaDesc, encode, encoded_len};
use neurath_pmem::{Bytes, Handle, Map, P, Pmem, Tx, TxError};

const FIXTURE: &str = include_str!("../fixtures/region-v1.hex");
const JOURNAL: &str = include_str!("../fixtures/region-v1-journal.hex");
const SWEEP: &str = include_str!("../fixtures/region-v1-sweep.hex");
const HISTORY: &str = include_str!("../fixtures/region-v1-history.hex");
const LIMIT: u64 = 16 << 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Pmem)]
#[repr(u32)]
enum Kind {
    Short = 1,
    Long = 2,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Pmem)]
#[repr(C)]
struct Entry {
    number: u64,
    kind: Kind,
    parts: [u16; 2],
}

#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
struct State {
    names: Map<Bytes, Bytes>,
    entries: Map<u32, Entry>,
    first: P<Entry>,
    count: u64,
}

const SCHEMA: [u8; encoded_len(State::SCHEMA)] = encode(State::SCHEMA);

#[derive(Debug)]
#[expect(dead_code, reason = "printed")]
enum Failure {
    Tx(TxError),
    Region(RegionError),
}

impl From<TxError> for Failure {
    fn from(error: TxError) -> Failure {
        Failure::Tx(error)
    }
}

impl From<RegionError> for Failure {
    fn from(error: RegionError) -> Failure {
        Failure::Region(error)
    }
}

fn entry(n: u32) -> Entry {
    let kind = if n.is_multiple_of(3) {
        Kind::Long
    } else {
        Kind::Short
    };
    Entry {
        number: u64::from(n) << 40,
        kind,
        parts: [n as u16, 7],
    }
}

fn name(n: u32) -> Vec<u8> {
    format!("name {n} {}", "-".repeat(n as usize)).into_bytes()
}

/// Writes a fixture anew: for another format only, under another name.
#[test]
#[ignore = "the fixtures are there"]
fn make_the_fixture() {
    let options = RegionOptions::new("fixture", 3, LIMIT);
    make(&options, true, "region-v1.hex");
}

/// The same with a journal, left open: what is in the log is replayed.
#[test]
#[ignore = "the fixtures are there"]
fn make_the_journal_fixture() {
    let options = RegionOptions {
        durability: Durability::Power,
        ..RegionOptions::new("fixture", 3, 4 << 20)
    };
    make(&options, false, "region-v1-journal.hex");
}

/// One in the midst of a conversion segment by segment.
#[test]
#[ignore = "the fixtures are there"]
fn make_the_sweep_fixture() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = dir.path().join("region");
    let mut region = fill(&RegionOptions::new("fixture", 3, LIMIT), &path);
    region.begin_conversion(newer::way()).expect("begun");
    region.enter_conversion().expect("entered");
    let mut swept = std::iter::repeat_with(|| region.sweep(Duration::ZERO).expect("swept"));
    let once = swept.find(|swept| *swept != Swept::Waits);
    assert_eq!(once, Some(Swept::More));
    region.close().expect("closed");
    dump(&path, "region-v1-sweep.hex");
}

/// One that tells of migrations.
#[test]
#[ignore = "the fixtures are there"]
fn make_the_history_fixture() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = dir.path().join("region");
    let mut region = fill(&RegionOptions::new("fixture", 3, LIMIT), &path);
    for one in migrations() {
        assert!(region.record_migrations(&[one]).expect("recorded"));
    }
    region.close().expect("closed");
    dump(&path, "region-v1-history.hex");
}

/// One of each strategy, there and back.
fn migrations() -> Vec<Migration> {
    let strategies = [
        Strategy::Keep,
        Strategy::Eager,
        Strategy::Incremental,
        Strategy::Move,
        Strategy::Reset,
    ];
    let made = strategies
        .into_iter()
        .zip(1..)
        .map(|(strategy, n)| Migration {
            from_version: format!("1.{n}.0"),
            to_version: format!("1.{}.0", n + 1),
            from_schema: [n; 16],
            to_schema: [n + 1; 16],
            name: "code_change".into(),
            library: if n == 1 {
                String::new()
            } else {
                "via 0.1.0".into()
            },
            strategy,
            back: n.is_multiple_of(2),
            release: format!("book-1.{n}.0"),
            at_ms: 1_700_000_000_000 + u64::from(n),
            generation: u64::from(n) << 33,
            operation: format!("apply-{n}"),
        });
    made.collect()
}

#[test]
fn a_region_that_tells_of_migrations_is_read_and_tells_of_more() {
    let report = inspect::check(unpack(HISTORY), CheckOptions::here());
    assert!(
        report.is_clean() && report.findings.is_empty(),
        "{report:#?}"
    );
    assert_eq!(report.history.migrations, migrations());
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("region");
    std::fs::write(&path, unpack(HISTORY)).expect("written");
    let options = RegionOptions::new("fixture", 3, LIMIT);
    let mut region = Region::open(&path, &options, Some(State::FINGERPRINT)).expect("opened");
    region.attach(&Handle::new());
    region.transact(check).expect("read");
    assert!(!region.record_migrations(&migrations()).expect("recorded"));
    let further = Migration {
        at_ms: 1,
        ..migrations().remove(0)
    };
    assert!(region.record_migrations(&[further]).expect("recorded"));
    assert_eq!(region.history().migrations.len(), 6);
}

/// A region of before there was a history gets one with the first migration that is recorded.
#[test]
fn a_region_without_a_history_gets_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("region");
    std::fs::write(&path, unpack(FIXTURE)).expect("written");
    let options = RegionOptions::new("fixture", 3, LIMIT);
    let mut region = Region::open(&path, &options, Some(State::FINGERPRINT)).expect("opened");
    assert!(region.history().migrations.is_empty());
    assert!(region.record_migrations(&migrations()).expect("recorded"));
    region.close().expect("closed");
    let report = inspect::check_file(&path, inspect::Level::L3).expect("read");
    assert!(
        report.is_clean() && report.findings.is_empty(),
        "{report:#?}"
    );
    assert_eq!(report.history.migrations, migrations());
}

fn make(options: &RegionOptions, close: bool, file: &str) {
    // Not where everything is memory: a journal is made on a disk only.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = dir.path().join("region");
    let mut region = fill(options, &path);
    if close {
        region.close().expect("closed");
    } else {
        region.make_durable().expect("durable");
        drop(region);
    }
    dump(&path, file);
}

fn fill(options: &RegionOptions, path: &Path) -> Region {
    let mut region = Region::create(path, options, &SCHEMA).expect("made");
    region.attach(&Handle::new());
    let root = region.transact(|tx| {
        let first = tx.alloc(&entry(0))?;
        let state = State {
            names: Map::EMPTY,
            entries: Map::EMPTY,
            first,
            count: 0,
        };
        Ok::<_, Failure>(tx.alloc(&state)?)
    });
    region.set_root(root.expect("a root").to_ref());
    region.commit().expect("committed");
    for n in 0..24 {
        let done = region.transact(|tx| {
            let root: P<State> = tx.root();
            let mut state = tx.read(root)?;
            let value = Bytes::new(tx, &name(n * 2))?;
            state.names.insert(tx, &name(n), &value)?;
            state.entries.insert(tx, &n, &entry(n))?;
            if n % 4 == 3 {
                state.entries.remove(tx, &(n - 1))?;
            }
            state.count += 1;
            Ok::<_, Failure>(tx.write(root, &state)?)
        });
        done.expect("committed");
        if n == 11 {
            region.make_durable().expect("durable");
        }
    }
    region
}

fn dump(path: &Path, file: &str) {
    let bytes = std::fs::read(path).expect("read");
    let mut text = format!("length {}\n", bytes.len());
    for (line, bytes) in bytes.chunks(64).enumerate() {
        if bytes.iter().any(|&byte| byte != 0) {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            text.push_str(&format!("{} {hex}\n", line * 64));
        }
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(file);
    std::fs::write(target, text).expect("written");
}

fn unpack(fixture: &str) -> Vec<u8> {
    let mut lines = fixture.lines();
    let length = lines
        .next()
        .and_then(|line| line.strip_prefix("length "))
        .expect("a length");
    let mut bytes = vec![0; length.parse().expect("a number")];
    for line in lines {
        let (at, hex) = line.split_once(' ').expect("an offset and bytes");
        let at: usize = at.parse().expect("an offset");
        for (i, byte) in bytes[at..at + hex.len() / 2].iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hexadecimal digits");
        }
    }
    bytes
}

fn check(tx: &mut Tx<'_>) -> Result<(), Failure> {
    let state: State = tx.read(tx.root())?;
    assert_eq!(
        (state.count, state.names.len(), state.entries.len()),
        (24, 24, 18)
    );
    assert_eq!(tx.read(state.first)?, entry(0));
    for n in 0..24 {
        let value = state.names.get(tx, &name(n))?.expect("a value");
        assert_eq!(value.get(tx)?, name(n * 2));
        assert_eq!(state.entries.get(tx, &n)?, (n % 4 != 2).then(|| entry(n)));
    }
    Ok(())
}

/// The state of a later version, and the way there.
mod newer {
    use neurath_pmem::migrate::{Conversion, MigrationPlan, Row, Stepwise, StepwiseLink};
    use neurath_pmem::schema::{SchemaDesc, encode, encoded_len};
    use neurath_pmem::{Bytes, Map, P, Pmem, as_bytes, from_bytes};

    #[derive(Clone, Copy, PartialEq, Eq, Debug, Pmem)]
    #[repr(C)]
    pub(super) struct Entry {
        pub(super) since: u64,
        pub(super) number: u64,
        pub(super) kind: super::Kind,
        pub(super) parts: [u16; 2],
    }

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub(super) struct State {
        pub(super) first: P<Entry>,
        pub(super) names: Map<Bytes, Bytes>,
        pub(super) entries: Map<u32, Entry>,
        pub(super) count: u64,
    }

    const SCHEMA: [u8; encoded_len(State::SCHEMA)] = encode(State::SCHEMA);

    pub(super) fn entry(old: super::Entry) -> Entry {
        Entry {
            since: 77,
            number: old.number,
            kind: old.kind,
            parts: old.parts,
        }
    }

    fn convert(_: usize, _: usize, row: Row<'_>) -> Result<(), String> {
        for place in (0..row.count).filter(|at| row.live[at / 64] >> (at % 64) & 1 == 1) {
            let old = &row.old[place * row.old_stride..][..size_of::<super::Entry>()];
            let made = entry(from_bytes(old).ok_or("no entry")?);
            let bytes = as_bytes(&made);
            row.new[place * row.new_stride..][..bytes.len()].copy_from_slice(bytes);
        }
        Ok(())
    }

    pub(super) fn way() -> Stepwise {
        let conversion = Conversion {
            from: super::Entry::FINGERPRINT,
            to: Entry::FINGERPRINT,
        };
        let decode = |bytes| SchemaDesc::decode(bytes).expect("a schema");
        let plan = MigrationPlan::new(&decode(&super::SCHEMA), &decode(&SCHEMA), &[conversion]);
        let link = StepwiseLink {
            plan: plan.expect("all is covered"),
            extra: "{}".into(),
        };
        let way = Stepwise::new(&super::SCHEMA, &SCHEMA, vec![link], 77, Box::new(convert));
        way.expect("types tell")
    }
}

#[test]
fn a_region_in_the_midst_of_a_sweep_is_read_and_swept_to_its_end() {
    let report = inspect::check(unpack(SWEEP), CheckOptions::here());
    let codes: Vec<_> = report.findings.iter().map(|one| one.code).collect();
    assert_eq!(
        (report.errors, &codes[..]),
        (0, &[Code::Swept][..]),
        "{report:#?}"
    );
    let shown = inspect::inspect(unpack(SWEEP), Some(DataLimits::default())).expect("read");
    assert!(shown.data.is_none());
    assert!(
        shown.problems[0].contains("segment by segment"),
        "{:?}",
        shown.problems
    );
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("region");
    std::fs::write(&path, unpack(SWEEP)).expect("written");
    let options = RegionOptions::new("fixture", 3, LIMIT);
    let wanted = Some(newer::State::FINGERPRINT);
    let mut region = Region::open(&path, &options, wanted).expect("opened");
    assert_eq!(region.schema_before().as_deref(), Some(&SCHEMA[..]));
    region.attach(&Handle::new());
    // Without the conversions, what is not converted cannot be seen.
    let unseen = region.transact(|tx| {
        let state: newer::State = tx.read(tx.root())?;
        Ok::<_, Failure>(state.entries.get(tx, &0)?)
    });
    assert!(unseen.is_err());
    region
        .resume_conversion(newer::way())
        .expect("the same way");
    let check = |tx: &mut Tx<'_>| {
        let state: newer::State = tx.read(tx.root())?;
        assert_eq!((state.count, state.names.len()), (24, 24));
        assert_eq!(tx.read(state.first)?, newer::entry(entry(0)));
        for n in 0..24 {
            let value = state.names.get(tx, &name(n))?.expect("a value");
            assert_eq!(value.get(tx)?, name(n * 2));
            let found = state.entries.get(tx, &n)?;
            assert_eq!(found, (n % 4 != 2).then(|| newer::entry(entry(n))));
        }
        Ok::<_, Failure>(())
    };
    region.transact(check).expect("read");
    while region.sweep(Duration::ZERO).expect("swept") != Swept::Done {}
    region.transact(check).expect("read");
    region.close().expect("closed");
    let bytes = std::fs::read(&path).expect("read");
    let report = inspect::check(bytes, CheckOptions::here());
    assert!(
        report.is_clean() && report.findings.is_empty(),
        "{report:#?}"
    );
}

#[test]
fn a_region_of_format_1_checks_clean() {
    let report = inspect::check(unpack(FIXTURE), CheckOptions::here());
    assert!(
        report.is_clean() && report.findings.is_empty(),
        "{report:#?}"
    );
    let shown = inspect::inspect(unpack(FIXTURE), Some(DataLimits::default())).expect("read");
    assert_eq!(shown.header.component, "fixture");
    assert!(inspect::schema_text(&shown.schema).contains("names: Map<Bytes, Bytes>, // at 0"));
}

#[test]
fn a_region_with_a_journal_checks_sound() {
    let report = inspect::check(unpack(JOURNAL), CheckOptions::here());
    assert!(report.is_sound(), "{report:#?}");
    assert_eq!(report.replayed, 26);
    let shown = inspect::inspect(unpack(JOURNAL), Some(DataLimits::default())).expect("read");
    assert_eq!(shown.header.component, "fixture");
}

#[test]
fn a_region_of_format_1_is_read_and_changed() {
    read_and_change(FIXTURE);
}

#[test]
fn a_region_with_a_journal_is_read_and_changed() {
    read_and_change(JOURNAL);
}

fn read_and_change(fixture: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("region");
    std::fs::write(&path, unpack(fixture)).expect("written");
    // The types' descriptions have not changed either.
    let open = || {
        Region::open(
            &path,
            &RegionOptions::new("fixture", 3, LIMIT),
            Some(State::FINGERPRINT),
        )
    };
    let mut region = open().expect("opened");
    assert_eq!(region.schema(), SCHEMA);
    assert_eq!(
        SchemaDesc::decode(&region.schema())
            .expect("read")
            .fingerprint,
        State::FINGERPRINT
    );
    region.attach(&Handle::new());
    region.transact(check).expect("read");
    let done = region.transact(|tx| {
        let root: P<State> = tx.root();
        let mut state = tx.read(root)?;
        for n in 100..400 {
            state.entries.insert(tx, &n, &entry(n))?;
        }
        Ok::<_, Failure>(tx.write(root, &state)?)
    });
    done.expect("committed");
    region.make_durable().expect("durable");
    drop(region);
    let mut region = open().expect("opened again");
    region.attach(&Handle::new());
    let len = region.transact(|tx| Ok::<_, Failure>(tx.read::<State>(tx.root())?.entries.len()));
    assert_eq!(len.expect("read"), 318);
}
