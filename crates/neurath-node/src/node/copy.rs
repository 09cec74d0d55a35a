//! A copy of a whole node, made while it serves: the state of all its instances as it was at one
//! moment, and the releases it has. A rehearsal starts from it.
//!
//! The event loop begins to note what it commits, and ends that, between two messages; the rest
//! is done by a thread of its own, which has less right to the processor.

use std::path::Path;
use std::time::{Duration, Instant};

use neurath_pmem::region::{SnapshotCopy, SnapshotError, SnapshotSource};

use super::Shared;
use super::requests::Refusal;
use super::snapshot::{BEGIN, TRIES, beside, look};
use crate::catalog::{Catalog, RegionEntry, State};
use crate::directory::{NodeDirectory, TRUSTED_KEYS, region_file_name};
use crate::protocol::{Copied, CopiedInstance, code};
use crate::shard::{Mailbox, Shard};

/// An instance whose state is being copied.
struct Source {
    component: String,
    number: u32,
    generation: u64,
    snapshot: SnapshotSource,
}

/// Makes the copy: a node's directory that a node can be started in.
pub(super) fn make(shared: &Shared, node: &Path, out: &str) -> Result<Copied, Refusal> {
    let path = Path::new(out);
    if !path.is_absolute() {
        let text = format!("{out} is not an absolute path; name the directory from the root on");
        return Err(Refusal::new(code::USAGE, text));
    }
    if path.symlink_metadata().is_ok() {
        let text = format!("{out} is there already; name a directory that is not");
        return Err(Refusal::new(code::USAGE, text));
    }
    let copied = beside("neurath-copy", || {
        let mut attempt = 1;
        loop {
            match attempt_copy(&shared.mailbox, node, path) {
                Err(Failed::Upgraded) if attempt < TRIES => {
                    attempt += 1;
                    remove(path);
                }
                done => break done,
            }
        }
    })?;
    copied.map_err(|failed| {
        remove(path);
        match failed {
            Failed::Refused(refusal) => refusal,
            Failed::Upgraded => {
                let text = format!("upgrades came between {TRIES} times; ask again when they end");
                Refusal::new(code::BUSY, text)
            }
        }
    })
}

/// Takes away what was made so far.
fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "a copy that was not ended stays");
    }
}

enum Failed {
    Refused(Refusal),
    /// The regions are not those that the catalog names, or were converted meanwhile: an upgrade came
    /// between.
    Upgraded,
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Failed {
        Failed::Refused(refusal)
    }
}

impl From<SnapshotError> for Failed {
    fn from(error: SnapshotError) -> Failed {
        if matches!(error, SnapshotError::Overtaken { .. }) {
            return Failed::Upgraded;
        }
        let code = match error {
            SnapshotError::TooFast { .. } | SnapshotError::Busy => code::BUSY,
            _ => code::OPERATOR,
        };
        Failed::Refused(Refusal::new(code, error.to_string()))
    }
}

fn operator(what: &str, error: impl std::fmt::Display) -> Failed {
    Failed::Refused(Refusal::new(code::OPERATOR, format!("{what}: {error}")))
}

fn attempt_copy(mailbox: &Mailbox, node: &Path, out: &Path) -> Result<Copied, Failed> {
    let started = Instant::now();
    let (begun, begin) = look(mailbox, BEGIN, |shard| timed(|| begin_in(shard)))?;
    let copy = NodeDirectory::create(out).map_err(|error| operator("the copy", error))?;
    let mut sources = Vec::new();
    let mut copies = Vec::new();
    for source in begun? {
        let file = region_file_name(&source.component, source.number, source.generation)
            .map_err(|error| operator("the copy", error))?;
        let path = copy
            .region_file(&file)
            .map_err(|error| operator("the copy", error))?;
        copies.push(source.snapshot.begin(&path)?);
        sources.push((source.component, source.number, source.generation, file));
    }
    fill(&mut copies)?;
    let (ended, end) = look(mailbox, BEGIN, |shard| timed(|| end_in(shard)))?;
    // The catalog is changed while the event loop stands still: it says what just ended.
    let catalog = Catalog::open(node).map_err(|error| operator("the node's catalog", error))?;
    let now: Vec<_> = ended.iter().map(|(now, _)| now).collect();
    let was: Vec<_> = sources.iter().map(|(c, n, g, _)| (c, n, g)).collect();
    let same = now.iter().map(|(c, n, g)| (c, n, g)).eq(was);
    let state = state_of(catalog.state(), &ended);
    let Some(state) = state.filter(|_| same) else {
        return Err(Failed::Upgraded);
    };
    let mut instances = Vec::new();
    for ((copy, (component, number, _, _)), (_, version)) in
        copies.into_iter().zip(sources).zip(ended)
    {
        instances.push(CopiedInstance {
            bytes: copy.length(),
            sequence: copy.finish()?,
            component,
            instance: number,
            version,
        });
    }
    for folder in ["releases", TRUSTED_KEYS] {
        let (from, to) = (node.join(folder), out.join(folder));
        copy_folder(&from, &to)
            .map_err(|error| operator("the releases cannot be copied", error))?;
    }
    let release = state.current.clone();
    let mut made = Catalog::create(out).map_err(|error| operator("the copy's catalog", error))?;
    made.commit(state)
        .map_err(|error| operator("the copy's catalog", error))?;
    Ok(Copied {
        release,
        out: out.display().to_string(),
        bytes: instances.iter().map(|one| one.bytes).sum(),
        instances,
        stop_us: micros(begin.max(end)),
        micros: micros(started.elapsed()),
    })
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn timed<R>(work: impl FnOnce() -> R) -> (R, Duration) {
    let began = Instant::now();
    let done = work();
    (done, began.elapsed())
}

fn begin_in(shard: &mut Shard) -> Result<Vec<Source>, SnapshotError> {
    let instances = shard.instances.iter_mut();
    let begun = instances.map(|instance| {
        Ok(Source {
            snapshot: instance.region.begin_snapshot()?,
            component: instance.component.clone(),
            number: instance.number,
            generation: instance.generation,
        })
    });
    begun.collect()
}

/// Ends it; gives each instance with its generation and the version that serves it.
type Ended = ((String, u32, u64), String);

fn end_in(shard: &mut Shard) -> Vec<Ended> {
    let instances = shard.instances.iter_mut();
    let ended = instances.map(|instance| {
        instance.region.end_snapshot();
        let version = instance.library.description().version.clone();
        let (component, number) = (instance.component.clone(), instance.number);
        ((component, number, instance.generation), version)
    });
    ended.collect()
}

/// Copies a part of each in turn, so that what is committed meanwhile does not heap up for one.
fn fill(copies: &mut [SnapshotCopy]) -> Result<(), SnapshotError> {
    loop {
        let mut more = false;
        for copy in &mut *copies {
            more |= copy.step()?;
        }
        if !more {
            return Ok(());
        }
    }
}

/// The catalog of the copy: its release is the permanent one. None if the instances are not those
/// of the current release.
fn state_of(state: &State, instances: &[Ended]) -> Option<State> {
    let regions: Option<Vec<RegionEntry>> = instances
        .iter()
        .map(|((component, number, generation), version)| {
            let entry = state.region(component, *number)?;
            let same = entry.generation == *generation && entry.version == *version;
            let file = region_file_name(component, *number, *generation).ok()?;
            same.then(|| RegionEntry {
                file,
                ..entry.clone()
            })
        })
        .collect();
    Some(State {
        permanent: state.current.clone(),
        regions: regions?,
        previous: None,
        unconfirmed_since_ms: None,
        starts: 0,
        journal: None,
        ..state.clone()
    })
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(from) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    std::fs::create_dir_all(to)?;
    for entry in entries {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}
