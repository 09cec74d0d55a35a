use neurath_pmem::Pmem;

#[derive(Clone, Copy, Pmem)]
#[repr(C)]
struct Bad {
    #[pmem(link)]
    count: u64,
}

fn main() {}
