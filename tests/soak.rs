//! The short form of `neurath soak`: whatever comes in whatever order, nothing is lost or wrong, and the
//! node does not grow.

mod support;

use serde_json::Value;
use support::{neurath, stderr};

/// With building, the whole takes about a minute. Where too little comes in that time to say anything, it takes longer:
/// what grows would have grown more by then.
const SECONDS: [&str; 3] = ["40", "120", "300"];
const SEED: &str = "7";

/// What a soak of so long tells, in which nothing may be lost.
fn soaked(seconds: &str) -> Value {
    let soaked = neurath(&["soak", "--seconds", seconds, "--seed", SEED, "--json"]);
    assert!(soaked.status.success(), "{}", stderr(&soaked));
    let told: Value = serde_json::from_slice(&soaked.stdout).expect("JSON");
    let found = (number(&told, "lost"), number(&told, "wrong"));
    assert_eq!(found, (0, 0), "{told}");
    told
}

#[track_caller]
fn number(told: &Value, key: &str) -> u64 {
    let number = told[key].as_u64();
    number.unwrap_or_else(|| panic!("{key} is not in {told}"))
}

/// Everything came, and the node did not grow.
fn says_enough(told: &Value) -> bool {
    let mut all = ["operations", "upgrades", "restarts", "kills"].iter();
    // What a process holds depends on what it has gone through: twice as much is no growth, more would be. So with
    // descriptors: an upgrade or a client that comes has some for a moment. Those that a restart forgot would be many.
    let grew = |last: &str, first: &str| number(told, last) >= 2 * number(told, first);
    all.all(|key| number(told, key) > 0)
        && !grew("rss_last", "rss_first")
        && !grew("fds_last", "fds_first")
}

#[test]
fn whatever_comes_nothing_is_lost() {
    let mut told = Vec::new();
    let enough = SECONDS.iter().any(|seconds| {
        told.push(soaked(seconds));
        told.last().is_some_and(says_enough)
    });
    assert!(
        enough,
        "something did not come, or the node grew: {told:#?}"
    );
}
