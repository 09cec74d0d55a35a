use neurath_pmem::Pmem;

#[derive(Clone, Copy, Pmem)]
#[repr(C)]
struct Bad {
    large: u64,
    small: u8,
}

fn main() {}
