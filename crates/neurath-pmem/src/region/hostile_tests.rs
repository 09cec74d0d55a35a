//! Opening what nobody vouches for: an error or a region that works, and nothing else.

use super::format::{
    self, BITMAP_LEN, CHUNK_LEN, DIRECTORY_AT, ENTRY_LEN, HEADER_AT, HEADER_COPY_AT, HEAP_AT,
    Header, LOG_AT, PAGE, RECORD_HEADER_LEN, ROOT_AT, RecordHeader, RegionState, SCHEMA_AT,
    SUPERBLOCK_AT, SegmentEntry, Superblock,
};
use super::{Backend, Durability, Media, Region, RegionOptions};
use crate::campaign::fresh::fresh;
use crate::campaign::sim::{Random, Sim};
use crate::campaign::state::{SCHEMA, contents, run};
use crate::campaign::workloads::random_workload;
use crate::schema::SchemaDesc;

/// A region left by a process that died, with something in every part of it.
fn left_behind() -> Sim {
    let mut region = fresh(Backend::Process);
    for transaction in random_workload(3, 30) {
        run(&mut region, &transaction).expect("runs");
    }
    let mut media = region.into_media();
    media.forget();
    media
}

/// Opens and uses it; takes back whatever that did. Whether it opened.
fn open_and_use(media: &mut Option<Sim>, random: &mut Random) -> bool {
    let mut taken = media.take().expect("media");
    let mark = taken.mark();
    // `recover` drops the media with an error; so it is tried on the same memory twice.
    let found = match super::Found::read(&taken) {
        Ok(found) => found,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            *media = Some(taken);
            return false;
        }
    };
    let before = taken.mark();
    let loads = super::replay(&mut taken, &found.header, &found.superblock, &mut |_, _| {})
        .and_then(|_| {
            let length = found.superblock.length;
            Ok(super::Space::load(&taken, &found.header, length)?)
        });
    if loads.is_err() {
        taken.take_back(mark);
        *media = Some(taken);
        return false;
    }
    taken.take_back(before);
    let Ok(mut region) = Region::recover(taken, found) else {
        unreachable!("it could be replayed and loaded")
    };
    // What a damaged object holds may be refused, and must not do anything else.
    let _ = contents(&mut region);
    for transaction in random_workload(random.next(), 3) {
        let _ = run(&mut region, &transaction);
    }
    let _ = contents(&mut region);
    region.stats();
    let mut taken = region.into_media();
    taken.take_back(mark);
    *media = Some(taken);
    true
}

#[test]
fn random_bytes_are_no_region() {
    let mut random = Random(5);
    let mut media = Some(Sim::new(HEAP_AT + CHUNK_LEN, Backend::Process));
    for _ in 0..200 {
        let disk = media.as_mut().expect("media");
        disk.len = random.next() % (HEAP_AT + CHUNK_LEN);
        for _ in 0..random.below(400) {
            let at = random.next() % (4 * PAGE / 8) * 8;
            let bytes = random.next().to_le_bytes();
            disk.raw(at, &bytes);
        }
        if random.chance(2) {
            disk.raw(0, &format::MAGIC);
        }
        assert!(!open_and_use(&mut media, &mut random));
    }
}

#[test]
fn every_truncation_is_refused() {
    let mut random = Random(6);
    let mut media = Some(left_behind());
    let whole = media.as_ref().expect("media").len;
    let lens = (0..whole).filter(|&len| len < 600 || len % 512 < 2 || whole - len < 600);
    for len in lens {
        media.as_mut().expect("media").len = len;
        assert!(!open_and_use(&mut media, &mut random), "{len}");
    }
    media.as_mut().expect("media").len = whole;
    assert!(open_and_use(&mut media, &mut random));
}

#[test]
fn flipped_bits_are_found_or_harmless() {
    let mut random = Random(7);
    let mut media = Some(left_behind());
    let mut opened = 0;
    let places = [
        HEADER_AT..512,
        SUPERBLOCK_AT[0]..SUPERBLOCK_AT[0] + 256,
        SUPERBLOCK_AT[1]..SUPERBLOCK_AT[1] + 256,
        HEADER_COPY_AT..HEADER_COPY_AT + 512,
        ROOT_AT..DIRECTORY_AT + 32,
        SCHEMA_AT..SCHEMA_AT + 700,
        LOG_AT..LOG_AT + 16384,
        HEAP_AT..HEAP_AT + 16 * ENTRY_LEN,
        HEAP_AT + 256 * ENTRY_LEN..HEAP_AT + 256 * ENTRY_LEN + 16 * BITMAP_LEN,
        HEAP_AT + CHUNK_LEN..HEAP_AT + CHUNK_LEN + (256 << 10),
    ];
    for round in 0..6000 {
        let disk = media.as_mut().expect("media");
        let mut before = Vec::new();
        for _ in 0..1 + random.below(3) {
            let range = &places[if round < 2000 {
                round % 10
            } else {
                random.below(10)
            }];
            let at = range.start + random.next() % (range.end - range.start);
            let old = disk.bytes(at, 1)[0];
            before.push((at, old));
            let new = if random.chance(4) {
                random.next() as u8
            } else {
                old ^ 1 << random.below(8)
            };
            disk.raw(at, &[new]);
        }
        opened += u32::from(open_and_use(&mut media, &mut random));
        let disk = media.as_mut().expect("media");
        for (at, old) in before.into_iter().rev() {
            disk.raw(at, &[old]);
        }
    }
    assert!(opened > 1000, "{opened}");
}

/// Numbers that have gone wrong elsewhere.
fn absurd(random: &mut Random) -> u64 {
    let shift = random.below(64);
    match random.below(6) {
        0 => 0,
        1 => u64::MAX - random.next() % 9,
        2 => (1u64 << shift).wrapping_sub(random.next() % 3),
        3 => HEAP_AT + random.next() % 64 * PAGE,
        4 => random.next() >> shift,
        _ => random.next() % 200,
    }
}

#[test]
fn checksummed_nonsense_is_refused_or_harmless() {
    let mut media = Some(left_behind());
    let mut opened = [0; 5];
    for seed in 0..8000u64 {
        let mut random = Random(seed);
        let disk = media.as_mut().expect("media");
        let mark = disk.mark();
        let header = Header::parse(disk.bytes(HEADER_AT, PAGE)).expect("a header");
        let what = random.below(5);
        match what {
            0 => {
                let mut bytes = header.encode();
                let fields = [8, 16, 24, 32, 40, 64, 72, 80, 88, 96, 104, 112, 120, 128];
                let at = fields[random.below(fields.len())];
                bytes[at..at + 8].copy_from_slice(&absurd(&mut random).to_le_bytes());
                let sum = xxhash_rust::xxh3::xxh3_64(&bytes[..504]);
                bytes[504..].copy_from_slice(&sum.to_le_bytes());
                disk.store(HEADER_AT, &bytes);
                if random.chance(2) {
                    disk.store(HEADER_COPY_AT, &bytes);
                }
            }
            1 => {
                let superblock = Superblock {
                    generation: absurd(&mut random),
                    state: RegionState::Open,
                    boot_id: [0; 16],
                    pid: 0,
                    length: if random.chance(2) {
                        disk.len
                    } else {
                        absurd(&mut random)
                    },
                    checkpoint: absurd(&mut random),
                    durability: Durability::Process,
                    lap: 0,
                };
                disk.store(SUPERBLOCK_AT[random.below(2)], &superblock.encode(&header));
            }
            2 => {
                let at = DIRECTORY_AT + random.next() % 3 * 8;
                let value = absurd(&mut random);
                disk.store(at, &value.to_le_bytes());
            }
            3 => {
                let number = 1 + random.next() % 14;
                let at = format::entry_at(HEAP_AT, number);
                let mut words = [0; 8];
                for (i, word) in words.iter_mut().enumerate() {
                    *word = disk.word(at + i as u64 * 8);
                }
                let entry =
                    SegmentEntry::parse(&words, number, header.seed(), &(HEAP_AT..disk.len));
                let mut entry = entry.expect("an entry").unwrap_or(SegmentEntry {
                    type_id: 1,
                    offset: HEAP_AT,
                    length: PAGE,
                    object_size: 8,
                    capacity: 1,
                });
                match random.below(5) {
                    0 => entry.type_id = absurd(&mut random),
                    1 => entry.offset = absurd(&mut random),
                    2 => entry.length = absurd(&mut random),
                    3 => entry.object_size = absurd(&mut random) as u32,
                    _ => entry.capacity = absurd(&mut random) as u32,
                }
                for (i, word) in entry.encode(number, header.seed()).into_iter().enumerate() {
                    disk.store_word(at + i as u64 * 8, word);
                }
            }
            _ => {
                let log = disk.bytes(LOG_AT, format::LOG_LEN);
                let newest = format::newest_records(log, header.seed(), 1)[0]
                    .header
                    .sequence;
                let (words, fresh) = (random.below(6) as u32, random.below(4) as u32);
                let mut payload = Vec::new();
                for _ in 0..words + fresh {
                    for _ in 0..2 {
                        payload.extend(absurd(&mut random).to_le_bytes());
                    }
                }
                let record = RecordHeader {
                    sequence: if random.chance(2) {
                        newest + 1
                    } else {
                        absurd(&mut random)
                    },
                    words: if random.chance(4) {
                        absurd(&mut random) as u32
                    } else {
                        words
                    },
                    fresh: if random.chance(4) {
                        absurd(&mut random) as u32
                    } else {
                        fresh
                    },
                    fresh_hash: xxhash_rust::xxh3::xxh3_64_with_seed(b"", header.seed()),
                };
                let at = LOG_AT + (512 << 10);
                disk.store(at + RECORD_HEADER_LEN, &payload);
                disk.store(at, &record.encode(&payload, header.seed()));
            }
        }
        let run = std::panic::AssertUnwindSafe(|| open_and_use(&mut media, &mut random));
        match std::panic::catch_unwind(run) {
            Ok(did) => opened[what] += u32::from(did),
            Err(_) => panic!("seed {seed}, part {what}"),
        }
        media.as_mut().expect("media").take_back(mark);
    }
    assert!(opened.iter().all(|&count| count > 0), "{opened:?}");
}

#[test]
fn an_error_leaves_the_file_as_it_was() {
    let mut disk = left_behind();
    let header = Header::parse(disk.bytes(HEADER_AT, PAGE)).expect("a header");
    let log = disk.bytes(LOG_AT, format::LOG_LEN);
    let newest = format::newest_records(log, header.seed(), 1)[0]
        .header
        .sequence;
    let payload: Vec<u8> = [HEAP_AT + 8, 7, 3, 7]
        .into_iter()
        .flat_map(u64::to_le_bytes)
        .collect();
    let fresh_hash = xxhash_rust::xxh3::xxh3_64_with_seed(b"", header.seed());
    let record = RecordHeader {
        sequence: newest + 1,
        words: 2,
        fresh: 0,
        fresh_hash,
    };
    disk.store(LOG_AT + (512 << 10) + RECORD_HEADER_LEN, &payload);
    disk.store(
        LOG_AT + (512 << 10),
        &record.encode(&payload, header.seed()),
    );
    disk.forget();
    let found = super::Found::read(&disk).expect("sound so far");
    assert!(super::replay(&mut disk, &found.header, &found.superblock, &mut |_, _| {}).is_err());
    assert_eq!(disk.mark(), 0);
}

#[test]
fn a_schema_of_any_bytes_is_refused_or_read() {
    let mut random = Random(11);
    let encoded = SCHEMA;
    for _ in 0..30_000 {
        let mut bytes = if random.chance(8) {
            let mut bytes: Vec<u8> = (0..random.below(200))
                .map(|_| (random.next() % 12) as u8)
                .collect();
            bytes.insert(0, 1);
            bytes
        } else {
            encoded.to_vec()
        };
        for _ in 0..random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = if random.chance(2) {
                random.next() as u8
            } else {
                0xFF
            };
        }
        if random.chance(4) {
            bytes.truncate(random.below(bytes.len()));
        }
        if let Ok(schema) = SchemaDesc::decode(&bytes) {
            assert!(schema.object_types().len() <= bytes.len());
            let _ = crate::migrate::MigrationPlan::new(&schema, &schema, &[]);
        }
    }
}

/// A type without contents: its kind, its name, its size and its alignment.
fn head(kind: u8, size: u32) -> Vec<u8> {
    let mut out = vec![kind, 0];
    out.extend(size.to_le_bytes());
    out.extend(1u16.to_le_bytes());
    out
}

/// What this thread has had of a processor: others may take theirs meanwhile.
fn processor_seconds() -> i64 {
    let clock = rustix::time::ClockId::ThreadCPUTime;
    rustix::time::clock_gettime(clock).tv_sec
}

#[test]
fn nested_counts_cost_no_more_than_their_bytes() {
    // Structs in structs, each claiming 65535 fields.
    let mut bytes = vec![1];
    for _ in 0..32 {
        bytes.extend(head(2, u32::MAX));
        bytes.extend([0xFF, 0xFF, 0, 0, 0, 0, 0]);
    }
    assert!(SchemaDesc::decode(&bytes).is_err());
    // As many types as fit, each led to.
    let mut bytes = vec![1];
    bytes.extend(head(7, 0));
    bytes.extend(0u16.to_le_bytes());
    bytes.extend(u16::MAX.to_le_bytes());
    for n in 0..u16::MAX {
        bytes.extend(head(1, n.into()));
    }
    let started = processor_seconds();
    let schema = SchemaDesc::decode(&bytes).expect("sound");
    assert_eq!(schema.object_types().len(), 65536);
    let took = processor_seconds() - started;
    assert!(took < 5, "{took} seconds");
}

#[test]
fn an_array_of_nothing_is_planned_at_once() {
    let array = |name: u8| {
        let mut bytes = vec![1];
        bytes.extend(head(4, 0));
        bytes.extend(u32::MAX.to_le_bytes());
        let mut element = head(2, 0);
        element[1] = 1;
        element.insert(2, b'E');
        bytes.extend(element);
        // One field, of no bytes, whose name differs.
        bytes.extend([1, 0, 1, b'f', 0, 0, 0, 0]);
        let mut inner = head(2, 0);
        inner[1] = 1;
        inner.insert(2, b'I');
        inner[7] = name;
        bytes.extend(inner);
        bytes.extend([0, 0]);
        SchemaDesc::decode(&bytes).expect("sound")
    };
    let started = processor_seconds();
    let _ = crate::migrate::MigrationPlan::new(&array(1), &array(2), &[]);
    let took = processor_seconds() - started;
    assert!(took < 2, "{took} seconds");
}

/// By name, and before anything else of it is looked at.
#[test]
fn a_newer_format_and_an_unknown_feature_are_refused() {
    let disk = left_behind();
    let told = |change: &dyn Fn(&mut [u8])| {
        let mut bytes = disk.bytes(HEADER_AT, format::HEADER_LEN).to_vec();
        change(&mut bytes);
        let end = bytes.len() - 8;
        let sum = xxhash_rust::xxh3::xxh3_64(&bytes[..end]);
        bytes[end..end + 8].copy_from_slice(&sum.to_le_bytes());
        Header::parse(&bytes).map(drop)
    };
    assert!(told(&|_| ()).is_ok());
    let (found, known) = (format::FORMAT + 1, format::FORMAT);
    let newer = told(&|bytes| bytes[8..12].copy_from_slice(&found.to_le_bytes()));
    let newer = newer.expect_err("it is newer");
    assert!(
        matches!(newer, super::error::FormatError::Version { found: f, known: k } if (f, k) == (found, known)),
        "{newer}"
    );
    let feature = told(&|bytes| bytes[31] |= 0x80).expect_err("it is not known");
    assert!(
        feature.to_string().contains("0x8000000000000000"),
        "{feature}"
    );
}

#[test]
fn what_is_no_file_is_no_region() {
    let dir = tempfile::tempdir().expect("a folder");
    let pipe = dir.path().join("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0)
        .expect("a pipe");
    for path in [pipe.as_path(), std::path::Path::new("/dev/zero")] {
        let options = RegionOptions::new("user", 0, 16 << 20);
        let error = Region::open(path, &options, None).expect_err("no region");
        let wanted = format!("cannot open {}: it is not a regular file", path.display());
        assert_eq!(error.to_string(), wanted);
    }
}
