use neurath_pmem::Pmem;

#[derive(Clone, Copy, Pmem)]
#[repr(u64)]
enum Bad {
    Named { text: &'static str } = 1,
    Counted(u64, usize),
}

fn main() {}
