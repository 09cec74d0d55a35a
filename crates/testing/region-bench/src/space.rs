//! What is taken beside the data.

use std::path::Path;

use neurath_pmem::Pmem;
use neurath_pmem::schema::{encode, encoded_len};

use crate::Sizes;
use crate::pmdk::{Driver, How};
use crate::row::{Other, Row, Unit, measure};
use crate::small::{Object, create, in_batches};

const SCHEMA: [u8; encoded_len(Object::SCHEMA)] = encode(Object::SCHEMA);

/// The bytes of the file for each object of 64 bytes: from one growth to a later one.
fn per_object(path: &Path, objects: u64) -> anyhow::Result<f64> {
    let mut region = create(path, 0, &SCHEMA)?;
    let mut made = 0;
    let mut begun = None;
    loop {
        let before = region.stats().file_bytes;
        in_batches(&mut region, 64, |tx, _| tx.alloc(&Object { words: [0; 8] }))?;
        made += 64;
        let after = region.stats().file_bytes;
        if after == before {
            continue;
        }
        // As the file grows, the old part is just full.
        match begun {
            None => begun = Some((made, after)),
            Some((first, from)) if made - first >= objects => {
                return Ok((after - from) as f64 / (made - first) as f64);
            }
            Some(_) => {}
        }
    }
}

/// The rows of this module.
///
/// # Errors
///
/// A region's or a peer's.
pub fn rows(
    dir: &Path,
    sizes: &Sizes,
    pmdk: &Result<Driver, String>,
    mut out: impl FnMut(Row),
) -> anyhow::Result<()> {
    let path = dir.join("space.region");
    let pool = &dir.join("space.pool");
    let theirs = |command: String| Other {
        name: "pmdk",
        side: match pmdk {
            Ok(driver) => Ok(Box::new(move || {
                let mut pmdk = driver.start(How::Fences)?;
                let bytes = (160 * sizes.objects).next_multiple_of(1 << 20) + (32 << 20);
                pmdk.ask(&format!("create {bytes} {}", pool.display()))?;
                let found = pmdk.ask(&command);
                std::fs::remove_file(pool)?;
                found
            })),
            Err(why) => Err(why.clone()),
        },
    };
    let each = Box::new(|| {
        let bytes = per_object(&path, sizes.objects)?;
        std::fs::remove_file(&path)?;
        Ok(bytes)
    });
    let fill = theirs(format!("fill {}", sizes.objects));
    let rows = measure(
        "space of an object of 64 B",
        Unit::Space,
        1,
        each,
        vec![fill],
    )?;
    rows.into_iter().for_each(&mut out);
    let empty = Box::new(|| {
        let bytes = create(&path, 0, &SCHEMA)?.stats().file_bytes;
        std::fs::remove_file(&path)?;
        Ok(bytes as f64)
    });
    let smallest = theirs("smallest 0".into());
    let rows = measure("smallest file", Unit::Space, 1, empty, vec![smallest])?;
    rows.into_iter().for_each(&mut out);
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_object_takes_its_size_and_a_little() {
        let dir = tempfile::tempdir().expect("a directory");
        let bytes = super::per_object(&dir.path().join("region"), 600_000).expect("measured");
        assert!((64.0..67.0).contains(&bytes), "{bytes}");
    }
}
