//! The room that a region has in its file.

use std::path::Path;

use super::Region;
use super::media::{Asked, Media as _};
use super::tests::{contents, create, open};
use crate::campaign::state::{remove, set, with};

fn file_len(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

fn put(region: &mut Region, number: u32) {
    with(region, |state, tx| {
        set(state, tx, &number.to_le_bytes(), &[7; 9000])
    })
    .unwrap();
}

/// A region with so many values, of which the last was removed.
fn filled(path: &Path, count: u32) -> Region {
    let mut region = create(path);
    (0..count).for_each(|number| put(&mut region, number));
    with(&mut region, |state, tx| {
        remove(state, tx, &(count - 1).to_le_bytes())
    })
    .unwrap();
    region
}

/// Whoever serves messages does not wait for the file system at the first growth after an opening either.
#[test]
fn an_opened_region_grows_ahead_once_objects_are_added() {
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let path = dir.path().join("region");
    filled(&path, 300).close().unwrap();
    let closed = file_len(&path);

    // What is read, and changed where it is, makes no file longer, nor is that under way.
    let mut region = open(&path).unwrap();
    assert_eq!(contents(&mut region).len(), 299);
    with(&mut region, |state, _| {
        state.count += 1;
        Ok(())
    })
    .unwrap();
    assert!(region.media().is_ready(closed + (512 << 10)));
    assert_eq!(file_len(&path), closed);

    // There is a place for this one, which an opening outside of tests has seen.
    let inner = region.inner();
    inner.space.know_more(&inner.media, usize::MAX).unwrap();
    put(&mut region, 299);
    assert_eq!(region.stats().file_bytes, closed);
    while !region.media().is_ready(closed + (1 << 20)) {
        std::thread::yield_now();
    }
    assert_eq!(file_len(&path), closed + (1 << 20));
    let mut number = 300;
    let work = Asked::done(|| {
        while region.stats().file_bytes == closed {
            put(&mut region, number);
            number += 1;
        }
    });
    assert_eq!(work.reserved, 0, "{work:?}");

    drop(region);

    // Nor is it any longer if it is killed again and again.
    let copy = dir.path().join("copy");
    let mut lengths = Vec::new();
    for _ in 0..3 {
        let mut region = open(&path).unwrap();
        put(&mut region, 0);
        while !region
            .media()
            .is_ready(region.stats().file_bytes + (1 << 20))
        {
            std::thread::yield_now();
        }
        std::fs::copy(&path, &copy).unwrap();
        drop(region);
        std::fs::rename(&copy, &path).unwrap();
        lengths.push(file_len(&path));
    }
    assert!(
        lengths[0] > closed && lengths.iter().all(|&len| len == lengths[0]),
        "{lengths:?}"
    );
}
