//! The short campaign.

use super::replay::{Job, KINDS};
use super::{Options, mutants, replay, run, sites};

#[test]
fn a_short_campaign_is_survived() {
    let mut report = super::Report {
        first_failures: super::faults::all(1),
        ..super::Report::default()
    };
    let options = Options {
        images: 4000,
        seed: 1,
        threads: 2,
    };
    super::crashes(&options, &mut report, &|_| {});
    assert!(report.first_failures.is_empty(), "{report:#?}");
    assert!(report.images >= options.images);
}

#[test]
fn everything_wrong_is_noticed() {
    let options = Options {
        images: 0,
        seed: 1,
        threads: 2,
    };
    let report = run(&options, &|text| println!("{text}"));
    assert!(report.is_good(), "{report:#?}");
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let of = |threads| {
        let mut report = super::Report::default();
        let options = Options {
            images: 600,
            seed: 5,
            threads,
        };
        super::crashes(&options, &mut report, &|_| {});
        (report.images, report.violations)
    };
    assert_eq!(of(1), of(3));
}

#[test]
fn an_image_that_shows_a_mutant_shows_it_again_alone() {
    use crate::region::ablation::{Without, leave_out};
    let found = mutants::mutant(Without::CommitFence, 1).expect("noticed");
    let place = found.split(' ').next().expect("a place");
    let mut parts = place.split(':');
    let seed = parts
        .next()
        .and_then(|text| u64::from_str_radix(&text[2..], 16).ok());
    let mut number = || {
        parts
            .next()
            .and_then(|text| text.parse().ok())
            .expect("a number")
    };
    let (seed, event, image) = (seed.expect("a seed"), number(), number());
    let sound = replay(seed, event, image);
    assert!(sound.violation.is_none(), "{sound:?}");
    leave_out(Some(Without::CommitFence));
    let way = super::replay::Way {
        without: Some(Without::CommitFence),
        only: Some((event, image)),
        effort: super::images::Effort::QUICK,
        stop: true,
    };
    let again = super::replay::carry_out(&Job::of(seed), &way);
    leave_out(None);
    assert_eq!((again.images, again.violations.len()), (1, 1));
}

#[test]
fn every_kind_of_job_comes_in_its_turn() {
    let kinds: std::collections::BTreeSet<_> = (0..KINDS)
        .map(|number| {
            let job = Job::nth(9, number);
            (job.survives, job.workload.name)
        })
        .collect();
    assert_eq!(kinds.len(), 5 * 20);
    assert!(sites::all().len() >= 5);
}

#[test]
fn all_sequences_of_three_transactions_are_survived() {
    use super::replay::{Way, carry_out};
    let work = |number| {
        let survives = super::models::Survives::ALL[number as usize % 5];
        let job = Job {
            seed: number,
            survives,
            workload: super::workloads::sequence(number as usize),
        };
        let way = Way {
            effort: super::images::Effort {
                again: usize::MAX,
                samples: 1,
                units: 2,
                one_in: (8, 64),
                ..super::images::Effort::QUICK
            },
            ..Way::WHOLE
        };
        carry_out(&job, &way)
    };
    let done = super::in_parallel(2, super::workloads::SEQUENCES as u64, work);
    let mut images = 0;
    for (number, done) in done {
        assert!(
            done.violations.is_empty(),
            "{number}: {:?}",
            done.violations
        );
        images += done.images;
    }
    assert!(images > 1000, "{images} images");
}

#[test]
fn the_sites_of_each_file_are_found() {
    // That each is noticed is seen above: here, that none of them is overlooked.
    let sites = sites::all();
    let count = |file| sites.iter().filter(|site| site.file == file).count();
    assert_eq!((count("snapshot.rs"), count("sweep.rs")), (2, 7));
}

#[test]
fn a_closed_region_that_is_used_again_looks_closed_in_neither_slot() {
    use super::fresh::fresh;
    use super::state::{Op, run, tx};
    use crate::region::format::{PAGE, SUPERBLOCK_AT};
    use crate::region::{Backend, Found, Region};

    let mut region = fresh(Backend::Process);
    run(&mut region, &tx(&[Op::Set(1, 5)])).expect("runs");
    region.close_in_order().expect("simulated media sync");
    let mut region = Region::recover_media(region.into_media()).expect("opens");
    run(&mut region, &tx(&[Op::Set(1, 7)])).expect("runs");
    // Whichever slot is torn: the other one must not say that all is in its place.
    let media = region.into_media();
    for at in SUPERBLOCK_AT {
        let mut torn = media.copy();
        torn.raw(at, &[0; PAGE as usize]);
        assert!(
            !Found::is_clean(&torn).expect("the other slot"),
            "without {at}"
        );
    }
}

/// The record of the last commit: its place and its bytes.
fn last_record(media: &super::sim::Sim) -> (u64, Vec<u8>) {
    use super::trace::Event;
    use crate::region::format::{LOG_AT, LOG_LEN};
    let mut stores = media.trace.events.iter().filter_map(|event| match event {
        Event::Store(span) if (LOG_AT..LOG_AT + LOG_LEN).contains(&span.at) => Some(span),
        _ => None,
    });
    let span = stores.next_back().expect("a record");
    (span.at, media.trace.stored(span).to_vec())
}

/// A commit is cut off but for one word of its record; the next life's record gives that word,
/// and no other of its own. Counts how often what was lost comes back.
fn come_back() -> usize {
    use super::fresh::fresh;
    use super::state::{Op, contents, run, tx};
    use crate::region::{Backend, Media as _, Region};

    let opened = |media| Region::recover_media(media).expect("opens");
    let mut region = fresh(Backend::Line);
    run(&mut region, &tx(&[Op::Number(1, 1), Op::Number(2, 2)])).expect("runs");
    let before = contents(&mut region).expect("is read");
    let mut media = region.into_media();
    media.forget();
    let mut region = opened(media);
    let mark = region.media().mark();
    let lost = tx(&[Op::Number(1, 10), Op::Number(2, 20)]);
    run(&mut region, &lost).expect("runs");
    let mut media = region.into_media();
    let (at, words) = last_record(&media);
    media.rewind(mark);
    let mut came_back = 0;
    for missing in (0..words.len()).step_by(8) {
        let begun = media.mark();
        media.store(at, &words[..missing]);
        media.store(at + missing as u64 + 8, &words[missing + 8..]);
        let mut region = opened(media);
        if contents(&mut region).as_ref() != Ok(&before) {
            // A word that was there before is not missing.
            media = region.into_media();
            media.rewind(begun);
            continue;
        }
        let mark = region.media().mark();
        let other = tx(&[Op::Number(1, 10), Op::Number(2, 21)]);
        run(&mut region, &other).expect("runs");
        let mut torn = region.into_media();
        let (at, words) = last_record(&torn);
        torn.rewind(mark);
        torn.store(at + missing as u64, &words[missing..missing + 8]);
        let mut region = opened(torn);
        came_back += usize::from(contents(&mut region).as_ref() != Ok(&before));
        media = region.into_media();
        media.rewind(begun);
    }
    came_back
}

#[test]
fn a_torn_record_is_not_completed_by_the_next_life() {
    use crate::region::ablation::{Without, leave_out};
    assert_eq!(come_back(), 0);
    leave_out(Some(Without::TornNumber));
    let without = come_back();
    leave_out(None);
    assert!(without > 0);
}

#[test]
fn each_recovery_that_differs_crashes_again() {
    use super::images::Effort;
    use super::replay::{Way, carry_out};
    let images = |number, recoveries| {
        let effort = Effort {
            again: usize::MAX,
            recoveries,
            ..Effort::QUICK
        };
        let way = Way {
            effort,
            ..Way::WHOLE
        };
        let done = carry_out(&Job::nth(3, number), &way);
        assert!(done.violations.is_empty(), "{:?}", done.violations);
        done.images
    };
    // Of each model but the last, which promises nothing of a region that was not closed.
    for number in 5..9 {
        let (once, again) = (images(number, false), images(number, true));
        println!("{number}: {once} images, {again} with recoveries");
        assert!(again > once, "{number}: {once} and {again}");
    }
}

/// What a medium's number for its state would be, had it come about in another way.
fn state_anew(media: &super::sim::Sim) -> u64 {
    use crate::region::Media as _;
    use crate::region::format::PAGE;
    let mut anew = super::sim::Sim::new(media.len(), media.backend());
    for at in (0..media.len()).step_by(PAGE as usize) {
        anew.raw(at, media.bytes(at, PAGE));
    }
    anew.state()
}

#[test]
fn what_is_taken_back_or_copied_is_as_if_nothing_had_been() {
    use super::sim::{Random, Sim};
    use crate::region::format::{LOG_AT, LOG_LEN};
    use crate::region::{Backend, Media as _};

    const LEN: u64 = 2 << 20;
    // The log and what is before it are no part of the state.
    const HEAP: u64 = LOG_AT + LOG_LEN;
    let mut random = Random(11);
    for _ in 0..20 {
        // Whatever the memory was used for before, it is zero.
        let mut media = Sim::new(LEN, Backend::Line);
        assert!(media.bytes(0, LEN).iter().all(|&byte| byte == 0));
        let store = |media: &mut Sim, random: &mut Random| {
            let len = 8 * (1 + random.below(1200));
            let at = HEAP + random.next() % (LEN - HEAP - len as u64) / 8 * 8;
            let value = random.below(3) as u8;
            media.store(at, &vec![value; len]);
        };
        (0..30).for_each(|_| store(&mut media, &mut random));
        let (mark, before) = (media.mark(), media.copy());
        (0..30).for_each(|_| store(&mut media, &mut random));
        media.rewind(mark);
        for media in [&media, &before] {
            assert_eq!(media.bytes(0, LEN), before.bytes(0, LEN));
            assert_eq!(media.state(), state_anew(media));
            let used = media.used(0, LEN);
            let rest = media.bytes(used, LEN - used);
            assert!(rest.iter().all(|&byte| byte == 0));
        }
    }
}

#[test]
fn a_write_that_is_cut_short_is_told_by_the_next_wait() {
    use super::sim::{Short, Sim};
    use super::trace::Event;
    use crate::region::{Backend, Media as _};

    let mut media = Sim::new(1 << 20, Backend::Page);
    media.store(4096, &[7; 64]);
    let before = 1;
    media.short = Some(Short { before, fourths: 2 });
    for _ in 0..3 {
        media.flush(4096, 64);
    }
    let lens = media.trace.events.iter().filter_map(|event| match event {
        Event::Write(span) => Some(span.len),
        _ => None,
    });
    // Nothing is written after what failed.
    assert_eq!(lens.collect::<Vec<_>>(), [64, 32]);
    assert!(media.fence().is_err());
}
