//! What a check gives.

use crate::history::History;

/// How deeply is looked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Header, schema, superblocks, log.
    L0,
    /// Directory, segment table, bitmaps.
    L1,
    /// All that is reached from the root.
    L2,
    /// Checksums of the segments: their bitmaps and their objects' bytes.
    L3,
}

impl Level {
    /// All of them.
    pub const ALL: [Level; 4] = [Level::L0, Level::L1, Level::L2, Level::L3];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::L0 => "L0",
            Level::L1 => "L1",
            Level::L2 => "L2",
            Level::L3 => "L3",
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// Nothing is wrong, but somebody may want to know.
    Notice,
    /// Objects that nothing refers to: room is lost, nothing else.
    Leak,
    /// The file is not what it must be.
    Error,
}

impl Severity {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Notice => "notice",
            Severity::Leak => "leak",
            Severity::Error => "error",
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What kind of thing was found.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// As it is written.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Code::$name => $text,)*
                }
            }
        }
    };
}

codes! {
    /// The file is too short for what it claims to be.
    FileShort = "file-short",
    /// The header cannot be read.
    HeaderDamaged = "header-damaged",
    /// The header's copy cannot be read.
    HeaderCopyDamaged = "header-copy-damaged",
    /// The header and its copy are both whole and not the same.
    HeadersDiffer = "headers-differ",
    /// Bytes that must be zero are not.
    Padding = "padding",
    /// The header names features that this program ignores.
    UnknownFeature = "unknown-feature",
    /// The state is being converted segment by segment: not all segments are of the present schema.
    Swept = "swept",
    /// The schema cannot be read.
    SchemaDamaged = "schema-damaged",
    /// A superblock cannot be read.
    SuperblockDamaged = "superblock-damaged",
    /// The two superblocks do not follow one another.
    SuperblockOrder = "superblock-order",
    /// A conversion never finished the region.
    Unfinished = "unfinished",
    /// The machine went down while the region was open.
    PowerLost = "power-lost",
    /// A history of migrations cannot be read, or was not written to its end.
    History = "history",
    /// The log cannot be replayed.
    LogDamaged = "log-damaged",
    /// The record after the newest whole one is not whole.
    TornRecord = "torn-record",
    /// A chunk's offset is wrong.
    Directory = "directory",
    /// An entry of the segment table is wrong.
    SegmentEntry = "segment-entry",
    /// A bitmap has bits where no objects can be.
    Bitmap = "bitmap",
    /// Chunks or segments lie over one another.
    Overlap = "overlap",
    /// A segment's objects have a type that is not in the schema.
    UnknownType = "unknown-type",
    /// A segment's objects do not have their type's size.
    ObjectSize = "object-size",
    /// A reference leads to no live object of its type.
    BadReference = "bad-reference",
    /// An object that has one owner has two.
    TwoOwners = "two-owners",
    /// Bytes are no value of their type.
    BadValue = "bad-value",
    /// A map's header holds numbers that no map has.
    MapHeader = "map-header",
    /// A map's pages do not fit its number of buckets.
    MapPages = "map-pages",
    /// An entry is in a bucket that its hash does not lead to, or its hash is not its key's.
    MapHash = "map-hash",
    /// A map has not as many entries as it says.
    MapLength = "map-length",
    /// An ordered map's header holds numbers that no such map has.
    OrderedHeader = "ordered-header",
    /// A node of an ordered map does not name its slots, or has too few keys.
    OrderedNode = "ordered-node",
    /// A key of an ordered map is not where its order puts it.
    OrderedKeys = "ordered-keys",
    /// An ordered map has not as many entries as it says.
    OrderedLength = "ordered-length",
    /// A vector's header holds numbers that no vector has.
    VectorHeader = "vector-header",
    /// A vector has a page beyond its last element.
    VectorPages = "vector-pages",
    /// Objects that nothing refers to.
    Leak = "leak",
    /// Several values share one block of bytes.
    SharedBlock = "shared-block",
    /// A collection of a kind that this program cannot follow.
    UnknownCollection = "unknown-collection",
    /// A segment's checksum is not that of its bitmap and objects, or is not there.
    SegmentSum = "segment-sum",
    /// The check was given up, as its work had no end in sight.
    TooMuchWork = "too-much-work",
}

/// One thing that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// By which level.
    pub level: Level,
    /// How bad it is.
    pub severity: Severity,
    /// Of which kind.
    pub code: Code,
    /// The byte of the file at which it stands.
    pub place: u64,
    /// For people.
    pub message: String,
}

/// Objects of one type that nothing refers to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leak {
    /// The type, for people.
    pub type_name: String,
    /// Its id.
    pub type_id: u64,
    /// How many.
    pub objects: u64,
    /// The bytes they take.
    pub bytes: u64,
}

/// What became of a level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Done {
    /// It was checked to its end.
    Complete,
    /// It was begun, and not all could be checked.
    Partial,
    /// It could not be begun.
    Skipped(&'static str),
    /// The region has nothing to check there.
    Unavailable(&'static str),
    /// Nobody asked for it.
    NotAsked,
}

/// What a level checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LevelReport {
    /// Which.
    pub level: Level,
    /// What became of it.
    pub done: Done,
    /// What was looked at, and how many of it.
    pub checked: Vec<(&'static str, u64)>,
}

/// How many findings are kept; the others are counted.
const FINDINGS_MAX: usize = 200;

/// What a check found, and what it looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The levels.
    pub levels: Vec<LevelReport>,
    /// The first findings.
    pub findings: Vec<Finding>,
    /// How many more there were.
    pub more: u64,
    /// How many errors there were in all.
    pub errors: u64,
    /// What nothing refers to, by type.
    pub leaks: Vec<Leak>,
    /// Records that were replayed before anything was judged.
    pub replayed: u64,
    /// Whether the state is being converted segment by segment.
    pub swept: bool,
    /// The migrations that are recorded.
    pub history: History,
}

impl Default for Report {
    fn default() -> Report {
        let levels = Level::ALL.map(|level| LevelReport {
            level,
            done: Done::Skipped("not begun"),
            checked: Vec::new(),
        });
        Report {
            levels: levels.into(),
            findings: Vec::new(),
            more: 0,
            errors: 0,
            leaks: Vec::new(),
            replayed: 0,
            swept: false,
            history: History::default(),
        }
    }
}

impl Report {
    /// Whether the levels that were asked for looked at something, all of it that there is
    /// to look at, and found no error.
    pub fn is_sound(&self) -> bool {
        self.errors == 0
            && self.levels.iter().all(|level| match level.done {
                Done::Complete => level.checked.iter().any(|(_, count)| *count > 0),
                Done::Unavailable(_) => level.level == Level::L3,
                Done::Partial => level.level >= Level::L2,
                Done::Skipped(_) => false,
                Done::NotAsked => level.level > Level::L0,
            })
    }

    /// Whether it is sound, and nothing has leaked.
    pub fn is_clean(&self) -> bool {
        self.is_sound() && self.leaks.is_empty()
    }

    /// The first finding of a kind.
    pub fn find(&self, code: Code) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.code == code)
    }

    /// The first error, with how many others there are.
    pub(super) fn first_error(&self) -> String {
        let first = self
            .findings
            .iter()
            .find(|finding| finding.severity == Severity::Error);
        match (first, self.errors) {
            (Some(first), 0 | 1) => first.message.clone(),
            (Some(first), errors) => format!("{}, and {} more", first.message, errors - 1),
            (None, _) => "not all of it could be checked".into(),
        }
    }

    pub(super) fn error(&mut self, level: Level, code: Code, place: u64, message: String) {
        self.add(level, Severity::Error, code, place, message);
    }

    pub(super) fn notice(&mut self, level: Level, code: Code, place: u64, message: String) {
        self.add(level, Severity::Notice, code, place, message);
    }

    pub(super) fn add(
        &mut self,
        level: Level,
        severity: Severity,
        code: Code,
        place: u64,
        message: String,
    ) {
        self.errors += u64::from(severity == Severity::Error);
        if self.findings.len() >= FINDINGS_MAX {
            self.more += 1;
            return;
        }
        self.findings.push(Finding {
            level,
            severity,
            code,
            place,
            message,
        });
    }

    fn level(&mut self, level: Level) -> &mut LevelReport {
        &mut self.levels[level as usize]
    }

    pub(super) fn skip(&mut self, level: Level, why: &'static str) {
        self.level(level).done = Done::Skipped(why);
    }

    /// Forgets the levels that are deeper than what was asked for.
    pub(super) fn not_asked(&mut self, asked: Level) {
        for level in self.levels.iter_mut().filter(|one| one.level > asked) {
            level.done = Done::NotAsked;
        }
    }

    pub(super) fn done(&mut self, level: Level, done: Done) {
        self.level(level).done = done;
    }

    pub(super) fn checked(&mut self, level: Level, what: &'static str, count: u64) {
        self.level(level).checked.push((what, count));
    }
}
