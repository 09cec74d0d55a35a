//! What the root leads to, as far as objects of some types can be found there: a walk that can be
//! left after each step.

use neurath_abi::Ref;

use super::plan::{Op, OrderedPlan, Plan, Row};
use crate::collections::order::{Order, SLOTS};
use crate::inspect::known::{FAN, INLINE, MapHeader};
use crate::inspect::trees::{TreeHeader, VECTOR_FAN};
use crate::region::RAW;

/// The region that is walked through: it must not change meanwhile.
pub(super) trait Still {
    /// The word at a place, a multiple of 8.
    fn word(&self, at: u64) -> u64;
    /// Where an object of a type lives.
    fn find(&self, object: Ref, type_id: u64) -> Option<u64>;
}

/// A number of up to 8 bytes anywhere.
fn number(still: &impl Still, at: u64, size: u64) -> u64 {
    let (word, shift) = (at & !7, at % 8 * 8);
    let mut value = still.word(word) >> shift;
    if shift + size * 8 > 64 {
        value |= still.word(word + 8) << (64 - shift);
    }
    if size < 8 {
        value &= (1 << (size * 8)) - 1;
    }
    value
}

/// The state is not as its schema says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Damaged;

/// What waits to be looked into. A number is that of the plan for it.
#[derive(Debug)]
enum Item {
    Object(usize, u64),
    Map(usize, u64),
    Page {
        map: usize,
        page: Ref,
        level: u64,
        first: u64,
        buckets: u64,
    },
    Chain(usize, Ref),
    Ordered(usize, u64),
    Node {
        map: usize,
        node: Ref,
        level: u64,
    },
    Vector(usize, u64),
    Part {
        vector: usize,
        page: Ref,
        level: u64,
        first: u64,
        len: u64,
    },
}

/// The objects that were reached, a bit for each, by segment.
#[derive(Debug, Default)]
pub(super) struct Marks(Vec<Vec<u64>>);

impl Marks {
    /// Whether the object was not reached before.
    fn set(&mut self, object: Ref) -> bool {
        let number = object.segment() as usize;
        if self.0.len() <= number {
            self.0.resize_with(number + 1, Vec::new);
        }
        let (words, at) = (&mut self.0[number], usize::from(object.index()) / 64);
        if words.len() <= at {
            words.resize(at + 1, 0);
        }
        let bit = 1 << (object.index() % 64);
        let new = words[at] & bit == 0;
        words[at] |= bit;
        new
    }

    /// The marks of a word of a segment's bitmap.
    pub(super) fn word(&self, number: u64, at: usize) -> u64 {
        let words = self.0.get(number as usize);
        words.and_then(|words| words.get(at)).copied().unwrap_or(0)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Walk {
    waiting: Vec<Item>,
    pub(super) marks: Marks,
}

impl Walk {
    /// One that begins at the root, which must be there: else all would seem to be left behind.
    pub(super) fn new(plan: &Plan, root: Ref, still: &impl Still) -> Result<Walk, Damaged> {
        let mut walk = Walk::default();
        walk.follow(root, &plan.root, still);
        match walk.waiting.is_empty() {
            true => Err(Damaged),
            false => Ok(walk),
        }
    }

    /// Looks into one object, or a header; whether there was one.
    pub(super) fn step(&mut self, plan: &Plan, still: &impl Still) -> Result<bool, Damaged> {
        let Some(item) = self.waiting.pop() else {
            return Ok(false);
        };
        match item {
            Item::Object(program, at) => self.ops(&plan.objects[program], at, still)?,
            Item::Map(map, at) => self.map(map, at, still)?,
            Item::Page {
                map,
                page,
                level,
                first,
                buckets,
            } => self.page(plan, map, page, (level, first, buckets), still)?,
            Item::Chain(map, node) => {
                let at = self.own(node, plan.maps[map].node, still)?;
                let next = Ref(still.word(at + 8));
                if !next.is_null() {
                    self.waiting.push(Item::Chain(map, next));
                }
                self.ops(&plan.maps[map].entry, at, still)?;
            }
            Item::Ordered(map, at) => {
                let header = tree(at, still);
                if !header.is_ordered() {
                    return Err(Damaged);
                }
                if header.len > 0 {
                    let (node, level) = (header.top, header.depth);
                    self.waiting.push(Item::Node { map, node, level });
                }
            }
            Item::Node { map, node, level } => {
                self.node(&plan.ordered[map], map, node, level, still)?;
            }
            Item::Vector(vector, at) => {
                let header = tree(at, still);
                if !header.is_vector() {
                    return Err(Damaged);
                }
                if header.len > 0 {
                    self.waiting.push(Item::Part {
                        vector,
                        page: header.top,
                        level: header.depth,
                        first: 0,
                        len: header.len,
                    });
                }
            }
            Item::Part {
                vector,
                page,
                level,
                first,
                len,
            } => self.part(plan, vector, page, (level, first, len), still)?,
        }
        Ok(true)
    }

    /// A reference that others may lead to as well, and that may lead nowhere.
    fn follow(&mut self, object: Ref, targets: &[(u64, usize)], still: &impl Still) {
        for &(type_id, program) in targets {
            if let Some(at) = still.find(object, type_id) {
                if self.marks.set(object) {
                    self.waiting.push(Item::Object(program, at));
                }
                return;
            }
        }
    }

    /// A collection's part: nothing else leads there.
    fn own(&mut self, object: Ref, type_id: u64, still: &impl Still) -> Result<u64, Damaged> {
        let at = still.find(object, type_id).ok_or(Damaged)?;
        match self.marks.set(object) {
            true => Ok(at),
            false => Err(Damaged),
        }
    }

    fn ops(&mut self, ops: &[Op], from: u64, still: &impl Still) -> Result<(), Damaged> {
        for op in ops {
            match op {
                Op::Refer { at, targets } => {
                    let object = Ref(number(still, from + at, 8));
                    if !object.is_null() {
                        self.follow(object, targets, still);
                    }
                }
                Op::Bytes { at } => {
                    let block = Ref(number(still, from + at + 16, 8));
                    let is_block = number(still, from + at, 4) > INLINE;
                    if is_block && still.find(block, RAW).is_some() {
                        self.marks.set(block);
                    }
                }
                Op::Map { at, map } => self.waiting.push(Item::Map(*map, from + at)),
                Op::Ordered { at, map } => self.waiting.push(Item::Ordered(*map, from + at)),
                Op::Vector { at, vector } => self.waiting.push(Item::Vector(*vector, from + at)),
                Op::Enum {
                    at,
                    tag_size,
                    variants,
                } => {
                    let tag = number(still, from + at, *tag_size);
                    let variant = variants.iter().find(|(known, _)| *known == tag);
                    let (_, ops) = variant.ok_or(Damaged)?;
                    self.ops(ops, from + at, still)?;
                }
                Op::Array {
                    at,
                    stride,
                    len,
                    element,
                } => {
                    for i in 0..*len {
                        self.ops(element, from + at + i * stride, still)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn map(&mut self, map: usize, at: u64, still: &impl Still) -> Result<(), Damaged> {
        let header = MapHeader::of(|i| number(still, at + i * 8, 8));
        if !header.is_sound() {
            return Err(Damaged);
        }
        if header.buckets > 0 {
            self.waiting.push(Item::Page {
                map,
                page: header.top,
                level: header.depth,
                first: 0,
                buckets: header.buckets,
            });
        }
        Ok(())
    }

    fn page(
        &mut self,
        plan: &Plan,
        map: usize,
        page: Ref,
        (level, first, buckets): (u64, u64, u64),
        still: &impl Still,
    ) -> Result<(), Damaged> {
        let at = self.own(page, plan.maps[map].page, still)?;
        let span = FAN.pow(level as u32);
        // A bucket beyond the last is written before it is read.
        let firsts = (0..FAN).map(|i| first + i * span);
        for (i, first) in (0..FAN)
            .zip(firsts)
            .take_while(|(_, first)| *first < buckets)
        {
            let object = Ref(still.word(at + i * 8));
            if level > 0 {
                self.waiting.push(Item::Page {
                    map,
                    page: object,
                    level: level - 1,
                    first,
                    buckets,
                });
            } else if !object.is_null() {
                self.waiting.push(Item::Chain(map, object));
            }
        }
        Ok(())
    }

    fn node(
        &mut self,
        plan: &OrderedPlan,
        map: usize,
        node: Ref,
        level: u64,
        still: &impl Still,
    ) -> Result<(), Damaged> {
        let type_id = if level == 0 { plan.leaf } else { plan.inner };
        let at = self.own(node, type_id, still)?;
        let order = Order::from_word(still.word(at)).map_err(|_| Damaged)?;
        for slot in (0..order.count()).map(|i| order.slot(i) as u64) {
            let Row {
                at: from,
                size,
                ops,
            } = &plan.keys;
            self.ops(ops, at + from + slot * size, still)?;
            if level == 0 {
                let Row {
                    at: from,
                    size,
                    ops,
                } = &plan.values;
                self.ops(ops, at + from + slot * size, still)?;
            }
        }
        if level > 0 {
            for i in 0..=order.count() {
                let slot = i.checked_sub(1).map_or(SLOTS, |i| order.slot(i)) as u64;
                self.waiting.push(Item::Node {
                    map,
                    node: Ref(still.word(at + plan.children_at + slot * 8)),
                    level: level - 1,
                });
            }
        }
        Ok(())
    }

    fn part(
        &mut self,
        plan: &Plan,
        vector: usize,
        page: Ref,
        (level, first, len): (u64, u64, u64),
        still: &impl Still,
    ) -> Result<(), Damaged> {
        let types = &plan.vectors[vector];
        let type_id = if level == 0 { types.page } else { types.index };
        let at = self.own(page, type_id, still)?;
        let span = VECTOR_FAN.pow(level as u32);
        let firsts = (0..VECTOR_FAN).map(|i| first + i * span);
        for (i, first) in (0..VECTOR_FAN)
            .zip(firsts)
            .take_while(|(_, first)| *first < len)
        {
            if level > 0 {
                self.waiting.push(Item::Part {
                    vector,
                    page: Ref(still.word(at + i * 8)),
                    level: level - 1,
                    first,
                    len,
                });
                continue;
            }
            let Row {
                at: from,
                size,
                ops,
            } = &types.elements;
            self.ops(ops, at + from + i * size, still)?;
        }
        Ok(())
    }
}

fn tree(at: u64, still: &impl Still) -> TreeHeader {
    let word = |i: u64| number(still, at + i * 8, 8);
    TreeHeader {
        len: word(0),
        top: Ref(word(1)),
        depth: word(2),
    }
}
