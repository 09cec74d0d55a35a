//! What the planner is told of a library: read from its file, which is not loaded.

use std::path::Path;

use neurath_plan::schema::{CodeChange, FieldDesc, TypeDesc, TypeKind, VariantDesc};
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
    Ok(ComponentFacts {
        state: type_desc(&state),
        code_changes: code_changes.collect(),
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
            KindDesc::Enum { variants, .. } => TypeKind::Enum(
                variants
                    .iter()
                    .map(|one| VariantDesc {
                        name: one.name.clone(),
                        tag: one.discriminant,
                        fields: fields(&one.fields),
                    })
                    .collect(),
            ),
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
