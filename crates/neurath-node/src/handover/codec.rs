//! Numbers, bytes and texts of a hand-over record, one after the other, little endian.

use super::record::RecordError;

/// Writes a payload.
#[derive(Debug, Default)]
pub(super) struct Encoder(Vec<u8>);

impl Encoder {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// How many follow.
    pub(super) fn count(&mut self, count: usize) {
        self.u64(count as u64);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }
}

/// Reads a payload. Each error names the field.
#[derive(Debug)]
pub(super) struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn take(&mut self, field: &'static str, length: usize) -> Result<&'a [u8], RecordError> {
        let rest = &self.bytes[self.at..];
        let Some(taken) = rest.get(..length) else {
            return Err(RecordError::Short {
                field,
                needed: length as u64,
                found: rest.len() as u64,
            });
        };
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], RecordError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(field, N)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, RecordError> {
        Ok(self.array::<1>(field)?[0])
    }

    pub(super) fn flag(&mut self, field: &'static str) -> Result<bool, RecordError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(RecordError::Field {
                field,
                text: format!("{other} where 0 or 1 belongs"),
            }),
        }
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, RecordError> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, RecordError> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// How many follow; each takes `least` bytes or more, so that no more is asked for than can be there.
    pub(super) fn count(
        &mut self,
        field: &'static str,
        least: usize,
    ) -> Result<usize, RecordError> {
        let count = self.u64(field)?;
        let rest = (self.bytes.len() - self.at) as u64;
        if count.saturating_mul(least as u64) > rest {
            return Err(RecordError::Short {
                field,
                needed: count.saturating_mul(least as u64),
                found: rest,
            });
        }
        Ok(count as usize)
    }

    pub(super) fn bytes(&mut self, field: &'static str) -> Result<Vec<u8>, RecordError> {
        let length = self.count(field, 1)?;
        Ok(self.take(field, length)?.to_vec())
    }

    pub(super) fn text(&mut self, field: &'static str) -> Result<String, RecordError> {
        String::from_utf8(self.bytes(field)?).map_err(|_| RecordError::Field {
            field,
            text: "it is not UTF-8".into(),
        })
    }

    /// Fails if something follows.
    pub(super) fn end(&self) -> Result<(), RecordError> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            more => Err(RecordError::Field {
                field: "payload",
                text: format!("{more} bytes after its end"),
            }),
        }
    }
}
