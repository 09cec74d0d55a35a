use neurath_pmem::Pmem;

#[derive(Clone, Pmem)]
#[repr(C)]
struct Bad {
    name: String,
}

fn main() {}
