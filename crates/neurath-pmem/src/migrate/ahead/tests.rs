use crate::failure::Failure;
use crate::inspect::{CheckOptions, check};
use crate::migrate::tests::{CONVERSIONS, blob, convert, entries, filled, new, old, options, plan};
use crate::region::format::SegmentEntry;
use crate::region::{Media as _, RAW, Region, RegionOptions};
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

#[test]
fn a_state_that_becomes_another_meanwhile_is_converted_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("2");
    let plan = plan(&CONVERSIONS).unwrap();
    let prepare = |before: &mut Region, options: &RegionOptions| {
        let source = before.source_in_use();
        let prepared = plan.clone().prepare(&source, &path, options, &new::SCHEMA);
        prepared.unwrap()
    };
    let made = || {
        drop(std::fs::remove_file(dir.path().join("1")));
        drop(std::fs::remove_file(&path));
        filled(&dir.path().join("1"), MANY)
    };
    // Noted.
    let mut before = made();
    let mut building = prepare(&mut before, &options());
    stir(&mut before);
    building.fill(&before.source(), "{}", 7, &convert).unwrap();
    let after = building.finish().unwrap();
    let end = end(&after);
    assert!(!has_no_holes(&after));
    assert_converted(&mut before, after);

    // Noted, but without room for the places that are not kept.
    let mut before = made();
    let limit = end - 4096;
    let tight = RegionOptions { limit, ..options() };
    let mut building = prepare(&mut before, &tight);
    stir(&mut before);
    building.fill(&before.source(), "{}", 7, &convert).unwrap();
    let after = building.finish().unwrap();
    assert!(has_no_holes(&after));
    assert_converted(&mut before, after);

    // Somebody else has asked for it meanwhile.
    let mut before = made();
    let mut building = prepare(&mut before, &options());
    stir(&mut before);
    drop(before.source_in_use());
    building.fill(&before.source(), "{}", 7, &convert).unwrap();
    let after = building.finish().unwrap();
    assert!(has_no_holes(&after));
    assert_converted(&mut before, after);
}

/// A place that held a copy, and is another type's now, is zero before it is converted into.
#[test]
fn a_place_that_becomes_another_types_holds_nothing_of_the_copy() {
    let dir = tempfile::tempdir().unwrap();
    let before = &mut filled(&dir.path().join("1"), 300);
    let mut converted = |name: &str, copied: bool| {
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
    assert!(converted("2", false) == converted("3", true));
}
