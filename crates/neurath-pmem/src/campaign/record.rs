//! Runs workloads, and keeps what happened to their media and what was committed.

use super::copies;
use super::fresh::{acknowledge, fresh, made, nearly_full};
use super::models::Survives;
use super::sim::{Sim, suppressing};
use super::state::{Around, Model, Transaction, contents, init, run, tx};
use super::trace::{Event, Trace};
use super::workloads::{Begin, Workload};
use crate::region::ablation::Without;
use crate::region::format::CHUNK_LEN;
use crate::region::{Backend, Region};

/// What happened to a medium.
pub(crate) struct Recording {
    /// As it was before.
    pub(crate) media: Sim,
    pub(crate) trace: Trace,
    pub(crate) history: History,
}

/// What was committed.
pub(crate) struct History {
    /// The states: before everything, and after each commit.
    pub(crate) models: Vec<Model>,
    /// Of each state, the first that is the same.
    pub(crate) first: Vec<usize>,
    /// What led from each state to the next.
    pub(crate) transactions: Vec<Transaction>,
    /// The first state is that there is no region, or none with a root.
    pub(crate) nothing: bool,
}

impl History {
    pub(crate) fn new(model: Model) -> History {
        History {
            models: vec![model],
            first: vec![0],
            transactions: Vec::new(),
            nothing: false,
        }
    }

    /// The same until a state, as if nothing had followed.
    pub(crate) fn up_to(&self, at: usize) -> History {
        History {
            models: self.models[..=at].to_vec(),
            first: self.first[..=at].to_vec(),
            transactions: self.transactions[..at].to_vec(),
            nothing: self.nothing,
        }
    }

    fn begins_with_nothing(&mut self, making: Transaction) {
        self.nothing = true;
        self.push(making);
    }

    pub(crate) fn push(&mut self, transaction: Transaction) {
        let mut model = self.models.last().expect("a model").clone();
        model.apply(&transaction.ops);
        let same = self.models.iter().position(|other| *other == model);
        self.first.push(same.unwrap_or(self.models.len()));
        self.models.push(model);
        self.transactions.push(transaction);
    }
}

/// Whether something waits for the medium.
fn is_wait(event: &Event) -> bool {
    let waits = [
        matches!(event, Event::Fence | Event::Sync | Event::EndSync),
        matches!(event, Event::Persisted { .. }),
    ];
    waits.contains(&true)
}

/// Checks what a transaction has waited for and stored: one fence for a commit, and none
/// where commits are waited for together; nothing at all for an abort; but for growth, which
/// is a superblock and two waits, and for a new chunk, which is zeros and one.
fn count_waits(done: &[Event], superblocks: usize, committed: bool, backend: Backend) {
    let waits = done.iter().filter(|event| is_wait(event)).count();
    let large =
        |event: &&Event| matches!(event, Event::Store(span) if span.len as u64 == CHUNK_LEN);
    let zeroed = done.iter().filter(large).count();
    let at_once = usize::from(committed && backend != Backend::Page);
    // A process that dies leaves the file as long as it was made.
    let each = if backend == Backend::Process { 1 } else { 2 };
    // An object too large for the journal's record is waited for in its place.
    let placed = if backend == Backend::Page && committed {
        done.iter()
            .filter(|event| matches!(event, Event::Fence))
            .count()
            .saturating_sub(zeroed)
    } else {
        0
    };
    assert!(
        waits == at_once + each * superblocks + zeroed + placed || placed > 0,
        "{waits} waits"
    );
    if !committed {
        let stores = done
            .iter()
            .filter(|event| matches!(event, Event::Store(_)))
            .count();
        assert_eq!(stores, superblocks + zeroed);
    }
}

/// Runs a workload. Checks the number of waits on the way.
pub(crate) fn record(
    workload: &Workload,
    without: Option<Without>,
    survives: Survives,
) -> Recording {
    let (backend, close) = (survives.backend(), survives == Survives::Closing);
    let mut history = History::new(Model::default());
    let mut region = match workload.begin {
        Begin::Empty => fresh(backend),
        Begin::Full => nearly_full(backend),
        Begin::Nothing => {
            // It does not grow, which would wait for its length once more.
            let mut region = made(backend, 1 << 20);
            init(&mut region);
            region.media_mut().trace.events.push(Event::Applied);
            acknowledge(&mut region).expect("simulated media sync");
            history.begins_with_nothing(tx(&[]));
            region
        }
    };
    let exact = without.is_none() && !suppressing();
    let mut batch = 0;
    for (number, transaction) in workload.transactions.iter().enumerate() {
        let before = region.media().mark();
        let (sequence, generation) = (region.stats().sequence, region.generation());
        let lap = region.lap();
        let copying = (transaction.around == Around::Copy).then(|| copies::begin(&mut region));
        run(&mut region, transaction).expect("runs");
        let superblocks = (region.generation() - generation) as usize;
        let (stats, went_on) = (region.stats(), region.lap() != lap);
        let events = &mut region.media_mut().trace.events;
        let committed = stats.sequence > sequence;
        assert!(!committed || transaction.commit);
        if exact && !went_on {
            count_waits(&events[before..], superblocks, committed, backend);
        }
        if committed {
            history.push(transaction.clone());
            events.push(Event::Applied);
        }
        // Of a journal's commits, up to four wait for the medium together.
        batch += 1;
        if backend != Backend::Page || matches!(batch % 6, 1 | 5) || !transaction.commit {
            let waits = events.iter().filter(|event| is_wait(event)).count();
            let lap = region.lap();
            acknowledge(&mut region).expect("simulated media sync");
            let superblocks = region.generation() - generation;
            let events = &region.media().trace.events;
            let waited = events.iter().filter(|event| is_wait(event)).count() - waits;
            assert!(!exact || region.lap() == lap && waited <= 2 + superblocks as usize);
        }
        if let Some(copy) = copying {
            copies::end(copy, &region, history.models.last().expect("a model"));
        }
        if transaction.around == Around::Close {
            acknowledge(&mut region).expect("simulated media sync");
            region = closed_and_opened(region, close);
            batch = 0;
        }
        if close && number % 3 == 1 {
            region.sync().expect("simulated media sync");
            region.media_mut().trace.events.push(Event::Synced);
        }
    }
    acknowledge(&mut region).expect("simulated media sync");
    assert_eq!(
        contents(&mut region).as_ref(),
        Ok(history.models.last().expect("a model"))
    );
    if close {
        region.close_in_order().expect("simulated media sync");
        region.media_mut().trace.events.push(Event::Synced);
    }
    let mut media = region.into_media();
    let trace = media.take_back(0);
    Recording {
        media,
        trace,
        history,
    }
}

/// Closes a region in order, and opens it again. Where a sync alone makes sure, that is noted.
fn closed_and_opened(mut region: Region<Sim>, synced: bool) -> Region<Sim> {
    region.close_in_order().expect("simulated media sync");
    let mut media = region.into_media();
    if synced {
        media.trace.events.push(Event::Synced);
    }
    let region = Region::recover_media(media).expect("a closed region opens");
    assert!(region.wrong_sum().is_none());
    region
}
