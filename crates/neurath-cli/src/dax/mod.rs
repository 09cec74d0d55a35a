//! A virtual machine with persistent memory, for `neurath dax`: the kernel and the files that it
//! boots with, and the machine itself, which can be killed. `docs/dax.md` says what it shows.

pub mod initramfs;
pub mod kernel;
pub mod machine;
pub mod tools;
