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

/// Numbers that became floating-point numbers, and those that were.
mod readings {
    use neurath::{CodeChange, Pmem};

    pub mod v1_0 {
        use neurath::Pmem;

        #[derive(Clone, Copy, Debug, PartialEq, Pmem)]
        #[repr(C)]
        pub struct Reading {
            pub price: f32,
            pub count: i32,
            pub level: u16,
            pub filler: u16,
        }
    }

    #[derive(Clone, Copy, Debug, Pmem, CodeChange)]
    #[change(from = "1.0", old = v1_0::Reading)]
    #[repr(C)]
    pub struct Reading {
        #[change(widened = f32)]
        pub price: f64,
        #[change(widened = i32)]
        pub count: f64,
        #[change(widened = u16)]
        pub level: f32,
        #[change(widened = u16)]
        pub filler: u32,
    }
}

mod v1_1 {
    use neurath::{CodeChange, P, Pmem};

    pub mod v1_0 {
        use neurath::{P, Pmem};

        #[derive(Clone, Copy, Debug, Pmem)]
        #[repr(C)]
        pub struct Vector {
            pub x: u32,
            pub y: u32,
        }

        #[derive(Clone, Copy, Debug, Pmem)]
        #[repr(u32)]
        pub enum Colour {
            Red,
            Green,
        }

        #[derive(Clone, Copy, Debug, Pmem)]
        #[repr(C)]
        pub struct Body {
            pub at: Vector,
            pub before: [[Vector; 2]; 3],
            pub near: [P<Body>; 2],
            pub colour: Colour,
            pub mass: u32,
        }
    }

    /// Of the name of a collection.
    #[derive(Clone, Copy, Debug, Pmem, CodeChange)]
    #[change(from = "1.0", old = v1_0::Vector)]
    #[repr(C)]
    pub struct Vector {
        pub y: u32,
        #[change(added = 7)]
        pub z: u32,
        #[change(widened = u32)]
        pub x: i64,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Pmem)]
    #[repr(u32)]
    pub enum Colour {
        Green,
        Blue,
    }

    #[neurath::code_change(from = "1.0")]
    fn colour_from_1_0(old: v1_0::Colour) -> Colour {
        match old {
            v1_0::Colour::Red => Colour::Blue,
            v1_0::Colour::Green => Colour::Green,
        }
    }

    #[neurath::code_change(to = "1.0")]
    fn colour_to_1_0(new: Colour) -> neurath::Result<v1_0::Colour> {
        match new {
            Colour::Green => Ok(v1_0::Colour::Green),
            Colour::Blue => Err(neurath::Error::new("1.0 knows no blue")),
        }
    }

    #[derive(Clone, Copy, Debug, Pmem, CodeChange)]
    #[change(from = "1.0", old = v1_0::Body)]
    #[repr(C)]
    pub struct Body {
        #[change(converted(vector_from_1_0, vector_to_1_0))]
        pub before: [[Vector; 2]; 3],
        #[change(renamed = at, converted(vector_from_1_0, vector_to_1_0))]
        pub place: Vector,
        pub near: [P<Body>; 2],
        pub mass: u32,
        #[change(converted(colour_from_1_0, colour_to_1_0))]
        pub colour: Colour,
        /// It stays as it is.
        #[change(added = v1_0::Vector { x: 1, y: 2 })]
        pub origin: v1_0::Vector,
    }
}

/// What stands within a value has no conversion of its own there: the value's calls it.
#[test]
fn what_stands_within_is_converted_by_its_own_conversion() {
    use v1_1::v1_0;
    let at = |x| v1_0::Vector { x, y: x + 1 };
    let near = [1, 2].map(|one| P::from_ref(neurath::abi::Ref(one)));
    let old = v1_0::Body {
        at: at(9),
        before: [[at(1), at(2)], [at(3), at(4)], [at(5), at(6)]],
        near,
        colour: v1_0::Colour::Green,
        mass: 8,
    };
    let new = v1_1::body_from_1_0(old, &EXTRA).expect("the way there");
    let made = new.before.map(|pair| pair.map(|one| (one.x, one.y, one.z)));
    assert_eq!(made[0], [(1, 2, 7), (2, 3, 7)]);
    assert_eq!(made[2], [(5, 6, 7), (6, 7, 7)]);
    assert_eq!((new.place.x, new.mass), (9, 8));
    assert_eq!(new.near.map(P::to_ref), near.map(P::to_ref));
    let back = v1_1::body_to_1_0(new, &EXTRA).expect("the way back");
    assert_eq!((back.at.x, back.before[2][1].y, back.mass), (9, 7, 8));
    assert_eq!(back.near.map(P::to_ref), near.map(P::to_ref));
    assert!(matches!(back.colour, v1_0::Colour::Green));
    let colour = v1_0::Colour::Red;
    let red = v1_1::body_from_1_0(v1_0::Body { colour, ..old }, &EXTRA);
    assert_eq!(red.expect("the way there").colour, v1_1::Colour::Blue);
    // What one of them refuses, all refuses.
    let mut new = new;
    new.colour = v1_1::Colour::Blue;
    let refused = v1_1::body_to_1_0(new, &EXTRA).expect_err("no such colour");
    assert_eq!(refused.to_string(), "1.0 knows no blue");
    new.colour = v1_1::Colour::Green;
    new.before[1][0].x = -1;
    let refused = v1_1::body_to_1_0(new, &EXTRA).expect_err("no room");
    assert_eq!(refused.to_string(), "1.0 has no room for a `x` of -1");
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
fn floating_point_numbers_are_widened_there_and_back() {
    use readings::{Reading, reading_from_1_0, reading_to_1_0, v1_0};
    let prices = [0.1, -0.0, f32::MIN_POSITIVE, f32::MAX, f32::NEG_INFINITY];
    let counts = [0, -1, 1 << 24, i32::MAX, i32::MIN];
    for ((price, count), level) in prices
        .into_iter()
        .zip(counts)
        .zip([0, 1, 255, 256, u16::MAX])
    {
        let filler = 3;
        let old = v1_0::Reading {
            price,
            count,
            level,
            filler,
        };
        let new = reading_from_1_0(old, &EXTRA).expect("the way there");
        assert_eq!((new.price, new.count), (price.into(), count.into()));
        let back = reading_to_1_0(new, &EXTRA).expect("the way back");
        assert_eq!(back, old);
        assert_eq!(back.price.to_bits(), price.to_bits());
    }
    let new = Reading {
        price: 0.1,
        count: -7.0,
        level: 9.0,
        filler: 0,
    };
    let back = reading_to_1_0(new, &EXTRA).expect("the way back");
    assert_eq!(
        (back.price, back.count, back.level),
        (0.1, -7, 9),
        "the nearest"
    );
    let not_a_number = Reading {
        price: f64::NAN,
        ..new
    };
    assert!(
        reading_to_1_0(not_a_number, &EXTRA)
            .expect("the way back")
            .price
            .is_nan()
    );
    let room = "1.0 has no room for a";
    for (refused, said) in [
        (
            Reading { price: 1e39, ..new },
            "`price` of 1000000000000000000000000000000000000000",
        ),
        (Reading { count: 0.5, ..new }, "`count` of 0.5"),
        (
            Reading {
                count: 2_147_483_648.0,
                ..new
            },
            "`count` of 2147483648",
        ),
        (
            Reading {
                count: f64::NAN,
                ..new
            },
            "`count` of NaN",
        ),
        (Reading { level: -1.0, ..new }, "`level` of -1"),
        (
            Reading {
                level: f32::INFINITY,
                ..new
            },
            "`level` of inf",
        ),
        (
            Reading {
                level: 65_536.0,
                ..new
            },
            "`level` of 65536",
        ),
    ] {
        let error = reading_to_1_0(refused, &EXTRA).expect_err(said);
        assert_eq!(error.to_string(), format!("{room} {said}"));
    }
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
