//! The notebook, 1.1.0, which ends its process when it is asked to: by the line `abort` or `wild`, or where
//! `NEURATH_TEST_DIES` says `init abort`, `code_change wild` and so on.

use neurath_test_components::{Faults, Message, Result, code_change, notebook_1_1};

/// A write where nothing is.
fn wild_write() {
    let nowhere = std::ptr::without_provenance_mut::<u8>(8);
    // SAFETY: none, on purpose. The system ends the process.
    unsafe { nowhere.write_volatile(1) }
}

fn die(how: &[u8]) {
    match how {
        b"abort" => std::process::abort(),
        b"wild" => wild_write(),
        _ => {}
    }
}

fn die_at(place: &str) {
    let told = std::env::var("NEURATH_TEST_DIES").unwrap_or_default();
    if let Some((at, how)) = told.split_once(' ')
        && at == place
    {
        die(how.as_bytes());
    }
}

/// What is wrong.
#[derive(Debug)]
pub struct Broken;

impl Faults for Broken {
    fn init() -> Result<()> {
        die_at("init");
        Ok(())
    }

    fn quiesce() -> Result<()> {
        die_at("quiesce");
        Ok(())
    }

    fn handle(message: &Message<'_>) -> Result<()> {
        if let Message::Data { bytes, .. } = message {
            die(bytes.trim_ascii());
        }
        Ok(())
    }
}

notebook_1_1!(Broken, "1.1.0");

/// When it was written is lost, and perhaps the process.
#[code_change(to = "1.0")]
pub fn note_down(new: Note) -> v1_0::Note {
    die_at("code_change");
    v1_0::Note { text: new.text }
}

neurath::component!(
    Notebook,
    name = "notebook",
    version = "1.1.0",
    code_change = [note_from_1_0, notebook_from_1_0, note_down, notebook_to_1_0]
);
