use neurath_pmem::Pmem;

#[derive(Clone, Copy, Pmem)]
enum Bad {
    One,
}

fn main() {}
