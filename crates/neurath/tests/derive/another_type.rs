//! A field whose type is another, and not said to be wider.

use neurath::{CodeChange, Pmem};

mod v1_0 {
    #[derive(Clone, Copy, Debug, neurath::Pmem)]
    #[repr(C)]
    pub struct Counter {
        pub count: i64,
    }
}

#[derive(Clone, Copy, Debug, Pmem, CodeChange)]
#[change(from = "1.0", old = v1_0::Counter)]
#[repr(C)]
struct Counter {
    count: u64,
}

fn main() {}
