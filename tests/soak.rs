//! The short form of `neurath soak`: whatever comes in whatever order, nothing is lost or wrong, and the
//! node does not grow.

mod support;

use serde_json::Value;
use support::{neurath, stderr};

/// With building, the whole takes about a minute.
const SECONDS: &str = "40";
const SEED: &str = "7";

#[test]
fn whatever_comes_nothing_is_lost() {
    let soaked = neurath(&["soak", "--seconds", SECONDS, "--seed", SEED, "--json"]);
    assert!(soaked.status.success(), "{}", stderr(&soaked));
    let told: Value = serde_json::from_slice(&soaked.stdout).expect("JSON");
    let number = |key: &str| {
        let number = told[key].as_u64();
        number.unwrap_or_else(|| panic!("{key} is not in {told}"))
    };
    assert_eq!((number("lost"), number("wrong")), (0, 0), "{told}");
    for key in ["operations", "upgrades", "restarts", "kills"] {
        assert!(number(key) > 0, "no {key}: {told}");
    }
    // What a process holds depends on what it has gone through: twice as much is no growth, more would be.
    assert!(number("rss_last") < 2 * number("rss_first"), "{told}");
    // So with descriptors: an upgrade or a client that comes has some for a moment. Those that a restart forgot would be many.
    assert!(number("fds_last") < 2 * number("fds_first"), "{told}");
}
