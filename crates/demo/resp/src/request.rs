//! The server's side: requests.

use std::fmt;

/// The most arguments one request may announce.
pub const MAX_MULTIBULK_LEN: i64 = 1024 * 1024;
/// The longest argument one request may announce.
pub const MAX_BULK_LEN: i64 = 512 * 1024 * 1024;
/// The longest inline request, and the longest header line, without its end being in sight.
pub const MAX_INLINE_LEN: usize = 64 * 1024;

/// A request that breaks the protocol; the connection is answered and then closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolError {
    /// The number after `*` isn't a number or is too large.
    InvalidMultibulkLength,
    /// The number after `$` isn't a number, is negative or too large.
    InvalidBulkLength,
    /// An argument began with another byte than `$`.
    ExpectedDollar(u8),
    /// An inline request has no end of line within its limit.
    TooBigInlineRequest,
    /// The `*` line has no end within its limit.
    TooBigMultibulkCount,
    /// A `$` line has no end within its limit.
    TooBigBulkCount,
    /// The quotes of an inline request don't match.
    UnbalancedQuotes,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Protocol error: ")?;
        match self {
            Self::InvalidMultibulkLength => f.write_str("invalid multibulk length"),
            Self::InvalidBulkLength => f.write_str("invalid bulk length"),
            Self::ExpectedDollar(b'\r' | b'\n') => f.write_str("expected '$', got ' '"),
            Self::ExpectedDollar(byte) => write!(f, "expected '$', got '{}'", char::from(*byte)),
            Self::TooBigInlineRequest => f.write_str("too big inline request"),
            Self::TooBigMultibulkCount => f.write_str("too big mbulk count string"),
            Self::TooBigBulkCount => f.write_str("too big bulk count string"),
            Self::UnbalancedQuotes => f.write_str("unbalanced quotes in request"),
        }
    }
}

impl std::error::Error for ProtocolError {}

/// How far [`parse`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// One whole request was read; its arguments are in the [`Args`]. There may be none at
    /// all (an empty line, `*0`): such a request is skipped without an answer.
    Complete {
        /// Bytes of the buffer that the request took.
        consumed: usize,
    },
    /// The request isn't whole yet.
    Incomplete {
        /// The length that the buffer must have at least before a next call can come further.
        needed: usize,
    },
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
    /// Whether the bytes are in `Args::owned` (an unquoted inline argument).
    owned: bool,
}

/// The arguments of one request, as positions within the buffer that was parsed.
///
/// It is meant to be made once per connection and used again for each request. It also
/// remembers how far an incomplete request was read, so that a long request which comes
/// in many pieces is read once only.
#[derive(Debug, Clone, Default)]
pub struct Args {
    spans: Vec<Span>,
    owned: Vec<u8>,
    /// Where reading goes on; 0 when no request is under way.
    at: usize,
    /// Arguments still missing.
    missing: usize,
}

impl Args {
    /// No arguments.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of arguments.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Forgets everything, also a request under way.
    pub fn reset(&mut self) {
        self.spans.clear();
        self.owned.clear();
        self.at = 0;
        self.missing = 0;
    }

    /// Argument `index` within the buffer that was given to [`parse`].
    #[must_use]
    pub fn get<'b>(&'b self, buffer: &'b [u8], index: usize) -> Option<&'b [u8]> {
        self.spans.get(index).map(|span| self.bytes(buffer, *span))
    }

    fn bytes<'b>(&'b self, buffer: &'b [u8], span: Span) -> &'b [u8] {
        let from = if span.owned { &self.owned } else { buffer };
        from.get(span.start..span.end).unwrap_or_default()
    }

    /// All arguments in order.
    pub fn iter<'b>(&'b self, buffer: &'b [u8]) -> impl Iterator<Item = &'b [u8]> {
        self.spans.iter().map(move |span| self.bytes(buffer, *span))
    }

    /// Calls `f` with all arguments as one slice; takes no memory for up to 8 of them.
    pub fn with_slices<'b, R>(&'b self, buffer: &'b [u8], f: impl FnOnce(&[&'b [u8]]) -> R) -> R {
        const FEW: usize = 8;
        if self.spans.len() <= FEW {
            let mut few: [&[u8]; FEW] = [&[]; FEW];
            for (slot, span) in few.iter_mut().zip(&self.spans) {
                *slot = self.bytes(buffer, *span);
            }
            f(few.get(..self.spans.len()).unwrap_or_default())
        } else {
            let many: Vec<&[u8]> = self.iter(buffer).collect();
            f(&many)
        }
    }
}

/// The end of a header line.
enum Line {
    /// The line's text ends here and the next thing begins two bytes on.
    End(usize),
    Missing {
        too_long: bool,
    },
}

fn find_line(buffer: &[u8], from: usize) -> Line {
    let rest = buffer.get(from..).unwrap_or_default();
    match rest.iter().position(|byte| *byte == b'\r') {
        // As in Redis, the byte after the carriage return isn't looked at.
        Some(length) if length + 1 < rest.len() => Line::End(from + length),
        Some(_) => Line::Missing { too_long: false },
        None => Line::Missing {
            too_long: rest.len() > MAX_INLINE_LEN,
        },
    }
}

/// A number as Redis reads lengths: an optional minus, no leading zeros, no plus, no spaces.
fn parse_length(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.split_first() {
        Some((b'-', digits)) => (true, digits),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    if digits[0] == b'0' && (digits.len() > 1 || negative) {
        return None;
    }
    let mut value = 0i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    Some(if negative { -value } else { value })
}

/// Reads one request from the beginning of `buffer`.
///
/// After [`Progress::Incomplete`] the next call must be given the same request from its same
/// first byte with more bytes behind it, and the same `args` (or one that was reset). After
/// [`Progress::Complete`] the next request begins `consumed` bytes on.
///
/// # Errors
///
/// A [`ProtocolError`], after which the connection can't be read any further.
pub fn parse(buffer: &[u8], args: &mut Args) -> Result<Progress, ProtocolError> {
    if args.at == 0 || args.at > buffer.len() {
        args.reset();
        match buffer.first() {
            None => return Ok(Progress::Incomplete { needed: 1 }),
            Some(b'*') => {}
            Some(_) => return parse_inline(buffer, args),
        }
        let end = match find_line(buffer, 0) {
            Line::End(end) => end,
            Line::Missing { too_long: true } => return Err(ProtocolError::TooBigMultibulkCount),
            Line::Missing { too_long: false } => {
                return Ok(Progress::Incomplete {
                    needed: buffer.len() + 1,
                });
            }
        };
        let count = buffer
            .get(1..end)
            .and_then(parse_length)
            .filter(|count| *count <= MAX_MULTIBULK_LEN)
            .ok_or(ProtocolError::InvalidMultibulkLength)?;
        if count <= 0 {
            return Ok(Progress::Complete { consumed: end + 2 });
        }
        args.at = end + 2;
        args.missing = usize::try_from(count).unwrap_or(0);
    }
    while args.missing > 0 {
        let end = match find_line(buffer, args.at) {
            Line::End(end) => end,
            Line::Missing { too_long: true } => {
                args.reset();
                return Err(ProtocolError::TooBigBulkCount);
            }
            Line::Missing { too_long: false } => {
                return Ok(Progress::Incomplete {
                    needed: buffer.len() + 1,
                });
            }
        };
        match buffer.get(args.at).copied() {
            Some(b'$') => {}
            other => {
                args.reset();
                return Err(ProtocolError::ExpectedDollar(other.unwrap_or(b' ')));
            }
        }
        let length = buffer
            .get(args.at + 1..end)
            .and_then(parse_length)
            .filter(|length| (0..=MAX_BULK_LEN).contains(length))
            .and_then(|length| usize::try_from(length).ok());
        let Some(length) = length else {
            args.reset();
            return Err(ProtocolError::InvalidBulkLength);
        };
        let start = end + 2;
        let after = start + length + 2;
        if buffer.len() < after {
            return Ok(Progress::Incomplete { needed: after });
        }
        args.spans.push(Span {
            start,
            end: start + length,
            owned: false,
        });
        args.at = after;
        args.missing -= 1;
    }
    let consumed = args.at;
    args.at = 0;
    Ok(Progress::Complete { consumed })
}

fn parse_inline(buffer: &[u8], args: &mut Args) -> Result<Progress, ProtocolError> {
    // Without a limit on the search a peer that never ends its line would cost a look at all of
    // it each time; the limit bounds that.
    let Some(end) = buffer.iter().position(|byte| *byte == b'\n') else {
        if buffer.len() > MAX_INLINE_LEN {
            return Err(ProtocolError::TooBigInlineRequest);
        }
        return Ok(Progress::Incomplete {
            needed: buffer.len() + 1,
        });
    };
    if end > MAX_INLINE_LEN {
        return Err(ProtocolError::TooBigInlineRequest);
    }
    let line = buffer.get(..end).unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Args { spans, owned, .. } = args;
    let split = split_inline_into(line, |argument| match argument {
        Piece::Within { start, end } => spans.push(Span {
            start,
            end,
            owned: false,
        }),
        Piece::Made(bytes) => {
            let start = owned.len();
            owned.extend_from_slice(bytes);
            spans.push(Span {
                start,
                end: owned.len(),
                owned: true,
            });
        }
    });
    if !split {
        args.reset();
        return Err(ProtocolError::UnbalancedQuotes);
    }
    Ok(Progress::Complete { consumed: end + 1 })
}

/// Splits a line as Redis splits inline requests and redis-cli its input: words apart by
/// blanks, `"…"` with the escapes `\n \r \t \b \a \xHH`, `'…'` with the escape `\'`. `None` when
/// quotes don't match.
#[must_use]
pub fn split_inline(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    split_inline_into(line, |piece| {
        words.push(match piece {
            Piece::Within { start, end } => line.get(start..end).unwrap_or_default().to_vec(),
            Piece::Made(bytes) => bytes.to_vec(),
        });
    })
    .then_some(words)
}

enum Piece<'a> {
    Within { start: usize, end: usize },
    Made(&'a [u8]),
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

fn hex(byte: Option<&u8>) -> Option<u8> {
    let digit = char::from(*byte?).to_digit(16)?;
    u8::try_from(digit).ok()
}

fn split_inline_into(line: &[u8], mut word: impl FnMut(Piece<'_>)) -> bool {
    // A zero byte ends the line, since Redis treats it as a C string.
    let length = line.iter().position(|byte| *byte == 0);
    let line = line.get(..length.unwrap_or(line.len())).unwrap_or_default();
    let mut made = Vec::new();
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(|byte| is_space(*byte)) {
            at += 1;
        }
        if at >= line.len() {
            return true;
        }
        let start = at;
        // The usual word: no quotes.
        let plain = line[start..]
            .iter()
            .position(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | b'"' | b'\''))
            .map_or(line.len(), |length| start + length);
        if !matches!(line.get(plain), Some(b'"' | b'\'')) {
            word(Piece::Within { start, end: plain });
            at = plain;
            continue;
        }
        made.clear();
        made.extend_from_slice(&line[start..plain]);
        at = plain;
        while let Some(&byte) = line.get(at) {
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' => break,
                b'"' => match double_quoted(line, at + 1, &mut made) {
                    Some(next) => {
                        at = next;
                        break;
                    }
                    None => return false,
                },
                b'\'' => match single_quoted(line, at + 1, &mut made) {
                    Some(next) => {
                        at = next;
                        break;
                    }
                    None => return false,
                },
                other => {
                    made.push(other);
                    at += 1;
                }
            }
        }
        word(Piece::Made(&made));
    }
}

/// What follows a closing quote must be a blank or the end.
fn after_quote(line: &[u8], at: usize) -> Option<usize> {
    match line.get(at) {
        Some(byte) if !is_space(*byte) => None,
        _ => Some(at),
    }
}

fn double_quoted(line: &[u8], mut at: usize, made: &mut Vec<u8>) -> Option<usize> {
    loop {
        match *line.get(at)? {
            b'"' => return after_quote(line, at + 1),
            b'\\' if line.get(at + 1).is_some() => {
                if line.get(at + 1) == Some(&b'x')
                    && let (Some(high), Some(low)) = (hex(line.get(at + 2)), hex(line.get(at + 3)))
                {
                    made.push(high * 16 + low);
                    at += 4;
                    continue;
                }
                made.push(match *line.get(at + 1)? {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => other,
                });
                at += 2;
            }
            other => {
                made.push(other);
                at += 1;
            }
        }
    }
}

fn single_quoted(line: &[u8], mut at: usize, made: &mut Vec<u8>) -> Option<usize> {
    loop {
        match *line.get(at)? {
            b'\'' => return after_quote(line, at + 1),
            b'\\' if line.get(at + 1) == Some(&b'\'') => {
                made.push(b'\'');
                at += 2;
            }
            other => {
                made.push(other);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(buffer: &[u8]) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
        let mut requests = Vec::new();
        let mut args = Args::new();
        let mut at = 0;
        while let Progress::Complete { consumed } = parse(&buffer[at..], &mut args)? {
            requests.push(args.iter(&buffer[at..]).map(<[u8]>::to_vec).collect());
            at += consumed;
        }
        Ok(requests)
    }

    fn words(request: &[&str]) -> Vec<Vec<u8>> {
        request
            .iter()
            .map(|word| word.as_bytes().to_vec())
            .collect()
    }

    #[test]
    fn arrays_and_inline() {
        let got =
            all(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\nset k \"a\\x41\\n\"\r\n\r\n*0\r\n*-1\r\n");
        assert_eq!(
            got,
            Ok(vec![
                words(&["GET", "k"]),
                words(&["PING"]),
                words(&["set", "k", "aA\n"]),
                words(&[]),
                words(&[]),
                words(&[]),
            ])
        );
    }

    #[test]
    fn errors_are_worded_as_in_redis() {
        for (bytes, text) in [
            (&b"*1048577\r\n"[..], "invalid multibulk length"),
            (b"*x\r\n", "invalid multibulk length"),
            (b"*\r\n", "invalid multibulk length"),
            (b"*1\r\n$536870913\r\n", "invalid bulk length"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*1\r\nx1\r\n", "expected '$', got 'x'"),
            (b"set \"k\r\n", "unbalanced quotes in request"),
            (b"set 'k'x\r\n", "unbalanced quotes in request"),
        ] {
            let error = all(bytes).expect_err("a protocol error");
            assert_eq!(error.to_string(), format!("Protocol error: {text}"));
        }
        let long = vec![b'a'; MAX_INLINE_LEN + 1];
        assert_eq!(all(&long), Err(ProtocolError::TooBigInlineRequest));
        let mut long = vec![b'1'; MAX_INLINE_LEN + 2];
        long[0] = b'*';
        assert_eq!(all(&long), Err(ProtocolError::TooBigMultibulkCount));
    }

    #[test]
    fn an_incomplete_request_says_what_it_needs() {
        let mut args = Args::new();
        let whole = b"*2\r\n$3\r\nGET\r\n$10\r\n0123456789\r\n";
        assert_eq!(
            parse(&whole[..20], &mut args),
            Ok(Progress::Incomplete {
                needed: whole.len()
            })
        );
        assert_eq!(
            parse(whole, &mut args),
            Ok(Progress::Complete {
                consumed: whole.len()
            })
        );
        args.with_slices(whole, |argv| {
            assert_eq!(argv, [&b"GET"[..], b"0123456789"]);
        });
    }

    #[test]
    fn many_arguments() {
        let mut bytes = b"*20\r\n".to_vec();
        for _ in 0..20 {
            bytes.extend_from_slice(b"$1\r\nx\r\n");
        }
        let mut args = Args::new();
        assert!(matches!(
            parse(&bytes, &mut args),
            Ok(Progress::Complete { .. })
        ));
        assert_eq!(args.with_slices(&bytes, <[&[u8]]>::len), 20);
    }
}
