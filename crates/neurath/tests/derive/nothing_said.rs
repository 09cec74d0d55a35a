//! The version before is not named.

use neurath::{CodeChange, Pmem};

#[derive(Clone, Copy, Debug, Pmem, CodeChange)]
#[repr(C)]
struct Counter {
    count: u64,
}

fn main() {}
