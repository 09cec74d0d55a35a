//! The conversion of a region that goes on being used: segment by segment, in the same file.
//!
//! A segment's type says which schema its objects have, as a type is told by the hash of its
//! description. So nothing has to be noted of each segment: those whose type is in the old schema
//! only are still to be converted.

use std::collections::HashMap;

use super::convert::Objects;
use super::plan::{Part, TypePlan};
use super::{MigrationPlan, Row};
use crate::region::format::SegmentEntry;
use crate::region::{FormatError, RAW};
use crate::schema::{Fingerprint, SchemaDesc};

/// Runs a library's conversion: the number of its link, its number among those given to the
/// link's plan, and the row.
pub type ConvertLink = dyn Fn(usize, usize, Row<'_>) -> Result<(), String> + Send;

/// One conversion of all objects; several in a row lead through the schemas between.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepwiseLink {
    /// How each type is converted.
    pub plan: MigrationPlan,
    /// The instruction's `extra`, JSON.
    pub extra: String,
}

/// Why a region cannot be converted segment by segment.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StepwiseError {
    /// A type is in both schemas, and its objects are to become another type's.
    #[error(
        "objects of type {name} become objects of another type, and {name} is in the new schema as \
         well: which are converted could not be told; convert the state at once (`strategy = \"eager\"`)"
    )]
    InBoth {
        /// The type.
        name: String,
    },
    /// Both schemas do not fit where they have to stand together.
    #[error(
        "the two schemas take {needed} bytes together, and {limit} are free; convert the state at \
         once (`strategy = \"eager\"`)"
    )]
    TooLong {
        /// Bytes needed.
        needed: u64,
        /// Bytes that are free.
        limit: u64,
    },
    /// A schema that cannot be read.
    #[error("a schema cannot be read: {0}")]
    Schema(String),
    /// The region is of another schema.
    #[error("the region's schema is not the one that the conversion begins with")]
    Begin,
    /// The region cannot take it now.
    #[error("the region's state cannot be converted now: {0}")]
    Region(String),
    /// The converted state does not fit into the region's limit.
    #[error("the converted state needs {needed} bytes, and {limit} is the limit; raise it")]
    Limit {
        /// Bytes needed.
        needed: u64,
        /// The limit.
        limit: u64,
    },
}

/// What becomes of the segments of a type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// The bytes stay, and are of this type from now on.
    Retag(u64),
    /// Objects of this type are made of them, of so many bytes.
    Convert { type_id: u64, size: u32 },
    /// They go: nothing of the new schema leads there.
    Drop,
}

impl Way {
    /// The type that they have then.
    pub(crate) fn type_id(&self) -> u64 {
        match self {
            Way::Retag(type_id) | Way::Convert { type_id, .. } => *type_id,
            Way::Drop => 0,
        }
    }
}

/// How a region that is in use gets from one schema to another.
pub struct Stepwise {
    old: Vec<u8>,
    new: Vec<u8>,
    fingerprint: Fingerprint,
    links: Vec<StepwiseLink>,
    ways: HashMap<u64, Way>,
    now_ms: u64,
    convert: Box<ConvertLink>,
}

impl std::fmt::Debug for Stepwise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stepwise")
            .field("ways", &self.ways)
            .finish_non_exhaustive()
    }
}

impl Stepwise {
    /// The way from the encoded schema `old` to `new` by `links`, one after the other. The
    /// conversions are functions of the value, of `extra` and of `now_ms`, which is the same for
    /// all segments, and give the same whenever they are called.
    ///
    /// # Errors
    ///
    /// [`StepwiseError`], if the types do not tell which segments are converted.
    pub fn new(
        old: &[u8],
        new: &[u8],
        links: Vec<StepwiseLink>,
        now_ms: u64,
        convert: Box<ConvertLink>,
    ) -> Result<Stepwise, StepwiseError> {
        let decode = |bytes: &[u8]| {
            SchemaDesc::decode(bytes).map_err(|error| StepwiseError::Schema(error.to_string()))
        };
        let (before, after) = (decode(old)?, decode(new)?);
        let stays: Vec<u64> = after
            .object_types()
            .iter()
            .map(|one| one.type_id())
            .collect();
        let mut ways = HashMap::new();
        for schema in before.object_types() {
            let Some(way) = way(&links, schema.type_id()) else {
                continue;
            };
            if stays.contains(&schema.type_id()) {
                let name = schema.name.clone();
                return Err(StepwiseError::InBoth { name });
            }
            ways.insert(schema.type_id(), way);
        }
        Ok(Stepwise {
            old: old.to_vec(),
            new: new.to_vec(),
            fingerprint: after.fingerprint,
            links,
            ways,
            now_ms,
            convert,
        })
    }

    /// The encoded schema that it begins with.
    pub(crate) fn old(&self) -> &[u8] {
        &self.old
    }

    /// The encoded schema that it leads to.
    pub(crate) fn new_schema(&self) -> &[u8] {
        &self.new
    }

    /// The fingerprint of the schema that it leads to.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// What becomes of segments of a type; none if they stay as they are.
    #[inline]
    pub(crate) fn way(&self, type_id: u64) -> Option<&Way> {
        self.ways.get(&type_id)
    }

    /// Each type whose segments change, and what it becomes; 0 for nothing. In a fixed order.
    pub(crate) fn pairs(&self) -> Vec<(u64, u64)> {
        let mut pairs: Vec<_> = self
            .ways
            .iter()
            .map(|(&old, way)| (old, way.type_id()))
            .collect();
        pairs.sort_unstable();
        pairs
    }

    /// Bytes more that the region will take, at most, when all these segments are converted.
    pub(crate) fn growth(&self, entries: impl Iterator<Item = SegmentEntry>) -> u64 {
        let (mut freed, mut taken) = (0, 0);
        for entry in entries {
            if let Some(Way::Convert { size, .. }) = self.way(entry.type_id) {
                freed += entry.length;
                taken += converted_length(&entry, *size);
            }
        }
        // Freed places serve again where they are long enough: those of larger objects never are
        // at once, so some of both are there at a time.
        if taken > freed {
            taken
        } else {
            taken.min(1 << 20)
        }
    }

    /// Where the bytes of an object's range stand in the object before, if they are only copied.
    pub(crate) fn copied(&self, type_id: u64, offset: u64, len: u64) -> Option<u64> {
        let [link] = &self.links[..] else {
            return None;
        };
        let plan = link.plan.types.get(&type_id)?;
        plan.parts.iter().find_map(|part| match *part {
            Part::Copy { from, to, len: all } => {
                let (to, end) = (u64::from(to), u64::from(to) + u64::from(all));
                (offset >= to && offset + len <= end).then(|| offset - to + u64::from(from))
            }
            Part::Convert { .. } => None,
        })
    }

    /// Converts `capacity` objects of `entry`'s type that lie in a row from `old` on, those
    /// whose bits are set in `live`, into `target`, which is zeroed.
    pub(crate) fn convert(
        &self,
        entry: &SegmentEntry,
        old: &[u8],
        live: &[u64],
        capacity: usize,
        target: &mut [u8],
    ) -> Result<(), String> {
        let (mut type_id, mut size) = (entry.type_id, entry.object_size);
        let mut between: Vec<u8> = Vec::new();
        let last = self.links.len() - 1;
        for (number, link) in self.links.iter().enumerate() {
            let plan = plan_of(link, type_id)?;
            // The schema says where the fields are: they must be within the objects.
            if plan.old_size != size {
                let (field, value) = ("a segment's object size", size.into());
                return Err(FormatError::Field { field, value }.to_string());
            }
            let mut made = Vec::new();
            let into = if number == last {
                &mut *target
            } else {
                made.resize(capacity * plan.size as usize, 0);
                &mut made[..]
            };
            let objects = Objects {
                old: if number == 0 { old } else { &between },
                live,
                capacity,
                extra: &link.extra,
                now_ms: self.now_ms,
            };
            plan.convert(size, objects, into, &|index, row| {
                (self.convert)(number, index, row)
            })?;
            (type_id, size) = (plan.type_id, plan.size);
            between = made;
        }
        Ok(())
    }
}

fn plan_of(link: &StepwiseLink, type_id: u64) -> Result<&TypePlan, String> {
    let known = link.plan.types.get(&type_id);
    known.ok_or_else(|| format!("no conversion of objects of type {type_id:016x}"))
}

/// What a segment's bytes take when its objects have `size` each: whole words of them.
pub(crate) fn converted_length(entry: &SegmentEntry, size: u32) -> u64 {
    let objects = u64::from(entry.capacity) * u64::from(size);
    objects.next_multiple_of(crate::region::format::PAGE)
}

/// What the links make of a type; none if its objects stay as they are.
fn way(links: &[StepwiseLink], type_id: u64) -> Option<Way> {
    let (mut at, mut size, mut copied) = (type_id, 0, true);
    debug_assert_ne!(type_id, RAW, "raw blocks are of no schema");
    for link in links {
        let Some(plan) = link.plan.types.get(&at) else {
            return Some(Way::Drop);
        };
        copied &= plan.is_copy();
        (at, size) = (plan.type_id, plan.size);
    }
    match (copied, at == type_id) {
        (true, true) => None,
        (true, false) => Some(Way::Retag(at)),
        (false, _) => Some(Way::Convert { type_id: at, size }),
    }
}

impl TypePlan {
    /// Whether all bytes stay where they are.
    pub(super) fn is_copy(&self) -> bool {
        // What follows the last whole word of a value is zero.
        matches!(self.parts[..], [Part::Copy { from: 0, to: 0, len }]
            if self.size == self.old_size && self.old_size - len.min(self.old_size) < 8)
    }
}
