use std::marker::PhantomData;

use neurath_pmem::Pmem;

#[derive(Clone, Copy, Pmem)]
#[repr(C)]
struct Bad<'a> {
    count: u64,
    of: PhantomData<&'a u64>,
}

fn main() {}
