//! The two layouts, as macros: a state must be its library's own type.

/// The types of 1.0: `Note` and `Notebook`.
#[macro_export]
macro_rules! notebook_types_1_0 {
    () => {
        /// A note.
        #[derive(Clone, Copy, Debug, $crate::Pmem)]
        #[repr(C)]
        pub struct Note {
            /// What it says.
            pub text: $crate::Bytes,
        }

        /// The state.
        #[derive(Clone, Copy, Debug, $crate::Pmem)]
        #[repr(C)]
        pub struct Notebook {
            /// The notes by their numbers.
            pub notes: $crate::Map<u64, Note>,
        }
    };
}

/// The state of 1.0.0: notes are texts. Makes `Note` and `Notebook`.
#[macro_export]
macro_rules! notebook_1_0 {
    ($faults:ty, $version:literal) => {
        $crate::notebook_types_1_0!();

        impl $crate::Notebook for Notebook {
            const VERSION: &'static str = $version;

            fn add(&mut self, tx: &mut $crate::Tx<'_>, text: &[u8], _: u64) -> $crate::Result<u64> {
                let number = self.notes.len();
                let text = $crate::Bytes::new(tx, text)?;
                self.notes.add(tx, &number, &Note { text })?;
                Ok(number)
            }

            fn count(&self) -> u64 {
                self.notes.len()
            }

            fn get(
                &self,
                tx: &$crate::Tx<'_>,
                number: u64,
            ) -> $crate::Result<Option<$crate::Bytes>> {
                Ok(self.notes.get(tx, &number)?.map(|note| note.text))
            }
        }

        $crate::notebook_functions!(
            $faults,
            Notebook {
                notes: $crate::Map::EMPTY
            }
        );
    };
}

/// The state of 1.1.0: a note knows when it was written. Makes `Note`, `Notebook`, the types of
/// 1.0 in `v1_0`, and the conversions `note_from_1_0`, `notebook_from_1_0`, `note_to_1_0` and
/// `notebook_to_1_0`.
#[macro_export]
macro_rules! notebook_1_1 {
    ($faults:ty, $version:literal) => {
        /// A note.
        #[derive(Clone, Copy, Debug, $crate::Pmem)]
        #[repr(C)]
        pub struct Note {
            /// What it says.
            pub text: $crate::Bytes,
            /// When it was written, in milliseconds since 1970; 0 if nobody knows.
            pub written: u64,
        }

        /// The state.
        #[derive(Clone, Copy, Debug, $crate::Pmem)]
        #[repr(C)]
        pub struct Notebook {
            /// The notes by their numbers.
            pub notes: $crate::Map<u64, Note>,
            /// How many were written since notes know when.
            pub dated: u64,
        }

        /// The state of version 1.0.
        pub mod v1_0 {
            $crate::notebook_types_1_0!();
        }

        /// Nobody knows when it was written.
        #[$crate::code_change(from = "1.0")]
        pub fn note_from_1_0(old: v1_0::Note) -> $crate::Result<Note> {
            <$faults as $crate::Faults>::code_change()?;
            Ok(Note {
                text: old.text,
                written: 0,
            })
        }

        /// None is dated.
        #[$crate::code_change(from = "1.0")]
        pub fn notebook_from_1_0(old: v1_0::Notebook) -> $crate::Result<Notebook> {
            <$faults as $crate::Faults>::code_change()?;
            Ok(Notebook {
                notes: old.notes.carry_over(),
                dated: 0,
            })
        }

        /// When it was written is lost.
        #[$crate::code_change(to = "1.0")]
        pub fn note_to_1_0(new: Note) -> v1_0::Note {
            v1_0::Note { text: new.text }
        }

        /// The number of dated notes is lost.
        #[$crate::code_change(to = "1.0")]
        pub fn notebook_to_1_0(new: Notebook) -> v1_0::Notebook {
            v1_0::Notebook {
                notes: new.notes.carry_over(),
            }
        }

        impl $crate::Notebook for Notebook {
            const VERSION: &'static str = $version;

            fn add(
                &mut self,
                tx: &mut $crate::Tx<'_>,
                text: &[u8],
                now_ms: u64,
            ) -> $crate::Result<u64> {
                let number = self.notes.len();
                let text = $crate::Bytes::new(tx, text)?;
                self.notes.add(
                    tx,
                    &number,
                    &Note {
                        text,
                        written: now_ms,
                    },
                )?;
                self.dated += 1;
                Ok(number)
            }

            fn count(&self) -> u64 {
                self.notes.len()
            }

            fn get(
                &self,
                tx: &$crate::Tx<'_>,
                number: u64,
            ) -> $crate::Result<Option<$crate::Bytes>> {
                Ok(self.notes.get(tx, &number)?.map(|note| note.text))
            }
        }

        $crate::notebook_functions!(
            $faults,
            Notebook {
                notes: $crate::Map::EMPTY,
                dated: 0
            }
        );
    };
}

/// [`notebook_1_1!`] as the component `notebook` 1.1.0 of a library, with all its conversions.
#[macro_export]
macro_rules! notebook_component_1_1 {
    ($faults:ty) => {
        $crate::notebook_1_1!($faults, "1.1.0");
        ::neurath::component!(
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
    };
}

/// A notebook's functions, the same for both layouts.
#[doc(hidden)]
#[macro_export]
macro_rules! notebook_functions {
    ($faults:ty, $empty:expr) => {
        impl $crate::Component for Notebook {
            type Config = $crate::Config;

            fn create(_: &mut $crate::Tx<'_>, _: &$crate::Config) -> $crate::Result<Self> {
                Ok($empty)
            }

            fn init(cx: &mut $crate::Context<'_, Self>) -> $crate::Result<()> {
                <$faults as $crate::Faults>::init()?;
                $crate::init(cx)
            }

            fn handle(
                cx: &mut $crate::Context<'_, Self>,
                message: $crate::Message<'_>,
            ) -> $crate::Result<()> {
                <$faults as $crate::Faults>::handle(&message)?;
                $crate::handle(cx, message)
            }

            fn quiesce(_: &mut $crate::Context<'_, Self>) -> $crate::Result<()> {
                <$faults as $crate::Faults>::quiesce()
            }

            fn config_change(
                cx: &mut $crate::Context<'_, Self>,
                change: &$crate::ConfigChange,
            ) -> $crate::Result<()> {
                $crate::config_change(cx, change)
            }

            fn check_state(cx: &mut $crate::Context<'_, Self>) -> $crate::Result<()> {
                <$faults as $crate::Faults>::check_state()?;
                $crate::check_state(cx)
            }
        }
    };
}
