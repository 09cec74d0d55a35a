//! Durations, sizes and names: from text and back.

use std::time::Duration;

/// The longest name.
pub const NAME_LIMIT: usize = 64;

/// The longest version: with its name and an ending, it is the name of a file.
pub const VERSION_LIMIT: usize = 128;

/// The longest version requirement.
pub const REQUIREMENT_LIMIT: usize = 512;

/// The most digits that are read: more are no number that anybody meant.
const DIGIT_LIMIT: usize = 20;

/// Why a text is not a duration, a size or a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScalarError {
    /// Not a whole number followed by a unit.
    #[error("it is not a whole number followed by a unit")]
    Shape,
    /// The unit is not known.
    #[error("its unit is not known")]
    Unit,
    /// The number is too large.
    #[error("the number is too large")]
    Large,
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// Too long a name.
    #[error("it is longer than 64 characters")]
    Long,
    /// A character that a name must not have.
    #[error("it has the character {0:?}")]
    Character(char),
    /// A name that starts with something other than a letter.
    #[error("it starts with {0:?}")]
    Start(char),
}

fn split(text: &str) -> Result<(u64, &str), ScalarError> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    if text.is_empty() {
        return Err(ScalarError::Empty);
    }
    if digits.is_empty() {
        return Err(ScalarError::Shape);
    }
    if digits.len() > DIGIT_LIMIT {
        return Err(ScalarError::Large);
    }
    Ok((
        digits.parse().map_err(|_| ScalarError::Large)?,
        unit.trim_start_matches(' '),
    ))
}

/// Whether a text has the form of a lint's code: a capital letter and three digits.
pub fn is_code(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 4 && bytes[0].is_ascii_uppercase() && bytes[1..].iter().all(u8::is_ascii_digit)
}

/// Reads `250ms`, `5s`, `2m` or `1h`. At most one year.
pub fn parse_duration(text: &str) -> Result<Duration, ScalarError> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" => return Err(ScalarError::Shape),
        _ => return Err(ScalarError::Unit),
    };
    let millis = number.checked_mul(factor).ok_or(ScalarError::Large)?;
    if millis > 366 * 24 * 3_600_000 {
        return Err(ScalarError::Large);
    }
    Ok(Duration::from_millis(millis))
}

/// Writes a duration so that [`parse_duration`] reads it again: the largest unit that is exact.
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (factor, unit) in [(3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if millis > 0 && millis.is_multiple_of(factor) {
            return format!("{}{unit}", millis / factor);
        }
    }
    format!("{millis}ms")
}

/// Reads `4096B`, `64KiB`, `64MiB`, `16GiB` or `1TiB`. At most 2^47 bytes.
pub fn parse_size(text: &str) -> Result<u64, ScalarError> {
    let (number, unit) = split(text)?;
    let shift = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        "" => return Err(ScalarError::Shape),
        _ => return Err(ScalarError::Unit),
    };
    check_size(number.checked_mul(1 << shift).ok_or(ScalarError::Large)?)
}

/// A size within what an address space can hold.
pub(crate) fn check_size(bytes: u64) -> Result<u64, ScalarError> {
    if bytes > 1 << 47 {
        Err(ScalarError::Large)
    } else {
        Ok(bytes)
    }
}

/// Checks the name of a component, release, library or hook: lower-case letters, digits, `-` and `_`,
/// a letter first, so that it can never be a path or an option.
pub fn check_name(text: &str) -> Result<(), ScalarError> {
    let first = text.chars().next().ok_or(ScalarError::Empty)?;
    if let Some(bad) = text
        .chars()
        .find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-' | '_'))
    {
        return Err(ScalarError::Character(bad));
    }
    if !first.is_ascii_lowercase() {
        return Err(ScalarError::Start(first));
    }
    if text.len() > NAME_LIMIT {
        return Err(ScalarError::Long);
    }
    Ok(())
}

/// Checks what a component's library is built from: the name of a cargo package, or that of one
/// and of an example in it, with a `/` between.
pub fn check_library(text: &str) -> Result<(), ScalarError> {
    match text.split_once('/') {
        Some((package, example)) => check_name(package).and_then(|()| check_name(example)),
        None => check_name(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_come_back() {
        for text in ["1ms", "250ms", "5s", "90s", "2m", "1h"] {
            let duration = parse_duration(text).expect(text);
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
        assert_eq!(format_duration(Duration::ZERO), "0ms");
        for text in [
            "",
            "5",
            "s",
            "-5s",
            "5 days",
            "99999999999999999999s",
            "9999999999h",
            "５s",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("16 GiB"), Ok(16 << 30));
        for text in ["", "64", "64MB", "1000TiB", "99999999999999TiB", "-1B"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names() {
        for good in ["store", "kv-store-1-0-0", "a_b"] {
            assert_eq!(check_name(good), Ok(()));
        }
        for bad in [
            "",
            "../x",
            "a/b",
            "-rf",
            ".",
            "A",
            "a b",
            "a\0",
            "ä",
            "1a",
            &"a".repeat(65),
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
