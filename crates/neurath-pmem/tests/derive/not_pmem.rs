use neurath_pmem::Pmem;

#[derive(Clone, Copy)]
#[repr(C)]
struct Other {
    count: u64,
}

#[derive(Clone, Copy, Pmem)]
#[repr(C)]
struct Bad {
    other: Other,
}

fn main() {}
