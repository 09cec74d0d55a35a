use neurath_pmem::Pmem;

#[derive(Clone, Copy, Pmem)]
#[repr(C)]
struct Bad {
    count: Option<u64>,
}

fn main() {}
