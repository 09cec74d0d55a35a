use neurath_pmem::Pmem;

#[derive(Clone, Copy, Pmem)]
#[repr(C)]
struct Bad {
    len: usize,
}

fn main() {}
