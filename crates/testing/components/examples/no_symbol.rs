//! A library that is no component.

/// Something it exports.
#[unsafe(no_mangle)]
pub extern "C" fn neurath_test_nothing() -> u32 {
    7
}
