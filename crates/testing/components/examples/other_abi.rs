//! The notebook, 1.1.0, made for a node with another interface.

use neurath::abi::{ABI_VERSION, Bytes, ComponentDescriptor};
use neurath::pmem::{Pmem, schema};
use neurath_test_components::{Sound, notebook_1_1};

notebook_1_1!(Sound, "1.1.0");

const SCHEMA_LEN: usize = schema::encoded_len(Notebook::SCHEMA);
static SCHEMA: [u8; SCHEMA_LEN] = schema::encode(Notebook::SCHEMA);

/// What the node reads: all in order, but for the number.
#[unsafe(no_mangle)]
pub static NEURATH_COMPONENT: ComponentDescriptor = ComponentDescriptor {
    size: size_of::<ComponentDescriptor>() as u32,
    abi: ABI_VERSION + 1,
    panic_strategy: neurath::entry::PANIC_STRATEGY,
    reserved: 0,
    name: Bytes::new(b"notebook"),
    version: Bytes::new(b"1.1.0"),
    compiler: Bytes::new(neurath::entry::COMPILER.as_bytes()),
    schema: Bytes::new(&SCHEMA),
    fingerprint: Notebook::FINGERPRINT,
    functions: neurath::entry::functions::<Notebook>(),
    migrations: std::ptr::null(),
    migration_count: 0,
    config_change: None,
    hooks: std::ptr::null(),
    hook_count: 0,
    moves: std::ptr::null(),
    move_count: 0,
    features: 0,
};
