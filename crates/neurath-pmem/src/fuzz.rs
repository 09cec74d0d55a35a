//! Regions and schemas that nobody wrote: damaged ones, with checksums that hold all the same,
//! and bytes of no kind. Whatever reads them must end in time with a value or an error.

use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::campaign::sim::{Random, mix};
use crate::failure::Failure;
use crate::inspect::{self, CheckOptions, DataLimits};
use crate::migrate::MigrationPlan;
use crate::region::format::{
    self, DIRECTORY_AT, HEADER_AT, HEADER_COPY_AT, LOG_AT, LOG_LEN, PAGE, RECORD_ALIGN,
    RECORD_HEADER_LEN, ROOT_AT, RecordHeader, SCHEMA_AT, SUPERBLOCK_AT,
};
use crate::region::{RAW, Region, RegionOptions};
use crate::schema::{SchemaDesc, encode, encoded_len};
use crate::{Bytes, Map, OrderedMap, P, Pmem, Tx, TxError, Vector};

/// Regions of every format that there was, as the lines of them that are not zero.
const FIXTURES: [&str; 1] = [include_str!("../fixtures/region-v1.hex")];

#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
struct Node {
    next: P<Self>,
    name: Bytes,
}

#[derive(Clone, Copy, Debug, Pmem)]
#[repr(u64)]
enum Kind {
    None([u8; 16]) = 1,
    Some {
        first: u32,
        flags: [bool; 4],
        node: P<Node>,
    },
}

/// A state with everything in it.
#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
struct State {
    names: Map<Bytes, Bytes>,
    ordered: OrderedMap<u64, Kind>,
    list: Vector<[u16; 3]>,
    first: P<Node>,
    kind: Kind,
}

const SCHEMA: [u8; encoded_len(State::SCHEMA)] = encode(State::SCHEMA);
const LIMIT: u64 = 16 << 20;

/// What cases are made from.
#[derive(Debug)]
pub struct Corpus {
    images: Vec<Vec<u8>>,
    schemas: Vec<Vec<u8>>,
    /// Where a damaged region is opened.
    path: PathBuf,
}

impl Corpus {
    /// The fixtures, and regions that are made in `folder`.
    ///
    /// # Errors
    ///
    /// If no region can be made there.
    pub fn new(folder: &Path) -> Result<Corpus, String> {
        let path = folder.join("region");
        let mut images: Vec<Vec<u8>> = FIXTURES.iter().map(|text| from_lines(text)).collect();
        for (count, close) in [(3, true), (40, false), (300, false)] {
            let _ = std::fs::remove_file(&path);
            let made = filled(&path, count, close).map_err(|error| error.to_string())?;
            images.push(made);
        }
        let schema = |image: &Vec<u8>| {
            let header = format::Header::parse(image).ok()?;
            let at = SCHEMA_AT as usize;
            Some(image[at..at + header.schema_len as usize].to_vec())
        };
        let schemas = images.iter().filter_map(schema).collect();
        Ok(Corpus {
            images,
            schemas,
            path,
        })
    }
}

/// A region's bytes from the lines of a fixture.
fn from_lines(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in text.lines() {
        let Some((at, value)) = line.split_once(' ') else {
            continue;
        };
        match at.parse::<usize>() {
            Ok(at) => {
                for (place, digits) in bytes[at..].iter_mut().zip(value.as_bytes().chunks(2)) {
                    let digits = std::str::from_utf8(digits).unwrap_or_default();
                    *place = u8::from_str_radix(digits, 16).unwrap_or_default();
                }
            }
            Err(_) => bytes.resize(value.parse().unwrap_or(0), 0),
        }
    }
    bytes
}

/// The bytes of a new region with so many of everything.
fn filled(path: &Path, count: u64, close: bool) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let options = RegionOptions {
        component: "fuzz".into(),
        instance: 0,
        initial: 2 << 20,
        limit: LIMIT,
        durability: crate::region::Durability::Process,
    };
    let mut region = Region::create(path, &options, &SCHEMA)?;
    let root = region.transact(|tx| {
        Ok::<_, Failure>(tx.alloc(&State {
            names: Map::EMPTY,
            ordered: OrderedMap::EMPTY,
            list: Vector::EMPTY,
            first: P::NULL,
            kind: Kind::None([7; 16]),
        })?)
    })?;
    region.set_root(root.to_ref());
    region.commit()?;
    for n in 0..count {
        region.transact(|tx| Ok::<_, Failure>(add(tx, root, n)?))?;
    }
    if close {
        region.close()?;
    } else {
        drop(region);
    }
    Ok(std::fs::read(path)?)
}

fn add(tx: &mut Tx<'_>, root: P<State>, n: u64) -> Result<(), TxError> {
    let mut state = tx.read(root)?;
    let name = vec![n as u8; n as usize % 90];
    let value = Bytes::new(tx, &name)?;
    if let Some(old) = state.names.insert(tx, &name, &value)? {
        old.free_owned(tx)?;
    }
    let name = Bytes::new(tx, &name)?;
    state.first = tx.alloc(&Node {
        next: state.first,
        name,
    })?;
    state.kind = Kind::Some {
        first: n as u32,
        flags: [n.is_multiple_of(2); 4],
        node: state.first,
    };
    state.ordered.insert(tx, &(n * 7 % 64), &state.kind)?;
    state.list.push(tx, &[n as u16; 3])?;
    tx.write(root, &state)
}

/// Tries the case of this number: whether what was read was taken, rather than refused with
/// an error.
///
/// # Errors
///
/// Which rule was broken. A panic is one, too, but not caught here.
pub fn case(corpus: &Corpus, seed: u64, number: u64) -> Result<bool, String> {
    let mut random = Random(mix(seed, number));
    match number % 8 {
        0..=2 => schema(corpus, &mut random),
        3 => log(&mut random),
        4 => check(unlike_any(&mut random), None),
        at => {
            let from = random.below(corpus.images.len());
            let mut image = corpus.images[from].clone();
            for _ in 0..1 + random.below(4) {
                damage(&mut image, &mut random);
            }
            // Opening it alone has a file written, which takes longer than all the rest.
            check(image, (at == 7).then_some(corpus.path.as_path()))
        }
    }
}

/// A schema's bytes, damaged, read; and planned to and from, if they can be read.
fn schema(corpus: &Corpus, random: &mut Random) -> Result<bool, String> {
    let mut bytes = match random.chance(4) {
        true => (0..random.below(300))
            .map(|_| random.next() as u8 % 12)
            .collect(),
        false => corpus.schemas[random.below(corpus.schemas.len())].clone(),
    };
    for _ in 0..random.below(5) {
        splice(&mut bytes, random);
    }
    let Ok(found) = SchemaDesc::decode(&bytes) else {
        return Ok(false);
    };
    if found.object_types().len() > bytes.len() {
        return Err("a schema has more types than bytes".into());
    }
    let _ = MigrationPlan::new(&found, &found, &[]);
    let known = SchemaDesc::decode(&SCHEMA).map_err(|error| error.to_string())?;
    let _ = MigrationPlan::new(&known, &found, &[]);
    let _ = MigrationPlan::new(&found, &known, &[]);
    let _ = inspect::schema_text(&found);
    Ok(true)
}

/// Bytes changed, left out, put in twice.
fn splice(bytes: &mut Vec<u8>, random: &mut Random) {
    if bytes.is_empty() {
        return;
    }
    let at = random.below(bytes.len());
    let end = bytes.len().min(at + 1 + random.below(40));
    match random.below(6) {
        0 => bytes[at] = random.next() as u8,
        1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][random.below(5)],
        3 => {
            bytes.drain(at..end);
        }
        4 => {
            let piece = bytes[at..end].to_vec();
            let to = random.below(bytes.len());
            bytes.splice(to..to, piece);
        }
        _ => bytes.truncate(at),
    }
}

/// A log of any bytes, with what looks like records in it, some of which are whole.
fn log(random: &mut Random) -> Result<bool, String> {
    let len = RECORD_ALIGN as usize * random.below(300) + random.below(70);
    let mut log = vec![0; len];
    for _ in 0..random.below(12) {
        let payload: Vec<u8> = (0..random.below(20) * 16)
            .map(|_| random.next() as u8)
            .collect();
        let header = RecordHeader {
            sequence: absurd(random),
            words: random.below(20) as u32,
            fresh: if random.chance(3) {
                absurd(random) as u32
            } else {
                0
            },
            fresh_hash: random.next(),
        };
        let mut record = header.encode(&payload, 5).to_vec();
        record.extend(payload);
        if random.chance(3) {
            splice(&mut record, random);
        }
        let at = random.below(len + 1) / 64 * 64;
        for (place, byte) in log[at..].iter_mut().zip(record) {
            *place = byte;
        }
    }
    let found = format::newest_records(&log, 5, 3);
    for record in &found {
        let (at, end) = (record.at as usize, (record.at + record.len) as usize);
        let Some(bytes) = log.get(at..end) else {
            return Err(format!("a record from {at} to {end} in {len} bytes"));
        };
        let pairs = format::record_pairs(bytes).count() as u64;
        if pairs != u64::from(record.header.words) + u64::from(record.header.fresh) {
            return Err(format!(
                "a record of {pairs} pairs says {:?}",
                record.header
            ));
        }
    }
    Ok(!found.is_empty())
}

/// Bytes that begin like a region at best.
fn unlike_any(random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![0; random.below(3 << 20)];
    for _ in 0..random.below(2000) {
        let at = random.below(bytes.len());
        if let Some(byte) = bytes.get_mut(at) {
            *byte = random.next() as u8;
        }
    }
    for (at, magic) in [
        (HEADER_AT, &format::MAGIC),
        (HEADER_COPY_AT, &format::MAGIC),
    ] {
        if let Some(place) = bytes.get_mut(at as usize..at as usize + magic.len())
            && random.chance(2)
        {
            place.copy_from_slice(magic);
        }
    }
    bytes
}

/// Numbers that have gone wrong elsewhere.
fn absurd(random: &mut Random) -> u64 {
    let shift = random.below(64);
    match random.below(6) {
        0 => 0,
        1 => u64::MAX - random.next() % 9,
        2 => (1u64 << shift).wrapping_sub(random.next() % 3),
        3 => LOG_AT + LOG_LEN + random.next() % 64 * PAGE,
        4 => random.next() >> shift,
        _ => random.next() % 200,
    }
}

/// Changes something, anywhere or where it matters; and often renews the checksum over it,
/// so that what is behind the checksum is met.
fn damage(image: &mut Vec<u8>, random: &mut Random) {
    let heap = (LOG_AT + LOG_LEN) as usize;
    if image.len() < heap + 8 {
        return;
    }
    let word = |image: &mut [u8], at: usize, value: u64| {
        if let Some(place) = image.get_mut(at..at + 8) {
            place.copy_from_slice(&value.to_le_bytes());
        }
    };
    match random.below(9) {
        0 => image.truncate(random.below(image.len())),
        1 => {
            let at = random.below(image.len());
            image[at] ^= 1 << random.below(8);
        }
        2 => {
            let at = heap + random.below(image.len() - heap - 8) / 8 * 8;
            word(image, at, absurd(random));
        }
        3 => {
            let at = ROOT_AT as usize + random.below(4) * 8;
            word(image, at, absurd(random));
        }
        4 => {
            let at = SCHEMA_AT as usize + random.below(700);
            image[at] = random.next() as u8;
            renew_header(image);
        }
        5 => {
            let at = random.below(18) * 8;
            word(image, at, absurd(random));
            renew_header(image);
        }
        6 => {
            let slot = SUPERBLOCK_AT[random.below(2)] as usize;
            word(image, slot + random.below(9) * 8, absurd(random));
            renew_superblock(image, slot);
        }
        7 => renew_entry(image, random),
        _ => add_record(image, random),
    }
}

/// Makes a header's checksums hold, and its copy the same.
fn renew_header(image: &mut [u8]) {
    let len = u32::from_le_bytes(format::get(image, 96)) as usize;
    let at = SCHEMA_AT as usize;
    if let Some(schema) = image.get(at..at + len) {
        let sum = xxh3_64(schema);
        image[104..112].copy_from_slice(&sum.to_le_bytes());
    }
    let sum = xxh3_64(&image[..504]);
    image[504..512].copy_from_slice(&sum.to_le_bytes());
    image.copy_within(..512, HEADER_COPY_AT as usize);
}

fn seed_of(image: &[u8]) -> u64 {
    xxh3_64(&image[48..64])
}

fn renew_superblock(image: &mut [u8], slot: usize) {
    let sum = xxh3_64_with_seed(&image[slot..slot + 248], seed_of(image));
    image[slot + 248..slot + 256].copy_from_slice(&sum.to_le_bytes());
}

/// Changes a number of an entry of the segment table, whose checksum holds again.
fn renew_entry(image: &mut [u8], random: &mut Random) {
    let chunk = u64::from_le_bytes(format::get(image, DIRECTORY_AT as usize));
    let number = random.next() % 16;
    let at = usize::try_from(format::entry_at(chunk.min(1 << 40), number)).unwrap_or(usize::MAX);
    let Some(entry) = at.checked_add(64).and_then(|end| image.get(at..end)) else {
        return;
    };
    let mut words = [0; format::ENTRY_WORDS];
    for (word, bytes) in words.iter_mut().zip(entry.chunks_exact(8)) {
        *word = u64::from_le_bytes(format::get(bytes, 0));
    }
    let entry = format::SegmentEntry {
        type_id: words[1],
        offset: words[2],
        length: words[3],
        object_size: words[4] as u32,
        capacity: (words[4] >> 32) as u32,
    };
    let mut entry = entry;
    match random.below(6) {
        0 => {
            entry.type_id = if random.chance(2) {
                RAW
            } else {
                absurd(random)
            }
        }
        1 => entry.offset = absurd(random),
        2 => entry.length = absurd(random),
        3 => entry.object_size = absurd(random) as u32,
        4 => entry.capacity = absurd(random) as u32,
        _ => {}
    }
    for (i, word) in entry.encode(number, seed_of(image)).into_iter().enumerate() {
        image[at + i * 8..at + i * 8 + 8].copy_from_slice(&word.to_le_bytes());
    }
}

/// A record that is whole, beyond all others or not, of absurd contents.
fn add_record(image: &mut [u8], random: &mut Random) {
    let seed = seed_of(image);
    let newest = format::newest_records(&image[LOG_AT as usize..][..LOG_LEN as usize], seed, 1);
    let newest = newest.first().map_or(0, |found| found.header.sequence);
    let (words, fresh) = (random.below(6), random.below(4));
    let payload: Vec<u8> = (0..(words + fresh) * 2)
        .flat_map(|_| absurd(random).to_le_bytes())
        .collect();
    let header = RecordHeader {
        sequence: if random.chance(3) {
            absurd(random)
        } else {
            newest + 1
        },
        words: if random.chance(4) {
            absurd(random) as u32
        } else {
            words as u32
        },
        fresh: if random.chance(4) {
            absurd(random) as u32
        } else {
            fresh as u32
        },
        fresh_hash: xxh3_64_with_seed(b"", seed),
    };
    let room = LOG_LEN / RECORD_ALIGN - 20;
    let at = (LOG_AT + random.next() % room * RECORD_ALIGN) as usize;
    let record = header.encode(&payload, seed);
    image[at..at + RECORD_HEADER_LEN as usize].copy_from_slice(&record);
    let at = at + RECORD_HEADER_LEN as usize;
    image[at..at + payload.len()].copy_from_slice(&payload);
}

/// Checks and describes an image, and opens and uses it in `path`, if there is one. Whether
/// the check found nothing.
fn check(image: Vec<u8>, path: Option<&Path>) -> Result<bool, String> {
    let limits = DataLimits {
        entries: 20,
        bytes: 64,
        depth: 3,
    };
    if let Err(error) = inspect::inspect(image.clone(), Some(limits))
        && error.to_string().is_empty()
    {
        return Err("refused without a word".into());
    }
    if let Some(path) = path {
        std::fs::write(path, &image).map_err(|error| error.to_string())?;
        open(path)?;
    }
    let report = inspect::check(image, CheckOptions::default());
    if !report.is_sound() && report.findings.is_empty() {
        return Err("unsound, and no finding says why".into());
    }
    Ok(report.is_sound())
}

/// Opens what is there, reads it, and changes it.
fn open(path: &Path) -> Result<(), String> {
    for component in ["fuzz", "fixture"] {
        let instance = if component == "fuzz" { 0 } else { 3 };
        let mut region =
            match Region::open(path, &RegionOptions::new(component, instance, LIMIT), None) {
                Ok(region) => region,
                Err(error) if error.to_string().is_empty() => {
                    return Err("refused without a word".into());
                }
                Err(_) => continue,
            };
        let root = P::<State>::from_ref(region.root());
        // Refused or done: either is right.
        let _ = region.transact(|tx| Ok::<_, Failure>(add(tx, root, 5)?));
        let _ = region.transact(|tx| {
            let block = tx.alloc_bytes(&[1; 100])?;
            tx.alloc_bytes(&[2; 3000])?;
            Ok::<_, Failure>(tx.free_bytes(block)?)
        });
        region.stats();
        let _ = region.close();
    }
    Ok(())
}
