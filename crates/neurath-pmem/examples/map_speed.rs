//! How long a map's operations take: in a transaction of their own, and many in one.

use std::hint::black_box;
use std::time::Instant;

use neurath_pmem::region::{Region, RegionError, RegionOptions};
use neurath_pmem::schema::{encode, encoded_len};
use neurath_pmem::{Handle, Map, P, Pmem, Tx, TxError};

#[derive(Clone, Copy, Pmem)]
#[repr(C)]
struct State {
    numbers: Map<u64, u64>,
}

const SCHEMA: [u8; encoded_len(State::SCHEMA)] = encode(State::SCHEMA);

#[derive(Debug)]
#[expect(dead_code, reason = "printed")]
enum Failure {
    Tx(TxError),
    Region(RegionError),
}

impl From<TxError> for Failure {
    fn from(error: TxError) -> Failure {
        Failure::Tx(error)
    }
}

impl From<RegionError> for Failure {
    fn from(error: RegionError) -> Failure {
        Failure::Region(error)
    }
}

/// Runs `step` so many times, in transactions of `batch` steps; nanoseconds a step.
fn time(
    region: &mut Region,
    count: u64,
    batch: u64,
    mut step: impl FnMut(&mut State, &mut Tx<'_>, u64) -> Result<(), TxError>,
) -> Result<f64, Failure> {
    let started = Instant::now();
    let mut n = 0;
    while n < count {
        region.transact(|tx| {
            let root: P<State> = tx.root();
            let mut state = tx.read(root)?;
            for _ in 0..batch.min(count - n) {
                step(&mut state, tx, n)?;
                n += 1;
            }
            Ok::<_, Failure>(tx.write(root, &state)?)
        })?;
    }
    Ok(started.elapsed().as_nanos() as f64 / count as f64)
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let count: u64 = arguments
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(500_000);
    let dir = arguments.next().unwrap_or_else(|| "/dev/shm".into());
    let path = std::path::Path::new(&dir).join(format!("map_speed.{}", std::process::id()));
    let options = RegionOptions {
        initial: 256 << 20,
        ..RegionOptions::new("speed", 0, 4 << 30)
    };
    let mut region = Region::create(&path, &options, &SCHEMA).expect("a new region");
    // It is open; nobody needs its name.
    let _ = std::fs::remove_file(&path);
    region.attach(&Handle::new());
    let root = region.transact(|tx| {
        Ok::<_, Failure>(tx.alloc(&State {
            numbers: Map::EMPTY,
        })?)
    })?;
    region.set_root(root.to_ref());
    region.commit()?;
    let scattered = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % count;
    for batch in [1, 64] {
        let insert = time(&mut region, count, batch, |state, tx, n| {
            state.numbers.insert(tx, &n, &n).map(drop)
        })?;
        let get = time(&mut region, count, batch, |state, tx, n| {
            black_box(state.numbers.get(tx, &scattered(n))?);
            Ok(())
        })?;
        let update = time(&mut region, count, batch, |state, tx, n| {
            state.numbers.insert(tx, &scattered(n), &!n).map(drop)
        })?;
        let remove = time(&mut region, count, batch, |state, tx, n| {
            state.numbers.remove(tx, &n).map(drop)
        })?;
        println!(
            "{batch:3} a transaction: insert {insert:6.0} ns, get {get:6.0} ns, \
             update {update:6.0} ns, remove {remove:6.0} ns"
        );
    }
    Ok(())
}
