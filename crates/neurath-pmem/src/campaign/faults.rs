//! Media that refuse to grow, and files that were damaged.

use std::ops::Range;

use super::fresh::{acknowledge, fresh};
use super::newest::newest;
use super::sim::{Random, Short, Sim, mix};
use super::state::{Model, Op, contents, run, tx};
use super::trace::Event;
use super::workloads::random_workload;
use crate::region::applied::APPLIED_AT;
use crate::region::format::{HEADER_AT, LOG_AT, LOG_LEN, PAGE, SUPERBLOCK_AT};
use crate::region::{Backend, Media, Region};

/// All faults; says what went wrong.
pub(crate) fn all(seed: u64) -> Vec<String> {
    let mut failures = Vec::new();
    let checks = [
        ("growth", growths as fn(u64, Backend) -> Result<(), String>),
        ("waiting", waits),
        ("short writes", short_writes),
        ("damage", damage),
        ("truncation", truncations),
    ];
    for (name, check) in checks {
        for backend in [Backend::Process, Backend::Line, Backend::Page] {
            let place = format!("{name}, {backend}");
            failures.extend(failure(&place, || check(seed, backend)));
        }
    }
    let copies = "copies that were cut off";
    failures.extend(failure(copies, || super::copies::cut_off(seed)));
    let conversions = "conversions that were cut off";
    failures.extend(failure(conversions, || super::conversions::cut_off(seed)));
    failures
}

/// What a check says that fails, or panics.
fn failure(
    name: &str,
    check: impl FnOnce() -> Result<(), String> + std::panic::UnwindSafe,
) -> Option<String> {
    super::quiet(true);
    let result =
        std::panic::catch_unwind(check).unwrap_or_else(|panic| Err(super::explore::said(&*panic)));
    super::quiet(false);
    result.err().map(|error| format!("{name}: {error}"))
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
fn growths(seed: u64, backend: Backend) -> Result<(), String> {
    for failing in 0.. {
        let mut region = fresh(backend);
        region.media_mut().growths = Some(failing);
        let mut model = Model::default();
        let mut failed = false;
        for ops in growing(seed) {
            let before = region.media().mark();
            let place = |error: String| format!("{error}; growth {failing} fails, {ops:?}");
            if let Err(error) = run(&mut region, &tx(&ops)) {
                if failed || !error.contains("Full") {
                    return Err(place(error));
                }
                failed = true;
                // What is stored of such a transaction is what no part of the state refers
                // to: superblocks, and places behind the heap.
                let commits = |event: &Event| matches!(event, Event::Store(span) if (LOG_AT..LOG_AT + LOG_LEN).contains(&span.at));
                if region.media().trace.events[before..].iter().any(commits) {
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
        acknowledge(&mut region)?;
        let mut media = region.into_media();
        media.lose_memory(0);
        let mut region = Region::recover_media(media).map_err(|error| error.to_string())?;
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

/// The n-th wait for the medium fails, for each n.
fn waits(seed: u64, backend: Backend) -> Result<(), String> {
    match failing(seed, backend, |media, number| media.waits = Some(number))? {
        0 => Err("nothing waits for the medium".into()),
        _ => Ok(()),
    }
}

/// The n-th write is cut short, for each n: nothing of it is written, some, or nearly all. Where
/// the file is memory, nothing is written.
fn short_writes(seed: u64, backend: Backend) -> Result<(), String> {
    for fourths in 0..4 {
        let count = failing(seed, backend, |media, before| {
            media.short = Some(Short { before, fourths });
        })
        .map_err(|error| format!("{error}, after {fourths} fourths"))?;
        if (count > 0) != (backend == Backend::Page) {
            return Err(format!("{count} writes were cut short"));
        }
    }
    Ok(())
}

/// The n-th time, for each n, something fails as it was prepared: an error, no change is taken any
/// more, and after a crash everything acknowledged is there, and nothing that was not committed.
/// Gives the number of times.
fn failing(seed: u64, backend: Backend, prepare: impl Fn(&mut Sim, u32)) -> Result<u32, String> {
    for failing in 0.. {
        let mut region = fresh(backend);
        prepare(region.media_mut(), failing);
        let place = |error: String| format!("{error}; number {failing} fails");
        let (mut models, mut acknowledged) = (vec![Model::default()], 0);
        let mut failed = None;
        for (number, ops) in growing(seed).into_iter().enumerate() {
            let mut model = models[models.len() - 1].clone();
            model.apply(&ops);
            if let Err(error) = run(&mut region, &tx(&ops)) {
                // Of a commit that may or may not be durable, both are right.
                models.push(model);
                failed = Some(error);
                break;
            }
            models.push(model);
            region.media_mut().trace.events.push(Event::Applied);
            if number % 2 == 0 || backend != Backend::Page {
                if let Err(error) = acknowledge(&mut region) {
                    failed = Some(error);
                    break;
                }
                acknowledged = models.len() - 1;
            }
        }
        let over = failed.is_none();
        if !over {
            let media = region.media_mut();
            (media.waits, media.short) = (None, None);
            if run(&mut region, &tx(&[Op::Number(9, 9)])).is_ok() {
                return Err(place("a change was taken afterwards".into()));
            }
            if backend == Backend::Page && region.make_durable().is_ok() {
                return Err(place("something was acknowledged afterwards".into()));
            }
        }
        let mut media = region.into_media();
        (media.waits, media.short) = (None, None);
        media.lose_memory(0);
        let mut region = Region::recover_media(media).map_err(|error| place(error.to_string()))?;
        let found = contents(&mut region)?;
        if !models[acknowledged..].contains(&found) {
            return Err(place("the state is another one".into()));
        }
        if over {
            return Ok(failing);
        }
    }
    Ok(u32::MAX)
}

/// A region left by a process that died, recovered once, and what it holds.
fn left_behind(seed: u64, backend: Backend) -> Result<(Sim, Vec<Model>), String> {
    let mut region = fresh(backend);
    for transaction in random_workload(mix(seed, 1), 30) {
        run(&mut region, &transaction)?;
    }
    acknowledge(&mut region)?;
    let mut media = region.into_media();
    media.lose_memory(0);
    let mut region = Region::recover_media(media).map_err(|error| error.to_string())?;
    region.media_mut().forget();
    let mut models = Vec::new();
    for transaction in random_workload(mix(seed, 2), 5) {
        run(&mut region, &transaction)?;
        acknowledge(&mut region)?;
        let model = contents(&mut region)?;
        if models.last() != Some(&model) {
            models.push(model);
        }
    }
    let mut media = region.into_media();
    media.lose_memory(0);
    media.forget();
    Ok((media, models))
}

/// Opens what is there: an error, or the contents; the medium is as before afterwards, or as
/// `spare` is.
fn look(media: &mut Option<Sim>, spare: &Sim) -> Option<Result<Model, String>> {
    let taken = media.take().expect("media");
    let len = taken.len;
    let result = match Region::recover_media(taken) {
        Err(error) if error.to_string().is_empty() => Some(Err("an error of no words".into())),
        Err(_) => None,
        Ok(mut region) => {
            let found = contents(&mut region);
            let mut taken = region.into_media();
            taken.rewind(0);
            *media = Some(taken);
            Some(found)
        }
    };
    if media.is_none() {
        let mut again = spare.copy();
        again.len = len;
        *media = Some(again);
    }
    result
}

/// Every bit of the header, of both superblocks, of the newest record and of the word that names
/// it.
pub(super) fn damage(seed: u64, backend: Backend) -> Result<(), String> {
    let (mut media, models) = left_behind(seed, backend)?;
    let newest = newest(&media).ok_or("no record")?;
    // A journal's newest record that is damaged looks like one that was never whole: its
    // transaction is lost. What a ring's holds is in its place already, and what the record
    // before it holds must not be put there.
    let kept = models.len() - if backend == Backend::Page { 2 } else { 1 };
    let right = &models[kept..];
    let refused = match backend {
        Backend::Page => 0..0,
        _ => newest.clone(),
    };
    let places: [Range<u64>; 5] = [
        HEADER_AT..512,
        SUPERBLOCK_AT[0]..SUPERBLOCK_AT[0] + 256,
        SUPERBLOCK_AT[1]..SUPERBLOCK_AT[1] + 256,
        APPLIED_AT..APPLIED_AT + 8,
        newest,
    ];
    media.forget();
    let original = media.copy();
    let mut media = Some(media);
    for at in places.into_iter().flatten() {
        for bit in 0..8 {
            let old = original.bytes(at, 1)[0];
            media.as_mut().expect("media").raw(at, &[old ^ 1 << bit]);
            let found = look(&mut media, &original);
            media.as_mut().expect("media").raw(at, &[old]);
            if let Some(found) = found
                && (refused.contains(&at)
                    || !found.as_ref().is_ok_and(|found| right.contains(found)))
            {
                return Err(format!("byte {at} bit {bit}: {found:?}"));
            }
        }
    }
    Ok(())
}

/// Cut off at each page, and beside it.
fn truncations(seed: u64, backend: Backend) -> Result<(), String> {
    let (media, models) = left_behind(seed, backend)?;
    let whole = media.len;
    let original = media.copy();
    let mut media = Some(media);
    for len in (0..whole)
        .step_by(PAGE as usize)
        .flat_map(|at| [at, at + 1, at + PAGE - 1])
    {
        media.as_mut().expect("media").len = len;
        let found = look(&mut media, &original);
        if let Some(found) = found
            && found.as_ref().ok() != models.last()
        {
            return Err(format!("{len} bytes of {whole}: {found:?}"));
        }
    }
    Ok(())
}
