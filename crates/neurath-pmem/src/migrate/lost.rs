//! Which types a conversion may leave objects of that nothing refers to any more.
//!
//! A conversion is a library's function from value to value, and frees nothing. A field that
//! both schemas have under one name is taken for carried over. What one of the others led to may have
//! been carried over as well, or not: only the objects can tell. Here is told which are worth a look.

use std::collections::HashSet;

use crate::region::RAW;
use crate::schema::{FieldDesc, Fingerprint, KindDesc, SchemaDesc};

/// The types of the objects that fields lead to which `old` has and `new` has not.
pub(crate) fn lost_types(old: &SchemaDesc, new: &SchemaDesc) -> HashSet<u64> {
    let mut search = Search {
        old,
        new,
        paired: HashSet::new(),
        waiting: vec![(old, new)],
        lost: HashSet::new(),
    };
    while let Some((a, b)) = search.waiting.pop() {
        if search.paired.insert((a.fingerprint, b.fingerprint)) {
            search.value(a, b);
        }
    }
    search.lost
}

struct Search<'a> {
    old: &'a SchemaDesc,
    new: &'a SchemaDesc,
    paired: HashSet<(Fingerprint, Fingerprint)>,
    waiting: Vec<(&'a SchemaDesc, &'a SchemaDesc)>,
    lost: HashSet<u64>,
}

impl<'a> Search<'a> {
    /// A value of one type becomes one of the other.
    fn value(&mut self, a: &'a SchemaDesc, b: &'a SchemaDesc) {
        if a.fingerprint == b.fingerprint {
            return;
        }
        match (&a.kind, &b.kind) {
            (KindDesc::Primitive, _) => {}
            (KindDesc::Struct(a), KindDesc::Struct(b)) => self.fields(a, b),
            (KindDesc::Enum { variants: a, .. }, KindDesc::Enum { variants: b, .. }) => {
                for a in a {
                    let same = b.iter().find(|b| b.name == a.name);
                    self.fields(&a.fields, same.map_or(&[], |b| &b.fields));
                }
            }
            (KindDesc::Array { element: a, len: n }, KindDesc::Array { element: b, len: m }) => {
                if n > m {
                    self.lose(a);
                }
                self.value(a, b);
            }
            (
                KindDesc::Reference(_) | KindDesc::Link(_),
                KindDesc::Reference(_) | KindDesc::Link(_),
            ) => match (target(self.old, a), target(self.new, b)) {
                (Some(a), Some(b)) => self.waiting.push((a, b)),
                _ => self.lose(a),
            },
            (KindDesc::Collection { objects: c, .. }, KindDesc::Collection { objects: d, .. })
                if a.name == b.name && c.len() == d.len() =>
            {
                self.waiting.extend(c.iter().zip(d));
            }
            _ => self.lose(a),
        }
    }

    fn fields(&mut self, old: &'a [FieldDesc], new: &'a [FieldDesc]) {
        for a in old {
            match new.iter().find(|b| b.name == a.name) {
                Some(b) => self.value(&a.schema, &b.schema),
                None => self.lose(&a.schema),
            }
        }
    }

    /// All that a value of this type leads to.
    fn lose(&mut self, schema: &'a SchemaDesc) {
        let (mut waiting, mut seen) = (vec![schema], HashSet::new());
        while let Some(schema) = waiting.pop() {
            if !seen.insert(schema.fingerprint) {
                continue;
            }
            match &schema.kind {
                KindDesc::Primitive => {}
                KindDesc::Struct(fields) => waiting.extend(fields.iter().map(|one| &one.schema)),
                KindDesc::Enum { variants, .. } => {
                    let fields = variants.iter().flat_map(|variant| &variant.fields);
                    waiting.extend(fields.map(|one| &one.schema));
                }
                KindDesc::Array { element, .. } => waiting.push(element),
                KindDesc::Reference(_) | KindDesc::Link(_) => {
                    let target = target(self.old, schema);
                    self.lost.extend(target.map(SchemaDesc::type_id));
                    waiting.extend(target);
                }
                KindDesc::Collection { objects, .. } => {
                    // Bytes are in blocks that no schema describes.
                    if objects.is_empty() {
                        self.lost.insert(RAW);
                    }
                    self.lost.extend(objects.iter().map(SchemaDesc::type_id));
                    waiting.extend(objects);
                }
            }
        }
    }
}

/// What a reference leads to.
fn target<'a>(root: &'a SchemaDesc, reference: &'a SchemaDesc) -> Option<&'a SchemaDesc> {
    match &reference.kind {
        KindDesc::Reference(target) => Some(target),
        KindDesc::Link(name) => {
            let mut types = root.object_types().into_iter();
            types.find(|schema| schema.name == *name)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{encode, encoded_len};
    use crate::{Bytes, Map, OrderedMap, P, Pmem, Vector};

    #[derive(Clone, Copy, Pmem)]
    #[repr(C)]
    struct Held {
        list: Vector<u32>,
        text: Bytes,
        next: P<u32>,
    }

    #[derive(Clone, Copy, Pmem)]
    #[repr(C)]
    struct Old {
        kept: Map<u32, u32>,
        changed: Map<u32, Held>,
        renamed: OrderedMap<u32, u32>,
        kind: Vector<u64>,
        row: [P<u64>; 3],
        count: u64,
    }

    mod new {
        use super::*;

        #[derive(Clone, Copy, Pmem)]
        #[repr(C)]
        pub(super) struct Held {
            more: u64,
            next: P<u32>,
        }

        #[derive(Clone, Copy, Pmem)]
        #[repr(C)]
        pub(super) struct Old {
            kept: Map<u32, u32>,
            changed: Map<u32, Held>,
            named: OrderedMap<u32, u32>,
            kind: OrderedMap<u64, u64>,
            row: [P<u64>; 2],
        }
        pub(super) const SCHEMA: [u8; encoded_len(Old::SCHEMA)] = encode(Old::SCHEMA);
    }
    const SCHEMA: [u8; encoded_len(Old::SCHEMA)] = encode(Old::SCHEMA);

    fn described(encoded: &[u8]) -> SchemaDesc {
        SchemaDesc::decode(encoded).expect("a schema")
    }

    /// The types of a collection's objects.
    fn parts(encoded: &[u8]) -> Vec<u64> {
        let schema = described(encoded);
        let types = schema.object_types().into_iter().skip(1);
        types.map(SchemaDesc::type_id).collect()
    }

    #[test]
    fn what_no_field_of_the_same_name_and_kind_takes_over_may_be_lost() {
        const LIST: [u8; encoded_len(<Vector<u32>>::SCHEMA)] = encode(<Vector<u32>>::SCHEMA);
        const SORTED: [u8; encoded_len(<OrderedMap<u32, u32>>::SCHEMA)] =
            encode(<OrderedMap<u32, u32>>::SCHEMA);
        const KIND: [u8; encoded_len(<Vector<u64>>::SCHEMA)] = encode(<Vector<u64>>::SCHEMA);
        const NEW_KIND: [u8; encoded_len(<OrderedMap<u64, u64>>::SCHEMA)] =
            encode(<OrderedMap<u64, u64>>::SCHEMA);
        let (old, new) = (described(&SCHEMA), described(&new::SCHEMA));
        let lost = [parts(&LIST), parts(&SORTED), parts(&KIND)].concat();
        let lost: HashSet<u64> = lost.into_iter().chain([u64::TYPE_ID, RAW]).collect();
        assert_eq!(lost_types(&old, &new), lost);
        // What is new is what the way back loses.
        let back = [parts(&SORTED), parts(&NEW_KIND)].concat();
        assert_eq!(lost_types(&new, &old), back.into_iter().collect());
        assert!(lost_types(&old, &old).is_empty());
    }
}
