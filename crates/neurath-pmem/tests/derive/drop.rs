use neurath_pmem::Pmem;

#[derive(Pmem)]
#[repr(C)]
struct Bad {
    count: u64,
}

impl Drop for Bad {
    fn drop(&mut self) {}
}

fn main() {}
