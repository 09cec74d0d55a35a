use neurath_pmem::{Bytes, Map, P, Pmem};

#[derive(Clone, Copy, Pmem)]
#[repr(u16)]
enum Colour {
    Red = 7,
    Green,
}

#[derive(Clone, Copy, Pmem)]
#[repr(transparent)]
struct Number(u64);

#[derive(Clone, Copy, Pmem)]
#[repr(C)]
struct Good {
    number: Number,
    names: Map<Bytes, P<Number>>,
    colours: [Colour; 3],
    flag: bool,
    gap: u8,
}

#[derive(Clone, Copy, Pmem)]
#[repr(C)]
struct Empty {}

// Names that the description of a type uses too.
#[derive(Clone, Copy, Pmem)]
#[repr(u8)]
enum Kind {
    Variant,
}

#[derive(Clone, Copy, Pmem)]
#[repr(C)]
struct Field {
    kind: Kind,
}

fn main() {
    let _ = (Kind::Variant, Field::TYPE_ID);
    let _ = (Colour::Red, Colour::Green, Good::TYPE_ID, Empty::FINGERPRINT);
}
