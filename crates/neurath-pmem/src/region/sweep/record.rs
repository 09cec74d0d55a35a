//! The record of a sweep, as it stands in the file.

use xxhash_rust::xxh3::xxh3_64;

use super::super::error::FormatError;
use super::super::format::{self, Header, SCHEMA_AT, SWEEP_HEAD, SweepPlace};
use super::super::media::Media;

const MAGIC: [u8; 8] = *b"NEURSWEP";

/// What the file says of a sweep.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Record {
    /// The encoded schema before.
    pub(crate) old: Vec<u8>,
    /// The encoded schema that is the present one.
    pub(crate) new: Vec<u8>,
    /// Types of segments that are still to be converted, and what they become; 0 for nothing.
    pub(crate) pairs: Vec<(u64, u64)>,
}

impl Record {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; SWEEP_HEAD as usize];
        format::put(&mut out, 0, &MAGIC);
        format::put(&mut out, 8, &(self.old.len() as u32).to_le_bytes());
        format::put(&mut out, 12, &(self.new.len() as u32).to_le_bytes());
        format::put(&mut out, 16, &(self.pairs.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.old);
        out.extend_from_slice(&self.new);
        for (old, new) in &self.pairs {
            out.extend_from_slice(&old.to_le_bytes());
            out.extend_from_slice(&new.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(8), 0);
        let sum = xxh3_64(&out);
        format::put(&mut out, 24, &sum.to_le_bytes());
        out
    }

    /// Reads the record at the begin of `bytes`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Record, FormatError> {
        let damaged = || FormatError::Checksum {
            what: "the record of a sweep".into(),
        };
        if bytes.len() < SWEEP_HEAD as usize || bytes[..8] != MAGIC {
            return Err(damaged());
        }
        let count = |at| format::get_u32(bytes, at) as usize;
        let (old, new, pairs) = (count(8), count(12), count(16));
        let head = SWEEP_HEAD as usize;
        let len = head as u64 + old as u64 + new as u64 + 16 * pairs as u64;
        let len = usize::try_from(len.next_multiple_of(8)).map_err(|_| damaged())?;
        let mut whole = bytes.get(..len).ok_or_else(damaged)?.to_vec();
        let said = format::get_u64(&whole, 24);
        whole[24..32].fill(0);
        if xxh3_64(&whole) != said {
            return Err(damaged());
        }
        let pairs = whole[head + old + new..].chunks_exact(16).take(pairs);
        Ok(Record {
            old: whole[head..head + old].to_vec(),
            new: whole[head + old..head + old + new].to_vec(),
            pairs: pairs
                .map(|pair| (format::get_u64(pair, 0), format::get_u64(pair, 8)))
                .collect(),
        })
    }

    /// The record that a header names.
    pub(crate) fn read(
        media: &dyn Media,
        header: &Header,
    ) -> Result<Option<(Record, SweepPlace)>, FormatError> {
        let Some(place) = header.sweep else {
            return Ok(None);
        };
        let bytes = media.bytes(SCHEMA_AT + u64::from(place.at), place.len.into());
        let record = Record::parse(bytes)?;
        let schema = media.bytes(header.schema_at(), header.schema_len.into());
        if record.new != schema || record.old.len() != place.old_len as usize {
            return Err(FormatError::Checksum {
                what: "the record of a sweep".into(),
            });
        }
        Ok(Some((record, place)))
    }
}
