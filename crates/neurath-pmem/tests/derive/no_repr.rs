use neurath_pmem::Pmem;

#[derive(Clone, Copy, Pmem)]
struct Bad {
    count: u64,
}

fn main() {}
