//! Where the cases of property tests come from, so that a failure can be had again.

use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;
use std::hash::{BuildHasher as _, RandomState};

/// So many cases, from a seed that is printed with a failure. `PROPTEST_RNG_SEED` sets it.
pub fn config(cases: u32) -> ProptestConfig {
    let mut config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => RandomState::new().hash_one(cases),
    };
    config.rng_seed = RngSeed::Fixed(seed);
    // Shown when the test fails.
    eprintln!("the cases are those of PROPTEST_RNG_SEED={seed}: set it to have them again");
    config
}
