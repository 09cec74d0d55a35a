//! A field that the older struct has not, and that is not said to be added.

use neurath::{CodeChange, Pmem};

mod v1_0 {
    #[derive(Clone, Copy, Debug, neurath::Pmem)]
    #[repr(C)]
    pub struct Counter {
        pub count: u64,
    }
}

#[derive(Clone, Copy, Debug, Pmem, CodeChange)]
#[change(from = "1.0", old = v1_0::Counter)]
#[repr(C)]
struct Counter {
    count: u64,
    last_ms: u64,
}

fn main() {}
