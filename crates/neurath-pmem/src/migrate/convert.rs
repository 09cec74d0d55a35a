//! Objects of one type become those of another: rows of values for a library's function, and columns of bytes that are
//! only copied.

use super::plan::{Part, TypePlan};
use super::prefetch::prefetch;

/// A row of values to convert: one field of a segment's objects.
#[derive(Debug)]
pub struct Row<'a> {
    /// From the first old value on.
    pub old: &'a [u8],
    /// Bytes from one old value to the next.
    pub old_stride: usize,
    /// From the first new value on: zeroed.
    pub new: &'a mut [u8],
    /// Bytes from one new value to the next.
    pub new_stride: usize,
    /// How many places there are.
    pub count: usize,
    /// One bit a place, the lowest first: whether there is a value.
    pub live: &'a [u64],
    /// The instruction's `extra`, JSON.
    pub extra: &'a str,
    /// Milliseconds since 1970, UTC: when the conversion began.
    pub now_ms: u64,
}

/// Runs a library's conversion: its number among those given to the plan, and the row.
pub type Convert<'a> = dyn Fn(usize, Row<'_>) -> Result<(), String> + Sync + 'a;

/// Objects that are converted at a time: a word of the bitmap of a segment.
const AT_ONCE: usize = 64;

/// Bytes, old and new ones, that are asked for ahead of their use, at most: they must not drive out those in use.
const AHEAD: usize = 16 << 10;

/// Objects in a row, to be converted.
#[derive(Clone, Copy)]
pub(super) struct Objects<'a> {
    pub(super) old: &'a [u8],
    pub(super) live: &'a [u64],
    pub(super) capacity: usize,
    pub(super) extra: &'a str,
    pub(super) now_ms: u64,
}

impl TypePlan {
    /// Converts objects that take `old_size` bytes each into `target`, which is zeroed.
    pub(super) fn convert(
        &self,
        old_size: u32,
        objects: Objects<'_>,
        target: &mut [u8],
        convert: &dyn Fn(usize, Row<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let (old, new) = (old_size as usize, self.size as usize);
        let ahead = (old + new) * AT_ONCE <= AHEAD;
        for at in (0..objects.capacity).step_by(AT_ONCE) {
            let end = objects.capacity.min(at + AT_ONCE);
            if ahead {
                let next = end..objects.capacity.min(end + AT_ONCE);
                prefetch(&objects.old[next.start * old..next.end * old]);
                prefetch(&target[next.start * new..next.end * new]);
            }
            let some = Objects {
                old: &objects.old[at * old..],
                live: &objects.live[at / AT_ONCE..],
                capacity: end - at,
                ..objects
            };
            self.convert_some(old, some, &mut target[at * new..], convert)?;
        }
        Ok(())
    }

    /// Converts objects of one word of the bitmap.
    fn convert_some(
        &self,
        old_size: usize,
        objects: Objects<'_>,
        target: &mut [u8],
        convert: &dyn Fn(usize, Row<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let Objects {
            old: source,
            live,
            capacity,
            extra,
            now_ms,
        } = objects;
        let new_size = self.size as usize;
        for part in &self.parts {
            match *part {
                Part::Copy {
                    from: 0,
                    to: 0,
                    len,
                } if len as usize == old_size && len as usize == new_size => {
                    target[..capacity * new_size].copy_from_slice(&source[..capacity * old_size]);
                }
                Part::Copy { from, to, len } => {
                    // The last part of an object may be rounded up beyond the old one.
                    let len = (len as usize).min(old_size - from as usize);
                    let old = source
                        .chunks_exact(old_size)
                        .map(|old| &old[from as usize..]);
                    let new = target.chunks_exact_mut(new_size);
                    let new = new.map(|new| &mut new[to as usize..]);
                    copy_column(old.zip(new).take(capacity), len);
                }
                Part::Convert { from, to, index } => {
                    let row = Row {
                        old: &source[from as usize..],
                        old_stride: old_size,
                        new: &mut target[to as usize..],
                        new_stride: new_size,
                        count: capacity,
                        live,
                        extra,
                        now_ms,
                    };
                    convert(index, row)?;
                }
            }
        }
        Ok(())
    }
}

/// Copies the first `len` bytes of each old place to the new one. The lengths of small columns are
/// known when this is compiled: a call for each of them takes longer than the copy.
fn copy_column<'a>(places: impl Iterator<Item = (&'a [u8], &'a mut [u8])>, len: usize) {
    fn of<'a, const LEN: usize>(places: impl Iterator<Item = (&'a [u8], &'a mut [u8])>) {
        for (old, new) in places {
            if let (Some(old), Some(new)) = (old.first_chunk::<LEN>(), new.first_chunk_mut()) {
                *new = *old;
            }
        }
    }
    match len {
        8 => of::<8>(places),
        16 => of::<16>(places),
        24 => of::<24>(places),
        32 => of::<32>(places),
        40 => of::<40>(places),
        48 => of::<48>(places),
        56 => of::<56>(places),
        64 => of::<64>(places),
        _ => places.for_each(|(old, new)| new[..len].copy_from_slice(&old[..len])),
    }
}
