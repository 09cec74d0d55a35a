use neurath_pmem::{P, Pmem, Vector};

#[derive(Clone, Copy, Pmem)]
#[repr(C)]
struct Tree {
    children: Vector<P<Self>>,
}

#[derive(Clone, Copy, Pmem)]
#[repr(C)]
struct Table {
    rows: Vector<[Table; 2]>,
}

fn main() {}
