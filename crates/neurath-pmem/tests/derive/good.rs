use neurath_pmem::{Bytes, Map, P, Pmem, Vector};

#[derive(Clone, Copy, Pmem)]
#[repr(u16)]
enum Colour {
    Red = 7,
    Green,
}

#[derive(Clone, Copy, Pmem)]
#[repr(transparent)]
struct Number(u64);

#[derive(Clone, Copy, Pmem)]
#[repr(C)]
struct Good {
    number: Number,
    names: Map<Bytes, P<Number>>,
    colours: [Colour; 3],
    flag: bool,
    gap: u8,
}

#[derive(Clone, Copy, Pmem)]
#[repr(C)]
struct Empty {}

// Names that the description of a type uses too.
#[derive(Clone, Copy, Pmem)]
#[repr(u8)]
enum Kind {
    Variant,
}

#[derive(Clone, Copy, Pmem)]
#[repr(C)]
struct Field {
    kind: Kind,
}

#[derive(Clone, Copy, Pmem)]
#[repr(u32)]
enum Shape {
    Nothing([u8; 28]) = 7,
    Named { name: Bytes, colours: [Colour; 2] },
    Counted(bool, [u8; 3], Map3, Field, [u8; 3], Number3),
}

#[derive(Clone, Copy, Pmem)]
#[repr(transparent)]
struct Map3([u8; 12]);

#[derive(Clone, Copy, Pmem)]
#[repr(transparent)]
struct Number3([u32; 2]);

// A type that refers to itself, in every way.
#[derive(Clone, Copy, Pmem)]
#[repr(C)]
struct Node {
    next: P<Self>,
    others: [P<Node>; 3],
    side: Side,
}

#[derive(Clone, Copy, Pmem)]
#[repr(u64)]
enum Side {
    Left(P<Side>),
    Right { others: [P<Self>; 1] },
}

// Two that refer to each other.
#[derive(Clone, Copy, Pmem)]
#[repr(C)]
struct Parent {
    child: P<Child>,
}

#[derive(Clone, Copy, Pmem)]
#[repr(C)]
struct Child {
    #[pmem(link)]
    parent: P<Parent>,
}

// One that has collections of references to itself.
#[derive(Clone, Copy, Pmem)]
#[repr(transparent)]
struct Branch(#[pmem(link)] P<Tree>);

#[derive(Clone, Copy, Pmem)]
#[repr(C)]
struct Tree {
    branches: Vector<Branch>,
    named: Map<Bytes, [Branch; 2]>,
    before: before::Tree,
    all_before: Vector<before::Tree>,
}

/// Another type of that name.
mod before {
    use neurath_pmem::Pmem;

    #[derive(Clone, Copy, Pmem)]
    #[repr(C)]
    pub struct Tree {
        pub count: u64,
    }
}

// A name of one's own is one's own.
#[derive(Clone, Copy, Pmem)]
#[repr(C)]
struct Cell {
    count: u64,
}

#[derive(Clone, Copy, Pmem)]
#[repr(C)]
struct Grid {
    cells: [Cell; 4],
}

fn main() {
    let _ = Grid::TYPE_ID;
    let _ = (Node::TYPE_ID, Side::Left(P::NULL), Side::Right { others: [P::NULL] });
    let _ = (Parent::TYPE_ID, Child::TYPE_ID, Tree::TYPE_ID);
    let _ = (Shape::Nothing([0; 28]), Shape::FINGERPRINT);
    let name = Bytes::EMPTY;
    let _ = Shape::Named { name, colours: [Colour::Red; 2] };
    let _ = Shape::Counted(true, [0; 3], Map3([0; 12]), Field { kind: Kind::Variant }, [0; 3], Number3([0; 2]));
    let _ = (Kind::Variant, Field::TYPE_ID);
    let _ = (Colour::Red, Colour::Green, Good::TYPE_ID, Empty::FINGERPRINT);
}
