//! The room that a region has in its file.

use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use super::format::SUPERBLOCK_AT;
use super::media::{Asked, Media as _};
use super::tests::{contents, create, open, options};
use super::{Durability, Region, RegionOptions};
use crate::campaign::state::{SCHEMA, init, remove, set, with};

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

/// Copies a region's file without what is zero in it. By no other program: until a child runs one, it holds the locks of
/// all regions that are open, those of other tests, too.
fn copy_sparsely(from: &Path, to: &Path) {
    const BLOCK: usize = 4096;
    let bytes = std::fs::read(from).unwrap();
    let copy = std::fs::File::create_new(to).unwrap();
    copy.set_len(bytes.len() as u64).unwrap();
    for (number, block) in bytes.chunks(BLOCK).enumerate() {
        if block.iter().any(|&byte| byte != 0) {
            copy.write_all_at(block, (number * BLOCK) as u64).unwrap();
        }
    }
}

fn blocks(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

/// Else a store could end the process, where the file system has no room for a page that is not there yet.
#[test]
fn a_file_without_some_of_its_blocks_has_those_in_use_when_it_is_opened() {
    for durability in [Durability::Process, Durability::Power] {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let (path, copy) = (dir.path().join("region"), dir.path().join("copy"));
        let options = RegionOptions {
            durability,
            initial: 8 << 20,
            ..options()
        };
        let mut region = Region::create(&path, &options, &SCHEMA).unwrap();
        init(&mut region);
        (0..20).for_each(|number| put(&mut region, number));
        let claimed = region.stats().file_bytes;
        region.make_durable().unwrap();
        // As a process that died leaves it, and with a longer file than it claims.
        copy_sparsely(&path, &copy);
        let file = std::fs::File::options().write(true).open(&copy).unwrap();
        file.set_len(claimed + (1 << 20)).unwrap();
        let before = blocks(&copy);

        let mut region = Region::open(&copy, &options, None).unwrap();
        let used = |region: &Region| region.inner().space.heap_end();
        assert!(
            before < used(&region),
            "{before} bytes have blocks, nothing is missing"
        );
        // What is not in use stays without for now.
        let there = blocks(&copy);
        assert!(
            there <= used(&region) + (1 << 20),
            "{there} bytes, {durability:?}"
        );
        let mut number = 20;
        while region.stats().file_bytes == claimed {
            let (there, used) = (blocks(&copy), used(&region));
            assert!(there >= used, "{there} of {used} bytes, {durability:?}");
            put(&mut region, number);
            number += 1;
        }
        let (there, claimed) = (blocks(&copy), region.stats().file_bytes);
        assert!(
            there >= claimed,
            "{there} of {claimed} bytes, {durability:?}"
        );
        assert_eq!(contents(&mut region).len() as u32, number);
    }
}

/// With the newer of two superblocks damaged, the older one claims less than what is in use.
#[test]
fn an_opening_that_is_refused_cuts_nothing_off() {
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let (path, copy) = (dir.path().join("region"), dir.path().join("copy"));
    let mut region = create(&path);
    let mut number = 0;
    let begun = region.stats().file_bytes;
    while region.stats().file_bytes < begun + (1 << 20) {
        put(&mut region, number);
        number += 1;
    }
    std::fs::copy(&path, &copy).unwrap();
    drop(region);
    let bytes = std::fs::read(&copy).unwrap();
    let mut refused = 0;
    for at in SUPERBLOCK_AT {
        let mut damaged = bytes.clone();
        damaged[at as usize..][..512].fill(0xa5);
        std::fs::write(&copy, &damaged).unwrap();
        if open(&copy).is_err() {
            refused += 1;
            let found = std::fs::read(&copy).unwrap();
            assert_eq!(found.len(), damaged.len());
            assert!(found == damaged, "other bytes");
        }
    }
    assert_eq!(refused, 1);
}
