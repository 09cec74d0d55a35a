use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::Failure;
use crate::inspect::{CheckOptions, check};
use crate::migrate::tests::{CONVERSIONS, blob, convert, entries, filled, new, old, options, plan};
use crate::region::format::SegmentEntry;
use crate::region::{Durability, Media as _, RAW, Region, RegionOptions};
use crate::{Bytes, P, Pmem as _};

/// The largest number of entries.
const MANY: u32 = 9000;

/// A segment of blocks of bytes with some.
fn raw_segment(region: &Region) -> SegmentEntry {
    let mut all = region.segments().into_iter().map(|(_, entry)| entry);
    let found = all.find(|entry| entry.type_id == RAW && entry.length > 1 << 14);
    found.expect("one of bytes")
}

/// Replaces the blob of an entry.
fn replace(region: &mut Region, n: u32, bytes: &[u8]) {
    let done = region.transact(|tx| {
        let root: P<old::State> = tx.root();
        let mut state = tx.read(root)?;
        let blob = Bytes::new(tx, bytes)?;
        if let Some(old) = state.blobs.insert(tx, &n.to_le_bytes(), &blob)? {
            old.free_owned(tx)?;
        }
        Ok::<_, Failure>(tx.write(root, &state)?)
    });
    done.unwrap();
    region.commit().unwrap();
}

/// Takes some entries out of each map, all of one of them, and adds others.
fn stir(region: &mut Region) {
    for n in 0..MANY {
        if n % 4 != 1 {
            replace(region, n, &blob(n + 7));
        }
    }
    loop {
        let done = region.transact(|tx| {
            let root: P<old::State> = tx.root();
            let mut state = tx.read(root)?;
            let done = state.gone.clear_some(tx, 300)?;
            tx.write(root, &state)?;
            Ok::<_, Failure>(done)
        });
        if done.unwrap() {
            break;
        }
    }
    for n in 0..2 * MANY {
        let done = region.transact(|tx| {
            let root: P<old::State> = tx.root();
            let mut state = tx.read(root)?;
            let item = old::Item { a: n, b: 3 };
            match n % 3 {
                0 => drop(state.items.remove(tx, &n)?),
                _ => drop(state.items.insert(tx, &n, &item)?),
            }
            Ok::<_, Failure>(tx.write(root, &state)?)
        });
        done.unwrap();
    }
}

/// Both generations hold the same, and the new one is sound.
fn assert_converted(before: &mut Region, mut after: Region) {
    let held = before.transact(|tx| {
        let state: old::State = tx.read(tx.root())?;
        let mut blobs = Vec::new();
        for n in 0..2 * MANY {
            let bytes = state.blobs.get(tx, &n.to_le_bytes())?;
            blobs.push(
                bytes
                    .map(|bytes| bytes.get(tx).map(<[u8]>::to_vec))
                    .transpose()?,
            );
        }
        Ok::<_, Failure>((entries(tx, &state.items), blobs))
    });
    let (items, blobs) = held.unwrap();
    let media = after.media();
    let report = check(media.bytes(0, media.len()).to_vec(), CheckOptions::here());
    assert!(report.is_sound(), "{report:#?}");
    after.attach(&crate::Handle::new());
    let seen = after.transact(|tx| {
        let state: new::State = tx.read(tx.root())?;
        for (n, blob) in (0..).zip(&blobs) {
            let bytes = state.blobs.get(tx, &u32::to_le_bytes(n))?;
            let bytes = bytes.as_ref().map(|bytes| bytes.get(tx)).transpose()?;
            assert_eq!(bytes, blob.as_deref(), "{n}");
        }
        Ok::<_, Failure>(entries(tx, &state.items))
    });
    let seen = seen.unwrap();
    assert_eq!(seen.len(), items.len());
    for (key, (place, old)) in items {
        let (a, b, c) = (old.a.into(), old.b, old.a ^ old.b);
        assert_eq!(seen[&key], (place, new::Item { a, b, c }), "{key}");
    }
}

#[test]
fn only_what_was_stored_to_since_is_copied_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = filled(&dir.path().join("1"), MANY);
    let source = before.source_in_use();
    let path = dir.path().join("2");
    let plan = plan(&CONVERSIONS).unwrap();
    let mut building = plan
        .prepare(&source, &path, &options(), &new::SCHEMA)
        .unwrap();
    for n in (0..MANY).step_by(900) {
        replace(&mut before, n, &[7; 250]);
    }
    // Changed behind the region's back, where nothing is stored to: it is seen neither as noted nor by a look at the
    // segment.
    let segment = raw_segment(&before);
    let noted = before.source();
    let changed = noted.changed.as_ref().unwrap();
    let pages = (segment.offset..segment.offset + segment.length).step_by(4096);
    let quiet = pages.filter(|&page| changed.stored(page, 4096).next().is_none());
    let quiet = quiet.last().expect("a page");
    let byte = before.media().bytes(quiet, 1)[0];
    before.media_mut().store(quiet, &[!byte]);
    building.fill(&noted, "{}", 7, &convert).unwrap();
    before.media_mut().store(quiet, &[byte]);
    let after = building.finish().unwrap();
    let there = raw_segment(&after).offset + (quiet - segment.offset);
    assert_eq!(after.media().bytes(there, 1), [byte]);
    assert_converted(&mut before, after);
}

/// Where the last segment ends.
fn end(region: &Region) -> u64 {
    let ends = region.segments().into_iter();
    let ends = ends.map(|(_, entry)| entry.offset + entry.length);
    ends.max().expect("one")
}

/// Whether segments lie one after the other.
fn has_no_holes(region: &Region) -> bool {
    let all = region.segments();
    let follows =
        |pair: &[(u32, SegmentEntry)]| pair[0].1.offset + pair[0].1.length == pair[1].1.offset;
    all.windows(2).all(follows)
}

/// Begins a conversion of a state, which `meanwhile` changes, and ends it.
fn converted(
    before: &mut Region,
    path: &Path,
    options: &RegionOptions,
    meanwhile: impl FnOnce(&mut Region),
) -> Region {
    drop(std::fs::remove_file(path));
    let source = before.source_in_use();
    let plan = plan(&CONVERSIONS).unwrap();
    let mut building = plan.prepare(&source, path, options, &new::SCHEMA).unwrap();
    meanwhile(before);
    building.fill(&before.source(), "{}", 7, &convert).unwrap();
    building.finish().unwrap()
}

#[test]
fn a_state_that_becomes_another_meanwhile_is_converted_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("2");
    let made = || {
        let path = dir.path().join("1");
        drop(std::fs::remove_file(&path));
        let mut region = filled(&path, MANY);
        (MANY..MANY + 80).for_each(|n| replace(&mut region, n, &[7; 40 << 10]));
        region
    };
    let one_goes = |before: &mut Region| {
        // What was freed serves again two commits later.
        for len in [8, 9, 10, 33 << 10, 8, 9, 10, 47 << 10] {
            replace(before, MANY + 7, &vec![3; len]);
        }
        replace(before, 5, &blob(31));
    };
    // What changes place leaves a hole.
    let before = &mut made();
    let after = converted(before, &path, &options(), one_goes);
    let limit = end(&after) + (64 << 10);
    assert!(!has_no_holes(&after));
    assert_converted(before, after);

    // Near the limit there is none.
    let before = &mut made();
    let near = RegionOptions { limit, ..options() };
    let after = converted(before, &path, &near, one_goes);
    assert!(has_no_holes(&after));
    assert_converted(before, after);

    // Nor where much changes place.
    let before = &mut made();
    let after = converted(before, &path, &options(), |before| {
        for len in [8, 33 << 10] {
            (MANY..MANY + 80).for_each(|n| replace(before, n, &vec![3; len]));
        }
        stir(before);
    });
    assert!(has_no_holes(&after));
    assert_converted(before, after);

    // Somebody else has had it noted meanwhile.
    let before = &mut made();
    let after = converted(before, &path, &options(), |before| {
        stir(before);
        drop(before.source_in_use());
        replace(before, 9, &blob(77));
    });
    assert_converted(before, after);
}

/// A place that held a copy, and is another type's now, is zero before it is converted into.
#[test]
fn a_place_that_becomes_another_types_holds_nothing_of_the_copy() {
    let dir = tempfile::tempdir().unwrap();
    let before = &mut filled(&dir.path().join("1"), 300);
    let mut after = |name: &str, copied: bool| {
        let source = before.source_in_use();
        let plan = plan(&CONVERSIONS).unwrap();
        let path = dir.path().join(name);
        let prepared = plan.prepare(&source, &path, &options(), &new::SCHEMA);
        let mut building = prepared.unwrap();
        let segments = before.segments();
        let of_nodes =
            |(_, entry): &(u32, SegmentEntry)| building.plan.copied_whole(entry).is_none();
        let at = segments
            .iter()
            .position(of_nodes)
            .expect("one that is converted");
        let ahead = building.ahead.as_mut().unwrap();
        let place = ahead.layout.segments[at];
        if copied {
            ahead.copied[at] = Some(SegmentEntry {
                type_id: RAW,
                ..segments[at].1
            });
            let media = building.region.as_mut().unwrap().media_mut();
            media.store(place.offset, &vec![0xA5; place.length as usize]);
        }
        building.fill(&before.source(), "{}", 7, &convert).unwrap();
        let after = building.finish().unwrap();
        after.media().bytes(place.offset, place.length).to_vec()
    };
    assert!(after("2", false) == after("3", true));
}

/// An object that claims a copied type, and is larger: `fill` refuses such a state; so must whoever copies ahead.
#[test]
fn objects_of_another_size_than_their_type_are_refused_and_not_copied() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = filled(&dir.path().join("1"), 300);
    let way = plan(&CONVERSIONS).unwrap();
    let copied = way
        .types
        .iter()
        .find(|(_, plan)| plan.is_copy())
        .map(|(&id, _)| id)
        .expect("one that is copied");
    let done = before.transact(|tx| Ok::<_, Failure>(tx.alloc_untyped(copied, 32 << 20)?));
    done.unwrap();
    let source = before.source_in_use();
    let path = dir.path().join("2");
    let prepared = way.prepare(&source, &path, &options(), &new::SCHEMA);
    let done = prepared.and_then(|mut b| b.fill(&before.source(), "{}", 7, &convert));
    assert!(done.is_err());
}

/// Where the limit is near, holes would be room that does not serve for all.
#[test]
fn what_was_copied_ahead_has_room_for_as_much_as_what_was_not() {
    const BLOBS: u32 = 400;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("2");
    let others = |before: &mut Region| {
        for len in [8, 33 << 10] {
            (0..BLOBS).for_each(|n| replace(before, 1000 + n, &vec![3; len]));
        }
    };
    let limit = 36 << 20;
    let tight = RegionOptions { limit, ..options() };
    let more = |in_use: bool| {
        let one = dir.path().join("1");
        drop(std::fs::remove_file(&one));
        let before = &mut filled(&one, 300);
        (0..BLOBS).for_each(|n| replace(before, 1000 + n, &[7; 40 << 10]));
        let mut after = match in_use {
            true => converted(before, &path, &tight, others),
            false => {
                others(before);
                converted(before, &path, &tight, |_| ())
            }
        };
        after.attach(&crate::Handle::new());
        let mut add = |n: u32| {
            after.transact(|tx| {
                let root: P<new::State> = tx.root();
                let mut state = tx.read(root)?;
                let blob = Bytes::new(tx, &[7; 33 << 10])?;
                state
                    .blobs
                    .insert(tx, &(1 << 20 | n).to_le_bytes(), &blob)?;
                Ok::<_, Failure>(tx.write(root, &state)?)
            })
        };
        (0..).find(|&n| add(n).is_err()).expect("the limit")
    };
    let copied_ahead = more(true);
    assert_eq!(copied_ahead, more(false));
    assert!(copied_ahead > 400, "{copied_ahead}");
}

/// Commits go on, on another thread, while it is copied: new chunks, segments that become another type's.
#[test]
fn what_is_copied_while_commits_go_on_is_the_same_byte_by_byte() {
    for durability in [Durability::Process, Durability::Power] {
        for seed in 0..6u32 {
            let dir = tempfile::tempdir().unwrap();
            let mut before = filled(&dir.path().join("1"), MANY);
            for n in 0..150 {
                replace(&mut before, n, &[7; 40 << 10]);
            }
            let way = plan(&CONVERSIONS).unwrap();
            let source = before.source_in_use();
            let options = RegionOptions {
                durability,
                ..options()
            };
            let path = dir.path().join("2");
            let ready = AtomicBool::new(false);
            let mut building = std::thread::scope(|scope| {
                let prepared = scope.spawn(|| {
                    let made = way.clone().prepare(&source, &path, &options, &new::SCHEMA);
                    ready.store(true, Ordering::Release);
                    made.unwrap()
                });
                let mut n = seed;
                for _ in 0..1000 {
                    if ready.load(Ordering::Acquire) {
                        break;
                    }
                    n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    replace(&mut before, (n >> 8) % MANY, &blob(n >> 5));
                }
                prepared.join().unwrap()
            });
            // So much that all places change, or a little.
            let much = seed % 2 == 1;
            for n in 0..if much { 350 } else { 5 + seed } {
                replace(&mut before, 150 + n, &[5; 33 << 10]);
                replace(&mut before, n, &vec![3; (n as usize % 50) << 10]);
            }
            if much {
                stir(&mut before);
                for n in 0..400 {
                    replace(&mut before, n, &blob(n));
                }
            }
            let now = before.source();
            let ahead = building.ahead.as_ref().unwrap();
            let (had, layout) = (ahead.copied.clone(), ahead.layout.clone());
            building.fill(&now, "{}", 7, &convert).unwrap();
            let after = building.finish().unwrap();
            let (old, new) = (before.segments(), after.segments());
            assert_eq!(old.len(), new.len());
            let mut kept = 0;
            for (at, ((number, old), (same, new))) in old.iter().zip(&new).enumerate() {
                assert_eq!(number, same);
                if let Some(len) = way.copied_whole(old) {
                    let (a, b) = (
                        before.media().bytes(old.offset, len),
                        after.media().bytes(new.offset, len),
                    );
                    let bitmap = now.bitmap(*number);
                    if had.get(at).is_some_and(|had| *had == Some(*old))
                        && layout.segments[at] == *new
                    {
                        kept += 1;
                        assert!(a == b, "{durability:?} {seed} segment {number}");
                    } else if bitmap.iter().any(|&byte| byte != 0) {
                        assert!(a == b, "{durability:?} {seed} segment {number}");
                    }
                }
                let len = new.objects_len();
                let rest = after.media().bytes(new.offset + len, new.length - len);
                assert!(rest.iter().all(|&byte| byte == 0), "{number}");
            }
            assert!(much || kept > 100, "{kept}");
            assert_converted(&mut before, after);
        }
    }
}

/// A transaction with new segments and a new chunk is open when it is begun, and is committed or given up after the
/// copy.
#[test]
fn a_transaction_may_be_open_when_it_begins() {
    for commit in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut before = filled(&dir.path().join("1"), MANY);
        let handle = crate::Handle::new();
        before.attach(&handle);
        {
            // SAFETY: the handle is attached to this region, which is not used meanwhile.
            let mut tx = unsafe { crate::Tx::new(handle.slot()) };
            let root: P<old::State> = tx.root();
            let mut state = tx.read(root).unwrap();
            for n in 0..300u32 {
                let blob = Bytes::new(&mut tx, &vec![9; 34 << 10]).unwrap();
                state
                    .blobs
                    .insert(&mut tx, &(MANY + n).to_le_bytes(), &blob)
                    .unwrap();
            }
            tx.write(root, &state).unwrap();
        }
        let way = plan(&CONVERSIONS).unwrap();
        let source = before.source_in_use();
        let path = dir.path().join("2");
        let mut building = way
            .clone()
            .prepare(&source, &path, &options(), &new::SCHEMA)
            .unwrap();
        match commit {
            true => drop(before.commit().unwrap()),
            false => before.abort(),
        }
        for n in 0..500 {
            replace(&mut before, n, &blob(n + 11));
            if n % 5 == 0 {
                replace(&mut before, n, &[1; 50 << 10]);
            }
        }
        let now = before.source();
        building.fill(&now, "{}", 7, &convert).unwrap();
        let after = building.finish().unwrap();
        for ((number, old), (_, new)) in before.segments().iter().zip(&after.segments()) {
            if let Some(len) = way.copied_whole(old) {
                let live = now.bitmap(*number).iter().any(|&byte| byte != 0);
                let same =
                    before.media().bytes(old.offset, len) == after.media().bytes(new.offset, len);
                assert!(same || !live, "{number}");
            }
        }
        assert_converted(&mut before, after);
    }
}
