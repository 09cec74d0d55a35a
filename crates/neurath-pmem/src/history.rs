//! The migrations that a region went through, as its file tells of them.
//!
//! A list of bounded length: where a further one has no room, the oldest go, and are counted.
//! `docs/on-media-format.md` has the bytes. Pure: between values and bytes, and no byte is trusted.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::region::FormatError;
use crate::schema::Fingerprint;

/// Bytes of a history in the file.
pub(crate) const LEN: u64 = 3584;
const SIZE: usize = LEN as usize;
const MAGIC: [u8; 8] = *b"NEURHIST";
/// Bytes before the entries.
const HEAD: usize = 40;
/// Bytes of an entry before its texts.
const ENTRY_HEAD: usize = 52;
/// Some of what was recorded could not be read when this one was written.
const LOST: u32 = 1;
/// An entry's flag: it led back to the release before.
const BACK: u8 = 1;
/// The longest text of an entry, in bytes. A longer one is cut.
const TEXT_MAX: usize = 255;

/// How a state got from one version to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strategy {
    /// The schema is the same: the state stayed as it was.
    Keep,
    /// All of it was converted at once, into a new file.
    Eager,
    /// It was converted segment by segment, while it was served.
    Incremental,
    /// State came from another component, or went to one.
    Move,
    /// It was thrown away, and made anew.
    Reset,
}

impl Strategy {
    const ALL: [(Strategy, u8, &'static str); 5] = [
        (Strategy::Keep, 1, "keep"),
        (Strategy::Eager, 2, "eager"),
        (Strategy::Incremental, 3, "incremental"),
        (Strategy::Move, 4, "move"),
        (Strategy::Reset, 5, "reset"),
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        let found = Strategy::ALL.iter().find(|one| one.0 == self);
        found.map_or("", |one| one.2)
    }

    /// The strategy that is written so.
    pub fn of(text: &str) -> Option<Strategy> {
        let found = Strategy::ALL.iter().find(|one| one.2 == text);
        found.map(|one| one.0)
    }

    fn code(self) -> u8 {
        let found = Strategy::ALL.iter().find(|one| one.0 == self);
        found.map_or(0, |one| one.1)
    }
}

/// One migration of a state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Migration {
    /// The version of the component that the state was of.
    pub from_version: String,
    /// The version that it is of since.
    pub to_version: String,
    /// The fingerprint of the schema before.
    pub from_schema: Fingerprint,
    /// The fingerprint of the schema since.
    pub to_schema: Fingerprint,
    /// What was done: `load`, `code_change`, `move_state` and the move's name.
    pub name: String,
    /// The component and the version of the library whose functions did it; empty if none was
    /// needed.
    pub library: String,
    /// How.
    pub strategy: Strategy,
    /// Whether it led back to the release before.
    pub back: bool,
    /// The release that it led to.
    pub release: String,
    /// When, in milliseconds since 1970, by the node's clock.
    pub at_ms: u64,
    /// The generation of the region that holds the state since.
    pub generation: u64,
    /// The operation in the journal of the node.
    pub operation: String,
}

/// See the module.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct History {
    /// Migrations before these, of which only the number is known.
    pub folded: u64,
    /// Whether some of what was recorded once could not be read any more.
    pub lost: bool,
    /// The last ones, the oldest first.
    pub migrations: Vec<Migration>,
}

impl History {
    /// Adds migrations that are not recorded yet; whether there was one. The oldest go where
    /// there is no room.
    pub fn add(&mut self, new: &[Migration]) -> bool {
        let before = self.migrations.len();
        for one in new {
            let mut one = one.clone();
            for text in texts_mut(&mut one) {
                cut(text);
            }
            if !self.migrations.contains(&one) {
                self.migrations.push(one);
            }
        }
        let added = self.migrations.len() > before;
        while self.len() > SIZE {
            self.migrations.remove(0);
            self.folded += 1;
        }
        added
    }

    fn len(&self) -> usize {
        HEAD + self.migrations.iter().map(entry_len).sum::<usize>()
    }

    /// The bytes of the `number`-th history of a region. The first eight say that the others are
    /// there, and are to be stored last.
    ///
    /// # Panics
    ///
    /// If it was not made by [`History::add`] and is too long.
    pub(crate) fn encode(&self, number: u64, seed: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(SIZE);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&self.folded.to_le_bytes());
        out.extend_from_slice(&(self.migrations.len() as u32).to_le_bytes());
        let flags = if self.lost { LOST } else { 0 };
        out.extend_from_slice(&flags.to_le_bytes());
        for one in &self.migrations {
            encode_entry(one, &mut out);
        }
        assert!(out.len() <= SIZE, "added by `add`");
        out.resize(SIZE, 0);
        let sum = xxh3_64_with_seed(&out[16..], seed);
        out[8..16].copy_from_slice(&sum.to_le_bytes());
        out
    }
}

/// Cuts what is longer than a text may be, between two letters.
fn cut(text: &mut String) {
    let fits = |at: &usize| text.is_char_boundary(*at);
    if text.len() > TEXT_MAX {
        let end = (0..=TEXT_MAX).rev().find(fits).unwrap_or(0);
        text.truncate(end);
    }
}

fn texts_mut(one: &mut Migration) -> [&mut String; 6] {
    [
        &mut one.from_version,
        &mut one.to_version,
        &mut one.name,
        &mut one.library,
        &mut one.release,
        &mut one.operation,
    ]
}

fn texts(one: &Migration) -> [&str; 6] {
    [
        &one.from_version,
        &one.to_version,
        &one.name,
        &one.library,
        &one.release,
        &one.operation,
    ]
}

fn entry_len(one: &Migration) -> usize {
    ENTRY_HEAD + texts(one).iter().map(|text| 1 + text.len()).sum::<usize>()
}

fn encode_entry(one: &Migration, out: &mut Vec<u8>) {
    out.extend_from_slice(&(entry_len(one) as u16).to_le_bytes());
    out.extend_from_slice(&[one.strategy.code(), if one.back { BACK } else { 0 }]);
    out.extend_from_slice(&one.at_ms.to_le_bytes());
    out.extend_from_slice(&one.generation.to_le_bytes());
    out.extend_from_slice(&one.from_schema);
    out.extend_from_slice(&one.to_schema);
    for text in texts(one) {
        out.push(text.len() as u8);
        out.extend_from_slice(text.as_bytes());
    }
}

/// What stands where a history may be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Slot {
    /// Nothing.
    Empty,
    /// One that was being written.
    Unfinished,
    /// The history of this number.
    Whole(u64, History),
}

impl Slot {
    /// Reads a slot.
    ///
    /// # Errors
    ///
    /// If it is damaged.
    pub(crate) fn parse(bytes: &[u8], seed: u64) -> Result<Slot, FormatError> {
        let damaged = || FormatError::Checksum {
            what: "the history of migrations".into(),
        };
        let bytes = bytes.get(..SIZE).ok_or_else(damaged)?;
        if bytes[..8] == [0; 8] {
            let rest = bytes.iter().any(|&byte| byte != 0);
            return Ok(if rest { Slot::Unfinished } else { Slot::Empty });
        }
        let mut reader = Reader { bytes, at: 8 };
        let sum = reader.u64().ok_or_else(damaged)?;
        if bytes[..8] != MAGIC || xxh3_64_with_seed(&bytes[16..], seed) != sum {
            return Err(damaged());
        }
        reader.history().ok_or_else(damaged)
    }
}

/// What a region's two slots hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    /// The newest history.
    pub(crate) history: History,
    /// Its number; 0 if there is none.
    pub(crate) number: u64,
    /// The slot that the next one goes to.
    pub(crate) next: usize,
}

impl Found {
    /// Reads both slots.
    pub(crate) fn in_slots(slots: [&[u8]; 2], seed: u64) -> Found {
        let mut found = Found {
            history: History::default(),
            number: 0,
            next: 0,
        };
        let mut lost = false;
        for (at, bytes) in slots.into_iter().enumerate() {
            match Slot::parse(bytes, seed) {
                Ok(Slot::Whole(number, history)) if number > found.number => {
                    found = Found {
                        history,
                        number,
                        next: 1 - at,
                    };
                }
                Ok(_) => {}
                Err(_) => lost = true,
            }
        }
        found.history.lost |= lost;
        found
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let found = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(found)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn history(&mut self) -> Option<Slot> {
        let (number, folded) = (self.u64()?, self.u64()?);
        let count = u32::from_le_bytes(self.array()?);
        let flags = u32::from_le_bytes(self.array()?);
        let migrations = (0..count).map(|_| self.entry()).collect::<Option<_>>()?;
        let history = History {
            folded,
            lost: flags & LOST != 0,
            migrations,
        };
        (number != 0).then_some(Slot::Whole(number, history))
    }

    fn entry(&mut self) -> Option<Migration> {
        let begin = self.at;
        let len = usize::from(u16::from_le_bytes(self.array()?));
        let [code, flags] = self.array()?;
        let strategy = Strategy::ALL.iter().find(|one| one.1 == code)?.0;
        let mut one = Migration {
            strategy,
            back: flags & BACK != 0,
            at_ms: self.u64()?,
            generation: self.u64()?,
            from_schema: self.array()?,
            to_schema: self.array()?,
            from_version: String::new(),
            to_version: String::new(),
            name: String::new(),
            library: String::new(),
            release: String::new(),
            operation: String::new(),
        };
        for text in texts_mut(&mut one) {
            let [len] = self.array()?;
            let bytes = self.take(len.into())?;
            *text = std::str::from_utf8(bytes).ok()?.to_owned();
        }
        // What a later program adds to an entry comes after what is known of it.
        self.at = self.at.max(begin.checked_add(len)?);
        Some(one)
    }
}

/// The `n`-th migration of some component, for tests.
#[cfg(any(test, feature = "campaign"))]
pub(crate) fn nth(n: u64) -> Migration {
    Migration {
        from_version: format!("1.{n}.0"),
        to_version: format!("1.{}.0", n + 1),
        from_schema: [n as u8; 16],
        to_schema: [n as u8 + 1; 16],
        name: "code_change".into(),
        library: format!("store 1.{}.0", n + 1),
        strategy: Strategy::ALL[n as usize % 5].0,
        back: n.is_multiple_of(3),
        release: format!("kv-1.{}.0", n + 1),
        at_ms: 1_700_000_000_000 + n,
        generation: n,
        operation: format!("apply-{n}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Found, History, Slot, nth};
    use proptest::prelude::{any, proptest};
    use xxhash_rust::xxh3::xxh3_64_with_seed;

    fn of(count: u64) -> History {
        let mut history = History::default();
        for n in 0..count {
            assert!(history.add(&[nth(n)]));
        }
        history
    }

    #[test]
    fn what_is_recorded_is_read_again() {
        for count in [0, 1, 7] {
            let history = of(count);
            let bytes = history.encode(5, 9);
            assert_eq!(Slot::parse(&bytes, 9), Ok(Slot::Whole(5, history)));
            assert!(Slot::parse(&bytes, 8).is_err(), "of another region");
        }
    }

    #[test]
    fn none_is_recorded_twice() {
        let mut history = of(3);
        assert!(!history.add(&[nth(1), nth(2)]));
        assert_eq!(history, of(3));
        assert!(history.add(&[nth(2), nth(3)]));
        assert_eq!(history, of(4));
    }

    #[test]
    fn the_oldest_are_folded_where_there_is_no_room() {
        let history = of(100);
        assert!(
            history.migrations.len() >= 20,
            "{}",
            history.migrations.len()
        );
        assert_eq!(history.folded + history.migrations.len() as u64, 100);
        assert_eq!(history.migrations.last(), Some(&nth(99)));
        assert_eq!(
            Slot::parse(&history.encode(100, 1), 1),
            Ok(Slot::Whole(100, history))
        );
    }

    #[test]
    fn long_texts_are_cut_between_letters() {
        let mut long = nth(1);
        long.name = "é".repeat(400);
        let mut history = History::default();
        assert!(history.add(&[long.clone()]));
        assert!(!history.add(&[long]), "it is the same one");
        assert_eq!(history.migrations[0].name, "é".repeat(127));
        assert!(Slot::parse(&history.encode(1, 1), 1).is_ok());
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let bytes = of(3).encode(3, 9);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                assert!(Slot::parse(&bytes, 9).is_err(), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn the_newest_whole_one_counts() {
        let (a, b) = (of(2).encode(7, 9), of(3).encode(8, 9));
        let found = Found::in_slots([&a, &b], 9);
        assert_eq!((found.number, found.next, &found.history), (8, 0, &of(3)));
        let mut torn = b.clone();
        torn[..8].fill(0);
        let found = Found::in_slots([&a, &torn], 9);
        assert_eq!((found.number, found.next, &found.history), (7, 1, &of(2)));
        let mut damaged = b;
        damaged[100] ^= 1;
        let found = Found::in_slots([&a, &damaged], 9);
        assert!(found.history.lost);
        assert_eq!(found.history.migrations, of(2).migrations);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), seal in any::<bool>()) {
            let mut slot = of(2).encode(3, 9);
            let at = if seal { 16 } else { 0 };
            slot[at..at + bytes.len()].copy_from_slice(&bytes);
            if seal {
                let sum = xxh3_64_with_seed(&slot[16..], 9);
                slot[8..16].copy_from_slice(&sum.to_le_bytes());
            }
            let _ = Slot::parse(&slot, 9);
            let _ = Slot::parse(&bytes, 9);
        }
    }
}
