use std::collections::{BTreeMap, HashMap, VecDeque};
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use neurath_pmem::Pmem;

macro_rules! bad {
    ($name:ident, $type:ty) => {
        #[derive(Pmem)]
        #[repr(C)]
        struct $name {
            field: $type,
        }
    };
}

bad!(A, [usize; 4]);
bad!(B, [[Box<u64>; 2]; 2]);
bad!(C, (u32, u32));
bad!(D, [u8]);
bad!(E, dyn Send);
bad!(F, fn(u64) -> u64);
bad!(G, Vec<u8>);
bad!(H, VecDeque<u8>);
bad!(I, HashMap<u8, u8>);
bad!(J, BTreeMap<u8, u8>);
bad!(K, std::cell::Cell<u64>);
bad!(L, Mutex<u64>);
bad!(M, AtomicU64);
bad!(N, std::time::Instant);
bad!(O, core::time::Duration);
bad!(P, NonZero<u64>);
bad!(Q, char);
bad!(R, Result<u64, u64>);
bad!(S, *mut [u8; 4]);

fn main() {}
