use neurath_pmem::Pmem;

#[derive(Clone, Copy, Pmem)]
#[repr(C)]
struct Bad {
    next: [Self; 2],
}

fn main() {}
