//! The conversion of a region to another schema: a new generation in a file of its own,
//! built beside the old one, which stays as it is.
//!
//! Every object keeps its reference, since a reference is a segment and an index and not
//! an address. So a conversion goes segment by segment, in memory order, on all cores, and
//! no pass over references follows.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::history::History;
use crate::region::format::{self, CHUNK_LEN, CHUNKS, DIRECTORY_AT, ROOT_AT, SEGMENTS_PER_CHUNK};
use crate::region::{
    FormatError, MappedFile, Media, OpenError, RAW, Region, RegionError, RegionOptions, least_heap,
};

/// Why a conversion failed.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The library's function refused or panicked.
    #[error("code_change failed: {0}")]
    Failed(String),
    /// The new generation's file.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The new generation could not be made durable.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// The old generation is damaged, or the new one would be.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The new generation does not fit into its limit.
    #[error("the new generation needs {needed} bytes, and {limit} is the limit; raise it")]
    Limit {
        /// Bytes needed.
        needed: u64,
        /// The limit.
        limit: u64,
    },
    /// The file system has no room for it.
    #[error("cannot reserve {bytes} bytes for the new generation: {source}")]
    Room {
        /// Bytes asked for.
        bytes: u64,
        /// Why not.
        source: std::io::Error,
    },
}

impl MigrationPlan {
    /// Makes the new generation's file ready for a region of the old one's present size,
    /// with some room to grow: to be done while the old one is still in use.
    ///
    /// # Errors
    ///
    /// If the file cannot be made.
    pub fn prepare(
        self,
        old: &Source,
        path: &Path,
        options: &RegionOptions,
        schema: &[u8],
    ) -> Result<Building, MigrateError> {
        let needed = Layout::new(&self, &old.segments, least_heap(options)).end;
        let initial = (needed + needed / 16 + (4 << 20)).max(options.initial);
        let options = RegionOptions {
            initial,
            ..options.clone()
        };
        let mut region = Region::create_building(path, &options, schema)?;
        let layout = Layout::new(&self, &old.segments, region.heap_at());
        let copy = |media: &mut MappedFile, _| {
            // First the pages, as huge ones where there are: a copy would make small ones.
            media.populate(0, layout.end.min(media.len()));
            match layout.end <= media.len() {
                true => Ahead::copy(&self, old, layout, media),
                false => Ok(None),
            }
        };
        let ahead = region.building(copy).map_err(|source| {
            drop(std::fs::remove_file(path));
            OpenError::Io {
                action: "write",
                path: path.into(),
                source,
            }
        })?;
        Ok(Building {
            plan: self,
            ahead,
            region: Some(region),
            path: path.into(),
            options,
            left: HashSet::new(),
        })
    }
}

/// A new generation that nobody uses yet. Dropped, it takes its file with it.
#[derive(Debug)]
pub struct Building<M: Media = MappedFile> {
    plan: MigrationPlan,
    /// What was copied already.
    ahead: Option<Ahead>,
    region: Option<Region<M>>,
    path: PathBuf,
    options: RegionOptions,
    /// The types of which it may have objects that nothing refers to.
    left: HashSet<u64>,
}

impl<M: Media> Building<M> {
    /// What the new generation tells of the migrations that the state went through, this one
    /// among them. It is there with the generation's first superblock that is not one of a
    /// region in the making, or not at all.
    pub fn set_history(&mut self, history: &History) {
        if let Some(region) = &mut self.region {
            region.build_history(history);
        }
    }

    /// Converts every object of `old`, which must not change meanwhile.
    ///
    /// # Errors
    ///
    /// [`MigrateError`]; the old generation is untouched.
    pub fn fill(
        &mut self,
        old: &Source,
        extra: &str,
        now_ms: u64,
        convert: &Convert<'_>,
    ) -> Result<(), MigrateError> {
        let Some(region) = &mut self.region else {
            unreachable!("there until it is finished")
        };
        if old.swept {
            let what = "the old generation is still converted segment by segment; wait for its end";
            return Err(MigrateError::Failed(what.into()));
        }
        let plan = &self.plan;
        self.left = plan.left(&old.left);
        let segments = &old.segments;
        for (_, entry) in segments {
            // The schema says where the fields are: they must be within the objects.
            let known = plan.types.get(&entry.type_id).map(|known| known.old_size);
            if entry.type_id != RAW && known.is_some_and(|size| size != entry.object_size) {
                let (field, value) = ("a segment's object size", entry.object_size.into());
                return Err(FormatError::Field { field, value }.into());
            }
        }
        let heap = region.heap_at();
        let continued = self.ahead.as_mut().map(|ahead| {
            ahead.settle(old);
            ahead.layout.continued(plan, segments)
        });
        let layout = continued
            .filter(|layout| layout.serves(heap, region.media().limit()))
            .unwrap_or_else(|| Layout::new(plan, segments, heap));
        let ahead = self.ahead.as_ref();
        let chunks = (layout.segments.len() as u64 + 1)
            .div_ceil(SEGMENTS_PER_CHUNK)
            .max(1);
        if chunks > CHUNKS {
            return Err(FormatError::Field {
                field: "the number of chunks",
                value: chunks,
            }
            .into());
        }
        region.grow_to(layout.end)?;
        region.building(|media, seed| {
            for (number, &chunk) in layout.chunks.iter().enumerate() {
                media.zero(chunk, CHUNK_LEN);
                media.store_word(DIRECTORY_AT + number as u64 * 8, chunk);
            }
            for ((number, before), entry) in segments.iter().zip(&layout.segments) {
                let chunk = layout.chunk_of(*number);
                let at = format::entry_at(chunk, (*number).into());
                for (i, word) in entry.encode((*number).into(), seed).into_iter().enumerate() {
                    media.store_word(at + i as u64 * 8, word);
                }
                if plan.convert_entry(before, 0).is_some() {
                    let bitmap = old.bitmap(*number);
                    media.store(format::bitmap_at(chunk, (*number).into()), bitmap);
                }
            }
            let filler = Filler {
                plan,
                old,
                ahead,
                extra,
                now_ms,
                convert,
                target: media.base_mut(),
            };
            filler.run(&layout.segments)?;
            if let Some(ahead) = ahead {
                ahead.clear_behind(layout.end, media);
            }
            for entry in &layout.segments {
                media.was_filled(entry.offset, entry.length);
            }
            media.store_word(ROOT_AT, old.root);
            // It is waited for when the building is finished.
            media.flush(0, layout.end);
            Ok::<(), MigrateError>(())
        })
    }

    /// One on any medium.
    #[cfg(any(test, feature = "campaign"))]
    pub(crate) fn of(plan: MigrationPlan, region: Region<M>, options: &RegionOptions) -> Self {
        Building {
            plan,
            ahead: None,
            region: Some(region),
            path: PathBuf::new(),
            options: options.clone(),
            left: HashSet::new(),
        }
    }

    /// What was filled, as it is.
    #[cfg(any(test, feature = "campaign"))]
    pub(crate) fn into_region(mut self) -> Region<M> {
        let Some(region) = self.region.take() else {
            unreachable!("taken once")
        };
        region
    }
}

impl Building {
    /// The filled generation as a region.
    ///
    /// # Errors
    ///
    /// If it does not open: its tables are read back as from any file.
    pub fn finish(mut self) -> Result<Region, MigrateError> {
        let Some(region) = self.region.take() else {
            unreachable!("finished once")
        };
        let finished = region.finish_building(&self.path, &self.options);
        if finished.is_err() {
            drop(std::fs::remove_file(&self.path));
        }
        let mut region = finished?;
        region.set_left(std::mem::take(&mut self.left));
        Ok(region)
    }
}

impl<M: Media> Drop for Building<M> {
    fn drop(&mut self) {
        if self.region.take().is_some() {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

mod ahead;
mod convert;
mod fill;
mod layout;
mod lost;
mod plan;
mod prefetch;
mod source;
mod stepwise;

use ahead::Ahead;
pub use convert::{Convert, Row};
use fill::Filler;
use layout::Layout;
pub(crate) use lost::lost_types;
pub use plan::{Conversion, MigrationPlan, PlanError};
pub use source::Source;
pub use stepwise::{ConvertLink, Stepwise, StepwiseError, StepwiseLink};
pub(crate) use stepwise::{Way, converted_length};

#[cfg(test)]
mod tests;
