//! What the planner is told of a library: read from its file, which is not loaded.

use std::path::Path;

use neurath_plan::schema::{CodeChange, FieldDesc, MoveFunction, TypeDesc, TypeKind, VariantDesc};
use neurath_plan::{Catalogue, ComponentFacts};
use neurath_pmem::schema::{self, KindDesc, SchemaDesc, SchemaError, hex};
use semver::Version;

use crate::loader::{self, Description, LoadError};

/// What a library says of its state, as the planner wants it.
///
/// # Errors
///
/// [`SchemaError`], if its schema cannot be read.
pub fn of(description: &Description) -> Result<ComponentFacts, SchemaError> {
    let state = SchemaDesc::decode(&description.schema)?;
    let code_changes = description.migrations.iter().map(|one| CodeChange {
        from: hex(one.from),
        to: hex(one.to),
        version: one.version.clone(),
        backward: one.backward,
    });
    let moves = description.moves.iter().map(|one| MoveFunction {
        name: one.name.clone(),
        incoming: one.incoming,
        state: hex(one.state),
        value: hex(one.value),
    });
    Ok(ComponentFacts {
        state: type_desc(&state),
        code_changes: code_changes.collect(),
        moves: moves.collect(),
    })
}

/// Adds to the catalogue what the library in these bytes says. Of one for another ABI only
/// that is known; what cannot be read is refused when it is to be loaded.
///
/// # Errors
///
/// [`LoadError`], if the file is not a component.
pub fn add(
    catalogue: &mut Catalogue,
    place: (&str, &Version),
    path: &Path,
    bytes: &[u8],
) -> Result<(), LoadError> {
    match loader::describe(path, bytes) {
        Ok(description) => {
            catalogue.add_abi(place, neurath_abi::ABI_VERSION);
            if let Ok(facts) = of(&description) {
                catalogue.add_facts(place, facts);
            }
            Ok(())
        }
        Err(LoadError::Abi { found, .. }) => {
            catalogue.add_abi(place, found);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn type_desc(from: &SchemaDesc) -> TypeDesc {
    let boxed = |one: &SchemaDesc| Box::new(type_desc(one));
    TypeDesc {
        name: from.name.clone(),
        size: from.size,
        fingerprint: hex(from.fingerprint),
        kind: match &from.kind {
            KindDesc::Primitive => TypeKind::Primitive,
            KindDesc::Struct(all) => TypeKind::Struct(fields(all)),
            KindDesc::Enum { tag_size, variants } => TypeKind::Enum {
                tag_size: *tag_size,
                variants: variants
                    .iter()
                    .map(|one| VariantDesc {
                        name: one.name.clone(),
                        tag: one.discriminant,
                        fields: fields(&one.fields),
                    })
                    .collect(),
            },
            KindDesc::Array { element, len } => TypeKind::Array {
                element: boxed(element),
                len: *len,
            },
            KindDesc::Reference(object) => TypeKind::Reference(boxed(object)),
            KindDesc::Link(name) => TypeKind::Link(name.clone()),
            KindDesc::Collection {
                fields: header,
                objects,
            } => TypeKind::Collection {
                fields: fields(header),
                objects: objects.iter().map(type_desc).collect(),
            },
        },
    }
}

fn fields(all: &[schema::FieldDesc]) -> Vec<FieldDesc> {
    let fields = all.iter().map(|field| FieldDesc {
        name: field.name.clone(),
        offset: field.offset,
        ty: type_desc(&field.schema),
    });
    fields.collect()
}

#[cfg(test)]
mod tests {
    use neurath_pmem::migrate::{Conversion, MigrationPlan};
    use neurath_pmem::{Bytes, Pmem};
    use proptest::prelude::*;

    use super::*;

    macro_rules! state {
        ($module:ident, $($field:ident: $type:ty),*) => {
            mod $module {
                use neurath_pmem::schema::{SchemaDesc, encode, encoded_len};
                use neurath_pmem::*;

                #[derive(Clone, Copy, Pmem)]
                #[repr(C)]
                pub(super) struct Store {
                    $($field: $type),*
                }

                pub(super) fn schema() -> SchemaDesc {
                    const BYTES: [u8; encoded_len(Store::SCHEMA)] = encode(Store::SCHEMA);
                    SchemaDesc::decode(&BYTES).expect("a schema")
                }
            }
        };
    }
    state!(narrow, map: Map<u32, u32>);
    state!(wide, map: Map<u64, u32>);
    state!(text, map: Map<Bytes, u32>);
    state!(sorted, map: OrderedMap<u32, u32>);
    state!(sorted_wide, map: OrderedMap<u64, u32>);
    state!(sorted_text, map: OrderedMap<Bytes, u32>);
    state!(two, map: Map<u32, u32>, other: Map<u32, u32>);
    state!(one_of_two, map: Map<u32, u32>, other: Map<u32, u64>);

    /// What there is to be done if every type had a conversion to every other one, but for those of collections' objects.
    fn remedies(old: &SchemaDesc, new: &SchemaDesc) -> Vec<Option<&'static str>> {
        let (from, to) = (type_desc(old), type_desc(new));
        let numbers = [u32::FINGERPRINT, u64::FINGERPRINT, Bytes::FINGERPRINT];
        let pairs = numbers.into_iter().flat_map(|a| numbers.map(|b| (a, b)));
        let known: Vec<Conversion> = pairs.map(|(from, to)| Conversion { from, to }).collect();
        let code_changes: Vec<CodeChange> = known
            .iter()
            .map(|one| CodeChange {
                from: hex(one.from),
                to: hex(one.to),
                version: "1.0".into(),
                backward: false,
            })
            .collect();
        let planned = MigrationPlan::new(old, new, &known);
        let gaps = neurath_plan::compare(&from, &to, &code_changes).gaps;
        assert_eq!(planned.is_ok(), gaps.is_empty(), "{planned:?} {gaps:?}");
        gaps.into_iter().map(|gap| gap.remedy).collect()
    }

    #[test]
    fn a_map_keeps_the_type_of_its_keys() {
        let refused = |old: SchemaDesc, new: SchemaDesc| {
            let told = remedies(&old, &new);
            assert!(
                !told.is_empty() && told.iter().all(Option::is_some),
                "{told:?}"
            );
        };
        refused(narrow::schema(), wide::schema());
        refused(wide::schema(), narrow::schema());
        refused(narrow::schema(), text::schema());
        refused(sorted::schema(), sorted_text::schema());
        // A number stays where it is among the others.
        assert!(remedies(&sorted::schema(), &sorted_wide::schema()).is_empty());
        assert!(remedies(&sorted_wide::schema(), &sorted::schema()).is_empty());
    }

    #[test]
    fn maps_of_the_same_types_change_together() {
        let told = remedies(&two::schema(), &one_of_two::schema());
        assert!(
            !told.is_empty() && told.iter().all(Option::is_some),
            "{told:?}"
        );
    }

    /// A type of a few names, in one of many shapes.
    #[derive(Clone, Debug)]
    enum Shape {
        Number(bool),
        Struct(u8, Vec<(u8, Shape)>),
        Enum(u8, Vec<(u8, Shape)>),
        Array(Box<Shape>, u8),
        Reference(Box<Shape>),
    }

    fn shape() -> impl Strategy<Value = Shape> {
        any::<bool>()
            .prop_map(Shape::Number)
            .prop_recursive(4, 24, 3, |inner| {
                let fields = prop::collection::vec((0..4_u8, inner.clone()), 1..4);
                prop_oneof![
                    4 => (0..3_u8, fields.clone()).prop_map(|(name, fields)| Shape::Struct(name, fields)),
                    1 => (0..3_u8, fields).prop_map(|(name, fields)| Shape::Enum(name, fields)),
                    1 => (inner.clone(), 1..3_u8).prop_map(|(one, len)| Shape::Array(Box::new(one), len)),
                    2 => inner.prop_map(|one| Shape::Reference(Box::new(one))),
                ]
            })
    }

    /// The root is a struct, and its name the same in both versions.
    fn root() -> impl Strategy<Value = Shape> {
        prop::collection::vec((0..4_u8, shape()), 1..4).prop_map(|fields| Shape::Struct(9, fields))
    }

    /// A version of the same type with a few fields changed.
    fn edited(shape: &Shape, dice: &mut impl FnMut() -> u8) -> Shape {
        let roll = dice();
        match shape {
            Shape::Number(wide) => Shape::Number(*wide ^ (roll < 25)),
            Shape::Struct(name, fields) | Shape::Enum(name, fields) => {
                let mut fields: Vec<(u8, Shape)> = fields
                    .iter()
                    .map(|(name, field)| (*name, edited(field, dice)))
                    .collect();
                match roll {
                    0..20 => fields.push((dice() % 8, Shape::Number(true))),
                    20..35 if fields.len() > 1 => {
                        fields.pop();
                    }
                    _ => {}
                }
                match shape {
                    Shape::Struct(..) => Shape::Struct(*name, fields),
                    _ => Shape::Enum(*name, fields),
                }
            }
            Shape::Array(one, len) => Shape::Array(Box::new(edited(one, dice)), *len),
            Shape::Reference(one) => Shape::Reference(Box::new(edited(one, dice))),
        }
    }

    fn size(shape: &Shape) -> u32 {
        match shape {
            Shape::Number(wide) => 4 + 4 * u32::from(*wide),
            Shape::Struct(_, fields) => distinct(fields).iter().map(|(_, one)| size(one)).sum(),
            Shape::Enum(_, fields) => {
                let fields = distinct(fields);
                8 + fields.iter().map(|(_, one)| size(one)).max().unwrap_or(0)
            }
            Shape::Array(one, len) => size(one) * u32::from(*len),
            Shape::Reference(_) => 8,
        }
    }

    /// Fields with a name each.
    fn distinct(fields: &[(u8, Shape)]) -> Vec<(u8, Shape)> {
        let mut found: Vec<(u8, Shape)> = Vec::new();
        for field in fields {
            if found.iter().all(|other| other.0 != field.0) {
                found.push(field.clone());
            }
        }
        found
    }

    /// As `docs/schema.md` has it.
    fn encode(shape: &Shape, out: &mut Vec<u8>) {
        let text = |out: &mut Vec<u8>, text: &str| {
            out.push(text.len() as u8);
            out.extend(text.as_bytes());
        };
        let head = |out: &mut Vec<u8>, kind: u8, name: &str| {
            out.push(kind);
            text(out, name);
            out.extend(size(shape).to_le_bytes());
            out.extend(4_u16.to_le_bytes());
        };
        match shape {
            Shape::Number(wide) => head(out, 1, if *wide { "u64" } else { "u32" }),
            Shape::Struct(name, fields) => {
                head(out, 2, &format!("S{name}"));
                let fields = distinct(fields);
                out.extend((fields.len() as u16).to_le_bytes());
                let mut offset = 0_u32;
                for (name, field) in fields {
                    text(out, &format!("f{name}"));
                    out.extend(offset.to_le_bytes());
                    offset += size(&field);
                    encode(&field, out);
                }
            }
            Shape::Enum(name, fields) => {
                head(out, 3, &format!("E{name}"));
                let fields = distinct(fields);
                out.push(1);
                out.extend((fields.len() as u16).to_le_bytes());
                for (tag, (name, field)) in fields.iter().enumerate() {
                    text(out, &format!("V{name}"));
                    out.extend((tag as u64).to_le_bytes());
                    out.extend(1_u16.to_le_bytes());
                    text(out, "0");
                    out.extend(8_u32.to_le_bytes());
                    encode(field, out);
                }
            }
            Shape::Array(one, len) => {
                head(out, 4, "array");
                out.extend(u32::from(*len).to_le_bytes());
                encode(one, out);
            }
            Shape::Reference(one) => {
                head(out, 5, "P");
                encode(one, out);
            }
        }
    }

    fn decoded(shape: &Shape) -> SchemaDesc {
        let mut bytes = vec![1];
        encode(shape, &mut bytes);
        SchemaDesc::decode(&bytes).expect("a schema")
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        /// What the planner proves is what the conversion can do: the same states and functions pass both.
        #[test]
        fn the_proof_is_that_of_the_conversion(old in root(), rolls in prop::collection::vec(any::<u8>(), 64), take in any::<u8>()) {
            let mut at = 0;
            let mut dice = || {
                at += 1;
                rolls[at % rolls.len()]
            };
            let new = edited(&old, &mut dice);
            let (old, new) = (decoded(&old), decoded(&new));
            let (from, to) = (type_desc(&old), type_desc(&new));
            // Some of the functions that there could be.
            let mut conversions = Vec::new();
            for (index, a) in from.all().into_iter().enumerate() {
                for b in to.all() {
                    let wanted = a.fingerprint != b.fingerprint && a.name == b.name;
                    if wanted && (take >> (index % 8)) & 1 == 1 {
                        conversions.push((a.fingerprint.clone(), b.fingerprint.clone()));
                    }
                }
            }
            let code_changes: Vec<CodeChange> = conversions
                .iter()
                .map(|(from, to)| CodeChange {
                    from: from.clone(),
                    to: to.clone(),
                    version: "1.0".into(),
                    backward: false,
                })
                .collect();
            let print = |text: &str| {
                let bytes: Vec<u8> = (0..16)
                    .map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).expect("hex"))
                    .collect();
                <[u8; 16]>::try_from(bytes).expect("16 bytes")
            };
            let known: Vec<Conversion> = conversions
                .iter()
                .map(|(from, to)| Conversion { from: print(from), to: print(to) })
                .collect();
            let planned = MigrationPlan::new(&old, &new, &known);
            let compared = neurath_plan::compare(&from, &to, &code_changes);
            prop_assert_eq!(planned.is_ok(), compared.gaps.is_empty(), "{:?}\n{:?}", planned, compared.gaps);
        }
    }
}
