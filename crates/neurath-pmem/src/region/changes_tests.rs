//! Random states under random changes of their schema, at once or segment by segment, with random operations,
//! sweeps, deaths and ways back between, against a model.
//!
//! The types are made up while the test runs: fields of any size come, go, grow, shrink and change places, in the
//! root, in the items that it refers to, and in a struct inside of these; collections come to the root, and go. What is
//! dropped in the end is not there any more.

mod shape;
mod state;

use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;

use super::{Durability, Media, Region, RegionOptions, Swept};
use crate::Handle;
use crate::failure::Failure;
use crate::history::{Migration, nth};
use crate::inspect::{CheckOptions, Level, check, check_file};
use crate::migrate::Row;
use shape::{Fields, Kind, NOW, SLOTS, Shape, Way, made};
use state::{Held, Op, State, Touched};

const LIMIT: u64 = 64 << 20;

/// What somebody might change for the next version: a field, or a collection of the root.
#[derive(Clone, Debug)]
struct Edit {
    which: u8,
    kind: u8,
    at: Index,
    size: u16,
}

#[derive(Clone, Debug)]
enum Change {
    Edits(Vec<Edit>),
    /// Other fields altogether.
    Anew(Shape),
}

/// Some operations of one transaction, which is committed or not.
type Ops = (Vec<Op>, bool);

#[derive(Clone, Debug)]
enum How {
    /// These come while it is prepared.
    AtOnce(Vec<Ops>),
    BySegments,
}

#[derive(Clone, Debug)]
enum Event {
    Ops(Ops),
    Sweep(u8),
    Die,
    Close,
    /// Made, or given up.
    Change(Change, How, bool),
    /// To the shape before: in the midst of a conversion, or after it; made, or given up.
    Back(bool),
}

impl Shape {
    fn changed(&self, change: &Change) -> Shape {
        let edits = match change {
            Change::Edits(edits) => edits,
            Change::Anew(shape) => return shape.clone(),
        };
        let mut shape = self.clone();
        for edit in edits {
            shape.edit(edit);
            shape.inner_at = shape.inner_at.min(shape.item.len());
        }
        shape
    }

    fn edit(&mut self, edit: &Edit) {
        let fields = match edit.which {
            0 => &mut self.root,
            1 => &mut self.item,
            2 => &mut self.inner,
            _ => return self.edit_lists(edit),
        };
        let at = edit.at.index(fields.len());
        match edit.kind {
            0 if fields.len() > 1 => drop(fields.remove(at)),
            1 => {
                let unused = ('a'..='z').map(String::from);
                let mut unused = unused.filter(|name| fields.iter().all(|(one, _)| one != name));
                let name = unused.next().expect("there are more letters than fields");
                fields.insert(at, (name, edit.size));
            }
            2 => fields[at].1 = edit.size,
            3 => fields.rotate_left(at),
            _ => self.inner_at = edit.at.index(self.item.len() + 1),
        }
    }

    /// One comes or goes, or all change places.
    fn edit_lists(&mut self, edit: &Edit) {
        let kind = Kind::ALL[edit.at.index(Kind::ALL.len())];
        match self.lists.iter().position(|one| *one == kind) {
            Some(at) if edit.kind == 3 => self.lists.rotate_left(at),
            Some(at) => drop(self.lists.remove(at)),
            None => self.lists.insert(0, kind),
        }
    }
}

struct Play {
    _dir: tempfile::TempDir,
    paths: Vec<PathBuf>,
    options: RegionOptions,
    region: Option<Region>,
    shape: Shape,
    model: Held,
    /// The shape before the last change, and what was held in it when that was begun; with what has been changed since.
    before: Option<(Shape, Held, Touched)>,
    told: Vec<Migration>,
    /// Whether a conversion at once has dropped what it leaves behind: see `docs/upgrade.md`.
    left: bool,
}

impl Play {
    fn new(shape: Shape, durability: Durability) -> Play {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("0");
        let options = RegionOptions {
            durability,
            ..RegionOptions::new("test", 0, LIMIT)
        };
        let encoded = shape.types().encoded;
        let region = Region::create(&path, &options, &encoded).expect("made");
        let mut model = Held::default();
        model.root.values = made(&shape.root, 1);
        model.root = shape.carried_root(&model.root);
        let mut play = Play {
            _dir: dir,
            paths: vec![path],
            options,
            region: Some(region),
            shape: shape.clone(),
            model,
            before: None,
            told: Vec::new(),
            left: false,
        };
        play.region().attach(&Handle::new());
        let root = play.model.root.clone();
        let made = play.with(&shape, |state| Ok(state.make(&root)?));
        play.region().set_root(made.expect("a root"));
        play.region().commit().expect("committed");
        play
    }

    fn region(&mut self) -> &mut Region {
        self.region.as_mut().expect("open")
    }

    /// A transaction on the state in a shape.
    fn with<T>(
        &mut self,
        shape: &Shape,
        act: impl FnOnce(&mut State<'_, '_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let types = shape.types();
        self.region()
            .transact(|tx| act(&mut State { tx, shape, types }))
    }

    fn look(&mut self, shape: &Shape) -> Held {
        let seen = self.with(shape, |state| Ok(state.look()?));
        seen.unwrap_or_else(|error| panic!("{error}"))
    }

    fn open_again(&mut self) {
        let path = self.paths.last().expect("a file");
        let mut region = Region::open(path, &self.options, None).expect("opens");
        region.attach(&Handle::new());
        if region.is_swept() {
            let (before, ..) = self.before.as_ref().expect("a shape before");
            let way = Way::new(before, &self.shape).stepwise();
            region.resume_conversion(way).expect("the same way");
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
        // Another change might take away what this one has left.
        let media = self.region().media();
        let report = check(media.bytes(0, media.len()).to_vec(), CheckOptions::here());
        assert!(report.is_sound(), "{report:#?}");
        assert!(self.left || report.leaks.is_empty(), "{report:#?}");
    }

    /// What is held, in another shape.
    fn carried(&self, to: &Shape) -> Held {
        let items = self.model.items.iter();
        let items = items.map(|(slot, item)| (*slot, to.carried(item)));
        Held {
            root: to.carried_root(&self.model.root),
            items: items.collect(),
        }
    }

    fn change(&mut self, to: Shape, how: &How, made: bool) {
        if to.types().encoded == self.shape.types().encoded {
            return;
        }
        if self.region().is_swept() {
            self.sweep_out();
        }
        match how {
            How::AtOnce(meanwhile) => self.convert_all(to, meanwhile, made),
            How::BySegments => self.turn(to, made, None),
        }
    }

    /// To another shape at once.
    fn convert_all(&mut self, to: Shape, meanwhile: &[Ops], made: bool) {
        let (way, encoded) = (Way::new(&self.shape, &to), to.types().encoded);
        let path = self._dir.path().join(self.paths.len().to_string());
        let source = self.region().source_in_use();
        let prepared = way
            .plan
            .clone()
            .prepare(&source, &path, &self.options, &encoded);
        let mut building = prepared.expect("prepared");
        meanwhile.iter().for_each(|ops| self.ops(ops));
        let source = self.region().source();
        let convert = |index: usize, row: Row<'_>| way.convert(index, row);
        let filled = building.fill(&source, "{}", NOW, &convert);
        filled.expect("converted");
        if !made {
            return drop(building);
        }
        building.set_history(&self.region().history());
        let mut region = building.finish().expect("finished");
        region.attach(&Handle::new());
        self.region = Some(region);
        self.paths.push(path);
        let dropped = |kind: &Kind| to.list_at(*kind).is_none();
        let stays = |kind: &Kind| match kind {
            Kind::Map => to.list_at(Kind::Same).is_some(),
            Kind::Same => to.list_at(Kind::Map).is_some(),
            Kind::Sorted => false,
            Kind::Texts => true,
        };
        let lists = self.model.root.lists.iter();
        let mut filled = lists.filter(|(_, list)| !list.is_empty());
        self.left |= filled.any(|(kind, _)| dropped(kind) && stays(kind));
        let held = self.carried(&to);
        self.has_become(to, held);
    }

    fn has_become(&mut self, to: Shape, held: Held) {
        let from = std::mem::replace(&mut self.shape, to);
        let held = std::mem::replace(&mut self.model, held);
        self.before = Some((from, held, Touched::default()));
        self.record();
    }

    /// To another shape by a conversion that goes on while the state is used; with what was held in it once, if this is
    /// the way back in the midst of one.
    fn turn(&mut self, to: Shape, made: bool, original: Option<(&Held, &Touched)>) {
        let way = Way::new(&self.shape, &to).stepwise();
        self.region().begin_conversion(way).expect("it can begin");
        let mut held = self.carried(&to);
        if !made {
            let seen = self.look(&to);
            accept(&seen, &mut held, original);
            return self.region().cancel_conversion();
        }
        self.region().enter_conversion().expect("entered");
        let seen = self.look(&to);
        accept(&seen, &mut held, original);
        self.has_become(to, held);
    }

    fn back(&mut self, made: bool) {
        let Some((before, original, touched)) = self.before.clone() else {
            return;
        };
        if !self.region().is_swept() {
            return self.change(before, &How::AtOnce(Vec::new()), made);
        }
        self.turn(before, made, Some((&original, &touched)));
    }

    fn ops(&mut self, (ops, commit): &Ops) {
        let (mut model, shape) = (self.model.clone(), self.shape.clone());
        let mut touched = match &self.before {
            Some((.., touched)) => touched.clone(),
            None => Touched::default(),
        };
        let done = self.with(&shape, |state| {
            for op in ops {
                state.act(op, &mut model, &mut touched)?;
            }
            if *commit {
                Ok(())
            } else {
                Err(Failure::AskedFor)
            }
        });
        match done {
            Ok(()) => {
                self.model = model;
                if let Some(before) = &mut self.before {
                    before.2 = touched;
                }
            }
            Err(Failure::AskedFor) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Ops(ops) => self.ops(ops),
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
            Event::Change(change, how, made) => {
                self.change(self.shape.changed(change), how, *made);
            }
            Event::Back(made) => self.back(*made),
        }
        let shape = self.shape.clone();
        let seen = self.look(&shape);
        assert_same(&seen, &self.model, event);
    }

    fn end(mut self) {
        self.sweep_out();
        let shape = self.shape.clone();
        let seen = self.look(&shape);
        assert_same(&seen, &self.model, &"the sweep");
        let known = self.region().history();
        let told = known.folded as usize + known.migrations.len();
        assert_eq!(told, self.told.len());
        assert!(self.told.ends_with(&known.migrations));
        self.region.take().expect("open").close().expect("closed");
        let path = self.paths.last().expect("a file");
        let report = check_file(path, Level::L3).expect("a region");
        assert!(report.is_sound(), "{report:#?}");
        assert!(
            self.left || report.is_clean() && report.findings.is_empty(),
            "{report:#?}"
        );
    }
}

/// What no conversion had touched when the way back began is as it was, also where the other version has not all
/// of it; what one had has gone there and back.
fn accept(seen: &Held, held: &mut Held, original: Option<(&Held, &Touched)>) {
    if let Some((original, touched)) = original {
        if !touched.root && seen.root == original.root {
            held.root.clone_from(&seen.root);
        }
        for (slot, item) in &mut held.items {
            let is = (seen.items.get(slot)).filter(|is| original.items.get(slot) == Some(*is));
            if let Some(is) = is.filter(|_| !touched.items.contains(slot)) {
                item.clone_from(is);
            }
        }
    }
    assert_same(seen, held, &"a turn");
}

/// All of it would be pages.
fn assert_same(seen: &Held, held: &Held, after: &dyn std::fmt::Debug) {
    let differs = |slot: &usize| seen.items.get(slot) != held.items.get(slot);
    let items: Vec<usize> = (0..SLOTS).filter(differs).collect();
    assert!(items.is_empty(), "after {after:?}: items {items:?}");
    assert_eq!(seen.root, held.root, "after {after:?}");
}

fn fields(largest: u16) -> impl Strategy<Value = Fields> {
    // Numbers are what is there most.
    let size = prop_oneof![
        2 => prop::sample::select(vec![1u16, 2, 4, 8, 16, 24]),
        1 => 1..=largest,
    ];
    let fields = prop::collection::btree_map("[a-e]", size, 1..5);
    fields
        .prop_map(|fields| fields.into_iter().collect::<Fields>())
        .prop_shuffle()
}

fn shape() -> impl Strategy<Value = Shape> {
    let lists = prop::sample::subsequence(Kind::ALL.to_vec(), 0..=Kind::ALL.len());
    // So that there are several segments of few items.
    let long = 1000..1800u16;
    let at = any::<Index>;
    (
        fields(20),
        lists.prop_shuffle(),
        fields(255),
        long,
        fields(20),
        at(),
        at(),
    )
        .prop_map(|(root, lists, mut item, long, inner, inner_at, long_at)| {
            item.insert(long_at.index(item.len() + 1), ("long".into(), long));
            let inner_at = inner_at.index(item.len() + 1);
            Shape {
                root,
                lists,
                item,
                inner,
                inner_at,
            }
        })
}

fn change() -> impl Strategy<Value = Change> {
    let edit = (0..5u8, 0..5u8, any::<Index>(), 1..40u16);
    let edit = edit.prop_map(|(which, kind, at, size)| Edit {
        which,
        kind,
        at,
        size,
    });
    prop_oneof![
        3 => prop::collection::vec(edit, 1..4).prop_map(Change::Edits),
        1 => shape().prop_map(Change::Anew),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let (slot, n) = (|| 0..SLOTS, || 0..300u32);
    let kind = || prop::sample::select(Kind::ALL.to_vec());
    prop_oneof![
        4 => (slot(), any::<u32>()).prop_map(|(slot, seed)| Op::Write(slot, seed)),
        1 => slot().prop_map(Op::Free),
        4 => (slot(), any::<Index>(), any::<u32>())
            .prop_map(|(slot, field, seed)| Op::Set(slot, field, seed)),
        1 => (any::<Index>(), any::<u32>()).prop_map(|(field, seed)| Op::SetRoot(field, seed)),
        3 => (kind(), n()).prop_map(|(kind, n)| Op::Insert(kind, n)),
        1 => (kind(), n()).prop_map(|(kind, n)| Op::Remove(kind, n)),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let made = || prop::bool::weighted(0.8);
    let ops = || (prop::collection::vec(op(), 1..25), made());
    let how = prop_oneof![
        1 => prop::collection::vec(ops(), 0..4).prop_map(How::AtOnce),
        2 => Just(How::BySegments),
    ];
    prop_oneof![
        6 => ops().prop_map(Event::Ops),
        4 => (1u8..4).prop_map(Event::Sweep),
        2 => Just(Event::Die),
        1 => Just(Event::Close),
        4 => (change(), how, made())
            .prop_map(|(change, how, made)| Event::Change(change, how, made)),
        4 => made().prop_map(Event::Back),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_state_whose_schema_changes_at_random_is_as_the_model_says(
        power in prop::bool::weighted(0.3),
        shape in shape(),
        first in prop::collection::vec(op(), 150),
        events in prop::collection::vec(event(), 1..25),
    ) {
        let durability = if power { Durability::Power } else { Durability::Process };
        let mut play = Play::new(shape, durability);
        play.ops(&(first, true));
        for event in &events {
            play.event(event);
        }
        play.end();
    }
}
