//! Regions that a workload begins with, and what makes their commits durable.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::memory::LIMIT;
use super::sim::{Sim, undisturbed};
use super::state::{Op, SCHEMA, Transaction, init, run, tx};
use super::trace::Event;
use crate::region::format::{CHUNK_LEN, JOURNAL_LENS, LOG_AT, Log};
use crate::region::{Backend, Durability, Media, Region, RegionOptions, make_length_last};

/// The log of a region on such media. A journal is short, so that laps end.
pub(super) fn log_of(backend: Backend) -> Log {
    match backend {
        Backend::Page => Log::Journal(*JOURNAL_LENS.start()),
        _ => Log::Ring,
    }
}

/// A new region with a root.
pub(crate) fn fresh(backend: Backend) -> Region<Sim> {
    let mut region = made(backend, 0);
    init(&mut region);
    opened_again(region)
}

/// A new region with some room, and how its medium came to its length.
pub(super) fn made(backend: Backend, room: u64) -> Region<Sim> {
    crate::collections::FIXED_KEY.set(Some([1, 2]));
    let log = log_of(backend);
    let mut media = Sim::new(0, backend);
    let len = LOG_AT + log.len() + CHUNK_LEN + room;
    new_file(&mut media, len, backend).expect("simulated media grow");
    let options = RegionOptions {
        component: "test".into(),
        instance: 0,
        initial: 0,
        limit: LIMIT,
        durability: Durability::Process,
    };
    Region::format(media, &options, log, &SCHEMA).expect("formats")
}

/// Makes a new file as long as a region needs it, as the making of a region does.
pub(super) fn new_file(media: &mut Sim, len: u64, backend: Backend) -> std::io::Result<()> {
    media.grow(len)?;
    match backend {
        Backend::Process => Ok(()),
        _ => make_length_last(media),
    }
}

/// The same region with nothing under way: memory and medium are alike.
fn opened_again(mut region: Region<Sim>) -> Region<Sim> {
    if region.media().holds_back() {
        region.close_in_order().expect("simulated media sync");
        region = Region::recover_media(region.into_media()).expect("opens");
    }
    region.media_mut().forget();
    region
}

/// Waits until everything is durable, and says so.
pub(crate) fn acknowledge(region: &mut Region<Sim>) -> Result<(), String> {
    region.make_durable().map_err(|error| error.to_string())?;
    let events = &mut region.media_mut().trace.events;
    let count = |events: &[Event], wanted: fn(&Event) -> bool| {
        events.iter().filter(|event| wanted(event)).count()
    };
    let applied = count(events, |event| matches!(event, Event::Applied));
    let acknowledged = count(events, |event| matches!(event, Event::Commit));
    events.extend((acknowledged..applied).map(|_| Event::Commit));
    Ok(())
}

/// A region whose first chunk is nearly full. It takes its time, and is made once a thread.
pub(super) fn nearly_full(backend: Backend) -> Region<Sim> {
    thread_local! {
        static MADE: RefCell<BTreeMap<u8, Sim>> = const { RefCell::new(BTreeMap::new()) };
    }
    // A part that is left out has no part in it.
    let media = MADE.with_borrow_mut(|made| {
        let new = || undisturbed(|| filled(backend));
        made.entry(backend as u8).or_insert_with(new).copy()
    });
    let mut region = Region::recover_media(media).expect("opens");
    region.media_mut().forget();
    region
}

/// A region whose first chunk is nearly full, and in which a transaction that never was
/// committed has left its bytes behind the heap.
fn filled(backend: Backend) -> Sim {
    let mut region = fresh(backend);
    for n in 0..=u8::MAX {
        if region.segments().len() >= 255 {
            break;
        }
        run(&mut region, &tx(&[Op::Set(n, 33_000)])).expect("fills");
    }
    for n in (0..=u8::MAX).step_by(32) {
        let gone: Vec<Op> = (n..=n + 31).map(Op::Remove).collect();
        run(&mut region, &tx(&gone)).expect("empties");
    }
    // More than a chunk, so that all of the next one lies where something is.
    let lost = Transaction {
        commit: false,
        ..tx(&(0..3).map(|n| Op::Set(n, 65_000)).collect::<Vec<_>>())
    };
    run(&mut region, &lost).expect("is lost");
    let mut region = opened_again(region);
    let end = region
        .segments()
        .iter()
        .map(|(_, entry)| entry.offset + entry.length)
        .max()
        .expect("segments");
    let len = region.media().len();
    assert!(end + CHUNK_LEN <= len, "a chunk's length of what was lost");
    let media = region.media_mut();
    media.forget();
    media.raw(end, &vec![0xA5; (len - end) as usize]);
    region.into_media()
}
