//! Where objects of some types can be found, by the schema: made once for a search.

use std::collections::HashSet;

use crate::inspect::program::{self, Program, Programs};
use crate::inspect::trees;
use crate::region::RAW;
use crate::schema::{KindDesc, SchemaDesc};

/// What is to be looked at in a value, from its begin.
#[derive(Debug)]
pub(super) enum Op {
    Refer {
        at: u64,
        targets: Vec<(u64, usize)>,
    },
    Bytes {
        at: u64,
    },
    Map {
        at: u64,
        map: usize,
    },
    Ordered {
        at: u64,
        map: usize,
    },
    Vector {
        at: u64,
        vector: usize,
    },
    Enum {
        at: u64,
        tag_size: u64,
        variants: Vec<(u64, Vec<Op>)>,
    },
    Array {
        at: u64,
        stride: u64,
        len: u64,
        element: Vec<Op>,
    },
}

/// Values in a row, in an object.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) at: u64,
    pub(super) size: u64,
    pub(super) ops: Vec<Op>,
}

/// A map: the types of its objects, and what is to be looked at in an entry.
#[derive(Debug)]
pub(super) struct MapPlan {
    pub(super) node: u64,
    pub(super) page: u64,
    pub(super) entry: Vec<Op>,
}

/// The same of an ordered map.
#[derive(Debug)]
pub(super) struct OrderedPlan {
    pub(super) leaf: u64,
    pub(super) inner: u64,
    pub(super) keys: Row,
    pub(super) values: Row,
    pub(super) children_at: u64,
}

/// The same of a vector.
#[derive(Debug)]
pub(super) struct VectorPlan {
    pub(super) page: u64,
    pub(super) index: u64,
    pub(super) elements: Row,
}

/// Where to look in the objects of each type for what leads to objects of the wanted ones.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) objects: Vec<Vec<Op>>,
    pub(super) maps: Vec<MapPlan>,
    pub(super) ordered: Vec<OrderedPlan>,
    pub(super) vectors: Vec<VectorPlan>,
    /// The root's type, and its number.
    pub(super) root: Vec<(u64, usize)>,
}

/// Which programs lead to what is wanted.
struct Leads<'a> {
    programs: &'a Programs<'a>,
    wanted: &'a HashSet<u64>,
    objects: Vec<bool>,
    maps: Vec<bool>,
    ordered: Vec<bool>,
    vectors: Vec<bool>,
}

impl<'a> Leads<'a> {
    fn new(programs: &'a Programs<'a>, wanted: &'a HashSet<u64>) -> Leads<'a> {
        let mut leads = Leads {
            programs,
            wanted,
            objects: vec![false; programs.objects.len()],
            maps: vec![false; programs.maps.len()],
            ordered: vec![false; programs.ordered.len()],
            vectors: vec![false; programs.vectors.len()],
        };
        // Types may lead to themselves, by way of each other.
        while leads.spread() {}
        leads
    }

    /// Whether something more was found.
    fn spread(&mut self) -> bool {
        let programs = self.programs;
        let has = |type_id: &u64| self.wanted.contains(type_id);
        let objects = programs.objects.iter().map(|one| self.any(one)).collect();
        let maps = programs.maps.iter();
        let maps = maps
            .map(|map| has(&map.node) || has(&map.page) || self.any(&map.entry))
            .collect();
        let ordered = programs.ordered.iter().map(|map| {
            let within = self.any(&map.key) || self.any(&map.value);
            has(&map.leaf) || has(&map.inner) || within
        });
        let ordered = ordered.collect();
        let vectors = programs.vectors.iter();
        let vectors = vectors
            .map(|one| has(&one.page) || has(&one.index) || self.any(&one.element))
            .collect();
        let before = (&self.objects, &self.maps, &self.ordered, &self.vectors);
        let more = before != (&objects, &maps, &ordered, &vectors);
        (self.objects, self.maps) = (objects, maps);
        (self.ordered, self.vectors) = (ordered, vectors);
        more
    }

    fn any(&self, program: &Program<'_>) -> bool {
        program.ops.iter().any(|op| self.one(op))
    }

    fn one(&self, op: &program::Op<'_>) -> bool {
        match op {
            program::Op::Bool { .. } | program::Op::Unknown { .. } => false,
            program::Op::Refer { targets, .. } => targets.iter().any(|target| {
                self.wanted.contains(&target.type_id) || self.objects[target.program]
            }),
            program::Op::Bytes { .. } => self.wanted.contains(&RAW),
            program::Op::Map { map, .. } => self.maps[*map],
            program::Op::Ordered { map, .. } => self.ordered[*map],
            program::Op::Vector { vector, .. } => self.vectors[*vector],
            program::Op::Enum { variants, .. } => variants.iter().any(|(_, one)| self.any(one)),
            program::Op::Array { element, .. } => self.any(element),
        }
    }

    /// What of a program has to be done; none if a collection in it cannot be followed.
    fn kept(&self, program: &Program<'_>) -> Option<Vec<Op>> {
        let mut ops = Vec::new();
        for op in &program.ops {
            if matches!(op, program::Op::Unknown { .. }) {
                return None;
            }
            let nested = matches!(op, program::Op::Enum { .. } | program::Op::Array { .. });
            if nested || self.one(op) {
                ops.extend(self.op(op)?);
            }
        }
        Some(ops)
    }

    fn op(&self, op: &program::Op<'_>) -> Option<Option<Op>> {
        Some(Some(match op {
            program::Op::Bool { .. } | program::Op::Unknown { .. } => return Some(None),
            program::Op::Refer { at, targets, .. } => Op::Refer {
                at: *at,
                targets: targets
                    .iter()
                    .map(|target| (target.type_id, target.program))
                    .collect(),
            },
            program::Op::Bytes { at } => Op::Bytes { at: *at },
            program::Op::Map { at, map } => Op::Map { at: *at, map: *map },
            program::Op::Ordered { at, map } => Op::Ordered { at: *at, map: *map },
            program::Op::Vector { at, vector } => Op::Vector {
                at: *at,
                vector: *vector,
            },
            program::Op::Enum {
                at,
                tag_size,
                variants,
                ..
            } => {
                let kept = variants
                    .iter()
                    .map(|(tag, one)| Some((*tag, self.kept(one)?)));
                let variants: Vec<_> = kept.collect::<Option<_>>()?;
                if variants.iter().all(|(_, ops)| ops.is_empty()) {
                    return Some(None);
                }
                Op::Enum {
                    at: *at,
                    tag_size: *tag_size,
                    variants,
                }
            }
            program::Op::Array {
                at,
                stride,
                len,
                element,
            } => {
                let element = self.kept(element)?;
                if element.is_empty() {
                    return Some(None);
                }
                Op::Array {
                    at: *at,
                    stride: *stride,
                    len: *len,
                    element,
                }
            }
        }))
    }
}

/// All types that a schema describes.
fn described(schema: &SchemaDesc) -> Vec<&SchemaDesc> {
    let (mut found, mut waiting, mut known) = (Vec::new(), vec![schema], HashSet::new());
    while let Some(schema) = waiting.pop() {
        if !known.insert(schema.fingerprint) {
            continue;
        }
        found.push(schema);
        match &schema.kind {
            KindDesc::Primitive | KindDesc::Link(_) => {}
            KindDesc::Struct(fields) => waiting.extend(fields.iter().map(|one| &one.schema)),
            KindDesc::Enum { variants, .. } => {
                let fields = variants.iter().flat_map(|variant| &variant.fields);
                waiting.extend(fields.map(|one| &one.schema));
            }
            KindDesc::Array { element, .. } => waiting.push(element),
            KindDesc::Reference(target) => waiting.push(target),
            KindDesc::Collection { fields, objects } => {
                waiting.extend(fields.iter().map(|one| &one.schema));
                waiting.extend(objects);
            }
        }
    }
    found
}

/// Whether all that links lead to is known. A link has no more than a name. A type of that name may
/// stand in others only, and then is none of those whose objects are known.
fn links_are_known(schema: &SchemaDesc) -> bool {
    let types = schema.object_types();
    let objects: HashSet<_> = types.iter().map(|one| one.fingerprint).collect();
    let described = described(schema);
    let is_known = |link: &&SchemaDesc| {
        let KindDesc::Link(name) = &link.kind else {
            return true;
        };
        let mut named = described
            .iter()
            .filter(|one| one.name == *name && !matches!(one.kind, KindDesc::Link(_)))
            .peekable();
        let leads_nowhere = |one: &SchemaDesc| matches!(one.kind, KindDesc::Primitive);
        named.peek().is_some()
            && named.all(|one| leads_nowhere(one) || objects.contains(&one.fingerprint))
    };
    described.iter().all(is_known)
}

impl Plan {
    /// The way from a root of this type to all objects of the wanted types; none if there is a
    /// collection or a link that cannot be followed.
    pub(super) fn new(schema: &SchemaDesc, wanted: &HashSet<u64>) -> Option<Plan> {
        if !links_are_known(schema) {
            return None;
        }
        let programs = Programs::new(schema);
        let leads = Leads::new(&programs, wanted);
        let objects = programs.objects.iter().map(|one| leads.kept(one));
        let maps = programs.maps.iter().map(|map| {
            Some(MapPlan {
                node: map.node,
                page: map.page,
                entry: leads.kept(&map.entry)?,
            })
        });
        let row = |row: &trees::Row<'_>, program| {
            Some(Row {
                at: row.place(0, 0),
                size: row.schema.size.into(),
                ops: leads.kept(program)?,
            })
        };
        let ordered = programs.ordered.iter().map(|map| {
            Some(OrderedPlan {
                leaf: map.leaf,
                inner: map.inner,
                keys: row(&map.types.keys, &map.key)?,
                values: row(&map.types.values, &map.value)?,
                children_at: map.types.children_at(),
            })
        });
        let vectors = programs.vectors.iter().map(|vector| {
            Some(VectorPlan {
                page: vector.page,
                index: vector.index,
                elements: row(&vector.types.elements, &vector.element)?,
            })
        });
        let root = programs.root(schema).into_iter();
        Some(Plan {
            objects: objects.collect::<Option<_>>()?,
            maps: maps.collect::<Option<_>>()?,
            ordered: ordered.collect::<Option<_>>()?,
            vectors: vectors.collect::<Option<_>>()?,
            root: root.map(|one| (one.type_id, one.program)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{encode, encoded_len};
    use crate::{P, Pmem, Vector};

    #[derive(Clone, Copy, Pmem)]
    #[repr(C)]
    struct Node {
        next: P<Self>,
        list: Vector<u64>,
    }

    /// Only links lead to the nodes that are objects.
    #[derive(Clone, Copy, Pmem)]
    #[repr(C)]
    struct Within {
        first: Node,
        list: Vector<u64>,
    }

    #[derive(Clone, Copy, Pmem)]
    #[repr(C)]
    struct Beside {
        first: P<Node>,
        list: Vector<u64>,
    }

    fn is_planned(bytes: &[u8]) -> bool {
        let schema = SchemaDesc::decode(bytes).expect("an encoded schema");
        let pages = schema.object_types().into_iter();
        let pages = pages.filter(|one| one.name == "VectorPage");
        let wanted: HashSet<u64> = pages.map(SchemaDesc::type_id).collect();
        assert_eq!(wanted.len(), 1);
        Plan::new(&schema, &wanted).is_some()
    }

    #[test]
    fn where_a_link_cannot_be_followed_nothing_is_searched() {
        const WITHIN: [u8; encoded_len(Within::SCHEMA)] = encode(Within::SCHEMA);
        const BESIDE: [u8; encoded_len(Beside::SCHEMA)] = encode(Beside::SCHEMA);
        assert!(is_planned(&BESIDE));
        assert!(!is_planned(&WITHIN));
    }
}
