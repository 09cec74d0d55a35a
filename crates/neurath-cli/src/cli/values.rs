//! Values of options, read from their text.

use std::time::Duration;

use neurath_node::catalog::ReleaseId;
use semver::Version;

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    neurath_manifest::scalar::parse_duration(text).map_err(|error| error.to_string())
}

/// Reads `NAME-VERSION`: the version begins after the first `-` that a version follows.
///
/// # Errors
///
/// If there is no name, or no version.
pub fn release_id(text: &str) -> Result<ReleaseId, String> {
    for (at, _) in text.match_indices('-') {
        let (name, version) = (&text[..at], &text[at + 1..]);
        if !name.is_empty() && Version::parse(version).is_ok() {
            return Ok(ReleaseId::new(name, version));
        }
    }
    Err(format!(
        "`{text}` is not a release: write its name and version, such as kv-1.1.0"
    ))
}

pub(super) fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.01..=86_400.0).contains(&value) => Ok(value),
        _ => Err(String::from("give a number of seconds from 0.01 to 86400")),
    }
}

pub(super) fn demo_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.01..=45.0).contains(&value) => Ok(value),
        _ => Err(String::from("give a number of seconds from 0.01 to 45")),
    }
}

pub(super) fn long_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.01..=1e6).contains(&value) => Ok(value),
        _ => Err(String::from(
            "give a number of seconds from 0.01 to 1000000",
        )),
    }
}

pub(super) fn number(text: &str) -> Result<u64, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| String::from("give a number, decimal or with 0x"))
}
