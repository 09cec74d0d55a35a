//! An enum has no fields to be told of.

use neurath::{CodeChange, Pmem};

#[derive(Clone, Copy, Debug, Pmem, CodeChange)]
#[change(from = "1.0", old = v1_0::Kind)]
#[repr(u32)]
enum Kind {
    One = 1,
}

fn main() {}
