use neurath_pmem::Pmem;

#[derive(Clone, Copy, Pmem)]
#[repr(i32)]
enum Bad {
    One,
}

fn main() {}
