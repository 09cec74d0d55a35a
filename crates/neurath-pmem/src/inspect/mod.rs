//! Looking into a region's file without the library whose state it is.
//!
//! Everything here works on a copy of the file in memory and trusts no number in it: a
//! damaged file gives findings, never a panic and never endless work. `docs/state-tools.md`
//! says what each level checks.
#![forbid(unsafe_code)]

mod contents;
mod data;
mod files;
mod image;
pub(crate) mod known;
mod levels;
mod power_loss;
pub(crate) mod program;
mod report;
mod sums;
mod trace;
pub(crate) mod trees;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod trees_tests;

pub use contents::{Contents, ContentsError, FieldContents};
pub use data::{Data, DataLimits, Inspection, SlotView, TypeUse, schema_text, type_text};
pub use files::{
    InspectError, Lock, Repair, RepairAction, Restore, Snapshot, check_file, contents_file,
    inspect_file, repair_file, restore_file, snapshot_file, snapshot_live,
};
pub use power_loss::{PowerLossError, has_lost_power, open_after_power_loss};
pub use report::{Code, Done, Finding, Leak, Level, LevelReport, Report, Severity};

use image::{Bytes, Image, Tables};

/// What a check needs to know beside the file.
#[derive(Clone, Copy, Debug)]
pub struct CheckOptions {
    /// The deepest level that is checked.
    pub level: Level,
    /// The kernel's boot id. With it, a region that was open when the machine went down is
    /// told from one whose process died.
    pub boot_id: Option<[u8; 16]>,
}

impl Default for CheckOptions {
    fn default() -> CheckOptions {
        CheckOptions {
            level: Level::L3,
            boot_id: None,
        }
    }
}

impl CheckOptions {
    /// All levels, for files of this machine.
    pub fn here() -> CheckOptions {
        CheckOptions {
            boot_id: Some(crate::region::boot_id()),
            ..CheckOptions::default()
        }
    }
}

/// Checks a region's file, level by level. What a recovery would replay is replayed in
/// `bytes` first: they are a copy.
pub fn check(bytes: Vec<u8>, options: CheckOptions) -> Report {
    checked(bytes, options).0
}

/// As [`check`]; gives the recovered image as well, if there is one.
fn checked(bytes: impl Into<Bytes>, options: CheckOptions) -> (Report, Option<Image>) {
    let mut report = Report::default();
    let Some(mut image) = levels::level0(bytes.into(), options, &mut report) else {
        for level in [Level::L1, Level::L2, Level::L3] {
            report.skip(level, "level 0 found no region to go on with");
        }
        report.not_asked(options.level);
        return (report, None);
    };
    if options.level >= Level::L1 {
        image.tables = levels::level1(&image, &mut report);
    }
    match &image.tables {
        Some(tables) => image.leaked = deep(&image, tables, options.level, &mut report),
        None => {
            for level in [Level::L2, Level::L3] {
                report.skip(level, "level 1 found no tables to go on with");
            }
        }
    }
    report.not_asked(options.level);
    (report, Some(image))
}

/// Levels 2 and 3, side by side; gives what has leaked, if that can be told.
fn deep(
    image: &Image,
    tables: &Tables,
    level: Level,
    report: &mut Report,
) -> Option<Vec<(u64, u16)>> {
    if level < Level::L2 {
        return None;
    }
    if level < Level::L3 {
        return trace::level2(image, tables, report);
    }
    let threads = match tables.segments.len() {
        ..FEW => 1,
        _ => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let verification = sums::Verification::new(image, tables);
    let leaked = std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| verification.work());
        }
        // What is reached can be told by one thread only, which then helps the others.
        let leaked = trace::level2(image, tables, report);
        verification.work();
        leaked
    });
    sums::level3(image, tables, &verification.end(), report);
    leaked
}

/// Fewer segments are looked at before a thread would have begun.
const FEW: usize = 64;

/// Describes a region's file.
///
/// # Errors
///
/// Why its header, its schema or its superblocks cannot be read.
pub fn inspect(
    bytes: Vec<u8>,
    data: Option<DataLimits>,
) -> Result<Inspection, crate::region::FormatError> {
    data::inspect(bytes.into(), data)
}
