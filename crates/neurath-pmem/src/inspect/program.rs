//! What has to be looked at in the objects of each type: made once from the schema, so that no
//! object is looked into by way of the schema itself. What can be any pattern of bits is left out.

use std::collections::HashMap;

use super::known::{Known, MapTypes, known};
use super::trees::{Comparison, OrderedTypes, VectorTypes};
use crate::schema::{FieldDesc, KindDesc, SchemaDesc};

/// What has to be looked at in a value.
#[derive(Debug, Default)]
pub(crate) struct Program<'a> {
    pub ops: Vec<Op<'a>>,
    /// How many values it stands for; those in an enum or an array have programs of their own.
    pub values: u64,
}

/// One thing to look at. Places count from the begin of the program's value.
#[derive(Debug)]
pub(crate) enum Op<'a> {
    Bool {
        at: u64,
    },
    Enum {
        at: u64,
        tag_size: u64,
        name: &'a str,
        variants: Vec<(u64, Program<'a>)>,
    },
    Array {
        at: u64,
        stride: u64,
        len: u64,
        element: Program<'a>,
    },
    /// A reference to an object of one of these types.
    Refer {
        at: u64,
        targets: Vec<Target>,
        name: &'a str,
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
    Unknown {
        at: u64,
        schema: &'a SchemaDesc,
    },
}

/// A type that a reference may lead to, and the program for its objects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub type_id: u64,
    pub program: usize,
}

/// What has to be known of a map to look into it.
#[derive(Debug)]
pub(crate) struct MapProgram<'a> {
    pub types: MapTypes<'a>,
    pub node: u64,
    pub page: u64,
    /// For the key and the value of a node, from the node's begin.
    pub entry: Program<'a>,
    pub key: Key,
}

/// What has to be known of an ordered map to look into it.
#[derive(Debug)]
pub(crate) struct OrderedProgram<'a> {
    pub types: OrderedTypes<'a>,
    pub leaf: u64,
    pub inner: u64,
    pub key: Program<'a>,
    pub value: Program<'a>,
    pub comparison: Comparison,
}

/// What has to be known of a vector to look into it.
#[derive(Debug)]
pub(crate) struct VectorProgram<'a> {
    pub types: VectorTypes<'a>,
    pub page: u64,
    pub index: u64,
    pub element: Program<'a>,
}

/// How a map's key is hashed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Key {
    /// Its bytes, so many.
    Plain(u64),
    /// What its bytes hold.
    Bytes,
    /// Nobody but the component knows.
    Unknown,
}

/// The programs of all types of a schema.
#[derive(Debug)]
pub(crate) struct Programs<'a> {
    pub objects: Vec<Program<'a>>,
    pub maps: Vec<MapProgram<'a>>,
    pub ordered: Vec<OrderedProgram<'a>>,
    pub vectors: Vec<VectorProgram<'a>>,
    by_type: HashMap<u64, usize>,
    by_name: HashMap<&'a str, Vec<Target>>,
}

impl<'a> Programs<'a> {
    /// Those for a root of this type. The nesting of a schema has a limit.
    pub fn new(root: &'a SchemaDesc) -> Programs<'a> {
        let types = root.object_types();
        let mut programs = Programs {
            objects: Vec::new(),
            maps: Vec::new(),
            ordered: Vec::new(),
            vectors: Vec::new(),
            by_type: HashMap::new(),
            by_name: HashMap::new(),
        };
        for (program, schema) in types.iter().enumerate() {
            let type_id = schema.type_id();
            let target = Target { type_id, program };
            programs.by_type.entry(type_id).or_insert(program);
            let named = programs.by_name.entry(&schema.name).or_default();
            named.push(target);
        }
        for schema in types {
            let mut program = Program::default();
            programs.add(schema, 0, &mut program);
            programs.objects.push(program);
        }
        programs
    }

    /// The type of the root.
    pub fn root(&self, schema: &SchemaDesc) -> Vec<Target> {
        self.target(schema)
    }

    fn target(&self, schema: &SchemaDesc) -> Vec<Target> {
        let type_id = schema.type_id();
        let program = self.by_type.get(&type_id);
        program
            .map(|&program| Target { type_id, program })
            .into_iter()
            .collect()
    }

    fn fields(&mut self, fields: &'a [FieldDesc], at: u64, into: &mut Program<'a>) {
        for field in fields {
            self.add(&field.schema, at + u64::from(field.offset), into);
        }
    }

    fn add(&mut self, schema: &'a SchemaDesc, at: u64, into: &mut Program<'a>) {
        into.values += 1;
        let op = match &schema.kind {
            KindDesc::Primitive if schema.name == "bool" && schema.size == 1 => Op::Bool { at },
            KindDesc::Primitive => return,
            KindDesc::Struct(fields) => return self.fields(fields, at, into),
            KindDesc::Enum { tag_size, variants } => {
                let variants = variants.iter().map(|variant| {
                    let mut program = Program::default();
                    self.fields(&variant.fields, 0, &mut program);
                    (variant.discriminant, program)
                });
                Op::Enum {
                    at,
                    tag_size: (*tag_size).into(),
                    name: &schema.name,
                    variants: variants.collect(),
                }
            }
            KindDesc::Array { element, .. } if element.size == 0 || is_plain(element) => return,
            KindDesc::Array { element, len } => {
                let mut program = Program::default();
                self.add(element, 0, &mut program);
                Op::Array {
                    at,
                    stride: element.size.into(),
                    len: (*len).into(),
                    element: program,
                }
            }
            KindDesc::Reference(target) => Op::Refer {
                at,
                targets: self.target(target),
                name: &target.name,
            },
            KindDesc::Link(name) => Op::Refer {
                at,
                targets: self.by_name.get(name.as_str()).cloned().unwrap_or_default(),
                name,
            },
            KindDesc::Collection { .. } => match known(schema) {
                Some(Known::Bytes) => Op::Bytes { at },
                Some(Known::Map(types)) => Op::Map {
                    at,
                    map: self.map(types),
                },
                Some(Known::Ordered(types)) => Op::Ordered {
                    at,
                    map: self.ordered(types),
                },
                Some(Known::Vector(types)) => Op::Vector {
                    at,
                    vector: self.vector(types),
                },
                None => Op::Unknown { at, schema },
            },
        };
        into.ops.push(op);
    }

    fn map(&mut self, types: MapTypes<'a>) -> usize {
        let (node, page) = (types.node.type_id(), types.page.type_id());
        let mut entry = Program::default();
        self.add(types.key.0, types.key.1, &mut entry);
        self.add(types.value.0, types.value.1, &mut entry);
        let key = match (&types.key.0.kind, known(types.key.0)) {
            (KindDesc::Primitive, _) => Key::Plain(types.key.0.size.into()),
            (_, Some(Known::Bytes)) => Key::Bytes,
            _ => Key::Unknown,
        };
        self.maps.push(MapProgram {
            types,
            node,
            page,
            entry,
            key,
        });
        self.maps.len() - 1
    }

    fn ordered(&mut self, types: OrderedTypes<'a>) -> usize {
        let program = OrderedProgram {
            types,
            leaf: types.leaf.type_id(),
            inner: types.inner.type_id(),
            key: self.alone(types.keys.schema),
            value: self.alone(types.values.schema),
            comparison: Comparison::of(types.keys.schema),
        };
        self.ordered.push(program);
        self.ordered.len() - 1
    }

    fn vector(&mut self, types: VectorTypes<'a>) -> usize {
        let program = VectorProgram {
            types,
            page: types.page.type_id(),
            index: types.index.type_id(),
            element: self.alone(types.elements.schema),
        };
        self.vectors.push(program);
        self.vectors.len() - 1
    }

    /// The program for a value by itself.
    fn alone(&mut self, schema: &'a SchemaDesc) -> Program<'a> {
        let mut program = Program::default();
        self.add(schema, 0, &mut program);
        program
    }
}

/// Whether every pattern of bits is a value without references.
fn is_plain(schema: &SchemaDesc) -> bool {
    match &schema.kind {
        KindDesc::Primitive => schema.name != "bool",
        KindDesc::Struct(fields) => fields.iter().all(|field| is_plain(&field.schema)),
        KindDesc::Array { element, .. } => is_plain(element),
        _ => false,
    }
}
