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

fn main() {
    let _ = (Colour::Red, Colour::Green, Good::TYPE_ID, Empty::FINGERPRINT);
}
