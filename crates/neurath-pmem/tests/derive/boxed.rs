use neurath_pmem::Pmem;

#[derive(Clone, Pmem)]
#[repr(C)]
struct Bad {
    next: Box<u64>,
}

fn main() {}
