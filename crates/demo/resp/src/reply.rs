//! The client's side.

use crate::writer::push_decimal;
use std::fmt;

/// How deep replies may be nested.
const MAX_DEPTH: usize = 32;
/// The longest line of a reply (an error's text, a number).
const MAX_LINE: usize = 1024 * 1024;
/// The longest bulk string.
const MAX_BULK: usize = 512 * 1024 * 1024;

/// One reply.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `+`: a status.
    Simple(Vec<u8>),
    /// `-` or `!`: an error with its code and text.
    Error(Vec<u8>),
    /// `:`: an integer.
    Integer(i64),
    /// `$`: a byte string.
    Bulk(Vec<u8>),
    /// `$-1`, `*-1` or `_`.
    Null,
    /// `*`: an array.
    Array(Vec<Value>),
    /// `%`: keys and values.
    Map(Vec<(Value, Value)>),
    /// `~`: a set.
    Set(Vec<Value>),
    /// `,`: a floating point number.
    Double(f64),
    /// `#`: true or false.
    Boolean(bool),
    /// `=`: a text with a format.
    Verbatim([u8; 3], Vec<u8>),
    /// `(`: an integer of any size, as its digits.
    BigNumber(Vec<u8>),
    /// `>`: something pushed, not an answer.
    Push(Vec<Value>),
}

impl Value {
    /// The text of an error.
    #[must_use]
    pub fn as_error(&self) -> Option<&[u8]> {
        match self {
            Self::Error(text) => Some(text),
            _ => None,
        }
    }

    /// Whether this is `+OK`.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Simple(text) if text == b"OK")
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list(f: &mut fmt::Formatter<'_>, values: &[Value]) -> fmt::Result {
            f.write_str("[")?;
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    f.write_str(", ")?;
                }
                value.fmt(f)?;
            }
            f.write_str("]")
        }
        match self {
            Self::Simple(text) => write!(f, "{}", text.escape_ascii()),
            Self::Error(text) => write!(f, "error {}", text.escape_ascii()),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Bulk(bytes) | Self::Verbatim(_, bytes) => {
                write!(f, "\"{}\"", bytes.escape_ascii())
            }
            Self::Null => f.write_str("null"),
            Self::Array(values) | Self::Set(values) | Self::Push(values) => list(f, values),
            Self::Map(pairs) => {
                f.write_str("{")?;
                for (index, (key, value)) in pairs.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{key}: {value}")?;
                }
                f.write_str("}")
            }
            Self::Double(number) => write!(f, "{number}"),
            Self::Boolean(truth) => write!(f, "{truth}"),
            Self::BigNumber(digits) => write!(f, "{}", digits.escape_ascii()),
        }
    }
}

/// A reply that breaks the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyError {
    /// No type of reply begins with this byte.
    UnknownType(u8),
    /// A number or length is none, or out of range.
    InvalidNumber,
    /// A line or string is longer than any answer may be.
    TooLong,
    /// A string isn't followed by its end of line.
    MissingEnd,
    /// Replies within replies within replies…
    TooDeep,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownType(byte) => {
                write!(f, "a reply begins with '{}'", [*byte].escape_ascii())
            }
            Self::InvalidNumber => f.write_str("a reply holds an invalid number"),
            Self::TooLong => f.write_str("a reply is too long"),
            Self::MissingEnd => f.write_str("a string in a reply has no end of line"),
            Self::TooDeep => f.write_str("a reply is nested too deep"),
        }
    }
}

impl std::error::Error for ReplyError {}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// `Ok(None)`: more bytes are needed.
type Step<T> = Result<Option<T>, ReplyError>;

macro_rules! need {
    ($step:expr) => {
        match $step? {
            Some(value) => value,
            None => return Ok(None),
        }
    };
}

impl<'a> Cursor<'a> {
    fn line(&mut self) -> Step<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        match rest.iter().take(MAX_LINE).position(|byte| *byte == b'\r') {
            None if rest.len() >= MAX_LINE => Err(ReplyError::TooLong),
            None => Ok(None),
            Some(length) => match rest.get(length + 1) {
                None => Ok(None),
                Some(b'\n') => {
                    self.at += length + 2;
                    Ok(rest.get(..length))
                }
                Some(_) => Err(ReplyError::MissingEnd),
            },
        }
    }

    fn number(&mut self) -> Step<i64> {
        let line = need!(self.line());
        parse_i64(line).map(Some).ok_or(ReplyError::InvalidNumber)
    }

    /// A length; `None` inside for the -1 of RESP2's nulls.
    fn length(&mut self) -> Step<Option<usize>> {
        match need!(self.number()) {
            -1 => Ok(Some(None)),
            number => usize::try_from(number)
                .map(|length| Some(Some(length)))
                .map_err(|_| ReplyError::InvalidNumber),
        }
    }

    fn text(&mut self) -> Step<Option<Vec<u8>>> {
        let Some(length) = need!(self.length()) else {
            return Ok(Some(None));
        };
        if length > MAX_BULK {
            return Err(ReplyError::TooLong);
        }
        let end = self.at + length;
        match self.bytes.get(end..end + 2) {
            None => Ok(None),
            Some(b"\r\n") => {
                let text = self.bytes.get(self.at..end).unwrap_or_default().to_vec();
                self.at = end + 2;
                Ok(Some(Some(text)))
            }
            Some(_) => Err(ReplyError::MissingEnd),
        }
    }

    fn values(&mut self, depth: usize) -> Step<Option<Vec<Value>>> {
        let Some(count) = need!(self.length()) else {
            return Ok(Some(None));
        };
        // A reply takes 3 bytes at least, so a count that lies takes no memory.
        let room = self.bytes.len().saturating_sub(self.at) / 3;
        let mut values = Vec::with_capacity(count.min(room));
        for _ in 0..count {
            values.push(need!(self.value(depth + 1)));
        }
        Ok(Some(Some(values)))
    }

    fn value(&mut self, depth: usize) -> Step<Value> {
        if depth > MAX_DEPTH {
            return Err(ReplyError::TooDeep);
        }
        let Some(mark) = self.bytes.get(self.at).copied() else {
            return Ok(None);
        };
        self.at += 1;
        let value = match mark {
            b'+' => Value::Simple(need!(self.line()).to_vec()),
            b'-' => Value::Error(need!(self.line()).to_vec()),
            b':' => Value::Integer(need!(self.number())),
            b'(' => Value::BigNumber(need!(self.line()).to_vec()),
            b'$' => need!(self.text()).map_or(Value::Null, Value::Bulk),
            b'!' => need!(self.text()).map_or(Value::Null, Value::Error),
            b'*' => need!(self.values(depth)).map_or(Value::Null, Value::Array),
            b'~' => need!(self.values(depth)).map_or(Value::Null, Value::Set),
            b'>' => need!(self.values(depth)).map_or(Value::Null, Value::Push),
            b'_' => match need!(self.line()) {
                [] => Value::Null,
                _ => return Err(ReplyError::InvalidNumber),
            },
            b'#' => match need!(self.line()) {
                b"t" => Value::Boolean(true),
                b"f" => Value::Boolean(false),
                _ => return Err(ReplyError::InvalidNumber),
            },
            b',' => {
                let line = need!(self.line());
                let number = std::str::from_utf8(line)
                    .ok()
                    .and_then(|text| text.parse().ok())
                    .ok_or(ReplyError::InvalidNumber)?;
                Value::Double(number)
            }
            b'=' => match need!(self.text()) {
                None => Value::Null,
                Some(text) => match text.as_slice() {
                    [a, b, c, b':', rest @ ..] => Value::Verbatim([*a, *b, *c], rest.to_vec()),
                    _ => return Err(ReplyError::InvalidNumber),
                },
            },
            b'%' | b'|' => {
                let count = need!(self.length()).unwrap_or(0);
                let room = self.bytes.len().saturating_sub(self.at) / 6;
                let mut pairs = Vec::with_capacity(count.min(room));
                for _ in 0..count {
                    let key = need!(self.value(depth + 1));
                    pairs.push((key, need!(self.value(depth + 1))));
                }
                if mark == b'|' {
                    // Attributes come before the reply that they belong to.
                    need!(self.value(depth + 1))
                } else {
                    Value::Map(pairs)
                }
            }
            other => return Err(ReplyError::UnknownType(other)),
        };
        Ok(Some(value))
    }
}

fn parse_i64(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Reads one reply from the beginning of `buffer`: the reply and the bytes it took, or `None`
/// when it isn't whole yet.
///
/// # Errors
///
/// A [`ReplyError`], after which the connection can't be read any further.
pub fn parse_reply(buffer: &[u8]) -> Result<Option<(Value, usize)>, ReplyError> {
    let mut cursor = Cursor {
        bytes: buffer,
        at: 0,
    };
    Ok(cursor.value(0)?.map(|value| (value, cursor.at)))
}

/// Appends a command as an array of bulk strings.
pub fn encode_command<A: AsRef<[u8]>>(out: &mut Vec<u8>, argv: &[A]) {
    let length = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
    out.push(b'*');
    push_decimal(out, length(argv.len()));
    out.extend_from_slice(b"\r\n");
    for argument in argv {
        let argument = argument.as_ref();
        out.push(b'$');
        push_decimal(out, length(argument.len()));
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type() {
        for (bytes, text) in [
            (&b"+OK\r\n"[..], "OK"),
            (b"-ERR no\r\n", "error ERR no"),
            (b":-5\r\n", "-5"),
            (b"$3\r\na\r\n\r\n", "\"a\\r\\n\""),
            (b"$-1\r\n", "null"),
            (b"*-1\r\n", "null"),
            (b"_\r\n", "null"),
            (b"*2\r\n:1\r\n*0\r\n", "[1, []]"),
            (b"%1\r\n+a\r\n#t\r\n", "{a: true}"),
            (b"~1\r\n,1.5\r\n", "[1.5]"),
            (b"=5\r\ntxt:x\r\n", "\"x\""),
            (b"|1\r\n+a\r\n+b\r\n+c\r\n", "c"),
            (b"!5\r\nERR x\r\n", "error ERR x"),
        ] {
            let (value, consumed) = parse_reply(bytes).expect("valid").expect("whole");
            assert_eq!((value.to_string().as_str(), consumed), (text, bytes.len()));
            for cut in 0..bytes.len() {
                assert_eq!(parse_reply(&bytes[..cut]), Ok(None), "{text} cut at {cut}");
            }
        }
    }

    #[test]
    fn lies_take_no_memory() {
        assert_eq!(parse_reply(b"*9000000000000000000\r\n"), Ok(None));
        assert_eq!(
            parse_reply(b"$9000000000000000000\r\n"),
            Err(ReplyError::TooLong)
        );
        assert_eq!(
            parse_reply(&b"*1\r\n".repeat(1000)),
            Err(ReplyError::TooDeep)
        );
        assert_eq!(parse_reply(b"x"), Err(ReplyError::UnknownType(b'x')));
    }
}
