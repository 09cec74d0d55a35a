//! What regions are used for before they crash.

use super::sim::Random;
use super::state::{Around, Model, Op, Transaction, tx};

/// What a workload does, and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) transactions: Vec<Transaction>,
    pub(crate) begin: Begin,
}

/// How a workload finds its region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Begin {
    /// Not there: it is made.
    Nothing,
    /// With nothing in it.
    Empty,
    /// With its first chunk nearly full.
    Full,
}

/// A transaction that re-uses memory at once.
pub(crate) fn random_transaction(random: &mut Random, model: &Model) -> Transaction {
    let mut ops = Vec::new();
    for _ in 0..1 + random.below(3) {
        let k = random.below(12) as u8;
        let len = [0, 7, 24, 30, 100, 101, 500, 900][random.below(8)];
        match random.below(12) {
            0..6 => ops.push(Op::Set(k, len)),
            6..9 => ops.push(Op::Remove(k)),
            9 => ops.extend([Op::Set(k, len + 1), Op::Remove(k)]),
            10 => ops.push(Op::Number(k.into(), random.next() as u32)),
            _ if model.numbers.len() > 3 => ops.push(Op::Clear),
            _ => ops.push(Op::Number(k.into(), 1)),
        }
    }
    Transaction {
        ops,
        commit: !random.chance(8),
        around: match random.below(24) {
            0 => Around::Close,
            1 => Around::Copy,
            _ => Around::Nothing,
        },
    }
}

/// A transaction as it is tried again: alike, with other numbers.
pub(crate) fn altered(transaction: &Transaction, random: &mut Random) -> Transaction {
    let ops = transaction.ops.iter().map(|op| match *op {
        Op::Number(k, _) => Op::Number(k, random.next() as u32),
        other => other,
    });
    Transaction {
        ops: ops.collect(),
        ..*transaction
    }
}

pub(crate) fn random_workload(seed: u64, len: usize) -> Vec<Transaction> {
    let mut random = Random(seed);
    let mut model = Model::default();
    (0..len)
        .map(|_| {
            let transaction = random_transaction(&mut random, &model);
            if transaction.commit {
                model.apply(&transaction.ops);
            }
            transaction
        })
        .collect()
}

/// The kinds of transactions that sequences are made of.
const KINDS: usize = 8;

/// Sequences of one, two and three transactions of all kinds.
pub(crate) const SEQUENCES: usize = KINDS + KINDS * KINDS + KINDS * KINDS * KINDS;

/// The `number`-th of all sequences of up to three transactions on a fresh region: an insertion,
/// an update, a removal, many types (which need room of their own), a big value, places that are
/// taken, freed, and taken again in the same class, an orderly close, and a copy.
pub(crate) fn sequence(mut number: usize) -> Workload {
    use Op::{Number, Order, Push, Remove, Set};
    let mut len = 1;
    while number >= KINDS.pow(len) {
        number -= KINDS.pow(len);
        len += 1;
    }
    let transactions = (0..len).map(|place| {
        let kind = number / KINDS.pow(place) % KINDS;
        // A second insertion is of another key, an update of a key that may be there.
        let key = place as u8 + 2;
        match kind {
            0 => tx(&[Set(key, 30)]),
            1 => tx(&[Set(2, 31 + u16::from(key))]),
            2 => tx(&[Remove(2)]),
            3 => tx(&[
                Set(key, 70),
                Set(key + 8, 150),
                Number(key.into(), 1),
                Order(0, 3),
                Push(2),
            ]),
            4 => tx(&[Set(key, 3000)]),
            5 => Transaction {
                around: Around::Close,
                ..tx(&[Set(key, 32)])
            },
            6 => Transaction {
                around: Around::Copy,
                ..tx(&[Set(key, 33)])
            },
            _ => tx(&[Set(key + 16, 45), Remove(key + 16), Set(key + 24, 46)]),
        }
    });
    Workload {
        name: "a sequence",
        transactions: transactions.collect(),
        begin: Begin::Empty,
    }
}

/// Small workloads, each for one way through the protocol.
pub(crate) fn small() -> Vec<Workload> {
    use Op::{Clear, Number, Order, Pop, Push, Remove, Set, Unorder};
    let aborted = |ops: &[Op]| Transaction {
        commit: false,
        ..tx(ops)
    };
    let closed = |ops: &[Op]| Transaction {
        around: Around::Close,
        ..tx(ops)
    };
    let workloads = [
        ("one insertion", vec![tx(&[Set(1, 5)])]),
        ("a new region", vec![tx(&[Set(1, 5)]), tx(&[Number(1, 1)])]),
        (
            "insert, update, delete",
            vec![tx(&[Set(1, 5)]), tx(&[Set(1, 9)]), tx(&[Remove(1)])],
        ),
        (
            "closed between",
            vec![
                tx(&[Set(1, 5), Set(2, 40)]),
                tx(&[Set(1, 9), Set(3, 300)]),
                closed(&[Set(1, 7), Remove(2)]),
                closed(&[Number(1, 1), Set(4, 41)]),
                tx(&[Remove(3)]),
                tx(&[Set(5, 42)]),
            ],
        ),
        (
            "blocks",
            vec![
                tx(&[Set(1, 40)]),
                tx(&[Set(1, 300), Set(2, 40)]),
                tx(&[Remove(1)]),
            ],
        ),
        (
            "a big value",
            vec![tx(&[Set(1, 3000)]), tx(&[Set(1, 3001)]), tx(&[Remove(1)])],
        ),
        (
            "used again in the same class",
            vec![
                tx(&[Set(1, 40), Set(2, 40)]),
                tx(&[Set(1, 7), Remove(1)]),
                tx(&[Set(3, 41)]),
                tx(&[Set(2, 8), Remove(2)]),
                tx(&[Set(4, 42), Set(5, 3)]),
                tx(&[Set(6, 43)]),
            ],
        ),
        (
            "aborted between",
            vec![
                tx(&[Set(1, 40)]),
                aborted(&[Set(2, 40), Remove(1), Number(1, 1)]),
                tx(&[Set(2, 41), Number(2, 2)]),
                aborted(&[Remove(2), Clear]),
                tx(&[Remove(1)]),
            ],
        ),
        (
            "another type in an emptied segment",
            vec![
                tx(&[Set(1, 2000)]),
                tx(&[Remove(1)]),
                tx(&[Number(1, 1)]),
                tx(&[Set(2, 1001)]),
                tx(&[Set(2, 7), Number(2, 2)]),
                tx(&[Remove(2), Clear]),
                tx(&[Set(3, 45)]),
                tx(&[Set(4, 3000)]),
            ],
        ),
        (
            "growth",
            vec![
                tx(&[Set(1, 25), Set(2, 45)]),
                aborted(&[Set(3, 70), Set(4, 90), Set(5, 150)]),
                tx(&[Set(3, 70), Set(4, 90)]),
                tx(&[Set(5, 150), Set(6, 200), Set(7, 600)]),
            ],
        ),
        (
            "freed and crashed",
            vec![
                tx(&[Set(1, 40), Set(2, 40)]),
                tx(&[Set(1, 7), Set(2, 9), Remove(1), Remove(2)]),
            ],
        ),
        (
            "a tree and a vector: a split and a join, a page more and one fewer",
            vec![
                tx(&[Order(0, 15), Push(63)]),
                tx(&[Order(15, 16), Push(1)]),
                aborted(&[Unorder(0, 12), Pop(3)]),
                tx(&[Push(1)]),
                tx(&[Unorder(4, 6), Pop(2)]),
                tx(&[Order(20, 24), Push(4)]),
                tx(&[Clear]),
                tx(&[Order(1, 3), Push(1)]),
            ],
        ),
        (
            "a second chunk",
            vec![
                tx(&[Set(1, 500), Set(2, 3000)]),
                tx(&[Set(3, 5000), Set(4, 9000)]),
                tx(&[Set(5, 14_000), Set(6, 20_000), Set(7, 2000)]),
                tx(&[Remove(1), Remove(2), Remove(3)]),
            ],
        ),
        (
            "more than a journal's half, and what is too large for its record",
            vec![
                tx(&[Set(1, 14_000), Number(1, 1)]),
                tx(&[Set(2, 15_000), Remove(1)]),
                tx(&[Set(3, 15_500)]),
                tx(&[Set(1, 20_000)]),
                tx(&[Set(4, 15_600), Remove(1)]),
                tx(&[Set(5, 15_700)]),
                tx(&[Set(6, 15_800), Number(2, 2)]),
                tx(&[Set(2, 15_900), Remove(3)]),
                tx(&[Set(3, 16_000), Number(1, 3)]),
                tx(&[Remove(2), Number(4, 1)]),
            ],
        ),
        (
            "records of one size, with other contents",
            (1..12)
                .map(|n| tx(&[Set(n as u8 % 2, 430), Number(1, n)]))
                .collect(),
        ),
        (
            "records of one size into a journal's other half",
            (0..3)
                .map(|n| tx(&[Set(7 + n, 15_900)]))
                .chain((0..30).map(|n| tx(&[Set(n as u8 % 2, 430), Number(1, n)])))
                .collect(),
        ),
        (
            "a journal's half within one wait",
            (0..14)
                .map(|n| tx(&[Set(n % 3, 15_900 + u16::from(n)), Number(1, n.into())]))
                .collect(),
        ),
        (
            "a checkpoint beside the commits",
            (0..44)
                .map(|n| {
                    tx(&[
                        Set(n % 7, 3000 + u16::from(n)),
                        Number(u32::from(n % 5), n.into()),
                    ])
                })
                .collect(),
        ),
    ];
    workloads
        .into_iter()
        .map(|(name, transactions)| Workload {
            name,
            transactions,
            begin: match name {
                "a second chunk" => Begin::Full,
                "a new region" => Begin::Nothing,
                _ => Begin::Empty,
            },
        })
        .collect()
}
