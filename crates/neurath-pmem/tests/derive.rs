//! What `#[derive(Pmem)]` takes, what it refuses, and what it makes of damaged bytes.

use neurath_pmem::region::{Region, RegionError, RegionOptions};
use neurath_pmem::schema::{KindDesc, SchemaDesc, encode, encoded_len};
use neurath_pmem::{Handle, Pmem, Tx, TxError, as_bytes, from_bytes};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Pmem)]
#[repr(u16)]
enum Colour {
    Red = 7,
    Green = 300,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Pmem)]
#[repr(C)]
struct Painted {
    colours: [Colour; 3],
    flag: bool,
    gap: u8,
}

#[test]
fn bytes_are_a_value_or_none() {
    let painted = Painted {
        colours: [Colour::Red, Colour::Green, Colour::Red],
        flag: true,
        gap: 9,
    };
    let good = as_bytes(&painted).to_vec();
    assert_eq!(from_bytes::<Painted>(&good), Some(painted));
    for (at, byte) in [(0, 8), (1, 1), (2, 45), (4, 0), (6, 2), (6, 0xFF)] {
        let mut bad = good.clone();
        bad[at] = byte;
        assert_eq!(from_bytes::<Painted>(&bad), None, "{at}");
    }
    // Any bits of a number are a value.
    let mut other = good;
    other[7] = 0xFF;
    assert!(from_bytes::<Painted>(&other).is_some());
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Pmem)]
#[repr(u16)]
enum Shape {
    Dot([u8; 6]) = 3,
    Line {
        colour: Colour,
        wide: bool,
        gap: u8,
        length: u16,
    },
    Area(Colour, [Colour; 2]),
}

#[test]
fn an_enum_with_fields_is_a_tag_and_them() {
    let line = |length| Shape::Line {
        colour: Colour::Green,
        wide: true,
        gap: 0,
        length,
    };
    let area = Shape::Area(Colour::Red, [Colour::Green, Colour::Red]);
    let shapes = [Shape::Dot([1, 2, 3, 4, 5, 6]), line(770), area];
    let bytes = [
        [3, 0, 1, 2, 3, 4, 5, 6],
        [4, 0, 44, 1, 1, 0, 2, 3],
        [5, 0, 7, 0, 44, 1, 7, 0],
    ];
    for (shape, bytes) in shapes.iter().zip(bytes) {
        assert_eq!(as_bytes(shape), bytes);
        assert_eq!(from_bytes::<Shape>(&bytes), Some(*shape));
    }
    // No tag, no colour, no bool.
    for (bytes, at, byte) in [
        (0, 0, 2),
        (0, 0, 6),
        (0, 1, 1),
        (1, 2, 0),
        (1, 4, 2),
        (2, 6, 8),
    ] {
        let mut bad = self::bytes(&shapes[bytes]);
        bad[at] = byte;
        assert_eq!(from_bytes::<Shape>(&bad), None, "{bad:?}");
    }
    let schema = SchemaDesc::decode(&SHAPE).expect("a schema");
    assert_eq!((schema.name.as_str(), schema.size), ("Shape", 8));
    let KindDesc::Enum { tag_size, variants } = schema.kind else {
        panic!("an enum")
    };
    assert_eq!(tag_size, 2);
    let fields: Vec<Vec<(String, u32)>> = variants
        .iter()
        .map(|variant| {
            variant
                .fields
                .iter()
                .map(|f| (f.name.clone(), f.offset))
                .collect()
        })
        .collect();
    let expected = [
        &[("0", 2)][..],
        &[("colour", 2), ("wide", 4), ("gap", 5), ("length", 6)],
        &[("0", 2), ("1", 4)],
    ];
    let expected = expected.map(|fields| {
        let owned = fields.iter().map(|(name, at)| ((*name).to_owned(), *at));
        owned.collect::<Vec<_>>()
    });
    assert_eq!(fields, expected);
    let tags: Vec<u64> = variants
        .iter()
        .map(|variant| variant.discriminant)
        .collect();
    assert_eq!(tags, [3, 4, 5]);
}

const SHAPE: [u8; encoded_len(Shape::SCHEMA)] = encode(Shape::SCHEMA);

fn bytes(shape: &Shape) -> Vec<u8> {
    as_bytes(shape).to_vec()
}

#[derive(Debug)]
#[expect(dead_code, reason = "printed")]
enum Failure {
    Tx(TxError),
    Region(RegionError),
}

impl From<TxError> for Failure {
    fn from(error: TxError) -> Failure {
        Failure::Tx(error)
    }
}

impl From<RegionError> for Failure {
    fn from(error: RegionError) -> Failure {
        Failure::Region(error)
    }
}

#[test]
fn a_read_checks_what_is_there() {
    const SCHEMA: [u8; encoded_len(Painted::SCHEMA)] = encode(Painted::SCHEMA);
    let dir = tempfile::tempdir().expect("a directory");
    let options = RegionOptions::new("test", 0, 16 << 20);
    let mut region = Region::create(&dir.path().join("region"), &options, &SCHEMA).expect("made");
    let handle = Handle::new();
    region.attach(&handle);
    let painted = Painted {
        colours: [Colour::Red; 3],
        flag: false,
        gap: 0,
    };
    let read = |tx: &mut Tx<'_>| {
        let object = tx.alloc(&painted)?;
        assert_eq!(tx.read(object)?, painted);
        // The same place, written as numbers.
        tx.write_at(object.to_ref(), Painted::TYPE_ID, 0, &[7u16, 8, 7, 0])?;
        Ok::<_, Failure>(tx.read(object))
    };
    assert_eq!(
        region.transact(read).expect("written"),
        Err(TxError::Invalid)
    );
}

mod list {
    use neurath_pmem::{P, Pmem};

    #[derive(Clone, Copy, Pmem)]
    #[repr(C)]
    pub struct Entry {
        pub next: P<Self>,
        pub sides: [P<Entry>; 2],
        pub owner: P<Owner>,
    }

    #[derive(Clone, Copy, Pmem)]
    #[repr(C)]
    pub struct Owner {
        #[pmem(link)]
        pub first: P<Entry>,
    }
}

/// References among types that refer to each other are followed: all is reached, and nothing
/// else.
#[test]
fn types_that_refer_to_each_other_are_traced() {
    use list::{Entry, Owner};
    use neurath_pmem::{P, inspect};
    const SCHEMA: [u8; encoded_len(Entry::SCHEMA)] = encode(Entry::SCHEMA);
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("region");
    let options = RegionOptions::new("test", 0, 16 << 20);
    let mut region = Region::create(&path, &options, &SCHEMA).expect("made");
    let leaf = Entry {
        next: P::NULL,
        sides: [P::NULL; 2],
        owner: P::NULL,
    };
    let made = region.transact(|tx| {
        let behind = tx.alloc(&leaf)?;
        let owner = tx.alloc(&Owner { first: behind })?;
        let side = tx.alloc(&leaf)?;
        let sides = [P::NULL, side];
        let next = tx.alloc(&Entry { owner, ..leaf })?;
        let root = tx.alloc(&Entry {
            next,
            sides,
            ..leaf
        })?;
        Ok::<_, Failure>((root, side))
    });
    let (root, side) = made.expect("made");
    region.set_root(root.to_ref());
    region.commit().expect("committed");
    assert_eq!(region.stats().live_objects, 5);
    drop(region);
    let report = inspect::check_file(&path, inspect::Level::L2).expect("read");
    assert!(report.is_sound() && report.leaks.is_empty(), "{report:?}");
    let mut region = Region::open(&path, &options, None).expect("opened");
    region
        .transact(|tx| {
            tx.update(root, |root| root.sides = [P::NULL; 2])?;
            Ok::<_, Failure>(())
        })
        .expect("changed");
    drop(region);
    let report = inspect::check_file(&path, inspect::Level::L2).expect("read");
    assert_eq!(report.leaks.len(), 1, "{side:?}: {report:?}");
}

#[test]
fn elements_without_bytes_are_values() {
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Pmem)]
    #[repr(C)]
    struct Nothing {
        flags: [bool; 0],
    }
    let nothing = Nothing { flags: [] };
    assert_eq!(from_bytes::<[Nothing; 3]>(&[]), Some([nothing; 3]));
}
