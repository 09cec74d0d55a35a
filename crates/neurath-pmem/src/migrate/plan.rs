//! The way of every object from one schema to another, pure.

use std::collections::{HashMap, HashSet, VecDeque};

use super::{converted_length, lost_types};
use crate::region::format::SegmentEntry;
use crate::region::{RAW, object_size};
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

/// What becomes of the bytes of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// They are kept.
    Copy { from: u32, to: u32, len: u32 },
    /// The `index`-th conversion makes others of them.
    Convert { from: u32, to: u32, index: usize },
}

/// What becomes of the objects of a type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TypePlan {
    /// The old objects' size.
    pub(super) old_size: u32,
    pub(super) type_id: u64,
    pub(super) size: u32,
    pub(super) parts: Vec<Part>,
}

/// How every object of a region gets from one schema to another. Pure: made from two
/// schemas and the conversions there are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MigrationPlan {
    pub(super) types: HashMap<u64, TypePlan>,
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
    pub(super) fn left(&self, before: &HashSet<u64>) -> HashSet<u64> {
        let becomes = |id: &u64| match *id {
            RAW => Some(RAW),
            id => Some(self.types.get(&id)?.type_id),
        };
        let lost = self.lost.union(before).filter_map(becomes);
        lost.chain(self.lost_there.iter().copied()).collect()
    }

    /// The new form of a segment; `None` if its objects are dropped.
    pub(super) fn convert_entry(&self, old: &SegmentEntry, offset: u64) -> Option<SegmentEntry> {
        let (type_id, object_size) = if old.type_id == RAW {
            (RAW, old.object_size)
        } else {
            let plan = self.types.get(&old.type_id)?;
            (plan.type_id, plan.size)
        };
        Some(SegmentEntry {
            type_id,
            offset,
            length: converted_length(old, object_size),
            object_size,
            capacity: old.capacity,
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
