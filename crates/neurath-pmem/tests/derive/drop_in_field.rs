use neurath_pmem::Pmem;

struct Guard(u64);

impl Drop for Guard {
    fn drop(&mut self) {}
}

#[derive(Pmem)]
#[repr(C)]
struct Bad {
    guard: Guard,
}

fn main() {}
