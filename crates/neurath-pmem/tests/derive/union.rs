use neurath_pmem::Pmem;

#[derive(Clone, Copy, Pmem)]
#[repr(C)]
union Bad {
    a: u64,
    b: i64,
}

fn main() {}
