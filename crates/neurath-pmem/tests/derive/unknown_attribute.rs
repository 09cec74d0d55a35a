use neurath_pmem::{P, Pmem};

#[derive(Clone, Copy, Pmem)]
#[repr(C)]
struct Bad {
    #[pmem(skip)]
    next: P<u64>,
}

fn main() {}
