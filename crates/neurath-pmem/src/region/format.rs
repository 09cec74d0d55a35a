//! The layout of the file: pure functions between bytes and values.
//!
//! `docs/on-media-format.md` describes it down to the byte. Everything is
//! little-endian. No function here trusts a number that it reads.

use std::ops::Range;

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

use super::error::FormatError;
use super::media::Durability;
use crate::schema::Fingerprint;

/// The first bytes of a region. The high byte and the line ends show a transfer as text.
pub const MAGIC: [u8; 8] = *b"NEUR\x89\r\n\x1a";
/// The format this program writes and reads.
pub const FORMAT: u32 = 1;
/// The unit of places in the file, in bytes.
pub const PAGE: u64 = 4096;
/// Where the header lies, in bytes.
pub const HEADER_AT: u64 = 0;
/// Where the two superblocks lie.
pub const SUPERBLOCK_AT: [u64; 2] = [PAGE, 2 * PAGE];
/// Where the header's copy lies.
pub const HEADER_COPY_AT: u64 = 3 * PAGE;
/// Where the word lies that refers to the root object.
pub const ROOT_AT: u64 = 4 * PAGE;
/// Where the directory of chunks lies: one word a chunk, the chunk's place in the file.
pub const DIRECTORY_AT: u64 = ROOT_AT + 8;
/// How many chunks there can be.
pub const CHUNKS: u64 = 2047;
/// Where the schema lies.
pub const SCHEMA_AT: u64 = DIRECTORY_AT + CHUNKS * 8;
/// The longest schema, in bytes.
pub const SCHEMA_MAX: u64 = 64 << 10;
/// Where the log lies.
pub const LOG_AT: u64 = SCHEMA_AT + SCHEMA_MAX;
/// The length of a log that is a ring, in bytes.
pub const LOG_LEN: u64 = 1 << 20;
/// The longest record: a quarter, so that the two records before it are never overwritten.
pub const RECORD_MAX: u64 = LOG_LEN / 4;
/// Records begin at multiples of this.
pub const RECORD_ALIGN: u64 = 64;
/// The first byte that chunks and segments may take, behind a log that is a ring.
pub const HEAP_AT: u64 = LOG_AT + LOG_LEN;
/// How long a log that is a journal may be, in bytes.
pub const JOURNAL_LENS: std::ops::RangeInclusive<u64> = (128 << 10)..=(1 << 30);
/// Segments that a chunk describes.
pub const SEGMENTS_PER_CHUNK: u64 = 256;
/// Bytes of an entry of the segment table.
pub const ENTRY_LEN: u64 = 64;
/// Bytes of a segment's bitmap: a bit for each of at most 4096 objects.
pub const BITMAP_LEN: u64 = 512;
/// The most objects a segment has.
pub const OBJECTS_MAX: u32 = (BITMAP_LEN * 8) as u32;
/// Bytes of a chunk: the entries, then the bitmaps.
pub const CHUNK_LEN: u64 = SEGMENTS_PER_CHUNK * (ENTRY_LEN + BITMAP_LEN);
/// Bytes of an ordinary segment's objects.
pub const SEGMENT_LEN: u64 = 64 << 10;
/// No count of superblocks or records gets here.
pub(super) const COUNT_MAX: u64 = 1 << 62;
/// Bytes of the longest name of a component.
pub const NAME_MAX: usize = 64;

/// Written once, when the region is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// The region's own random number.
    pub uuid: [u8; 16],
    /// The component's name.
    pub component: String,
    /// The instance's number.
    pub instance: u32,
    /// The fingerprint of the state.
    pub fingerprint: Fingerprint,
    /// The schema's length, in bytes.
    pub schema_len: u32,
    /// The schema's xxh3-64.
    pub schema_hash: u64,
    /// What a program must know to open the region besides the log: some of [`FEATURES`].
    pub features: u64,
    /// What the log is.
    pub log: Log,
    /// Whether migrations are recorded behind the superblocks.
    pub history: bool,
    /// Where the record of the sweep is, while segments are converted one by one. The schema
    /// is within it then.
    pub sweep: Option<SweepPlace>,
}

/// Where the record of a sweep lies, from [`SCHEMA_AT`] on, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SweepPlace {
    /// Its first byte.
    pub at: u32,
    /// Its length.
    pub len: u32,
    /// The length of the schema before, which comes before the present one.
    pub old_len: u32,
}

/// What a log is, and how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Log {
    /// The last two records are replayed; new objects are in their places before.
    Ring,
    /// All records beyond the checkpoint are replayed, and hold the new objects' bytes: for
    /// media where stores are held back until pages are written. So many bytes.
    Journal(u64),
}

impl Log {
    /// Its length in bytes.
    #[must_use]
    pub fn len(self) -> u64 {
        match self {
            Log::Ring => LOG_LEN,
            Log::Journal(len) => len,
        }
    }

    /// Whether there is none; there always is one.
    #[must_use]
    pub fn is_empty(self) -> bool {
        false
    }

    /// The longest record's words and list of new objects, in bytes with its header.
    #[must_use]
    pub fn record_max(self) -> u64 {
        RECORD_MAX.min(self.len() / 4)
    }

    /// The most bytes of new objects that a record of a journal holds. What is more is
    /// written to its place before.
    #[must_use]
    pub fn contents_max(self) -> u64 {
        self.len() / 8
    }
}

/// The entries of the segment table have checksums of their segments.
pub const SEGMENT_SUMS: u64 = 1;
/// The log is a journal.
const JOURNAL: u64 = 2;
/// Segments are converted one by one to another schema, and some may be as they were.
const SWEEP: u64 = 4;
/// Of the compatible features: there is a history behind the superblocks.
pub(crate) const HISTORY: u64 = 1;
/// The features that this program knows, besides the log's.
pub const FEATURES: u64 = SEGMENT_SUMS;

/// Bytes of a header.
pub const HEADER_LEN: u64 = 512;
const HEADER_SIZE: usize = HEADER_LEN as usize;
const ENDIAN: u64 = 0x0102_0304_0506_0708;

pub(crate) fn get<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

pub(super) fn get_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(get(bytes, at))
}

pub(super) fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(get(bytes, at))
}

pub(super) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Refuses a file that is shorter than it must be.
pub fn require(found: u64, needed: u64, what: &'static str) -> Result<(), FormatError> {
    if found < needed {
        return Err(FormatError::Truncated {
            found,
            needed,
            what,
        });
    }
    Ok(())
}

impl Header {
    /// The page's first bytes; the rest is zero.
    ///
    /// # Panics
    ///
    /// If the name is longer than [`NAME_MAX`].
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        assert!(self.component.len() <= NAME_MAX, "a checked name");
        let mut out = [0; HEADER_SIZE];
        put(&mut out, 0, &MAGIC);
        put(&mut out, 8, &FORMAT.to_le_bytes());
        // 12: the minor format.
        let compatible = if self.history { HISTORY } else { 0 };
        put(&mut out, 16, &compatible.to_le_bytes());
        let journal = match self.log {
            Log::Ring => 0,
            Log::Journal(_) => JOURNAL,
        };
        let sweep = self.sweep.map_or(0, |_| SWEEP);
        put(
            &mut out,
            24,
            &(self.features | journal | sweep).to_le_bytes(),
        );
        put(&mut out, 32, &ENDIAN.to_le_bytes());
        put(&mut out, 40, &(PAGE as u32).to_le_bytes());
        put(&mut out, 44, &(SEGMENT_LEN as u32).to_le_bytes());
        put(&mut out, 48, &self.uuid);
        put(&mut out, 64, &self.log.len().to_le_bytes());
        put(&mut out, 72, &self.heap_at().to_le_bytes());
        put(&mut out, 80, &self.fingerprint);
        put(&mut out, 96, &self.schema_len.to_le_bytes());
        put(&mut out, 100, &self.instance.to_le_bytes());
        put(&mut out, 104, &self.schema_hash.to_le_bytes());
        put(&mut out, 112, &(self.component.len() as u32).to_le_bytes());
        put(&mut out, 128, self.component.as_bytes());
        if let Some(place) = self.sweep {
            put(&mut out, 192, &place.at.to_le_bytes());
            put(&mut out, 196, &place.len.to_le_bytes());
            put(&mut out, 200, &place.old_len.to_le_bytes());
        }
        let sum = xxh3_64(&out[..HEADER_SIZE - 8]);
        put(&mut out, HEADER_SIZE - 8, &sum.to_le_bytes());
        out
    }

    /// Reads a header page.
    ///
    /// # Errors
    ///
    /// [`FormatError`] names the first field that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Header, FormatError> {
        require(bytes.len() as u64, HEADER_LEN, "the header")?;
        let bytes = &bytes[..HEADER_SIZE];
        if bytes[..8] != MAGIC {
            return Err(FormatError::Magic);
        }
        if get_u64(bytes, HEADER_SIZE - 8) != xxh3_64(&bytes[..HEADER_SIZE - 8]) {
            return Err(FormatError::Checksum {
                what: "the header".into(),
            });
        }
        let format = get_u32(bytes, 8);
        if format != FORMAT {
            return Err(FormatError::Version {
                found: format,
                known: FORMAT,
            });
        }
        let features = get_u64(bytes, 24);
        let unknown = features & !(FEATURES | JOURNAL | SWEEP);
        if unknown != 0 {
            return Err(FormatError::Feature { bits: unknown });
        }
        let log_len = get_u64(bytes, 64);
        let log = match features & JOURNAL {
            0 => Log::Ring,
            _ => Log::Journal(log_len),
        };
        let possible = match log {
            Log::Ring => log_len == LOG_LEN,
            Log::Journal(len) => JOURNAL_LENS.contains(&len) && len.is_multiple_of(2 * PAGE),
        };
        if !possible {
            let field = "the header's log length";
            return Err(FormatError::Field {
                field,
                value: log_len,
            });
        }
        let fixed = [
            ("the header's byte order", get_u64(bytes, 32), ENDIAN),
            ("the header's page size", get_u32(bytes, 40).into(), PAGE),
            (
                "the header's segment size",
                get_u32(bytes, 44).into(),
                SEGMENT_LEN,
            ),
            (
                "the header's heap offset",
                get_u64(bytes, 72),
                LOG_AT + log_len,
            ),
        ];
        for (field, value, known) in fixed {
            if value != known {
                return Err(FormatError::Field { field, value });
            }
        }
        let schema_len = get_u32(bytes, 96);
        if u64::from(schema_len) > SCHEMA_MAX {
            let field = "the header's schema length";
            return Err(FormatError::Field {
                field,
                value: schema_len.into(),
            });
        }
        let sweep = match features & SWEEP {
            0 => None,
            _ => Some(SweepPlace::parse(bytes, schema_len)?),
        };
        let name_len = get_u32(bytes, 112);
        let name = (name_len as usize <= NAME_MAX)
            .then(|| std::str::from_utf8(&bytes[128..128 + name_len as usize]).ok())
            .flatten();
        let Some(component) = name else {
            let field = "the header's name length";
            return Err(FormatError::Field {
                field,
                value: name_len.into(),
            });
        };
        Ok(Header {
            uuid: get(bytes, 48),
            component: component.to_owned(),
            instance: get_u32(bytes, 100),
            fingerprint: get(bytes, 80),
            schema_len,
            schema_hash: get_u64(bytes, 104),
            features: features & FEATURES,
            log,
            history: get_u64(bytes, 16) & HISTORY != 0,
            sweep,
        })
    }

    /// Where the schema begins in the file.
    pub fn schema_at(&self) -> u64 {
        self.sweep.map_or(SCHEMA_AT, |place| {
            SCHEMA_AT + u64::from(place.at) + SWEEP_HEAD + u64::from(place.old_len)
        })
    }

    /// Whether segments have checksums. Regions that were made before there were any do not.
    pub fn has_sums(&self) -> bool {
        self.features & SEGMENT_SUMS != 0
    }

    /// The first byte that chunks and segments may take.
    pub fn heap_at(&self) -> u64 {
        LOG_AT + self.log.len()
    }

    /// The seed of the region's checksums, so that none is valid in another region.
    pub fn seed(&self) -> u64 {
        xxh3_64(&self.uuid)
    }
}

/// Bytes of a sweep's record before the two schemas.
pub const SWEEP_HEAD: u64 = 32;

impl SweepPlace {
    fn parse(bytes: &[u8], schema_len: u32) -> Result<SweepPlace, FormatError> {
        let place = SweepPlace {
            at: get_u32(bytes, 192),
            len: get_u32(bytes, 196),
            old_len: get_u32(bytes, 200),
        };
        let end = u64::from(place.at) + u64::from(place.len);
        let schemas = SWEEP_HEAD + u64::from(place.old_len) + u64::from(schema_len);
        let fits = end <= SCHEMA_MAX && schemas <= place.len.into() && place.at.is_multiple_of(8);
        if !fits {
            let field = "the place of a sweep's record";
            return Err(FormatError::Field {
                field,
                value: place.at.into(),
            });
        }
        Ok(place)
    }
}

/// What the region is in the middle of. The numbers are far apart, so that no few
/// flipped bits make one into another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegionState {
    /// Closed in order.
    Clean,
    /// In use, or left by a process that died.
    Open,
    /// Being built by a conversion.
    Building,
}

impl RegionState {
    const CODES: [(RegionState, u64); 3] = [
        (RegionState::Clean, 0xA53C_96E1_0F78_D24B),
        (RegionState::Open, 0x17D8_E45A_B36C_921F),
        (RegionState::Building, 0xC80B_735D_5AE6_1F94),
    ];
}

/// What changes between transactions only. Two slots; the higher generation counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// Counts the superblocks written.
    pub generation: u64,
    /// What the region is in the middle of.
    pub state: RegionState,
    /// The kernel's boot id when it was opened: tells a dead process from a dead machine.
    pub boot_id: [u8; 16],
    /// The process that opened it.
    pub pid: u32,
    /// What its fences survived when it was opened.
    pub durability: Durability,
    /// Bytes of the file that the region may use.
    pub length: u64,
    /// Records up to this one are never replayed.
    pub checkpoint: u64,
    /// The lap of the journal that the first record beyond the checkpoint begins; 0 for a ring.
    pub lap: u64,
}

const SUPERBLOCK_LEN: usize = 256;
const SUPERBLOCK_MAGIC: [u8; 8] = *b"NEURSUPB";

impl Superblock {
    /// The page's first bytes.
    pub fn encode(&self, header: &Header) -> [u8; SUPERBLOCK_LEN] {
        let mut out = [0; SUPERBLOCK_LEN];
        put(&mut out, 0, &SUPERBLOCK_MAGIC);
        put(&mut out, 8, &self.generation.to_le_bytes());
        let code = RegionState::CODES
            .iter()
            .find(|(state, _)| *state == self.state);
        put(
            &mut out,
            16,
            &code.map_or(0, |(_, code)| *code).to_le_bytes(),
        );
        put(&mut out, 24, &self.boot_id);
        put(&mut out, 40, &self.pid.to_le_bytes());
        let power = u32::from(self.durability == Durability::Power);
        put(&mut out, 44, &power.to_le_bytes());
        put(&mut out, 48, &self.length.to_le_bytes());
        put(&mut out, 56, &self.checkpoint.to_le_bytes());
        put(&mut out, 64, &self.lap.to_le_bytes());
        put(&mut out, 72, &header.uuid);
        let sum = xxh3_64_with_seed(&out[..SUPERBLOCK_LEN - 8], header.seed());
        put(&mut out, SUPERBLOCK_LEN - 8, &sum.to_le_bytes());
        out
    }

    /// Reads one slot.
    ///
    /// # Errors
    ///
    /// [`FormatError`] says what is wrong with it.
    pub fn parse(bytes: &[u8], header: &Header) -> Result<Superblock, FormatError> {
        require(bytes.len() as u64, SUPERBLOCK_LEN as u64, "a superblock")?;
        let bytes = &bytes[..SUPERBLOCK_LEN];
        if bytes[..8] == SUPERBLOCK_MAGIC && bytes[72..88] != header.uuid {
            return Err(FormatError::Foreign);
        }
        let sum = xxh3_64_with_seed(&bytes[..SUPERBLOCK_LEN - 8], header.seed());
        if bytes[..8] != SUPERBLOCK_MAGIC || get_u64(bytes, SUPERBLOCK_LEN - 8) != sum {
            return Err(FormatError::Checksum {
                what: "a superblock".into(),
            });
        }
        let code = get_u64(bytes, 16);
        let state = RegionState::CODES.iter().find(|(_, known)| *known == code);
        let Some(&(state, _)) = state else {
            return Err(FormatError::Field {
                field: "a superblock's state",
                value: code,
            });
        };
        let length = get_u64(bytes, 48);
        if length < header.heap_at() || !length.is_multiple_of(PAGE) {
            return Err(FormatError::Field {
                field: "a superblock's length",
                value: length,
            });
        }
        let lap = get_u64(bytes, 64);
        if header.log == Log::Ring && lap != 0 {
            return Err(FormatError::Field {
                field: "a superblock's lap",
                value: lap,
            });
        }
        for (at, field) in [
            (8, "a superblock's generation"),
            (56, "a superblock's checkpoint"),
            (64, "a superblock's lap"),
        ] {
            let value = get_u64(bytes, at);
            if value > COUNT_MAX {
                return Err(FormatError::Field { field, value });
            }
        }
        let durability = match get_u32(bytes, 44) {
            0 => Durability::Process,
            1 => Durability::Power,
            value => {
                return Err(FormatError::Field {
                    field: "a superblock's durability",
                    value: value.into(),
                });
            }
        };
        Ok(Superblock {
            generation: get_u64(bytes, 8),
            state,
            boot_id: get(bytes, 24),
            pid: get_u32(bytes, 40),
            durability,
            length,
            checkpoint: get_u64(bytes, 56),
            lap,
        })
    }

    /// Whether the machine went down while the region was open, and what was stored may be
    /// there in any mixture.
    pub fn lost_power(&self, header: &Header, boot_id: [u8; 16]) -> bool {
        self.state == RegionState::Open
            && self.boot_id != boot_id
            && self.durability == Durability::Process
            && header.log == Log::Ring
    }

    /// The one that counts, and the slot it is in.
    ///
    /// # Errors
    ///
    /// What is wrong with the better slot, if neither can be read.
    pub fn choose(slots: [&[u8]; 2], header: &Header) -> Result<(Superblock, usize), FormatError> {
        match slots.map(|slot| Superblock::parse(slot, header)) {
            [Ok(a), Ok(b)] if b.generation > a.generation => Ok((b, 1)),
            [Ok(a), _] => Ok((a, 0)),
            [Err(_), Ok(b)] => Ok((b, 1)),
            [Err(FormatError::Checksum { .. }), Err(error)] | [Err(error), Err(_)] => Err(error),
        }
    }
}

/// An entry of the segment table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentEntry {
    /// The type of its objects.
    pub type_id: u64,
    /// Where its first object lies in the file.
    pub offset: u64,
    /// Bytes that belong to it.
    pub length: u64,
    /// Bytes an object takes.
    pub object_size: u32,
    /// How many objects there can be.
    pub capacity: u32,
}

/// As many words as an entry has.
pub const ENTRY_WORDS: usize = (ENTRY_LEN / 8) as usize;
/// The word of an entry that is the checksum of the segment's bitmap and live objects, or 0.
/// It changes without the entry, whose own checksum leaves it out.
const SUM_WORD: usize = 5;

impl SegmentEntry {
    /// Bytes that its objects take; what is left of `length` rounds them up to pages.
    pub fn objects_len(&self) -> u64 {
        u64::from(self.capacity) * u64::from(self.object_size)
    }

    /// The entry's words, `number` being the segment's.
    pub fn encode(&self, number: u64, seed: u64) -> [u64; ENTRY_WORDS] {
        let sizes = u64::from(self.object_size) | u64::from(self.capacity) << 32;
        let mut words = [
            number,
            self.type_id,
            self.offset,
            self.length,
            sizes,
            0,
            0,
            0,
        ];
        words[ENTRY_WORDS - 1] = Self::sum(&words, seed);
        words
    }

    fn sum(words: &[u64; ENTRY_WORDS], seed: u64) -> u64 {
        let mut bytes = [0; ENTRY_LEN as usize - 8];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes[SUM_WORD * 8..(SUM_WORD + 1) * 8].fill(0);
        // Never 0, so that an entry of zeros is an unused one and nothing else.
        xxh3_64_with_seed(&bytes, seed) | 1
    }

    /// The checksum of the segment that an entry's words hold, 0 if there is none.
    pub fn sum_in(words: &[u64; ENTRY_WORDS]) -> u64 {
        words[SUM_WORD]
    }

    /// Reads an entry; `None` where there is no segment.
    ///
    /// # Errors
    ///
    /// [`FormatError`] says what is wrong with it. `heap` is what segments may use.
    pub fn parse(
        words: &[u64; ENTRY_WORDS],
        number: u64,
        seed: u64,
        heap: &Range<u64>,
    ) -> Result<Option<SegmentEntry>, FormatError> {
        if words.iter().all(|&word| word == 0) {
            return Ok(None);
        }
        if words[ENTRY_WORDS - 1] != Self::sum(words, seed) || words[0] != number {
            return Err(FormatError::Checksum {
                what: format!("segment {number}'s entry"),
            });
        }
        let entry = SegmentEntry {
            type_id: words[1],
            offset: words[2],
            length: words[3],
            object_size: words[4] as u32,
            capacity: (words[4] >> 32) as u32,
        };
        let bad = |field, value| Err(FormatError::Field { field, value });
        if entry.object_size < 8 || !entry.object_size.is_multiple_of(8) {
            return bad("a segment's object size", entry.object_size.into());
        }
        if entry.capacity == 0 || entry.capacity > OBJECTS_MAX {
            return bad("a segment's capacity", entry.capacity.into());
        }
        if entry.objects_len() > entry.length || !entry.length.is_multiple_of(PAGE) {
            return bad("a segment's length", entry.length);
        }
        let end = entry
            .offset
            .checked_add(entry.length)
            .filter(|&end| end <= heap.end);
        if entry.offset < heap.start || !entry.offset.is_multiple_of(PAGE) || end.is_none() {
            return bad("a segment's offset", entry.offset);
        }
        Ok(Some(entry))
    }
}

/// Where segment `number`'s entry lies in its chunk at `chunk`.
pub fn entry_at(chunk: u64, number: u64) -> u64 {
    chunk + number % SEGMENTS_PER_CHUNK * ENTRY_LEN
}

/// Where the checksum of segment `number` lies in its chunk at `chunk`.
pub fn sum_at(chunk: u64, number: u64) -> u64 {
    entry_at(chunk, number) + SUM_WORD as u64 * 8
}

/// The checksum of segment `number`: over its bitmap, as far as it stands for objects, and
/// the bytes of its live objects, one after the other. Never 0, which stands for none, nor
/// one bit away from it.
///
/// # Panics
///
/// If there are fewer bytes than the entry says.
pub fn segment_sum(
    number: u64,
    entry: &SegmentEntry,
    bitmap: &[u8],
    objects: &[u8],
    seed: u64,
) -> u64 {
    let size = entry.object_size as usize;
    let bitmap = &bitmap[..entry.capacity.div_ceil(64) as usize * 8];
    let mut hasher = Xxh3::with_seed(seed ^ number);
    hasher.update(bitmap);
    // Neighbours are hashed at once.
    let mut run = 0..0;
    for (at, word) in bitmap.chunks_exact(8).enumerate() {
        let (mut word, first) = (get_u64(word, 0), at * 64);
        while word != 0 {
            let skipped = word.trailing_zeros();
            let count = (word >> skipped).trailing_ones();
            let start = first + skipped as usize;
            if start != run.end {
                hasher.update(&objects[run.start * size..run.end * size]);
                run.start = start;
            }
            run.end = start + count as usize;
            // A shift by all 64 bits would be none.
            word &= u64::MAX.checked_shl(skipped + count).unwrap_or(0);
        }
    }
    hasher.update(&objects[run.start * size..run.end * size]);
    hasher.digest() | 3
}

/// Where segment `number`'s bitmap lies in its chunk at `chunk`.
pub fn bitmap_at(chunk: u64, number: u64) -> u64 {
    chunk + SEGMENTS_PER_CHUNK * ENTRY_LEN + number % SEGMENTS_PER_CHUNK * BITMAP_LEN
}

/// The first bytes of a record in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordHeader {
    /// Counts the records of the region, from 1.
    pub sequence: u64,
    /// Words that it sets.
    pub words: u32,
    /// Ranges of new objects whose contents belong to it.
    pub fresh: u32,
    /// The hash of the new objects' bytes, one after the other.
    pub fresh_hash: u64,
}

/// Bytes of a record's header. Pairs of address and value follow, then pairs of
/// offset and length.
pub const RECORD_HEADER_LEN: u64 = 64;
const RECORD_MAGIC: u64 = u64::from_le_bytes(*b"NEURLOG1");

/// Bytes of a record with so many words and ranges.
pub const fn record_len(words: u64, fresh: u64) -> u64 {
    RECORD_HEADER_LEN + (words + fresh) * 16
}

impl RecordHeader {
    /// The header's bytes, for a record whose payload is `payload`.
    pub fn encode(&self, payload: &[u8], seed: u64) -> [u8; RECORD_HEADER_LEN as usize] {
        let mut out = [0; RECORD_HEADER_LEN as usize];
        put(&mut out, 0, &RECORD_MAGIC.to_le_bytes());
        put(&mut out, 8, &self.sequence.to_le_bytes());
        put(&mut out, 16, &self.words.to_le_bytes());
        put(&mut out, 20, &self.fresh.to_le_bytes());
        put(&mut out, 24, &self.fresh_hash.to_le_bytes());
        let sum = Self::sum(&out, payload, seed);
        put(&mut out, 56, &sum.to_le_bytes());
        out
    }

    pub(super) fn sum(header: &[u8], payload: &[u8], seed: u64) -> u64 {
        xxh3_64_with_seed(payload, seed ^ xxh3_64(&header[..56]))
    }

    /// Looks whether a record begins here, and gives its length. Not yet whether it
    /// is whole.
    pub fn peek(bytes: &[u8]) -> Option<(RecordHeader, u64)> {
        if (bytes.len() as u64) < RECORD_HEADER_LEN || get_u64(bytes, 0) != RECORD_MAGIC {
            return None;
        }
        let header = RecordHeader {
            sequence: get_u64(bytes, 8),
            words: get_u32(bytes, 16),
            fresh: get_u32(bytes, 20),
            fresh_hash: get_u64(bytes, 24),
        };
        let len = record_len(header.words.into(), header.fresh.into());
        let fits = len <= RECORD_MAX && len <= bytes.len() as u64;
        (fits && header.sequence <= COUNT_MAX).then_some((header, len))
    }

    /// Whether the record that begins here is whole.
    pub fn is_whole(record: &[u8], seed: u64) -> bool {
        let (header, payload) = record.split_at(RECORD_HEADER_LEN as usize);
        get_u64(header, 56) == Self::sum(header, payload, seed)
    }
}

/// A record as found in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundRecord {
    /// Its header.
    pub header: RecordHeader,
    /// Where it begins in the log, in bytes.
    pub at: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// The whole records of a log, newest first, at most `limit` of them.
pub fn newest_records(log: &[u8], seed: u64, limit: usize) -> Vec<FoundRecord> {
    newest_records_where(log, limit, |record| RecordHeader::is_whole(record, seed))
}

/// The records of a log that are `whole`, newest first, at most `limit` of them.
pub(super) fn newest_records_where(
    log: &[u8],
    limit: usize,
    whole: impl Fn(&[u8]) -> bool,
) -> Vec<FoundRecord> {
    // Most of a log is not the begin of a record: that is to be seen at a glance.
    let magic = RECORD_MAGIC.to_le_bytes();
    let mut candidates: Vec<FoundRecord> = log
        .chunks_exact(RECORD_ALIGN as usize)
        .enumerate()
        .filter(|(_, begin)| begin[..8] == magic)
        .filter_map(|(number, _)| {
            let at = number * RECORD_ALIGN as usize;
            let (header, len) = RecordHeader::peek(&log[at..])?;
            Some(FoundRecord {
                header,
                at: at as u64,
                len,
            })
        })
        .collect();
    candidates.sort_by_key(|found| std::cmp::Reverse(found.header.sequence));
    candidates
        .into_iter()
        .filter(|found| whole(&log[found.at as usize..][..found.len as usize]))
        .take(limit)
        .collect()
}

/// The pairs of a record: words to set, then ranges of new objects.
pub fn record_pairs(record: &[u8]) -> impl Iterator<Item = (u64, u64)> + '_ {
    record[RECORD_HEADER_LEN as usize..]
        .chunks_exact(16)
        .map(|pair| (get_u64(pair, 0), get_u64(pair, 8)))
}
