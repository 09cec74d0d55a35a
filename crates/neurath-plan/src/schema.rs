//! What a built library says of its state: plain values, which the caller reads from the library's file.

use std::collections::HashSet;

/// What a built library says of itself, as far as it matters to a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentFacts {
    /// The type of its state.
    pub state: TypeDesc,
    /// Its `code_change` functions, in both directions.
    pub code_changes: Vec<CodeChange>,
    /// Its functions that take state out or put it in, for `move_state`.
    pub moves: Vec<MoveFunction>,
}

/// A `move_out` or `move_in` function: one end of a `move_state`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveFunction {
    /// The name of the move.
    pub name: String,
    /// Whether it puts state in; else it takes it out.
    pub incoming: bool,
    /// The fingerprint of the state that it works on.
    pub state: String,
    /// The fingerprint of what is moved.
    pub value: String,
}

/// A `code_change` function: values of one type become values of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeChange {
    /// The fingerprint of the type it takes.
    pub from: String,
    /// The fingerprint of the type it gives.
    pub to: String,
    /// The version it comes from, or goes back to, as its author wrote it: `1.0`.
    pub version: String,
    /// Whether it goes back.
    pub backward: bool,
}

/// A type in a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeDesc {
    /// Its name, which versions of a type share.
    pub name: String,
    /// Its size in bytes.
    pub size: u32,
    /// The fingerprint over all that it is made of: two types with the same one are the same.
    pub fingerprint: String,
    /// What it is made of.
    pub kind: TypeKind,
}

/// What a type is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeKind {
    /// A number, or plain bytes.
    Primitive,
    /// Fields in a row.
    Struct(Vec<FieldDesc>),
    /// One of several values.
    Enum {
        /// Bytes of its number.
        tag_size: u8,
        /// The values.
        variants: Vec<VariantDesc>,
    },
    /// The same type several times.
    Array {
        /// The element.
        element: Box<TypeDesc>,
        /// How many.
        len: u32,
    },
    /// A reference to an object.
    Reference(Box<TypeDesc>),
    /// A reference to a type described elsewhere, by its name.
    Link(String),
    /// A collection.
    Collection {
        /// The header's fields.
        fields: Vec<FieldDesc>,
        /// The types of its objects.
        objects: Vec<TypeDesc>,
    },
}

/// A field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldDesc {
    /// Its name.
    pub name: String,
    /// Where it lies, in bytes.
    pub offset: u32,
    /// Its type.
    pub ty: TypeDesc,
}

/// A value of an enum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariantDesc {
    /// Its name.
    pub name: String,
    /// Its tag.
    pub tag: u64,
    /// Its fields.
    pub fields: Vec<FieldDesc>,
}

impl TypeDesc {
    /// Every type in it, itself first, each once.
    pub fn all(&self) -> Vec<&TypeDesc> {
        let (mut found, mut known) = (Vec::new(), HashSet::new());
        let mut queue = vec![self];
        while let Some(one) = queue.pop() {
            if known.insert(one.fingerprint.as_str()) {
                found.push(one);
                queue.extend(one.parts().into_iter().rev());
            }
        }
        found
    }

    /// The types that it is made of or leads to, in order.
    fn parts(&self) -> Vec<&TypeDesc> {
        match &self.kind {
            TypeKind::Primitive | TypeKind::Link(_) => Vec::new(),
            TypeKind::Struct(fields) => fields.iter().map(|field| &field.ty).collect(),
            TypeKind::Enum { variants, .. } => variants
                .iter()
                .flat_map(|variant| variant.fields.iter().map(|field| &field.ty))
                .collect(),
            TypeKind::Array { element, .. } => vec![element],
            TypeKind::Reference(object) => vec![object],
            TypeKind::Collection { fields, objects } => fields
                .iter()
                .map(|field| &field.ty)
                .chain(objects)
                .collect(),
        }
    }
}
