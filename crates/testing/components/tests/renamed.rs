//! A field, or a variant, of another name that leads to objects of a type that changed: by its name nobody knows that
//! they stay.

use kv_testing::{Store, schema};
use neurath::abi::Migration;
use neurath::{Bytes, CodeChange, Error, Map, P, Pmem, Result, Vector, code_change};

mod v1_0 {
    use neurath::{Bytes, Map, P, Pmem, Vector};

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub struct Item {
        pub name: Bytes,
        pub weight: u32,
        pub cost: u32,
    }

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub struct Node {
        pub next: P<Node>,
        pub value: u32,
        pub more: u32,
    }

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(u64)]
    pub enum Shape {
        Empty(u64),
        List(P<Node>),
    }

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub struct State {
        pub items: Map<u64, Item>,
        pub list: Vector<Item>,
        pub shape: Shape,
        pub log: Vector<u32>,
    }
}

#[derive(Clone, Copy, Debug, Pmem, CodeChange)]
#[change(from = "1.0", old = v1_0::Item, removed(cost))]
#[repr(C)]
struct Item {
    name: Bytes,
    #[change(widened = u32)]
    weight: u64,
}

#[derive(Clone, Copy, Debug, Pmem, CodeChange)]
#[change(from = "1.0", old = v1_0::Node, removed(more))]
#[repr(C)]
struct Node {
    #[change(widened = u32)]
    value: u64,
    next: P<Node>,
}

#[derive(Clone, Copy, Debug, Pmem)]
#[repr(u64)]
enum Shape {
    Chain(P<Node>),
    Nothing(u64),
}

#[code_change(from = "1.0")]
fn shape_from_1_0(old: v1_0::Shape) -> Shape {
    match old {
        v1_0::Shape::Empty(n) => Shape::Nothing(n),
        v1_0::Shape::List(first) => Shape::Chain(first.carry_over()),
    }
}

#[code_change(to = "1.0")]
fn shape_to_1_0(new: Shape) -> Result<v1_0::Shape> {
    match new {
        Shape::Nothing(13) => Err(Error::new("thirteen")),
        Shape::Nothing(n) => Ok(v1_0::Shape::Empty(n)),
        Shape::Chain(first) => Ok(v1_0::Shape::List(first.carry_over())),
    }
}

#[derive(Clone, Copy, Debug, Pmem, CodeChange)]
#[change(from = "1.0", old = v1_0::State, removed(log = Vector::EMPTY))]
#[repr(C)]
struct State {
    #[change(renamed = list)]
    rows: Vector<Item>,
    #[change(renamed = items)]
    things: Map<u64, Item>,
    #[change(renamed = shape, converted(shape_from_1_0, shape_to_1_0))]
    form: Shape,
    #[change(added = Map::EMPTY)]
    index: Map<Bytes, u64>,
}

const MIGRATIONS: [Migration; 8] = [
    __NEURATH_MIGRATION_item_from_1_0,
    __NEURATH_MIGRATION_item_to_1_0,
    __NEURATH_MIGRATION_node_from_1_0,
    __NEURATH_MIGRATION_node_to_1_0,
    __NEURATH_MIGRATION_shape_from_1_0,
    __NEURATH_MIGRATION_shape_to_1_0,
    __NEURATH_MIGRATION_state_from_1_0,
    __NEURATH_MIGRATION_state_to_1_0,
];
const COUNT: u64 = 2000;

fn name(n: u64) -> String {
    format!("a name that has a block of its own, {n}")
}

#[test]
fn what_it_leads_to_is_carried_over_there_and_back() {
    let mut store = Store::with_root(
        schema!(v1_0::State),
        &v1_0::State {
            items: Map::EMPTY,
            list: Vector::EMPTY,
            shape: v1_0::Shape::List(P::NULL),
            log: Vector::EMPTY,
        },
    );
    for n in 0..COUNT {
        store.with::<v1_0::State, _>(|state, tx| {
            let (weight, cost) = (n as u32, 1);
            for is_item in [true, false] {
                let name = Bytes::new(tx, name(n).as_bytes())?;
                let item = v1_0::Item { name, weight, cost };
                match is_item {
                    true => drop(state.items.insert(tx, &n, &item)?),
                    false => state.list.push(tx, &item)?,
                }
            }
            if let v1_0::Shape::List(next) = state.shape {
                let (value, more) = (n as u32, 2);
                let node = tx.alloc(&v1_0::Node { next, value, more })?;
                state.shape = v1_0::Shape::List(node);
            }
            Ok(state.log.push(tx, &7)?)
        });
    }
    let mut store = store.migrate(schema!(State), &MIGRATIONS, 1);
    store.with::<State, _>(|state, tx| {
        for n in 0..COUNT {
            for item in [state.things.get(tx, &n)?, state.rows.get(tx, n)?] {
                let item = item.expect("it is there");
                assert_eq!((item.weight, item.name.get(tx)?), (n, name(n).as_bytes()));
            }
        }
        let Shape::Chain(mut next) = state.form else {
            panic!("{:?}", state.form)
        };
        for n in (0..COUNT).rev() {
            let node = tx.read(next)?;
            assert_eq!(node.value, n);
            next = node.next;
        }
        assert!(next.is_null() && state.index.is_empty());
        Ok(())
    });
    let mut store = store.migrate(schema!(v1_0::State), &MIGRATIONS, 1);
    store.with::<v1_0::State, _>(|state, tx| {
        for n in 0..COUNT {
            for item in [state.items.get(tx, &n)?, state.list.get(tx, n)?] {
                let item = item.expect("it is there");
                assert_eq!((u64::from(item.weight), item.cost), (n, 0));
                assert_eq!(item.name.get(tx)?, name(n).as_bytes());
            }
        }
        let v1_0::Shape::List(first) = state.shape else {
            panic!("{:?}", state.shape)
        };
        assert_eq!(u64::from(tx.read(first)?.value), COUNT - 1);
        assert!(state.log.is_empty());
        Ok(())
    });
}

/// Versions of one type, and no word of how one becomes the other: it may be that the field was dropped, and it may not.
#[test]
#[should_panic(expected = "State.items[MapNode].value.cost")]
fn without_its_conversion_there_is_no_way() {
    let store = Store::with_root(
        schema!(v1_0::State),
        &v1_0::State {
            items: Map::EMPTY,
            list: Vector::EMPTY,
            shape: v1_0::Shape::Empty(0),
            log: Vector::EMPTY,
        },
    );
    drop(store.migrate(schema!(State), &MIGRATIONS[2..], 1));
}
