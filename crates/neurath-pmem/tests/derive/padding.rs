use neurath_pmem::Pmem;

#[derive(Clone, Copy, Pmem)]
#[repr(C)]
struct Bad {
    small: u8,
    large: u64,
}

fn main() {}
