//! What a refusal gives to paste on a missing `code_change` is taken by the compiler as it is: `stub/up.txt` and
//! `stub/down.txt` are what the planner writes for the two states below, and are pasted here into the newer one.
//!
//! `NEURATH_BLESS=1 cargo test -p neurath-node --test stub` renews them.
#![allow(
    dead_code,
    clippy::todo,
    unreachable_code,
    unused_variables,
    reason = "what is pasted is not finished: its author finishes it"
)]

use neurath::{Bytes, Map, OrderedMap, Pmem, Vector, code_change};
use neurath_node::facts;
use neurath_node::loader::Description;
use neurath_plan::schema::TypeDesc;
use neurath_plan::{code_change_stub, compare};
use neurath_pmem::schema::{encode, encoded_len, fingerprint};
use semver::Version;

/// The states as the older version has them.
mod older {
    use super::{Bytes, Map, OrderedMap, Pmem, Vector};

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub struct Entry {
        pub value: Bytes,
        pub hits: u32,
        pub cost: u32,
    }

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(u32)]
    pub enum Kind {
        Plain = 3,
        Counted = 500,
    }

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub struct Note {
        pub number: u64,
    }

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub struct Store {
        pub entries: Map<Bytes, Entry>,
        pub by_time: OrderedMap<u64, Bytes>,
        pub log: Vector<Note>,
        pub levels: [u32; 2],
        pub gone: u64,
        pub kind: Kind,
        pub fill: [u8; 4],
    }
}

/// The states of the newer version, with what was pasted on the way up.
mod newer {
    use super::{Bytes, Map, OrderedMap, Pmem, Vector, code_change};

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub struct Entry {
        pub expires: u64,
        pub value: Bytes,
        pub hits: u64,
    }

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(u32)]
    pub enum Kind {
        Plain = 3,
        Counted = 500,
        Other = 501,
    }

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub struct Note {
        pub number: u64,
        pub at: u64,
    }

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub struct Store {
        pub entries: Map<Bytes, Entry>,
        pub by_time: OrderedMap<u64, Bytes>,
        pub log: Vector<Note>,
        pub levels: [u32; 4],
        pub more: Map<u64, Note>,
        pub kind: Kind,
        pub fill: [u8; 4],
    }

    pub mod up {
        use super::*;
        include!("stub/up.txt");
    }

    pub mod down {
        use super::*;
        include!("stub/down.txt");
    }
}

/// What the library of a version with this state says.
fn described<const N: usize>(schema: [u8; N], print: [u8; 16]) -> TypeDesc {
    let description = Description {
        name: "store".into(),
        version: "1.0.0".into(),
        compiler: String::new(),
        schema: schema.to_vec(),
        fingerprint: print,
        migrations: Vec::new(),
        hooks: Vec::new(),
        moves: Vec::new(),
        reads_through: true,
    };
    facts::of(&description).expect("a schema").state
}

#[test]
fn what_is_given_to_paste_compiles() {
    let old = described(
        encode::<{ encoded_len(older::Store::SCHEMA) }>(older::Store::SCHEMA),
        fingerprint(older::Store::SCHEMA),
    );
    let new = described(
        encode::<{ encoded_len(newer::Store::SCHEMA) }>(newer::Store::SCHEMA),
        fingerprint(newer::Store::SCHEMA),
    );
    let (first, second) = (Version::new(1, 0, 0), Version::new(1, 1, 0));
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stub");
    let ways = [
        ("up.txt", (&first, &old), (&second, &new)),
        ("down.txt", (&second, &new), (&first, &old)),
    ];
    for (file, (from, a), (to, b)) in ways {
        let gaps = compare(a, b, &[]).gaps;
        assert!(gaps.len() > 2, "{gaps:?}");
        let written = code_change_stub(from, to, &gaps);
        let path = folder.join(file);
        if std::env::var_os("NEURATH_BLESS").is_some() {
            std::fs::write(&path, &written).expect("written");
        }
        let compiled = std::fs::read_to_string(&path).expect("what was compiled");
        assert_eq!(written, compiled, "{file} is stale");
    }
    // It is the very state that the older version wrote.
    let wanted = older::Store::FINGERPRINT;
    assert_eq!(newer::up::v1_0::Store::FINGERPRINT, wanted);
    assert_eq!(newer::down::v1_0::Store::FINGERPRINT, wanted);
}
