//! Rules that the storage needs and that don't depend on how it stores.

use crate::command::TtlKind;
use kv_resp::Writer;

/// What INCR answers for a value that is no integer.
pub const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
/// What INCR answers when the sum leaves 64 bits.
pub const INCREMENT_OVERFLOWS: &str = "ERR increment or decrement would overflow";

/// An integer as Redis reads them: an optional minus; no plus, leading zeros or blanks.
#[must_use]
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.split_first() {
        Some((b'-', digits)) => (true, digits),
        _ => (false, text),
    };
    match digits {
        [] => return None,
        [b'0'] if !negative => return Some(0),
        [b'0', ..] => return None,
        _ => {}
    }
    if digits.len() > 19 {
        return None;
    }
    let mut value = 0i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        let digit = i64::from(digit - b'0');
        value = value.checked_mul(10)?;
        value = if negative {
            value.checked_sub(digit)?
        } else {
            value.checked_add(digit)?
        };
    }
    Some(value)
}

/// The value after INCRBY: `old` is the stored value, if any.
///
/// # Errors
///
/// The text to answer when the value is no integer or the sum would overflow.
pub fn increment(old: Option<&[u8]>, by: i64) -> Result<i64, &'static str> {
    let old = match old {
        None => 0,
        Some(text) => parse_integer(text).ok_or(NOT_AN_INTEGER)?,
    };
    old.checked_add(by).ok_or(INCREMENT_OVERFLOWS)
}

/// What TTL and its like answer for a key that exists; for one that doesn't, they answer -2.
#[must_use]
pub fn ttl_answer(kind: TtlKind, deadline_ms: Option<i64>, now_ms: i64) -> i64 {
    let Some(deadline) = deadline_ms else {
        return -1;
    };
    let left = deadline.saturating_sub(now_ms).max(0);
    match kind {
        TtlKind::Seconds => left.saturating_add(500) / 1000,
        TtlKind::Millis => left,
        TtlKind::AtSeconds => deadline.saturating_add(500) / 1000,
        TtlKind::AtMillis => deadline,
    }
}

/// Whether INFO with these arguments shows this section, which is shown by default.
#[must_use]
pub fn wants_section(asked: &[&[u8]], section: &str) -> bool {
    asked.is_empty()
        || asked.iter().any(|name| {
            name.eq_ignore_ascii_case(section.as_bytes())
                || [&b"all"[..], b"default", b"everything"]
                    .iter()
                    .any(|every| name.eq_ignore_ascii_case(every))
        })
}

/// The answer to HELLO, in the version that `w` writes, which is the one after HELLO.
pub fn write_hello(w: &mut Writer<'_>, server: &str, version: &str, client_id: i64) {
    w.map(7);
    w.bulk(b"server");
    w.bulk(server.as_bytes());
    w.bulk(b"version");
    w.bulk(version.as_bytes());
    w.bulk(b"proto");
    w.integer(i64::from(w.protocol().number()));
    w.bulk(b"id");
    w.integer(client_id);
    w.bulk(b"mode");
    w.bulk(b"standalone");
    w.bulk(b"role");
    w.bulk(b"master");
    w.bulk(b"modules");
    w.array(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        for (text, value) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("01", None),
            ("+1", None),
            (" 1", None),
            ("1x", None),
        ] {
            assert_eq!(parse_integer(text.as_bytes()), value, "{text:?}");
        }
        assert_eq!(increment(None, 5), Ok(5));
        assert_eq!(increment(Some(b"x"), 5), Err(NOT_AN_INTEGER));
        assert_eq!(
            increment(Some(b"9223372036854775807"), 1),
            Err(INCREMENT_OVERFLOWS)
        );
    }

    #[test]
    fn times_to_live() {
        assert_eq!(ttl_answer(TtlKind::Seconds, None, 0), -1);
        assert_eq!(ttl_answer(TtlKind::Seconds, Some(10_400), 1_000), 9);
        assert_eq!(ttl_answer(TtlKind::Millis, Some(10_400), 1_000), 9_400);
        assert_eq!(ttl_answer(TtlKind::AtSeconds, Some(10_500), 1_000), 11);
        assert_eq!(ttl_answer(TtlKind::AtMillis, Some(10_500), 1_000), 10_500);
    }
}
