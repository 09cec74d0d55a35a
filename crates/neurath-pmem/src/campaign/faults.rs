//! Media that refuse to grow, and files that were damaged.

use std::ops::Range;

use super::sim::{Event, Random, Sim, mix};
use super::workloads::{Model, Op, contents, fresh, random_workload, run, tx};
use crate::region::format::{HEADER_AT, LOG_AT, LOG_LEN, PAGE, SUPERBLOCK_AT};
use crate::region::{Media, Region};

/// All faults; says what went wrong.
pub(crate) fn all(seed: u64) -> Vec<String> {
    let mut failures = Vec::new();
    for (name, check) in [
        ("growth", growths as fn(u64) -> Result<(), String>),
        ("damage", damage),
        ("truncation", truncations),
    ] {
        super::quiet(true);
        let result = std::panic::catch_unwind(|| check(seed))
            .unwrap_or_else(|panic| Err(super::explore::said(&*panic)));
        super::quiet(false);
        if let Err(error) = result {
            failures.push(format!("{name}: {error}"));
        }
    }
    failures
}

/// Transactions that need ever more room.
fn growing(seed: u64) -> Vec<Vec<Op>> {
    let mut random = Random(seed);
    (0..24)
        .map(|n| {
            let len = [25, 45, 300, 3000, 33_000, 50_000][random.below(6)];
            vec![
                Op::Set(n, len),
                Op::Number(n.into(), 1),
                Op::Set(n / 2, len + 1),
            ]
        })
        .collect()
}

/// The n-th growth fails, for each n: an error, nothing is changed, and it works again.
fn growths(seed: u64) -> Result<(), String> {
    for failing in 0.. {
        let mut region = fresh();
        region.media_mut().growths = Some(failing);
        let mut model = Model::default();
        let mut failed = false;
        for ops in growing(seed) {
            let before = region.media().events.len();
            let place = |error: String| format!("{error}; growth {failing} fails, {ops:?}");
            if let Err(error) = run(&mut region, &tx(&ops)) {
                if failed || !error.contains("Full") {
                    return Err(place(error));
                }
                failed = true;
                // What is stored of such a transaction is what no part of the state refers
                // to: superblocks, and places behind the heap.
                let commits = |event: &Event| matches!(event, Event::Store { at, .. } if (LOG_AT..LOG_AT + LOG_LEN).contains(at));
                if region.media().events[before..].iter().any(commits) {
                    return Err(place("something was committed".into()));
                }
                if contents(&mut region)? != model {
                    return Err(place("the state is another one".into()));
                }
                region.media_mut().growths = None;
                run(&mut region, &tx(&ops)).map_err(place)?;
            }
            model.apply(&ops);
        }
        if contents(&mut region)? != model {
            return Err(format!("something is lost; growth {failing} fails"));
        }
        let mut region =
            Region::recover_media(region.into_media()).map_err(|error| error.to_string())?;
        if contents(&mut region)? != model {
            return Err(format!(
                "something is lost by a crash; growth {failing} fails"
            ));
        }
        if !failed {
            return Ok(());
        }
    }
    Ok(())
}

/// A region left by a process that died, recovered once, and what it holds.
fn left_behind(seed: u64) -> Result<(Sim, Model), String> {
    let mut region = fresh();
    for transaction in random_workload(mix(seed, 1), 30) {
        run(&mut region, &transaction)?;
    }
    let mut region =
        Region::recover_media(region.into_media()).map_err(|error| error.to_string())?;
    for transaction in random_workload(mix(seed, 2), 5) {
        run(&mut region, &transaction)?;
    }
    let model = contents(&mut region)?;
    let mut media = region.into_media();
    media.events.clear();
    Ok((media, model))
}

/// Opens what is there: an error, or the contents; the medium is as before afterwards.
fn look(media: &mut Option<Sim>, spare: &[u8]) -> Option<Result<Model, String>> {
    let taken = media.take().expect("media");
    let len = taken.len;
    let result = match Region::recover_media(taken) {
        Err(error) if error.to_string().is_empty() => Some(Err("an error of no words".into())),
        Err(_) => None,
        Ok(mut region) => {
            let found = contents(&mut region);
            let mut taken = region.into_media();
            taken.take_back(0);
            *media = Some(taken);
            Some(found)
        }
    };
    if media.is_none() {
        let mut again = Sim::new(len);
        again.raw(0, spare);
        *media = Some(again);
    }
    result
}

/// Every bit of the header, of both superblocks and of the newest record.
fn damage(seed: u64) -> Result<(), String> {
    let (mut media, model) = left_behind(seed)?;
    let log = media.bytes(LOG_AT, LOG_LEN);
    let newest = newest(log).ok_or("no record")?;
    let places: [Range<u64>; 4] = [
        HEADER_AT..512,
        SUPERBLOCK_AT[0]..SUPERBLOCK_AT[0] + 256,
        SUPERBLOCK_AT[1]..SUPERBLOCK_AT[1] + 256,
        newest,
    ];
    let whole = media.len;
    let original = media.bytes(0, whole).to_vec();
    media.events.clear();
    let mut media = Some(media);
    for at in places.into_iter().flatten() {
        for bit in 0..8 {
            let old = original[at as usize];
            media.as_mut().expect("media").raw(at, &[old ^ 1 << bit]);
            let found = look(&mut media, &original);
            media.as_mut().expect("media").raw(at, &[old]);
            if let Some(found) = found
                && found.as_ref() != Ok(&model)
            {
                return Err(format!("byte {at} bit {bit}: {found:?}"));
            }
        }
    }
    Ok(())
}

/// Where the newest record stands.
fn newest(log: &[u8]) -> Option<Range<u64>> {
    let seed = xxhash_rust::xxh3::xxh3_64(&[7; 16]);
    let found = crate::region::format::newest_records(log, seed, 1);
    let record = found.first()?;
    let at = LOG_AT + record.at;
    Some(at..at + record.len)
}

/// Cut off at each page, and beside it.
fn truncations(seed: u64) -> Result<(), String> {
    let (media, model) = left_behind(seed)?;
    let whole = media.len;
    let original = media.bytes(0, whole).to_vec();
    let mut media = Some(media);
    for len in (0..whole)
        .step_by(PAGE as usize)
        .flat_map(|at| [at, at + 1, at + PAGE - 1])
    {
        media.as_mut().expect("media").len = len;
        let found = look(&mut media, &original);
        if let Some(found) = found
            && found.as_ref() != Ok(&model)
        {
            return Err(format!("{len} bytes of {whole}: {found:?}"));
        }
    }
    Ok(())
}
