use neurath_pmem::Pmem;

#[derive(Clone, Copy, Pmem)]
#[repr(u8)]
enum Bad {
    One(u8),
    Nothing,
}

fn main() {}
