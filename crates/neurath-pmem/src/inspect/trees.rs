//! Ordered maps and vectors as they lie in a file: their shapes, their headers, and a walk along
//! what they hold. `collections/ordered_map.rs` and `collections/vector.rs` say what these are.

use std::cmp::Ordering;

use neurath_abi::Ref;

use super::image::{Bytes, Image, Tables};
use super::known::{Known, bytes_of, known, number, place};
use crate::collections::order::{Order, SLOTS};
use crate::schema::{FieldDesc, KindDesc, SchemaDesc};

/// What `collections/ordered_map/node.rs` keeps in a node at least, unless it is the topmost one.
pub(super) const HALF: usize = SLOTS / 2;
/// How many levels of inner nodes there may be.
const ORDERED_DEPTH: u64 = 16;
/// Elements of a vector's page, or references.
pub(crate) const VECTOR_FAN: u64 = 64;
/// How many levels of references a vector may have.
const VECTOR_DEPTH: u64 = 7;

/// Values of one type in a row, in an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    pub schema: &'a SchemaDesc,
    at: u64,
}

impl<'a> Row<'a> {
    /// The row that a field is, if it has so many values.
    fn of(field: &'a FieldDesc, count: u32) -> Option<Row<'a>> {
        match &field.schema.kind {
            KindDesc::Array { element, len } if *len == count => Some(Row {
                schema: element,
                at: field.offset.into(),
            }),
            _ => None,
        }
    }

    /// Where one of them stands, in an object that begins at `object`.
    pub fn place(&self, object: u64, number: u64) -> u64 {
        object + self.at + number * u64::from(self.schema.size)
    }
}

/// The types of an ordered map's nodes, and where these have their parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OrderedTypes<'a> {
    pub leaf: &'a SchemaDesc,
    pub inner: &'a SchemaDesc,
    pub keys: Row<'a>,
    pub values: Row<'a>,
    children: Row<'a>,
}

impl<'a> OrderedTypes<'a> {
    pub(super) fn of(leaf: &'a SchemaDesc, inner: &'a SchemaDesc) -> Option<OrderedTypes<'a>> {
        let (KindDesc::Struct(in_leaf), KindDesc::Struct(in_inner)) = (&leaf.kind, &inner.kind)
        else {
            return None;
        };
        let ([order, keys, values], [above, separators, children]) = (&in_leaf[..], &in_inner[..])
        else {
            return None;
        };
        let slots = SLOTS as u32;
        let types = OrderedTypes {
            leaf,
            inner,
            keys: Row::of(keys, slots)?,
            values: Row::of(values, slots)?,
            children: Row::of(children, slots + 1)?,
        };
        let is_order = |field: &FieldDesc| (field.offset, field.schema.size) == (0, 8);
        let sound = is_order(order)
            && is_order(above)
            && separators.offset == keys.offset
            && separators.schema.fingerprint == keys.schema.fingerprint
            && types.children.schema.size == 8;
        sound.then_some(types)
    }

    /// The type of the nodes at a level: leaves are at level 0.
    pub(super) fn at_level(&self, level: u64) -> &'a SchemaDesc {
        if level == 0 { self.leaf } else { self.inner }
    }

    /// Where the row of an inner node's references to its children begins.
    pub fn children_at(&self) -> u64 {
        self.children.at
    }

    /// Where the reference to an inner node's child stands: there is one before each separator,
    /// and one behind the last.
    pub(super) fn child_at(&self, node: u64, order: Order, at: usize) -> u64 {
        let slot = at.checked_sub(1).map_or(SLOTS, |at| order.slot(at));
        self.children.place(node, slot as u64)
    }
}

/// The types of a vector's pages, and its elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VectorTypes<'a> {
    pub page: &'a SchemaDesc,
    pub index: &'a SchemaDesc,
    pub elements: Row<'a>,
}

impl<'a> VectorTypes<'a> {
    pub(super) fn of(page: &'a SchemaDesc, index: &'a SchemaDesc) -> Option<VectorTypes<'a>> {
        let KindDesc::Struct(parts) = &page.kind else {
            return None;
        };
        let [elements] = &parts[..] else {
            return None;
        };
        let fan = VECTOR_FAN as u32;
        let references = matches!(
            &index.kind,
            KindDesc::Array { element, len } if *len == fan && element.size == 8
        );
        let elements = Row::of(elements, fan)?;
        references.then_some(VectorTypes {
            page,
            index,
            elements,
        })
    }

    /// The type of the pages at a level: elements are at level 0.
    pub(super) fn at_level(&self, level: u64) -> &'a SchemaDesc {
        if level == 0 { self.page } else { self.index }
    }
}

/// The numbers in the header of either.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TreeHeader {
    pub len: u64,
    pub top: Ref,
    pub depth: u64,
}

impl TreeHeader {
    pub(super) fn read(bytes: &Bytes, at: u64) -> TreeHeader {
        let word = |i: u64| bytes.peek(at + i * 8);
        TreeHeader {
            len: word(0),
            top: Ref(word(1)),
            depth: word(2),
        }
    }

    fn is_empty(&self) -> bool {
        self.len == 0 && self.top.is_null() && self.depth == 0
    }

    /// Whether an ordered map can have it.
    pub fn is_ordered(&self) -> bool {
        let some = self.len > 0 && !self.top.is_null();
        self.is_empty() || some && self.len < 1 << 48 && self.depth <= ORDERED_DEPTH
    }

    /// Whether a vector can have it: it is as deep as the number of elements needs.
    pub fn is_vector(&self) -> bool {
        let some = self.len > 0 && !self.top.is_null() && self.depth <= VECTOR_DEPTH;
        self.is_empty()
            || some
                && self.len <= VECTOR_FAN.pow(self.depth as u32 + 1)
                && (self.depth == 0 || self.len > VECTOR_FAN.pow(self.depth as u32))
    }
}

/// How the keys of an ordered map are compared.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Comparison {
    /// As numbers without a sign, of so many bytes.
    Unsigned(u64),
    /// As numbers with one.
    Signed(u64),
    /// By what they hold.
    Bytes,
    /// Nobody but the component knows.
    Unknown,
}

impl Comparison {
    pub fn of(schema: &SchemaDesc) -> Comparison {
        let size = schema.size.into();
        let is_number = schema
            .name
            .get(1..)
            .is_some_and(|bits| bits.parse::<u8>().is_ok());
        match (&schema.kind, known(schema)) {
            (KindDesc::Primitive, _) if is_number && schema.name.starts_with('u') => {
                Comparison::Unsigned(size)
            }
            (KindDesc::Primitive, _) if is_number && schema.name.starts_with('i') => {
                Comparison::Signed(size)
            }
            (_, Some(Known::Bytes)) => Comparison::Bytes,
            _ => Comparison::Unknown,
        }
    }

    /// How two keys stand to each other; `None` if that is not known, or one is damaged.
    pub(super) fn compare(
        self,
        image: &Image,
        tables: &Tables,
        a: u64,
        b: u64,
    ) -> Option<Ordering> {
        let wide = |at, size| {
            let mut le = [0; 16];
            let bytes = image.bytes.get(at, size)?;
            le.get_mut(..bytes.len())?.copy_from_slice(bytes);
            Some(u128::from_le_bytes(le))
        };
        match self {
            Comparison::Unsigned(size) => Some(wide(a, size)?.cmp(&wide(b, size)?)),
            Comparison::Signed(size) => {
                let unused = 128 - size as u32 * 8;
                let signed = |at| Some(((wide(at, size)? << unused) as i128) >> unused);
                Some(signed(a)?.cmp(&signed(b)?))
            }
            Comparison::Bytes => {
                let text = |at| bytes_of(image, tables, at);
                Some(text(a)?.cmp(text(b)?))
            }
            Comparison::Unknown => None,
        }
    }
}

/// The order of a node's slots.
pub(super) fn order(image: &Image, node: u64) -> Option<Order> {
    let word = image.bytes.get(node, 8)?;
    Order::from_word(number(word)).ok()
}

/// Visits an ordered map's entries, the lowest key first, by where key and value stand, until one
/// visit gives `false`.
///
/// # Errors
///
/// `damaged` with what is wrong with the tree; or those of `visit`.
pub(super) fn entries<E>(
    (image, tables): (&Image, &Tables),
    types: &OrderedTypes<'_>,
    at: u64,
    damaged: impl Fn(&'static str) -> E,
    mut visit: impl FnMut(u64, u64) -> Result<bool, E>,
) -> Result<(), E> {
    let header = TreeHeader::read(&image.bytes, at);
    if !header.is_ordered() {
        return Err(damaged("an ordered map's header"));
    }
    let (mut waiting, mut left) = (Vec::new(), header.len);
    if header.len > 0 {
        waiting.push((header.top, header.depth));
    }
    // Each way down ends at a leaf, which has an entry: so the entries bound the whole.
    while let Some((node, level)) = waiting.pop() {
        let type_id = types.at_level(level).type_id();
        let (node, _) = place(tables, node, type_id).map_err(&damaged)?;
        let order = order(image, node).ok_or_else(|| damaged("a node's order"))?;
        if level > 0 {
            let child = |at| Ref(image.bytes.peek(types.child_at(node, order, at)));
            waiting.extend((0..=order.count()).rev().map(|at| (child(at), level - 1)));
            continue;
        }
        if order.count() == 0 {
            return Err(damaged("a leaf without entries"));
        }
        for slot in (0..order.count()).map(|at| order.slot(at) as u64) {
            let Some(fewer) = left.checked_sub(1) else {
                return Err(damaged("an ordered map has more entries than it says"));
            };
            left = fewer;
            if !visit(types.keys.place(node, slot), types.values.place(node, slot))? {
                return Ok(());
            }
        }
    }
    match left {
        0 => Ok(()),
        _ => Err(damaged("an ordered map has fewer entries than it says")),
    }
}

/// Visits a vector's elements in their order, by where they stand, until one visit gives `false`.
///
/// # Errors
///
/// `damaged` with what is wrong with the tree; or those of `visit`.
pub(super) fn elements<E>(
    (image, tables): (&Image, &Tables),
    types: &VectorTypes<'_>,
    at: u64,
    damaged: impl Fn(&'static str) -> E,
    mut visit: impl FnMut(u64) -> Result<bool, E>,
) -> Result<(), E> {
    let header = TreeHeader::read(&image.bytes, at);
    if !header.is_vector() {
        return Err(damaged("a vector's header"));
    }
    let mut page = 0;
    for element in 0..header.len {
        if element.is_multiple_of(VECTOR_FAN) {
            let mut object = header.top;
            for level in (1..=header.depth).rev() {
                let type_id = types.index.type_id();
                let (index, _) = place(tables, object, type_id).map_err(&damaged)?;
                let word = element / VECTOR_FAN.pow(level as u32) % VECTOR_FAN;
                object = Ref(image.bytes.peek(index + word * 8));
            }
            let found = place(tables, object, types.page.type_id());
            (page, _) = found.map_err(&damaged)?;
        }
        if !visit(types.elements.place(page, element % VECTOR_FAN))? {
            break;
        }
    }
    Ok(())
}
