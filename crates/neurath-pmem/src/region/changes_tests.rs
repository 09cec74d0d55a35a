//! Random states under random changes of their schema, at once or segment by segment, with random operations,
//! sweeps, deaths and ways back between, against a model.
//!
//! The types are made up while the test runs: a root with places for nodes, a node with fields of its own and with a
//! struct inside. A field has one to three words; the first is its value, the others follow from it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use neurath_abi::Ref;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree as _;

use super::{Durability, Region, RegionError, RegionOptions, Swept};
use crate::history::Migration;
use crate::history::nth;
use crate::migrate::{Conversion, MigrationPlan, Row, Stepwise, StepwiseLink};
use crate::schema::SchemaDesc;
use crate::{Handle, Tx, TxError};

/// Places for nodes in the root.
const PLACES: usize = 40;
/// Words of a node that are there for its size only: several segments of few nodes each.
const PADDING: u32 = 400;
const LIMIT: u64 = 64 << 20;

/// The fields of one type, in their order: a name and a number of words.
type Fields = Vec<(u8, u32)>;

/// What the state looks like.
#[derive(Clone, Debug, PartialEq)]
struct Shape {
    root: Fields,
    node: Fields,
    inner: Fields,
}

/// A type's bytes in the encoding of schemas, its fields and their offsets.
struct Struct {
    bytes: Vec<u8>,
    size: u32,
    at: Vec<(String, u32, u32)>,
}

fn head(kind: u8, name: &str, size: u32) -> Vec<u8> {
    let mut out = vec![kind, name.len() as u8];
    out.extend(name.as_bytes());
    out.extend(size.to_le_bytes());
    out.extend(8u16.to_le_bytes());
    out
}

fn structure(name: &str, parts: Vec<(String, Vec<u8>, u32)>) -> Struct {
    let size = parts.iter().map(|(.., words)| words * 8).sum();
    let mut bytes = head(2, name, size);
    bytes.extend((parts.len() as u16).to_le_bytes());
    let (mut at, mut offset) = (Vec::new(), 0u32);
    for (field, schema, words) in parts {
        bytes.push(field.len() as u8);
        bytes.extend(field.as_bytes());
        bytes.extend(offset.to_le_bytes());
        bytes.extend(schema);
        at.push((field, offset, words));
        offset += words * 8;
    }
    Struct { bytes, size, at }
}

fn plain(fields: &Fields) -> Vec<(String, Vec<u8>, u32)> {
    let part = |&(name, words): &(u8, u32)| {
        let schema = head(1, &format!("words{words}"), words * 8);
        (format!("f{name}"), schema, words)
    };
    fields.iter().map(part).collect()
}

impl Shape {
    fn inner(&self) -> Struct {
        structure("Inner", plain(&self.inner))
    }

    fn node(&self) -> Struct {
        let inner = self.inner();
        let mut parts = plain(&self.node);
        parts.push(("inner".into(), inner.bytes, inner.size / 8));
        let padding = head(1, "padding", PADDING * 8);
        parts.insert(0, ("padding".into(), padding, PADDING));
        structure("Node", parts)
    }

    fn root(&self) -> Struct {
        let node = self.node();
        let mut reference = head(5, "P", 8);
        reference.extend(node.bytes);
        let mut places = head(4, "places", PLACES as u32 * 8);
        places.extend((PLACES as u32).to_le_bytes());
        places.extend(reference);
        let mut parts = plain(&self.root);
        parts.push(("places".into(), places, PLACES as u32));
        structure("State", parts)
    }

    fn schema(&self) -> Vec<u8> {
        [vec![1], self.root().bytes].concat()
    }

    fn described(&self) -> SchemaDesc {
        SchemaDesc::decode(&self.schema()).expect("a schema")
    }

    /// The type of nodes.
    fn node_id(&self) -> u64 {
        let schema = self.described();
        let types = schema.object_types();
        let node = types.iter().find(|one| one.name == "Node");
        node.expect("it is in it").type_id()
    }
}

/// The descriptions of all structs in a type.
fn structs(schema: &SchemaDesc) -> BTreeMap<String, SchemaDesc> {
    use crate::schema::KindDesc;
    let mut found = BTreeMap::new();
    match &schema.kind {
        KindDesc::Struct(fields) => {
            found.insert(schema.name.clone(), schema.clone());
            fields
                .iter()
                .for_each(|field| found.extend(structs(&field.schema)));
        }
        KindDesc::Array { element, .. } => found.extend(structs(element)),
        KindDesc::Reference(target) => found.extend(structs(target)),
        _ => {}
    }
    found
}

/// What a field has that was not there before.
fn fresh(name: &str) -> u64 {
    name.bytes()
        .fold(1_000_003, |sum, byte| sum * 31 + u64::from(byte))
}

fn put(bytes: &mut [u8], offset: usize, value: u64) {
    bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
}

fn get(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("8 bytes"))
}

/// Stores a field's value, and what follows from it.
fn put_field(bytes: &mut [u8], offset: u32, words: u32, value: u64) {
    for word in 0..words {
        let at = (offset + word * 8) as usize;
        put(bytes, at, value.wrapping_add(word.into()));
    }
}

/// Converts one struct: what both have is kept, the rest is as in a new one.
fn convert_one(
    from: &Struct,
    to: &Struct,
    nested: Option<(&Struct, &Struct)>,
    old: &[u8],
    new: &mut [u8],
) {
    for (name, offset, words) in &to.at {
        let before = from.at.iter().find(|one| one.0 == *name);
        match (name.as_str(), before, nested) {
            ("inner", Some(&(_, at, _)), Some((from, to))) => {
                let (old, new) = (&old[at as usize..], &mut new[*offset as usize..]);
                convert_one(from, to, None, old, new);
            }
            ("padding" | "places", Some(&(_, at, words)), _) => {
                let len = words as usize * 8;
                new[*offset as usize..][..len].copy_from_slice(&old[at as usize..][..len]);
            }
            (_, Some(&(_, at, _)), _) => put_field(new, *offset, *words, get(old, at as usize)),
            (_, None, _) => put_field(new, *offset, *words, fresh(name)),
        }
    }
}

/// The plan from one shape to another, and what converts. Of a node in which only the inner struct has changed,
/// only that is converted.
type Converting = Box<dyn Fn(usize, usize, Row<'_>) -> Result<(), String> + Send + Sync>;

fn way(from: &Shape, to: &Shape) -> (MigrationPlan, Converting) {
    let (old, new) = (from.described(), to.described());
    let (before, after) = (structs(&old), structs(&new));
    let mut wanted: Vec<&str> = Vec::new();
    if from.node == to.node {
        wanted.push("Inner");
    } else {
        wanted.push("Node");
    }
    if from.root != to.root {
        wanted.push("State");
    }
    let conversions: Vec<Conversion> = wanted
        .iter()
        .map(|name| Conversion {
            from: before[*name].fingerprint,
            to: after[*name].fingerprint,
        })
        .collect();
    let plan = MigrationPlan::new(&old, &new, &conversions).expect("all is covered");
    let names: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
    let (from, to) = (from.clone(), to.clone());
    let convert = move |_: usize, index: usize, row: Row<'_>| {
        let ends = |shape: &Shape| match &*names[index] {
            "Inner" => shape.inner(),
            "Node" => shape.node(),
            _ => shape.root(),
        };
        let (a, b) = (ends(&from), ends(&to));
        let inner = (from.inner(), to.inner());
        for place in (0..row.count).filter(|at| row.live[at / 64] >> (at % 64) & 1 == 1) {
            let old = &row.old[place * row.old_stride..];
            let new = &mut row.new[place * row.new_stride..];
            convert_one(&a, &b, Some((&inner.0, &inner.1)), old, new);
        }
        Ok(())
    };
    (plan, Box::new(convert))
}

fn stepwise(from: &Shape, to: &Shape) -> Stepwise {
    let (plan, convert) = way(from, to);
    let link = StepwiseLink {
        plan,
        extra: "{}".into(),
    };
    Stepwise::new(&from.schema(), &to.schema(), vec![link], 1, convert).expect("types tell")
}

/// What is in the state: the value of each field.
type Values = BTreeMap<String, u64>;

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    root: Values,
    nodes: BTreeMap<usize, (Values, Values)>,
}

fn carry(values: &mut Values, fields: &Fields) {
    let names: Vec<String> = fields.iter().map(|(name, _)| format!("f{name}")).collect();
    values.retain(|name, _| names.contains(name));
    for name in names {
        let value = fresh(&name);
        values.entry(name).or_insert(value);
    }
}

impl Model {
    fn change(&mut self, to: &Shape) {
        carry(&mut self.root, &to.root);
        for (node, inner) in self.nodes.values_mut() {
            carry(node, &to.node);
            carry(inner, &to.inner);
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Tx(#[from] TxError),
    #[error(transparent)]
    Region(#[from] RegionError),
    #[error("{0}")]
    Wrong(String),
}

#[derive(Clone, Debug)]
enum Op {
    /// A node comes to a place, or another in its place.
    Make(Index),
    Free(Index),
    /// A field of a node, of what is in it, or of the root.
    Set(Index, Index, u64),
    SetInner(Index, Index, u64),
    SetRoot(Index, u64),
}

#[derive(Clone, Debug)]
enum Event {
    Ops(Vec<Op>, bool),
    Sweep(u8),
    Die,
    Close,
    /// Other fields; at once or segment by segment; made, or given up.
    Change(Shape, bool, bool),
    /// Back to the fields before: in the midst of a conversion, or after it.
    Back,
}

struct Play {
    _dir: tempfile::TempDir,
    paths: Vec<PathBuf>,
    options: RegionOptions,
    region: Option<Region>,
    shape: Shape,
    before: Option<Shape>,
    model: Model,
    /// What there was before the last conversion segment by segment began, and what has been changed since: places,
    /// and the root.
    original: Model,
    touched: (BTreeSet<usize>, bool),
    told: Vec<Migration>,
}

impl Play {
    fn new(shape: Shape, durability: Durability) -> Play {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("0");
        let options = RegionOptions {
            durability,
            ..RegionOptions::new("test", 0, LIMIT)
        };
        let mut region = Region::create(&path, &options, &shape.schema()).expect("made");
        region.attach(&Handle::new());
        let mut model = Model::default();
        carry(&mut model.root, &shape.root);
        let (described, root) = (shape.described(), shape.root());
        let made = region.transact(|tx| {
            let id = described.type_id();
            let made = tx.alloc_untyped(id, root.size.into())?;
            for (name, offset, words) in root.at.iter().filter(|one| one.0 != "places") {
                store(tx, (made, id), (*offset, *words), model.root[name])?;
            }
            Ok::<_, Failure>(made)
        });
        region.set_root(made.expect("a root"));
        region.commit().expect("committed");
        Play {
            _dir: dir,
            paths: vec![path],
            options,
            region: Some(region),
            shape,
            before: None,
            model,
            original: Model::default(),
            touched: Default::default(),
            told: Vec::new(),
        }
    }

    fn region(&mut self) -> &mut Region {
        self.region.as_mut().expect("open")
    }

    fn open_again(&mut self) {
        let path = self.paths.last().expect("a file");
        let mut region = Region::open(path, &self.options, None).expect("opens");
        region.attach(&Handle::new());
        if region.is_swept() {
            let before = self.before.as_ref().expect("a shape before");
            region
                .resume_conversion(stepwise(before, &self.shape))
                .expect("the same way");
        }
        self.region = Some(region);
    }

    fn record(&mut self) {
        let one = nth(self.told.len() as u64 % 200);
        self.told.push(one.clone());
        let recorded = self.region().record_migrations(&[one]);
        assert!(recorded.expect("recorded"));
    }

    fn sweep_out(&mut self) {
        let mut steps = 0;
        loop {
            match self.region().sweep(Duration::ZERO).expect("sweeps") {
                Swept::Done => break,
                Swept::Waits => std::thread::yield_now(),
                _ => steps += 1,
            }
            assert!(steps < 10_000, "the sweep does not end");
        }
        self.before = None;
    }

    fn change(&mut self, to: Shape, eager: bool, made: bool) {
        if to == self.shape {
            return;
        }
        if self.region().is_swept() {
            self.sweep_out();
        }
        let from = self.shape.clone();
        let mut model = self.model.clone();
        model.change(&to);
        if !eager {
            self.region()
                .begin_conversion(stepwise(&from, &to))
                .expect("it can begin");
            if !made {
                assert_eq!(look(self.region(), &to), model);
                return self.region().cancel_conversion();
            }
            self.region().enter_conversion().expect("entered");
            self.before = Some(from);
            self.original = self.model.clone();
            self.touched = Default::default();
        } else {
            let (plan, convert) = way(&from, &to);
            let path = self._dir.path().join(self.paths.len().to_string());
            let source = self.region().source();
            let prepared = plan.prepare(&source, &path, &self.options, &to.schema());
            let mut building = prepared.expect("prepared");
            let convert = |index: usize, row: Row<'_>| convert(0, index, row);
            building
                .fill(&source, "{}", 1, &convert)
                .expect("converted");
            if !made {
                return drop(building);
            }
            let mut history = self.region().history();
            building.set_history(&std::mem::take(&mut history));
            let mut region = building.finish().expect("finished");
            region.attach(&Handle::new());
            self.region = Some(region);
            self.paths.push(path);
            self.before = None;
        }
        (self.shape, self.model) = (to, model);
        self.record();
    }

    fn back(&mut self) {
        let Some(before) = self.before.clone() else {
            return;
        };
        if !self.region().is_swept() {
            return self.change(before, true, true);
        }
        let from = self.shape.clone();
        self.region()
            .begin_conversion(stepwise(&from, &before))
            .expect("back");
        self.region().enter_conversion().expect("entered");
        let now = self.model.clone();
        self.model.change(&before);
        let seen = look(self.region(), &before);
        self.accept(&seen);
        (self.original, self.touched) = (now, Default::default());
        self.before = Some(from);
        self.shape = before;
        self.record();
    }

    /// What was not converted when the way back began is as it was, also where the other version has not all of
    /// it; what was has gone there and back.
    fn accept(&mut self, seen: &Model) {
        if !self.touched.1 && seen.root == self.original.root {
            self.model.root.clone_from(&seen.root);
        }
        for (place, node) in &seen.nodes {
            let untouched = !self.touched.0.contains(place);
            if untouched && self.original.nodes.get(place) == Some(node) {
                self.model.nodes.insert(*place, node.clone());
            }
        }
        assert_eq!(*seen, self.model, "back");
    }

    fn ops(&mut self, ops: &[Op], commit: bool) {
        let mut model = self.model.clone();
        let shape = self.shape.clone();
        let done = self.region().transact(|tx| {
            for op in ops {
                act(tx, &shape, &mut model, op)?;
            }
            match commit {
                true => Ok(()),
                false => Err(Failure::Wrong("asked for".into())),
            }
        });
        match done {
            Ok(()) => {
                let there = self.model.nodes.keys().copied().collect();
                touch(&mut self.touched, ops, there);
                self.model = model;
            }
            Err(Failure::Wrong(text)) if text == "asked for" => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Ops(ops, commit) => self.ops(ops, *commit),
            Event::Sweep(steps) => {
                for _ in 0..*steps {
                    self.region().sweep(Duration::ZERO).expect("sweeps");
                }
            }
            Event::Die => {
                self.region().make_durable().expect("durable");
                self.region = None;
                self.open_again();
            }
            Event::Close => {
                let region = self.region.take().expect("open");
                region.close().expect("closed");
                self.open_again();
            }
            Event::Change(to, eager, made) => self.change(to.clone(), *eager, *made),
            Event::Back => self.back(),
        }
        let shape = self.shape.clone();
        assert_eq!(look(self.region(), &shape), self.model, "after {event:?}");
    }

    fn end(mut self) {
        self.sweep_out();
        let known = self.region().history();
        let told = known.folded as usize + known.migrations.len();
        assert_eq!(told, self.told.len());
        assert!(self.told.ends_with(&known.migrations));
        self.region.take().expect("open").close().expect("closed");
        let path = self.paths.last().expect("a file");
        let report = crate::inspect::check_file(path, crate::inspect::Level::L3).expect("a region");
        assert!(
            report.is_clean() && report.findings.is_empty(),
            "{report:#?}"
        );
    }
}

fn store(
    tx: &mut Tx<'_>,
    (object, id): (Ref, u64),
    (offset, words): (u32, u32),
    value: u64,
) -> Result<(), TxError> {
    for word in 0..words {
        let at = u64::from(offset + word * 8);
        tx.write_at(object, id, at, &value.wrapping_add(word.into()))?;
    }
    Ok(())
}

fn load(
    tx: &Tx<'_>,
    (object, id): (Ref, u64),
    (offset, words): (u32, u32),
) -> Result<u64, Failure> {
    let value: u64 = tx.read_at(object, id, offset.into())?;
    for word in 0..words {
        let found: u64 = tx.read_at(object, id, u64::from(offset + word * 8))?;
        if found != value.wrapping_add(word.into()) {
            return Err(Failure::Wrong(format!("word {word} of {value} is {found}")));
        }
    }
    Ok(value)
}

fn offset_of(one: &Struct, name: &str) -> u32 {
    one.at
        .iter()
        .find(|field| field.0 == name)
        .expect("a field")
        .1
}

/// Notes which objects operations store to, and whether the root is one of them; `there`: the places that have an object. One
/// that makes what is there, or frees or sets what is not, stores nothing.
fn touch(touched: &mut (BTreeSet<usize>, bool), ops: &[Op], mut there: BTreeSet<usize>) {
    for op in ops {
        let (place, root) = match op {
            Op::SetRoot(..) => (None, true),
            Op::Make(place) => {
                let place = place.index(PLACES);
                let made = there.insert(place);
                (made.then_some(place), made)
            }
            Op::Free(place) => {
                let place = place.index(PLACES);
                let freed = there.remove(&place);
                (freed.then_some(place), freed)
            }
            Op::Set(place, ..) | Op::SetInner(place, ..) => {
                let place = place.index(PLACES);
                (there.contains(&place).then_some(place), false)
            }
        };
        touched.0.extend(place);
        touched.1 |= root;
    }
}

#[test]
fn an_operation_that_does_nothing_touches_nothing() {
    // Made by the strategy: an index can be made in no other way.
    let at = |place: usize| {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let any =
            any::<Index>().prop_filter("another place", move |one| one.index(PLACES) == place);
        any.new_tree(&mut runner).expect("an index").current()
    };
    let mut touched = Default::default();
    let nothing = [Op::Make(at(1)), Op::Free(at(2)), Op::Set(at(2), at(0), 7)];
    touch(&mut touched, &nothing, [1].into());
    assert_eq!(touched, Default::default());
    touch(&mut touched, &[Op::SetInner(at(1), at(0), 7)], [1].into());
    assert_eq!(touched, ([1].into(), false));
    touch(
        &mut touched,
        &[Op::Free(at(1)), Op::Make(at(1)), Op::Make(at(3))],
        [1].into(),
    );
    assert_eq!(touched, ([1, 3].into(), true));
}

fn act(tx: &mut Tx<'_>, shape: &Shape, model: &mut Model, op: &Op) -> Result<(), Failure> {
    let (root, node, inner) = (shape.root(), shape.node(), shape.inner());
    let root_id = shape.described().type_id();
    let (object, id) = (tx.root::<u64>().to_ref(), shape.node_id());
    let place_at = |place: usize| u64::from(offset_of(&root, "places")) + place as u64 * 8;
    let here = |place: &Index| place.index(PLACES);
    match op {
        Op::Make(place) => {
            let place = here(place);
            if model.nodes.contains_key(&place) {
                return Ok(());
            }
            let made = tx.alloc_untyped(id, node.size.into())?;
            let mut values = (Values::new(), Values::new());
            carry(&mut values.0, &shape.node);
            carry(&mut values.1, &shape.inner);
            let padding = offset_of(&node, "padding");
            store(tx, (made, id), (padding, PADDING), place as u64)?;
            for (name, offset, words) in node.at.iter().filter(|one| one.0.starts_with('f')) {
                store(tx, (made, id), (*offset, *words), values.0[name])?;
            }
            for (name, offset, words) in &inner.at {
                let offset = offset_of(&node, "inner") + offset;
                store(tx, (made, id), (offset, *words), values.1[name])?;
            }
            tx.write_at(object, root_id, place_at(place), &made.0)?;
            model.nodes.insert(place, values);
        }
        Op::Free(place) => {
            let place = here(place);
            if model.nodes.remove(&place).is_some() {
                let found: u64 = tx.read_at(object, root_id, place_at(place))?;
                tx.free_untyped(Ref(found), id)?;
                tx.write_at(object, root_id, place_at(place), &0u64)?;
            }
        }
        Op::Set(place, field, value) | Op::SetInner(place, field, value) => {
            let place = here(place);
            let Some(values) = model.nodes.get_mut(&place) else {
                return Ok(());
            };
            let of_node = matches!(op, Op::Set(..));
            let (fields, values, base) = match of_node {
                true => (&node.at, &mut values.0, 0),
                false => (&inner.at, &mut values.1, offset_of(&node, "inner")),
            };
            let fields: Vec<_> = fields.iter().filter(|one| one.0.starts_with('f')).collect();
            let (name, offset, words) = fields[field.index(fields.len())];
            let found: u64 = tx.read_at(object, root_id, place_at(place))?;
            store(tx, (Ref(found), id), (base + offset, *words), *value)?;
            values.insert(name.clone(), *value);
        }
        Op::SetRoot(field, value) => {
            let fields: Vec<_> = root
                .at
                .iter()
                .filter(|one| one.0.starts_with('f'))
                .collect();
            let (name, offset, words) = fields[field.index(fields.len())];
            store(tx, (object, root_id), (*offset, *words), *value)?;
            model.root.insert(name.clone(), *value);
        }
    }
    Ok(())
}

/// What a region holds.
fn look(region: &mut Region, shape: &Shape) -> Model {
    let (root, node, inner) = (shape.root(), shape.node(), shape.inner());
    let (root_id, id) = (shape.described().type_id(), shape.node_id());
    let seen = region.transact(|tx| {
        let object = tx.root::<u64>().to_ref();
        let mut model = Model::default();
        for (name, offset, words) in root.at.iter().filter(|one| one.0.starts_with('f')) {
            let value = load(tx, (object, root_id), (*offset, *words))?;
            model.root.insert(name.clone(), value);
        }
        for place in 0..PLACES {
            let at = u64::from(offset_of(&root, "places")) + place as u64 * 8;
            let found: u64 = tx.read_at(object, root_id, at)?;
            if found == 0 {
                continue;
            }
            let one = (Ref(found), id);
            let padding = load(tx, one, (offset_of(&node, "padding"), PADDING))?;
            if padding != place as u64 {
                return Err(Failure::Wrong(format!("node {padding} at place {place}")));
            }
            let mut values = (Values::new(), Values::new());
            for (name, offset, words) in node.at.iter().filter(|one| one.0.starts_with('f')) {
                values
                    .0
                    .insert(name.clone(), load(tx, one, (*offset, *words))?);
            }
            for (name, offset, words) in &inner.at {
                let offset = offset_of(&node, "inner") + offset;
                values
                    .1
                    .insert(name.clone(), load(tx, one, (offset, *words))?);
            }
            model.nodes.insert(place, values);
        }
        Ok::<_, Failure>(model)
    });
    seen.unwrap_or_else(|error| panic!("{error}"))
}

fn fields() -> impl Strategy<Value = Fields> {
    let some = prop::collection::btree_map(0u8..6, 1u32..4, 1..5);
    some.prop_map(|fields| fields.into_iter().collect::<Fields>())
        .prop_shuffle()
}

fn shape() -> impl Strategy<Value = Shape> {
    (fields(), fields(), fields()).prop_map(|(root, node, inner)| Shape { root, node, inner })
}

fn op() -> impl Strategy<Value = Op> {
    let place = any::<Index>;
    prop_oneof![
        4 => place().prop_map(Op::Make),
        1 => place().prop_map(Op::Free),
        3 => (place(), place(), any::<u64>()).prop_map(|(a, b, value)| Op::Set(a, b, value)),
        3 => (place(), place(), any::<u64>()).prop_map(|(a, b, value)| Op::SetInner(a, b, value)),
        1 => (place(), any::<u64>()).prop_map(|(field, value)| Op::SetRoot(field, value)),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let made = prop::bool::weighted(0.8);
    let ops = (prop::collection::vec(op(), 1..25), made);
    prop_oneof![
        6 => ops.prop_map(|(ops, commit)| Event::Ops(ops, commit)),
        4 => (1u8..4).prop_map(Event::Sweep),
        2 => Just(Event::Die),
        1 => Just(Event::Close),
        4 => (shape(), prop::bool::weighted(0.3), made)
            .prop_map(|(shape, eager, made)| Event::Change(shape, eager, made)),
        2 => Just(Event::Back),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    #[test]
    fn a_state_whose_schema_changes_at_random_is_as_the_model_says(
        power in prop::bool::weighted(0.3),
        shape in shape(),
        first in prop::collection::vec(op(), 60),
        events in prop::collection::vec(event(), 1..25),
    ) {
        let durability = if power { Durability::Power } else { Durability::Process };
        let mut play = Play::new(shape, durability);
        play.ops(&first, true);
        for event in &events {
            play.event(event);
        }
        play.end();
    }
}
