//! The bytes of a slot, and which of the two slots counts: a pure function over the file's bytes.

use std::path::Path;

use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use super::{CatalogError, State};

/// The first bytes of each slot.
pub const MAGIC: [u8; 8] = *b"NEURCAT\n";
/// The version of the format that this code writes.
pub const FORMAT: u32 = 6;
/// The earliest version that this code reads.
const OLDEST_FORMAT: u32 = 1;
/// Bytes of one slot.
pub const SLOT_BYTES: usize = 64 * 1024;
/// Bytes before the payload: magic, format, zero, generation, length.
pub const HEADER_BYTES: usize = 32;
/// Bytes of the checksum after the payload.
pub const CHECKSUM_BYTES: usize = 8;
/// The longest payload that fits a slot.
pub const PAYLOAD_LIMIT: usize = SLOT_BYTES - HEADER_BYTES - CHECKSUM_BYTES;

/// What is wrong with one slot.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SlotFault {
    /// The file ends inside the slot.
    #[error("`{field}`: the file ends before byte {needed} of the slot, which has {found}")]
    Short {
        /// The field that is cut off.
        field: &'static str,
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        found: usize,
    },
    /// The first bytes are not those of a catalog slot.
    #[error("`magic`: not the first bytes of a catalog slot")]
    Magic,
    /// The zero bytes of the header are not zero.
    #[error("`reserved`: {0:#x} where zero belongs")]
    Reserved(u32),
    /// A format number of which this code knows nothing, over a damaged slot.
    #[error("`format`: {0} where {FORMAT} belongs")]
    Format(u32),
    /// The length does not fit the slot.
    #[error("`length`: {0} bytes, above the limit of {PAYLOAD_LIMIT}")]
    Length(u64),
    /// The content does not match its checksum.
    #[error("`checksum`: {stored:#018x} stored, {computed:#018x} computed")]
    Checksum {
        /// What the slot says.
        stored: u64,
        /// What its bytes give.
        computed: u64,
    },
    /// The payload matches its checksum and is no [`State`].
    #[error("`payload`: {0}")]
    Payload(String),
}

/// A damaged slot that [`super::Catalog::open`] passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedSlot {
    /// 0 or 1.
    pub slot: usize,
    /// The generation that its header claims, where it can be read; proves nothing.
    pub claimed_generation: Option<u64>,
    /// What is wrong with it.
    pub fault: SlotFault,
}

enum Slot {
    Valid { generation: u64, state: Box<State> },
    Damaged(DamagedSlot),
    Newer(u32),
}

pub(super) fn encode(path: &Path, generation: u64, state: &State) -> Result<Vec<u8>, CatalogError> {
    let payload = serde_json::to_vec(state).map_err(|source| CatalogError::Encode {
        path: path.to_owned(),
        source,
    })?;
    if payload.len() > PAYLOAD_LIMIT {
        return Err(CatalogError::TooLarge {
            path: path.to_owned(),
            bytes: payload.len(),
        });
    }
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len() + CHECKSUM_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&0u32.to_le_bytes());
    bytes.extend_from_slice(&generation.to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&payload);
    bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
    Ok(bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Reads slot number `slot` out of as many of its bytes as the file has.
fn decode(slot: usize, bytes: &[u8]) -> Slot {
    let claimed_generation = u64_at(bytes, 16);
    let damaged = |fault| {
        Slot::Damaged(DamagedSlot {
            slot,
            claimed_generation,
            fault,
        })
    };
    let short = |field, needed| {
        damaged(SlotFault::Short {
            field,
            needed,
            found: bytes.len(),
        })
    };
    match bytes.get(..MAGIC.len()) {
        None => return short("magic", MAGIC.len()),
        Some(magic) if magic != MAGIC => return damaged(SlotFault::Magic),
        Some(_) => {}
    }
    let Some(format) = u32_at(bytes, 8) else {
        return short("format", 12);
    };
    let Some(reserved) = u32_at(bytes, 12) else {
        return short("reserved", 16);
    };
    let Some(generation) = claimed_generation else {
        return short("generation", 24);
    };
    let Some(length) = u64_at(bytes, 24) else {
        return short("length", HEADER_BYTES);
    };
    if length > PAYLOAD_LIMIT as u64 {
        return damaged(SlotFault::Length(length));
    }
    let end = HEADER_BYTES + length as usize;
    let Some(payload) = bytes.get(HEADER_BYTES..end) else {
        return short("payload", end);
    };
    let Some(stored) = u64_at(bytes, end) else {
        return short("checksum", end + CHECKSUM_BYTES);
    };
    let computed = xxh3_64(&bytes[..end]);
    if stored != computed {
        return damaged(SlotFault::Checksum { stored, computed });
    }
    // From here on the bytes are as somebody wrote them. A later format is not damage: falling back to the older
    // slot would undo what the newer node committed.
    if format > FORMAT {
        return Slot::Newer(format);
    }
    if format < OLDEST_FORMAT {
        return damaged(SlotFault::Format(format));
    }
    if reserved != 0 {
        return damaged(SlotFault::Reserved(reserved));
    }
    match serde_json::from_slice(payload) {
        Ok(state) => Slot::Valid {
            generation,
            state: Box::new(state),
        },
        Err(error) => damaged(SlotFault::Payload(error.to_string())),
    }
}

/// The slot that counts, its generation and state, and what was passed over.
pub(super) fn choose(
    path: &Path,
    bytes: &[u8],
) -> Result<(usize, u64, State, Vec<DamagedSlot>), CatalogError> {
    let path = path.to_owned();
    let split = bytes.len().min(SLOT_BYTES);
    let (first, second) = bytes.split_at(split);
    match (decode(0, first), decode(1, second)) {
        (Slot::Newer(found), _) => Err(CatalogError::NewerFormat {
            path,
            slot: 0,
            found,
        }),
        (_, Slot::Newer(found)) => Err(CatalogError::NewerFormat {
            path,
            slot: 1,
            found,
        }),
        (Slot::Damaged(first), Slot::Damaged(second)) => Err(CatalogError::BothSlots {
            path,
            first: first.fault,
            second: second.fault,
        }),
        (Slot::Valid { generation, state }, Slot::Damaged(damaged)) => {
            Ok((0, generation, *state, vec![damaged]))
        }
        (Slot::Damaged(damaged), Slot::Valid { generation, state }) => {
            Ok((1, generation, *state, vec![damaged]))
        }
        (
            Slot::Valid { generation, state },
            Slot::Valid {
                generation: other,
                state: other_state,
            },
        ) => {
            if generation == other && state != other_state {
                return Err(CatalogError::Ambiguous { path, generation });
            }
            if generation >= other {
                Ok((0, generation, *state, Vec::new()))
            } else {
                Ok((1, other, *other_state, Vec::new()))
            }
        }
    }
}
