//! The server's side: replies.

/// The version of the protocol that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// RESP2, with which every connection begins.
    #[default]
    Resp2,
    /// RESP3, after `HELLO 3`.
    Resp3,
}

impl Protocol {
    /// The protocol of this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            2 => Some(Self::Resp2),
            3 => Some(Self::Resp3),
            _ => None,
        }
    }

    /// 2 or 3.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }
}

/// Appends the decimal digits of `number`.
pub fn push_decimal(out: &mut Vec<u8>, number: i64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends replies to a byte vector in the connection's version of the protocol.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    protocol: Protocol,
}

impl<'a> Writer<'a> {
    /// A writer that appends to `out`.
    pub fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Self {
        Self { out, protocol }
    }

    /// The version written.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    fn header(&mut self, mark: u8, number: i64) {
        self.out.push(mark);
        push_decimal(self.out, number);
        self.out.extend_from_slice(b"\r\n");
    }

    fn length(&mut self, mark: u8, length: usize) {
        self.header(mark, i64::try_from(length).unwrap_or(i64::MAX));
    }

    /// One line; ends of line within it become blanks, as in Redis.
    fn line(&mut self, mark: u8, text: &[u8]) {
        self.out.push(mark);
        let start = self.out.len();
        self.out.extend_from_slice(text);
        for byte in self.out.iter_mut().skip(start) {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        self.out.extend_from_slice(b"\r\n");
    }

    /// `+OK`.
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// A simple string.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error. The text holds its code: `ERR syntax error`.
    pub fn error(&mut self, text: &str) {
        self.error_bytes(text.as_bytes());
    }

    /// An error whose text may hold any bytes, such as a client's own.
    pub fn error_bytes(&mut self, text: &[u8]) {
        self.line(b'-', text);
    }

    /// An integer.
    pub fn integer(&mut self, number: i64) {
        self.header(b':', number);
    }

    /// A bulk string.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.out.reserve(bytes.len() + 16);
        self.length(b'$', bytes.len());
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// A bulk string or null.
    pub fn optional_bulk(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// Null: `_` in RESP3, the null bulk string in RESP2.
    pub fn null(&mut self) {
        self.out.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n".as_slice(),
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// Null in an array's place: `_` in RESP3, the null array in RESP2.
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"*-1\r\n".as_slice(),
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// The beginning of an array of `length` replies.
    pub fn array(&mut self, length: usize) {
        self.length(b'*', length);
    }

    /// The beginning of a map of `pairs` keys and values; a flat array in RESP2.
    pub fn map(&mut self, pairs: usize) {
        match self.protocol {
            Protocol::Resp2 => self.length(b'*', pairs.saturating_mul(2)),
            Protocol::Resp3 => self.length(b'%', pairs),
        }
    }

    /// The beginning of a set of `length` replies; an array in RESP2.
    pub fn set(&mut self, length: usize) {
        match self.protocol {
            Protocol::Resp2 => self.length(b'*', length),
            Protocol::Resp3 => self.length(b'~', length),
        }
    }

    /// A floating point number; a bulk string in RESP2.
    pub fn double(&mut self, number: f64) {
        let text = if number.is_infinite() {
            String::from(if number > 0.0 { "inf" } else { "-inf" })
        } else if number.is_nan() {
            String::from("nan")
        } else {
            number.to_string()
        };
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => self.line(b',', text.as_bytes()),
        }
    }

    /// A boolean; 1 or 0 in RESP2.
    pub fn boolean(&mut self, truth: bool) {
        match self.protocol {
            Protocol::Resp2 => self.integer(i64::from(truth)),
            Protocol::Resp3 => {
                self.out
                    .extend_from_slice(if truth { b"#t\r\n" } else { b"#f\r\n" });
            }
        }
    }

    /// A text with a three-letter format such as `txt`; a bulk string in RESP2.
    pub fn verbatim(&mut self, format: [u8; 3], text: &[u8]) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => {
                self.length(b'=', text.len().saturating_add(4));
                self.out.extend_from_slice(&format);
                self.out.push(b':');
                self.out.extend_from_slice(text);
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(protocol: Protocol, write: impl FnOnce(&mut Writer<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out, protocol));
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn both_versions() {
        let everything = |w: &mut Writer<'_>| {
            w.ok();
            w.error("ERR a\r\nb");
            w.integer(i64::MIN);
            w.null();
            w.map(1);
            w.bulk(b"k");
            w.set(0);
            w.boolean(true);
            w.double(1.5);
            w.verbatim(*b"txt", b"x");
        };
        assert_eq!(
            written(Protocol::Resp2, everything),
            "+OK\r\n-ERR a  b\r\n:-9223372036854775808\r\n$-1\r\n*2\r\n$1\r\nk\r\n*0\r\n:1\r\n$3\r\n1.5\r\n$1\r\nx\r\n"
        );
        assert_eq!(
            written(Protocol::Resp3, everything),
            "+OK\r\n-ERR a  b\r\n:-9223372036854775808\r\n_\r\n%1\r\n$1\r\nk\r\n~0\r\n#t\r\n,1.5\r\n=5\r\ntxt:x\r\n"
        );
    }
}
