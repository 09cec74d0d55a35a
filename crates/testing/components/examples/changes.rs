//! The conversions of a notebook whose own library has none: see `code_change_missing`.
#![deny(unsafe_code)]

use neurath_test_components::{Component, Context, Message, Pmem, Result, Tx};

/// The notebook's types.
mod notebook {
    use neurath_test_components::{Sound, notebook_1_1};

    notebook_1_1!(Sound, "1.1.0");
}

neurath::component!(
    Changes,
    name = "changes",
    version = "1.0.0",
    code_change = [
        notebook::note_from_1_0,
        notebook::notebook_from_1_0,
        notebook::note_to_1_0,
        notebook::notebook_to_1_0
    ],
);

/// It has no state worth the name: nothing of it runs.
#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
pub struct Changes {
    /// Nothing.
    pub none: u64,
}

impl Component for Changes {
    type Config = ();

    fn create(_: &mut Tx<'_>, (): &()) -> Result<Self> {
        Ok(Changes { none: 0 })
    }

    fn handle(_: &mut Context<'_, Self>, _: Message<'_>) -> Result<()> {
        Ok(())
    }
}
