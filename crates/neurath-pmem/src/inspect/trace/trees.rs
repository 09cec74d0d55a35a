//! Ordered maps and vectors, as level 2 looks at them.

use std::cmp::Ordering;

use neurath_abi::Ref;

use super::super::program::{OrderedProgram, VectorProgram};
use super::super::trees::{HALF, TreeHeader, VECTOR_FAN, order};
use super::{Code, Trace};

/// A node that waits to be looked into.
struct Waiting {
    node: Ref,
    /// Where the reference to it stands.
    from: u64,
    level: u64,
    /// Where the separators before and behind it stand: its keys are not below the one, and below
    /// the other.
    bounds: [Option<u64>; 2],
}

impl<'a> Trace<'a> {
    pub(super) fn ordered(&mut self, map: &'a OrderedProgram<'a>, at: u64) {
        self.ordered_maps += 1;
        let header = TreeHeader::read(self.bytes, at);
        if !header.is_ordered() {
            let message = format!(
                "an ordered map of {} entries at depth {}",
                header.len, header.depth
            );
            return self.error(Code::OrderedHeader, at, message);
        }
        if header.len == 0 {
            return;
        }
        let mut entries = 0;
        let mut waiting = vec![Waiting {
            node: header.top,
            from: at + 8,
            level: header.depth,
            bounds: [None; 2],
        }];
        while let Some(next) = waiting.pop() {
            if !self.steps(1) {
                return;
            }
            let least = if next.level == header.depth { 1 } else { HALF };
            entries += self.node(map, next, least, &mut waiting);
        }
        if entries != header.len {
            let message = format!(
                "an ordered map says that it has {} entries, and {entries} are there",
                header.len
            );
            self.error(Code::OrderedLength, at, message);
        }
        self.ordered_entries += entries;
    }

    /// Looks into a node, whose children wait then; gives how many entries it has.
    fn node(
        &mut self,
        map: &'a OrderedProgram<'a>,
        of: Waiting,
        least: usize,
        waiting: &mut Vec<Waiting>,
    ) -> u64 {
        let types = &map.types;
        let schema = types.at_level(of.level);
        let type_id = if of.level == 0 { map.leaf } else { map.inner };
        let Some(node) = self.own(of.node, type_id, schema, of.from) else {
            return 0;
        };
        let Some(order) = order(self.image, node) else {
            let message = "a node of an ordered map does not name each of its slots once";
            self.error(Code::OrderedNode, node, message.into());
            return 0;
        };
        let count = order.count();
        if count < least {
            let message = format!("a node of an ordered map has {count} keys of at least {least}");
            self.error(Code::OrderedNode, node, message);
        }
        let key = |at: usize| types.keys.place(node, order.slot(at) as u64);
        for at in 0..count {
            self.look(&map.key, key(at));
            if of.level == 0 {
                self.look(&map.value, types.values.place(node, order.slot(at) as u64));
            }
        }
        self.keys_in_order(map, of.bounds, (0..count).map(key));
        if of.level == 0 {
            return count as u64;
        }
        for at in 0..=count {
            let from = types.child_at(node, order, at);
            let before = at.checked_sub(1).map(key).or(of.bounds[0]);
            let behind = (at < count).then(|| key(at)).or(of.bounds[1]);
            waiting.push(Waiting {
                node: Ref(self.bytes.peek(from)),
                from,
                level: of.level - 1,
                bounds: [before, behind],
            });
        }
        0
    }

    /// Looks whether each key is above the one before it, and all are between two separators.
    fn keys_in_order(
        &mut self,
        map: &OrderedProgram<'_>,
        [low, high]: [Option<u64>; 2],
        keys: impl Iterator<Item = u64>,
    ) {
        let (mut before, mut first) = (low, true);
        for key in keys.map(Some).chain([high]) {
            let (Some(left), Some(right)) = (before, key) else {
                (before, first) = (key, false);
                continue;
            };
            let found = map.comparison.compare(self.image, self.tables, left, right);
            self.comparisons += u64::from(found.is_some());
            // A separator before a node may be its first key.
            let equal = first && low.is_some() && found == Some(Ordering::Equal);
            if matches!(found, Some(Ordering::Equal | Ordering::Greater)) && !equal {
                let message = "a key of an ordered map is not above the one before it";
                self.error(Code::OrderedKeys, right, message.into());
            }
            (before, first) = (key, false);
        }
    }

    pub(super) fn vector(&mut self, vector: &'a VectorProgram<'a>, at: u64) {
        self.vectors += 1;
        let header = TreeHeader::read(self.bytes, at);
        if !header.is_vector() {
            let message = format!(
                "a vector of {} elements at depth {}",
                header.len, header.depth
            );
            return self.error(Code::VectorHeader, at, message);
        }
        if header.len == 0 {
            return;
        }
        let mut waiting = vec![(header.top, at + 8, header.depth, 0)];
        while let Some((page, from, level, first)) = waiting.pop() {
            let types = &vector.types;
            let type_id = if level == 0 {
                vector.page
            } else {
                vector.index
            };
            let Some(page) = self.own(page, type_id, types.at_level(level), from) else {
                continue;
            };
            for number in 0..VECTOR_FAN {
                if !self.steps(1) {
                    return;
                }
                let element = first + number * VECTOR_FAN.pow(level as u32);
                if level == 0 {
                    if element < header.len {
                        self.elements += 1;
                        self.look(&vector.element, types.elements.place(page, number));
                    }
                    continue;
                }
                let from = page + number * 8;
                let below = Ref(self.bytes.peek(from));
                if element < header.len {
                    waiting.push((below, from, level - 1, element));
                } else if !below.is_null() {
                    let message =
                        format!("a vector has a page for element {element}, beyond its last");
                    self.error(Code::VectorPages, from, message);
                }
            }
        }
    }
}
