//! The conversion of a region to another schema: a new generation in a file of its own,
//! built beside the old one, which stays as it is.
//!
//! Every object keeps its reference, since a reference is a segment and an index and not
//! an address. So a conversion goes segment by segment, in memory order, on all cores, and
//! no pass over references follows.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::history::History;
use crate::region::format::{
    self, BITMAP_LEN, CHUNK_LEN, CHUNKS, DIRECTORY_AT, PAGE, ROOT_AT, SEGMENTS_PER_CHUNK,
    SegmentEntry,
};
use crate::region::{
    FormatError, MappedFile, Mapping, Media, OpenError, RAW, Region, RegionError, RegionOptions,
    Watch, Watched, least_heap, object_size,
};
use crate::schema::{FieldDesc, Fingerprint, KindDesc, SchemaDesc};

/// A conversion that a library offers: values of `from` become values of `to`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conversion {
    /// The old type.
    pub from: Fingerprint,
    /// The new type.
    pub to: Fingerprint,
}

/// Why there is no way from one schema to another.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlanError {
    /// A type changed, and nothing converts it.
    #[error(
        "{path} changed from {from} to {to}, and no `code_change` of the new version covers it; \
         write one for {from}, or for a type that contains it"
    )]
    Uncovered {
        /// The place, from the root: `Store.entries[MapNode].value`.
        path: String,
        /// The old type's name and size.
        from: String,
        /// The new type's name and size.
        to: String,
    },
    /// A field was added or removed, and nothing says what becomes of it.
    #[error(
        "{path} was {what}, and no `code_change` of the new version says what becomes of it; \
         write one for the type that contains it"
    )]
    Field {
        /// The place.
        path: String,
        /// `added` or `removed`.
        what: &'static str,
    },
    /// A collection would have keys of another type, and not find its entries any more.
    #[error(
        "{path} changed {change}: a map finds its entries by the hash of their keys, or by their order, \
         and no `code_change` keeps that"
    )]
    Key {
        /// The place.
        path: String,
        /// From one type's name to another's.
        change: String,
    },
    /// One type would have to become two.
    #[error("objects of type {name} would have to become two different types; give them two names")]
    Ambiguous {
        /// The type.
        name: String,
    },
}

/// Why a conversion failed.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The library's function refused or panicked.
    #[error("code_change failed: {0}")]
    Failed(String),
    /// The new generation's file.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The new generation could not be made durable.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// The old generation is damaged, or the new one would be.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The new generation does not fit into its limit.
    #[error("the new generation needs {needed} bytes, and {limit} is the limit; raise it")]
    Limit {
        /// Bytes needed.
        needed: u64,
        /// The limit.
        limit: u64,
    },
    /// The file system has no room for it.
    #[error("cannot reserve {bytes} bytes for the new generation: {source}")]
    Room {
        /// Bytes asked for.
        bytes: u64,
        /// Why not.
        source: std::io::Error,
    },
}

/// What becomes of the bytes of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    /// They are kept.
    Copy { from: u32, to: u32, len: u32 },
    /// The `index`-th conversion makes others of them.
    Convert { from: u32, to: u32, index: usize },
}

/// What becomes of the objects of a type.
#[derive(Clone, PartialEq, Eq, Debug)]
struct TypePlan {
    /// The old objects' size.
    old_size: u32,
    type_id: u64,
    size: u32,
    parts: Vec<Part>,
}

/// How every object of a region gets from one schema to another. Pure: made from two
/// schemas and the conversions there are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MigrationPlan {
    types: HashMap<u64, TypePlan>,
    fingerprint: Fingerprint,
    /// The old types of which it may leave objects that nothing refers to any more.
    lost: HashSet<u64>,
    /// The new types of which the way there may have left some.
    lost_there: HashSet<u64>,
}

impl MigrationPlan {
    /// Plans the way from `old` to `new`.
    ///
    /// # Errors
    ///
    /// [`PlanError`] names the first place that no conversion covers.
    pub fn new(
        old: &SchemaDesc,
        new: &SchemaDesc,
        conversions: &[Conversion],
    ) -> Result<MigrationPlan, PlanError> {
        let mut planner = Planner {
            conversions,
            types: HashMap::new(),
            unpaired: VecDeque::new(),
        };
        planner.object(old, new, &old.name)?;
        planner.pair_by_type()?;
        // What is nowhere paired, and is in the new schema as it is, is kept.
        let kept = new.object_types();
        for schema in old.object_types() {
            let id = schema.type_id();
            if kept.iter().any(|kept| kept.type_id() == id) && !planner.types.contains_key(&id) {
                planner.types.insert(id, whole(schema));
            }
        }
        Ok(MigrationPlan {
            types: planner.types,
            fingerprint: new.fingerprint,
            lost: lost_types(old, new),
            lost_there: HashSet::new(),
        })
    }

    /// As a way back from `old` to `new`. What the way there has left may still be there: whoever opens
    /// a region is not told of it.
    #[must_use]
    pub fn back(mut self, old: &SchemaDesc, new: &SchemaDesc) -> MigrationPlan {
        let kept = new.object_types();
        let mut lost = lost_types(new, old);
        lost.retain(|&id| id == RAW || kept.iter().any(|one| one.type_id() == id));
        self.lost_there = lost;
        self
    }

    /// The schema it leads to.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The new types of which there may be objects that nothing refers to, with those that the
    /// old generation had already.
    fn left(&self, before: &HashSet<u64>) -> HashSet<u64> {
        let becomes = |id: &u64| match *id {
            RAW => Some(RAW),
            id => Some(self.types.get(&id)?.type_id),
        };
        let lost = self.lost.union(before).filter_map(becomes);
        lost.chain(self.lost_there.iter().copied()).collect()
    }

    /// The new form of a segment; `None` if its objects are dropped.
    fn convert_entry(&self, old: &SegmentEntry, offset: u64) -> Option<SegmentEntry> {
        let (type_id, object_size) = if old.type_id == RAW {
            (RAW, old.object_size)
        } else {
            let plan = self.types.get(&old.type_id)?;
            (plan.type_id, plan.size)
        };
        let length = (u64::from(old.capacity) * u64::from(object_size)).next_multiple_of(PAGE);
        let capacity = old.capacity;
        Some(SegmentEntry {
            type_id,
            offset,
            length,
            object_size,
            capacity,
        })
    }

    /// Makes the new generation's file ready for a region of the old one's present size,
    /// with some room to grow: to be done while the old one is still in use.
    ///
    /// # Errors
    ///
    /// If the file cannot be made.
    pub fn prepare(
        self,
        old: &Source,
        path: &Path,
        options: &RegionOptions,
        schema: &[u8],
    ) -> Result<Building, MigrateError> {
        let needed = Layout::new(&self, &old.segments, least_heap(options)).end;
        let initial = (needed + needed / 16 + (4 << 20)).max(options.initial);
        let options = RegionOptions {
            initial,
            ..options.clone()
        };
        let mut region = Region::create_building(path, &options, schema)?;
        let layout = Layout::new(&self, &old.segments, region.heap_at());
        let copy = |media: &mut MappedFile, _| {
            // First the pages, as huge ones where there are: a copy would make small ones.
            media.populate(0, layout.end.min(media.len()));
            match layout.end <= media.len() {
                true => Ahead::copy(&self, old, layout, media),
                false => Ok(None),
            }
        };
        let ahead = region.building(copy).map_err(|source| {
            drop(std::fs::remove_file(path));
            OpenError::Io {
                action: "write",
                path: path.into(),
                source,
            }
        })?;
        Ok(Building {
            plan: self,
            ahead,
            region: Some(region),
            path: path.into(),
            options,
            left: HashSet::new(),
        })
    }
}

fn whole(schema: &SchemaDesc) -> TypePlan {
    let size = object_size(0, schema.size.into()) as u32;
    let parts = vec![Part::Copy {
        from: 0,
        to: 0,
        len: size,
    }];
    TypePlan {
        old_size: size,
        type_id: schema.type_id(),
        size,
        parts,
    }
}

struct Planner<'a> {
    conversions: &'a [Conversion],
    types: HashMap<u64, TypePlan>,
    /// What is paired by no name.
    unpaired: VecDeque<Unpaired<'a>>,
}

/// Fields that only one of two versions of a type has. A `code_change` may make one of another: by another
/// name, or in another variant.
struct Unpaired<'a> {
    old: Vec<&'a FieldDesc>,
    new: Vec<&'a FieldDesc>,
    path: String,
}

impl<'a> Planner<'a> {
    /// Plans objects of one type, and all that they lead to.
    fn object(
        &mut self,
        old: &'a SchemaDesc,
        new: &'a SchemaDesc,
        path: &str,
    ) -> Result<(), PlanError> {
        let id = old.type_id();
        if let Some(known) = self.types.get(&id) {
            if known.type_id == new.type_id() {
                return Ok(());
            }
            return Err(PlanError::Ambiguous {
                name: old.name.clone(),
            });
        }
        // Entered before its parts, as a type may lead to itself.
        self.types.insert(id, whole(new));
        let mut parts = Vec::new();
        self.value(old, new, 0, 0, path, &mut parts)?;
        let old_size = object_size(0, old.size.into()) as u32;
        let plan = TypePlan {
            old_size,
            parts: merge(parts),
            ..whole(new)
        };
        self.types.insert(id, plan);
        Ok(())
    }

    fn value(
        &mut self,
        old: &'a SchemaDesc,
        new: &'a SchemaDesc,
        from: u32,
        to: u32,
        path: &str,
        parts: &mut Vec<Part>,
    ) -> Result<(), PlanError> {
        if old.fingerprint == new.fingerprint {
            parts.push(Part::Copy {
                from,
                to,
                len: old.size,
            });
            return self.below(old, new, path);
        }
        let wanted = Conversion {
            from: old.fingerprint,
            to: new.fingerprint,
        };
        if let Some(index) = self.conversions.iter().position(|known| *known == wanted) {
            parts.push(Part::Convert { from, to, index });
            return self.below(old, new, path);
        }
        match (&old.kind, &new.kind) {
            (KindDesc::Reference(_) | KindDesc::Link(_), KindDesc::Reference(_))
            | (KindDesc::Link(_), KindDesc::Link(_)) => {
                parts.push(Part::Copy {
                    from,
                    to,
                    len: old.size,
                });
                self.below(old, new, path)
            }
            (
                KindDesc::Collection {
                    fields: a,
                    objects: c,
                },
                KindDesc::Collection {
                    fields: b,
                    objects: d,
                },
            ) if old.name == new.name && a == b && c.len() == d.len() => {
                parts.push(Part::Copy {
                    from,
                    to,
                    len: old.size,
                });
                self.below(old, new, path)
            }
            (KindDesc::Array { element: a, len: n }, KindDesc::Array { element: b, len: m })
                if n == m =>
            {
                // Of elements without bytes there may be any number.
                let count = if a.size == 0 && b.size == 0 {
                    1.min(*n)
                } else {
                    *n
                };
                (0..count).try_for_each(|i| {
                    self.value(a, b, from + i * a.size, to + i * b.size, path, parts)
                })
            }
            (KindDesc::Struct(a), KindDesc::Struct(b)) if old.name == new.name => {
                let field = |name: &str| format!("{path}.{name}");
                let missing = |path, what| Err(PlanError::Field { path, what });
                if let Some(gone) = a.iter().find(|a| b.iter().all(|b| a.name != b.name)) {
                    return missing(field(&gone.name), "removed");
                }
                for b in b {
                    let Some(a) = a.iter().find(|a| a.name == b.name) else {
                        return missing(field(&b.name), "added");
                    };
                    if !keeps_keys(&old.name, a, b) {
                        let (from, to) = (element(&a.schema), element(&b.schema));
                        return Err(PlanError::Key {
                            path: field(&b.name),
                            change: format!("from {} to {}", from.name, to.name),
                        });
                    }
                    let (from, to) = (from + a.offset, to + b.offset);
                    self.value(&a.schema, &b.schema, from, to, &field(&b.name), parts)?;
                }
                Ok(())
            }
            _ => Err(PlanError::Uncovered {
                path: path.to_owned(),
                from: format!("{} ({} bytes)", old.name, old.size),
                to: format!("{} ({} bytes)", new.name, new.size),
            }),
        }
    }

    /// Pairs the objects that two values lead to.
    fn below(
        &mut self,
        old: &'a SchemaDesc,
        new: &'a SchemaDesc,
        path: &str,
    ) -> Result<(), PlanError> {
        match (&old.kind, &new.kind) {
            (KindDesc::Struct(a), KindDesc::Struct(b)) => {
                let mut left = Unpaired::at(path);
                self.fields(a, b, &mut left)?;
                self.unpaired.push_back(left);
                Ok(())
            }
            (KindDesc::Array { element: a, .. }, KindDesc::Array { element: b, .. }) => {
                self.below(a, b, path)
            }
            (KindDesc::Reference(a), KindDesc::Reference(b)) => {
                self.object(a, b, &format!("{path}[{}]", a.name))
            }
            // One of another kind begins anew.
            (KindDesc::Collection { objects: a, .. }, KindDesc::Collection { objects: b, .. })
                if old.name == new.name =>
            {
                a.iter()
                    .zip(b)
                    .try_for_each(|(a, b)| self.object(a, b, &format!("{path}[{}]", a.name)))
            }
            (KindDesc::Enum { variants: a, .. }, KindDesc::Enum { variants: b, .. }) => {
                let mut left = Unpaired::at(path);
                for a in a {
                    match b.iter().find(|b| a.name == b.name) {
                        Some(b) => self.fields(&a.fields, &b.fields, &mut left)?,
                        None => left.old.extend(&a.fields),
                    }
                }
                let added = b.iter().filter(|b| a.iter().all(|a| a.name != b.name));
                left.new.extend(added.flat_map(|variant| &variant.fields));
                self.unpaired.push_back(left);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Pairs what fields of the same name lead to, and takes note of the others.
    fn fields(
        &mut self,
        old: &'a [FieldDesc],
        new: &'a [FieldDesc],
        left: &mut Unpaired<'a>,
    ) -> Result<(), PlanError> {
        for a in old {
            match new.iter().find(|b| a.name == b.name) {
                Some(b) => {
                    let path = format!("{}.{}", left.path, a.name);
                    self.below(&a.schema, &b.schema, &path)?;
                }
                None => left.old.push(a),
            }
        }
        let added = new.iter().filter(|b| old.iter().all(|a| a.name != b.name));
        left.new.extend(added);
        Ok(())
    }

    /// Plans the objects that only fields without a partner lead to: those of one may become those of the other if
    /// all that is different there is covered. If the field was dropped instead, they were converted for nothing, and
    /// are looked for as all that a dropped field led to. Where both lead to versions of one type, what is not covered is a gap.
    fn pair_by_type(&mut self) -> Result<(), PlanError> {
        while let Some(Unpaired { old, new, path }) = self.unpaired.pop_front() {
            for a in old {
                let path = format!("{path}.{}", a.name);
                let before = self.types.clone();
                let mut found = before.clone();
                for b in &new {
                    self.types.clone_from(&before);
                    let waiting = self.unpaired.len();
                    match self.below(&a.schema, &b.schema, &path) {
                        Ok(()) => {
                            for (id, plan) in self.types.drain() {
                                let known = found.entry(id).or_insert_with(|| plan.clone());
                                if known.type_id != plan.type_id {
                                    let name = a.schema.name.clone();
                                    return Err(PlanError::Ambiguous { name });
                                }
                            }
                        }
                        Err(error) if leads_to_versions(&a.schema, &b.schema) => return Err(error),
                        Err(_) => self.unpaired.truncate(waiting),
                    }
                }
                self.types = found;
            }
        }
        Ok(())
    }
}

impl Unpaired<'_> {
    fn at(path: &str) -> Self {
        Unpaired {
            old: Vec::new(),
            new: Vec::new(),
            path: path.to_owned(),
        }
    }
}

/// Whether two values lead to objects of types of one name, or with such: versions of one type.
fn leads_to_versions(old: &SchemaDesc, new: &SchemaDesc) -> bool {
    let are_versions = |old: &SchemaDesc, new: &SchemaDesc| {
        let (old, new) = (element(old), element(new));
        let has_name =
            |one: &SchemaDesc| matches!(one.kind, KindDesc::Struct(_) | KindDesc::Enum { .. });
        has_name(old) && has_name(new) && old.name == new.name
    };
    match (&old.kind, &new.kind) {
        (KindDesc::Array { element: a, .. }, KindDesc::Array { element: b, .. }) => {
            leads_to_versions(a, b)
        }
        (KindDesc::Reference(a), KindDesc::Reference(b)) => are_versions(a, b),
        (KindDesc::Collection { objects: a, .. }, KindDesc::Collection { objects: b, .. })
            if old.name == new.name =>
        {
            a.iter().zip(b).any(|(a, b)| match (&a.kind, &b.kind) {
                (KindDesc::Struct(a), KindDesc::Struct(b)) => a.iter().any(|a| {
                    let b = b.iter().find(|b| a.name == b.name);
                    b.is_some_and(|b| are_versions(&a.schema, &b.schema))
                }),
                _ => false,
            })
        }
        _ => false,
    }
}

/// Of a field that two versions of an object have: whether the collection that the object belongs to, if
/// it does to one, can find its entries afterwards. The hash of a number depends on its width. Integers
/// keep their order where a `code_change` gives the same number or refuses.
fn keeps_keys(object: &str, old: &FieldDesc, new: &FieldDesc) -> bool {
    let stays = old.schema.fingerprint == new.schema.fingerprint;
    match (object, &*old.name) {
        ("MapNode", "key") => stays,
        ("OrderedLeaf" | "OrderedInner", "keys") => {
            let [old, new] = [old, new].map(|field| &element(&field.schema).name);
            stays || is_integer(old) && is_integer(new)
        }
        _ => true,
    }
}

/// The type of an array's elements.
fn element(schema: &SchemaDesc) -> &SchemaDesc {
    match &schema.kind {
        KindDesc::Array { element, .. } => element,
        _ => schema,
    }
}

fn is_integer(name: &str) -> bool {
    let bits = name.strip_prefix(['i', 'u']);
    bits.is_some_and(|bits| bits.parse::<u32>().is_ok())
}

/// Joins neighbouring copies.
fn merge(parts: Vec<Part>) -> Vec<Part> {
    let mut merged: Vec<Part> = Vec::with_capacity(parts.len());
    for part in parts {
        if let (
            Some(Part::Copy { from, to, len }),
            Part::Copy {
                from: next_from,
                to: next_to,
                len: next_len,
            },
        ) = (merged.last_mut(), part)
            && *from + *len == next_from
            && *to + *len == next_to
        {
            *len += next_len;
            continue;
        }
        merged.push(part);
    }
    merged
}

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

/// A new generation that nobody uses yet. Dropped, it takes its file with it.
#[derive(Debug)]
pub struct Building<M: Media = MappedFile> {
    plan: MigrationPlan,
    /// What was copied already.
    ahead: Option<Ahead>,
    region: Option<Region<M>>,
    path: PathBuf,
    options: RegionOptions,
    /// The types of which it may have objects that nothing refers to.
    left: HashSet<u64>,
}

impl<M: Media> Building<M> {
    /// What the new generation tells of the migrations that the state went through, this one
    /// among them. It is there with the generation's first superblock that is not one of a
    /// region in the making, or not at all.
    pub fn set_history(&mut self, history: &History) {
        if let Some(region) = &mut self.region {
            region.build_history(history);
        }
    }

    /// Converts every object of `old`, which must not change meanwhile.
    ///
    /// # Errors
    ///
    /// [`MigrateError`]; the old generation is untouched.
    pub fn fill(
        &mut self,
        old: &Source,
        extra: &str,
        now_ms: u64,
        convert: &Convert<'_>,
    ) -> Result<(), MigrateError> {
        let Some(region) = &mut self.region else {
            unreachable!("there until it is finished")
        };
        if old.swept {
            let what = "the old generation is still converted segment by segment; wait for its end";
            return Err(MigrateError::Failed(what.into()));
        }
        let plan = &self.plan;
        self.left = plan.left(&old.left);
        let segments = &old.segments;
        for (_, entry) in segments {
            // The schema says where the fields are: they must be within the objects.
            let known = plan.types.get(&entry.type_id).map(|known| known.old_size);
            if entry.type_id != RAW && known.is_some_and(|size| size != entry.object_size) {
                let (field, value) = ("a segment's object size", entry.object_size.into());
                return Err(FormatError::Field { field, value }.into());
            }
        }
        let heap = region.heap_at();
        let continued = self.ahead.as_mut().map(|ahead| {
            ahead.settle(old);
            ahead.layout.continued(plan, segments)
        });
        let layout = continued
            .filter(|layout| layout.serves(heap, region.media().limit()))
            .unwrap_or_else(|| Layout::new(plan, segments, heap));
        let ahead = self.ahead.as_ref();
        let chunks = (layout.segments.len() as u64 + 1)
            .div_ceil(SEGMENTS_PER_CHUNK)
            .max(1);
        if chunks > CHUNKS {
            return Err(FormatError::Field {
                field: "the number of chunks",
                value: chunks,
            }
            .into());
        }
        region.grow_to(layout.end)?;
        region.building(|media, seed| {
            for (number, &chunk) in layout.chunks.iter().enumerate() {
                media.zero(chunk, CHUNK_LEN);
                media.store_word(DIRECTORY_AT + number as u64 * 8, chunk);
            }
            for ((number, before), entry) in segments.iter().zip(&layout.segments) {
                let chunk = layout.chunk_of(*number);
                let at = format::entry_at(chunk, (*number).into());
                for (i, word) in entry.encode((*number).into(), seed).into_iter().enumerate() {
                    media.store_word(at + i as u64 * 8, word);
                }
                if plan.convert_entry(before, 0).is_some() {
                    let bitmap = old.bitmap(*number);
                    media.store(format::bitmap_at(chunk, (*number).into()), bitmap);
                }
            }
            let filler = Filler {
                plan,
                old,
                ahead,
                extra,
                now_ms,
                convert,
                target: media.base_mut(),
            };
            filler.run(&layout.segments)?;
            if let Some(ahead) = ahead {
                ahead.clear_behind(layout.end, media);
            }
            for entry in &layout.segments {
                media.was_filled(entry.offset, entry.length);
            }
            media.store_word(ROOT_AT, old.root);
            // It is waited for when the building is finished.
            media.flush(0, layout.end);
            Ok::<(), MigrateError>(())
        })
    }

    /// One on any medium.
    #[cfg(any(test, feature = "campaign"))]
    pub(crate) fn of(plan: MigrationPlan, region: Region<M>, options: &RegionOptions) -> Self {
        Building {
            plan,
            ahead: None,
            region: Some(region),
            path: PathBuf::new(),
            options: options.clone(),
            left: HashSet::new(),
        }
    }

    /// What was filled, as it is.
    #[cfg(any(test, feature = "campaign"))]
    pub(crate) fn into_region(mut self) -> Region<M> {
        let Some(region) = self.region.take() else {
            unreachable!("taken once")
        };
        region
    }
}

impl Building {
    /// The filled generation as a region.
    ///
    /// # Errors
    ///
    /// If it does not open: its tables are read back as from any file.
    pub fn finish(mut self) -> Result<Region, MigrateError> {
        let Some(region) = self.region.take() else {
            unreachable!("finished once")
        };
        let finished = region.finish_building(&self.path, &self.options);
        if finished.is_err() {
            drop(std::fs::remove_file(&self.path));
        }
        let mut region = finished?;
        region.set_left(std::mem::take(&mut self.left));
        Ok(region)
    }
}

impl<M: Media> Drop for Building<M> {
    fn drop(&mut self) {
        if self.region.take().is_some() {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

/// A region as a conversion reads it. It stays readable after the region has been dropped,
/// so that a conversion that overran its deadline can be left behind.
#[derive(Debug)]
pub struct Source {
    mapping: Mapping,
    len: u64,
    segments: Vec<(u32, SegmentEntry)>,
    chunks: Vec<u64>,
    root: u64,
    /// Whether some segments are still of the schema before.
    swept: bool,
    /// The types of which it may have objects that nothing refers to.
    left: HashSet<u64>,
    /// While the region is in use: what is stored to from then on is noted.
    watched: Option<Watched>,
    /// What was noted.
    changed: Option<Box<Watch>>,
}

impl Source {
    /// Of a region whose bytes the mapping holds.
    pub(crate) fn new<M: Media>(region: &Region<M>, mapping: Mapping) -> Source {
        let media = region.media();
        let segments = region.segments();
        let count = segments
            .last()
            .map_or(0, |(last, _)| u64::from(*last) / SEGMENTS_PER_CHUNK + 1);
        Source {
            mapping,
            len: media.len(),
            chunks: (0..count)
                .map(|chunk| media.word(DIRECTORY_AT + chunk * 8))
                .collect(),
            segments,
            root: media.word(ROOT_AT),
            swept: region.is_swept(),
            left: region.left().clone(),
            watched: None,
            changed: None,
        }
    }

    /// Of a region that is in use, and notes from now on what is stored to.
    pub(crate) fn in_use(mut self, watched: Watched) -> Source {
        self.watched = Some(watched);
        self
    }

    /// With what was noted while the region was in use.
    pub(crate) fn with_changed(mut self, changed: Option<Box<Watch>>) -> Source {
        self.changed = changed;
        self
    }

    fn bytes(&self, offset: u64, len: u64) -> &[u8] {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.len),
            "in bounds"
        );
        // SAFETY: within the mapping, which `self` keeps. The region's owner changes nothing
        // while a conversion runs; of one that it has left behind, nobody uses the result.
        unsafe {
            std::slice::from_raw_parts(self.mapping.as_ptr().add(offset as usize), len as usize)
        }
    }

    fn bitmap(&self, number: u32) -> &[u8] {
        let chunk = self.chunks[number as usize / SEGMENTS_PER_CHUNK as usize];
        self.bytes(format::bitmap_at(chunk, number.into()), BITMAP_LEN)
    }
}

struct Filler<'a> {
    plan: &'a MigrationPlan,
    old: &'a Source,
    ahead: Option<&'a Ahead>,
    extra: &'a str,
    now_ms: u64,
    convert: &'a Convert<'a>,
    target: *mut u8,
}

// SAFETY: the threads share it to write disjoint segments of `target`'s mapping, and only
// read the rest.
unsafe impl Sync for Filler<'_> {}

impl Filler<'_> {
    /// Converts all segments, on all cores.
    fn run(&self, entries: &[SegmentEntry]) -> Result<(), MigrateError> {
        let segments = &self.old.segments;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let next = AtomicUsize::new(0);
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(new) = entries.get(at) else {
                    return Ok(());
                };
                if let Err(error) = self.segment(at, new) {
                    next.store(segments.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
        };
        if segments.len() < 2 * threads {
            return work();
        }
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            others
                .into_iter()
                .fold(work(), |result, other| match other.join() {
                    Ok(other) => result.and(other),
                    Err(_) => Err(MigrateError::Failed(
                        "a conversion's thread panicked".into(),
                    )),
                })
        })
    }

    /// Converts the segment that comes `at`-th.
    fn segment(&self, at: usize, new: &SegmentEntry) -> Result<(), MigrateError> {
        let (number, old) = &self.old.segments[at];
        let source = self.old.bytes(old.offset, old.length);
        // SAFETY: `new` is within the new region's mapping, which was grown to hold it, and
        // this thread alone writes this segment.
        let target = unsafe {
            let start = self.target.add(new.offset as usize);
            std::slice::from_raw_parts_mut(start, new.length as usize)
        };
        if let Some(ahead) = self.ahead {
            if ahead.has(at, old, new) {
                self.copy_changed(old, source, target);
                return Ok(());
            }
            if ahead.is_in(new.offset, new.length) {
                target.fill(0);
            }
        }
        let bitmap = self.old.bitmap(*number);
        if old.type_id == RAW {
            if bitmap.iter().any(|&byte| byte != 0) {
                let len = old.capacity as usize * old.object_size as usize;
                target[..len].copy_from_slice(&source[..len]);
            }
            return Ok(());
        }
        let Some(plan) = self.plan.types.get(&old.type_id) else {
            return Ok(());
        };
        let objects = Objects {
            old: source,
            live: &live_words(bitmap),
            capacity: old.capacity as usize,
            extra: self.extra,
            now_ms: self.now_ms,
        };
        plan.convert(old.object_size, objects, target, self.convert)
            .map_err(MigrateError::Failed)
    }

    /// Copies of a segment that was copied ahead what was stored to since.
    fn copy_changed(&self, old: &SegmentEntry, source: &[u8], target: &mut [u8]) {
        let len = u64::from(old.capacity) * u64::from(old.object_size);
        let changed = self.old.changed.iter();
        for (at, len) in changed.flat_map(|changed| changed.stored(old.offset, len)) {
            let at = (at - old.offset) as usize;
            let range = at..at + len as usize;
            target[range.clone()].copy_from_slice(&source[range]);
        }
    }
}

/// The words of a bitmap in a file.
fn live_words(bitmap: &[u8]) -> [u64; BITMAP_LEN as usize / 8] {
    let mut live = [0; BITMAP_LEN as usize / 8];
    for (word, bytes) in live.iter_mut().zip(bitmap.chunks_exact(8)) {
        let mut le = [0; 8];
        le.copy_from_slice(bytes);
        *word = u64::from_le_bytes(le);
    }
    live
}

/// Objects that are converted at a time: a word of the bitmap of a segment.
const AT_ONCE: usize = 64;

/// Bytes, old and new ones, that are asked for ahead of their use, at most: they must not drive out those in use.
const AHEAD: usize = 16 << 10;

/// Objects in a row, to be converted.
#[derive(Clone, Copy)]
struct Objects<'a> {
    old: &'a [u8],
    live: &'a [u64],
    capacity: usize,
    extra: &'a str,
    now_ms: u64,
}

impl TypePlan {
    /// Converts objects that take `old_size` bytes each into `target`, which is zeroed.
    fn convert(
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

mod ahead;
mod layout;
mod lost;
mod prefetch;
mod stepwise;

use ahead::Ahead;
use layout::Layout;
pub(crate) use lost::lost_types;
use prefetch::prefetch;
pub use stepwise::{ConvertLink, Stepwise, StepwiseError, StepwiseLink};
pub(crate) use stepwise::{Way, converted_length};

#[cfg(test)]
mod tests;
