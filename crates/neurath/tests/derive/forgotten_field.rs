//! The older struct has a field that nothing is said about.

use neurath::{CodeChange, Pmem};

mod v1_0 {
    #[derive(Clone, Copy, Debug, neurath::Pmem)]
    #[repr(C)]
    pub struct Counter {
        pub count: u64,
        pub hits: u64,
    }
}

#[derive(Clone, Copy, Debug, Pmem, CodeChange)]
#[change(from = "1.0", old = v1_0::Counter)]
#[repr(C)]
struct Counter {
    count: u64,
}

fn main() {}
