//! The notebook, 1.1.0, whose conversion refuses notes of [`HELD`] bytes while there is a file that
//! the instruction's table names as `hold`: a conversion that goes on segment by segment does
//! not end meanwhile. If anything is written in the file, it takes far too long over them instead.
#![deny(unsafe_code)]

use neurath::{Bytes, Error, Extra, Map, Pmem, Result, Tx, code_change};
use neurath_test_components::{Sound, loop_for_long, notebook_functions};

neurath::component!(
    Notebook,
    name = "notebook",
    version = "1.1.0",
    code_change = [
        note_from_1_0,
        notebook_from_1_0,
        note_to_1_0,
        notebook_to_1_0
    ]
);

/// Bytes of the notes that are held.
const HELD: usize = 77;

/// A note.
#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
pub struct Note {
    /// When the conversion began that it went through; 0 for none.
    pub converted: u64,
    /// What it says.
    pub text: Bytes,
    /// When it was written, in milliseconds since 1970; 0 if nobody knows.
    pub written: u64,
}

/// The state.
#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
pub struct Notebook {
    /// How many were written since notes know when.
    pub dated: u64,
    /// The notes by their numbers.
    pub notes: Map<u64, Note>,
}

/// The state of version 1.0.
pub mod v1_0 {
    neurath_test_components::notebook_types_1_0!();
}

/// Nobody knows when it was written.
#[code_change(from = "1.0")]
pub fn note_from_1_0(old: v1_0::Note, extra: &Extra<'_>) -> Result<Note> {
    let hold = extra.json.split('"').nth(3).unwrap_or_default();
    if old.text.len() == HELD
        && let Ok(how) = std::fs::read(hold)
    {
        match how.is_empty() {
            true => return Err(Error::new("held on purpose")),
            false => loop_for_long(),
        }
    }
    Ok(Note {
        converted: extra.now_ms,
        text: old.text,
        written: 0,
    })
}

/// None is dated.
#[code_change(from = "1.0")]
pub fn notebook_from_1_0(old: v1_0::Notebook) -> Notebook {
    Notebook {
        dated: 0,
        notes: old.notes.carry_over(),
    }
}

/// When it was written is lost.
#[code_change(to = "1.0")]
pub fn note_to_1_0(new: Note) -> v1_0::Note {
    v1_0::Note { text: new.text }
}

/// The number of dated notes is lost.
#[code_change(to = "1.0")]
pub fn notebook_to_1_0(new: Notebook) -> v1_0::Notebook {
    v1_0::Notebook {
        notes: new.notes.carry_over(),
    }
}

impl neurath_test_components::Notebook for Notebook {
    const VERSION: &'static str = "1.1.0";

    fn add(&mut self, tx: &mut Tx<'_>, text: &[u8], now_ms: u64) -> Result<u64> {
        let number = self.notes.len();
        let note = Note {
            converted: 0,
            text: Bytes::new(tx, text)?,
            written: now_ms,
        };
        self.notes.add(tx, &number, &note)?;
        self.dated += 1;
        Ok(number)
    }

    fn count(&self) -> u64 {
        self.notes.len()
    }

    fn get(&self, tx: &Tx<'_>, number: u64) -> Result<Option<Bytes>> {
        Ok(self.notes.get(tx, &number)?.map(|note| note.text))
    }
}

notebook_functions!(
    Sound,
    Notebook {
        dated: 0,
        notes: Map::EMPTY
    }
);
