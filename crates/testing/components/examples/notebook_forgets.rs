//! The notebook, 1.1.0, which keeps the last text and forgets all others: what they were in is to go.
#![deny(unsafe_code)]

use neurath::{Bytes, CodeChange, Map, Pmem, Result, Tx};
use neurath_test_components::{Sound, notebook_functions};

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

/// A note.
#[derive(Clone, Copy, Debug, Pmem, CodeChange)]
#[change(from = "1.0", old = v1_0::Note, removed(text = Bytes::EMPTY))]
#[repr(C)]
pub struct Note {
    /// When it was written, in milliseconds since 1970; 0 if nobody knows.
    #[change(added)]
    pub written: u64,
}

/// The state.
#[derive(Clone, Copy, Debug, Pmem, CodeChange)]
#[change(from = "1.0", old = v1_0::Notebook)]
#[repr(C)]
pub struct Notebook {
    /// The notes by their numbers.
    pub notes: Map<u64, Note>,
    /// What the last one says.
    #[change(added = Bytes::EMPTY)]
    pub last: Bytes,
}

/// The state of version 1.0.
pub mod v1_0 {
    neurath_test_components::notebook_types_1_0!();
}

impl neurath_test_components::Notebook for Notebook {
    const VERSION: &'static str = "1.1.0";

    fn add(&mut self, tx: &mut Tx<'_>, text: &[u8], now_ms: u64) -> Result<u64> {
        let number = self.notes.len();
        let before = std::mem::replace(&mut self.last, Bytes::new(tx, text)?);
        before.free_owned(tx)?;
        self.notes.add(tx, &number, &Note { written: now_ms })?;
        Ok(number)
    }

    fn count(&self) -> u64 {
        self.notes.len()
    }

    fn get(&self, tx: &Tx<'_>, number: u64) -> Result<Option<Bytes>> {
        Ok(self.notes.get(tx, &number)?.map(|_| self.last))
    }
}

notebook_functions!(
    Sound,
    Notebook {
        notes: Map::EMPTY,
        last: Bytes::EMPTY,
    }
);
