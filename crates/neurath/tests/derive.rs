//! `#[derive(CodeChange)]`: what it writes, and what it refuses.

use neurath::{Bytes, CodeChange, Extra, Map, P, Pmem};

mod v1_0 {
    use neurath::{Bytes, Map, P, Pmem};

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub struct Owner {
        pub number: u32,
    }

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub struct Entry {
        pub number: u64,
        pub value: Bytes,
        pub size: u32,
        pub cost: u32,
    }

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub struct Store {
        pub entries: Map<u64, Entry>,
        pub owner: P<Owner>,
        pub commands: u64,
    }
}

#[derive(Clone, Copy, Debug, Pmem, CodeChange)]
#[change(from = "1.0", old = v1_0::Entry, removed(cost = 7))]
#[repr(C)]
struct Entry {
    value: Bytes,
    #[change(renamed = number)]
    id: u64,
    #[change(widened = u32)]
    size: u64,
    #[change(added = extra.now_ms)]
    accessed: u64,
    #[change(added)]
    expires: u64,
}

#[derive(Clone, Copy, Debug, Pmem, CodeChange)]
#[change(from = "1.0", old = v1_0::Store)]
#[repr(C)]
struct Store {
    commands: u64,
    owner: P<Owner>,
    entries: Map<u64, Entry>,
}

#[derive(Clone, Copy, Debug, Pmem, CodeChange)]
#[change(from = "1.0", old = v1_0::Owner)]
#[repr(C)]
struct Owner {
    #[change(widened = u32)]
    number: u64,
}

const EXTRA: Extra<'_> = Extra {
    json: "{}",
    now_ms: 5,
};

#[test]
fn what_is_declared_is_carried_there_and_back() {
    let old = v1_0::Entry {
        number: 1,
        value: Bytes::EMPTY,
        size: 2,
        cost: 3,
    };
    let new = entry_from_1_0(old, &EXTRA).expect("the way there");
    assert_eq!((new.id, new.size), (1, 2));
    assert_eq!((new.accessed, new.expires), (5, 0));
    let back = entry_to_1_0(new, &EXTRA).expect("the way back");
    // What was removed comes back with the value that is given.
    assert_eq!((back.number, back.size, back.cost), (1, 2, 7));
}

#[test]
fn a_number_without_room_refuses_the_way_back() {
    let new = Entry {
        value: Bytes::EMPTY,
        id: 1,
        size: 1 << 40,
        accessed: 0,
        expires: 0,
    };
    let refused = entry_to_1_0(new, &EXTRA).expect_err("there is no room");
    assert_eq!(
        refused.to_string(),
        "1.0 has no room for a `size` of 1099511627776"
    );
}

#[test]
fn the_conversions_are_exported_for_both_ways() {
    let up = __NEURATH_MIGRATION_store_from_1_0;
    let down = __NEURATH_MIGRATION_store_to_1_0;
    assert_eq!((up.backward, down.backward), (0, 1));
    assert_eq!(
        (up.from, up.to),
        (v1_0::Store::FINGERPRINT, Store::FINGERPRINT)
    );
    assert_eq!((down.from, down.to), (up.to, up.from));
    let owner = neurath::abi::Ref(7);
    let old = v1_0::Store {
        entries: Map::EMPTY,
        owner: P::from_ref(owner),
        commands: 9,
    };
    let new = store_from_1_0(old, &EXTRA).expect("the way there");
    // The object is converted by itself; what refers to it stays.
    assert_eq!((new.commands, new.owner.to_ref()), (9, owner));
    let back = store_to_1_0(new, &EXTRA).expect("the way back");
    assert_eq!((back.commands, back.owner.to_ref()), (9, owner));
}

#[test]
fn what_cannot_be_proved_does_not_compile() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/derive/*.rs");
}
