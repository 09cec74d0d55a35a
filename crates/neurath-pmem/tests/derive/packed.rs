use neurath_pmem::Pmem;

#[derive(Clone, Copy, Pmem)]
#[repr(C, packed)]
struct Bad {
    count: u64,
}

fn main() {}
