//! Notes that move from one notebook to another, and what can go wrong with that.

use neurath::{Error, Moving, Result};

/// More notes than any test has.
pub const MOST: u64 = 20_000;

/// The table of a `move_state` between notebooks.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Asked {
    /// Notes of one part; all of them, if it says nothing.
    pub part: Option<u64>,
    /// What goes wrong: `panic`, `error`, `loop`, `again` or `huge`.
    pub fault: Option<String>,
    /// The component at which it does.
    pub at: Option<String>,
}

impl Asked {
    /// Reads the table.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn read(moving: &Moving<'_>) -> Result<Asked> {
        serde_json::from_str(moving.extra).map_err(|error| Error::new(error.to_string()))
    }

    /// What goes wrong at this component.
    pub fn fault(&self, component: &str) -> Option<&str> {
        let here = self.at.as_deref() == Some(component);
        self.fault.as_deref().filter(|_| here)
    }
}

/// Does what was asked to go wrong.
///
/// # Errors
///
/// If an error was asked for.
pub fn go_wrong(fault: Option<&str>) -> Result<()> {
    match fault {
        Some("panic") => panic!("asked to, while notes move"),
        Some("error") => Err(Error::new("asked to refuse the move")),
        Some("loop") => {
            crate::loop_for_long();
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The functions `notes_out` and `notes_in` for a `Notebook` of the first layout, in a component of this name.
#[macro_export]
macro_rules! notebook_moves {
    ($component:literal) => {
        /// Gives notes, in parts, from the first on; of several instances at the other end, each gets some.
        #[$crate::move_out("notes")]
        fn notes_out(
            state: &mut Notebook,
            tx: &mut $crate::Tx<'_>,
            moving: &mut $crate::Moving<'_>,
        ) -> $crate::Result<Vec<Vec<u8>>> {
            let asked = $crate::moves::Asked::read(moving)?;
            let fault = asked.fault($component);
            let part = asked.part.unwrap_or(u64::MAX);
            let mut given = Vec::new();
            let mut number = moving.cursor;
            while number < $crate::moves::MOST && given.len() as u64 != part {
                let mine =
                    number % u64::from(moving.peer_instances) == u64::from(moving.peer_instance);
                if mine && let Some(note) = state.notes.get(tx, &number)? {
                    given.push(note.text.get(tx)?.to_vec());
                    if moving.stays {
                        state.notes.remove(tx, &number)?;
                        $crate::Pmem::free_owned(&note.text, tx)?;
                    }
                }
                number += 1;
            }
            $crate::moves::go_wrong(fault)?;
            match fault {
                Some("again") => moving.more(moving.cursor),
                Some("huge") => given.push(vec![0; (64 << 20) + 1]),
                _ if given.len() as u64 == part => moving.more(number),
                _ => {}
            }
            Ok(given)
        }

        /// Takes notes, behind those that are there.
        #[$crate::move_in("notes")]
        fn notes_in(
            state: &mut Notebook,
            tx: &mut $crate::Tx<'_>,
            notes: Vec<Vec<u8>>,
            moving: &$crate::Moving<'_>,
        ) -> $crate::Result<()> {
            let asked = $crate::moves::Asked::read(moving)?;
            for text in notes {
                $crate::Notebook::add(state, tx, &text, moving.now_ms)?;
            }
            // The first part is there already, and must not be in the end.
            match moving.cursor {
                0 if asked.part.is_some() => Ok(()),
                _ => $crate::moves::go_wrong(asked.fault($component)),
            }
        }
    };
}
