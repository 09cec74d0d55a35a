//! The notebook, 1.2.0: a note knows how long it is, and no way leads here but from 1.1.
#![deny(unsafe_code)]

use neurath::{Bytes, Map, Pmem, Result, Tx, code_change};
use neurath_test_components::{Sound, notebook_functions};

neurath::component!(
    Notebook,
    name = "notebook",
    version = "1.2.0",
    code_change = [
        note_from_1_1,
        notebook_from_1_1,
        note_to_1_1,
        notebook_to_1_1
    ]
);

/// A note.
#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
pub struct Note {
    /// What it says.
    pub text: Bytes,
    /// When it was written, in milliseconds since 1970; 0 if nobody knows.
    pub written: u64,
    /// How long it is.
    pub length: u64,
}

/// The state.
#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
pub struct Notebook {
    /// The notes by their numbers.
    pub notes: Map<u64, Note>,
    /// How many were written since notes know when.
    pub dated: u64,
    /// How many were written since notes know how long they are.
    pub measured: u64,
}

/// The state of version 1.1.
pub mod v1_1 {
    use neurath::{Bytes, Map, Pmem};

    /// A note.
    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub struct Note {
        /// What it says.
        pub text: Bytes,
        /// When it was written.
        pub written: u64,
    }

    /// The state.
    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub struct Notebook {
        /// The notes by their numbers.
        pub notes: Map<u64, Note>,
        /// How many were written since notes know when.
        pub dated: u64,
    }
}

/// Notes know how long they are from now on.
#[code_change(from = "1.1")]
pub fn note_from_1_1(old: v1_1::Note) -> Note {
    Note {
        text: old.text,
        written: old.written,
        length: 0,
    }
}

/// None is measured.
#[code_change(from = "1.1")]
pub fn notebook_from_1_1(old: v1_1::Notebook) -> Notebook {
    Notebook {
        notes: old.notes.carry_over(),
        dated: old.dated,
        measured: 0,
    }
}

/// How long it is, is lost.
#[code_change(to = "1.1")]
pub fn note_to_1_1(new: Note) -> v1_1::Note {
    v1_1::Note {
        text: new.text,
        written: new.written,
    }
}

/// The number of measured notes is lost.
#[code_change(to = "1.1")]
pub fn notebook_to_1_1(new: Notebook) -> v1_1::Notebook {
    v1_1::Notebook {
        notes: new.notes.carry_over(),
        dated: new.dated,
    }
}

impl neurath_test_components::Notebook for Notebook {
    const VERSION: &'static str = "1.2.0";

    fn add(&mut self, tx: &mut Tx<'_>, text: &[u8], now_ms: u64) -> Result<u64> {
        let (number, length) = (self.notes.len(), text.len() as u64);
        let text = Bytes::new(tx, text)?;
        let note = Note {
            text,
            written: now_ms,
            length,
        };
        self.notes.add(tx, &number, &note)?;
        self.dated += 1;
        self.measured += 1;
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
        notes: Map::EMPTY,
        dated: 0,
        measured: 0
    }
);
