//! Looking into a region's file without the library whose state it is.
//!
//! Everything here works on a copy of the file in memory and trusts no number in it: a
//! damaged file gives findings, never a panic and never endless work. `docs/state-tools.md`
//! says what each level checks.
#![forbid(unsafe_code)]

mod data;
mod files;
mod image;
mod levels;
mod report;
mod trace;

#[cfg(test)]
mod tests;

pub use data::{Data, DataLimits, Inspection, SlotView, TypeUse, schema_text, type_text};
pub use files::{
    InspectError, Lock, Repair, RepairAction, Restore, Snapshot, check_file, inspect_file, read,
    repair_file, restore_file, snapshot_file,
};
pub use report::{Code, Done, Finding, Leak, Level, LevelReport, Report, Severity};

use image::Image;

/// What a check needs to know beside the file.
#[derive(Clone, Copy, Default, Debug)]
pub struct CheckOptions {
    /// The kernel's boot id. With it, a region that was open when the machine went down is
    /// told from one whose process died.
    pub boot_id: Option<[u8; 16]>,
}

impl CheckOptions {
    /// For files of this machine.
    pub fn here() -> CheckOptions {
        CheckOptions {
            boot_id: Some(crate::region::boot_id()),
        }
    }
}

/// Checks a region's file, level by level. What a recovery would replay is replayed in
/// `bytes` first: they are a copy.
pub fn check(bytes: Vec<u8>, options: CheckOptions) -> Report {
    checked(bytes, options).0
}

/// As [`check`]; gives the recovered image as well, if there is one.
fn checked(bytes: Vec<u8>, options: CheckOptions) -> (Report, Option<Image>) {
    let mut report = Report::default();
    let Some(mut image) = levels::level0(bytes, options, &mut report) else {
        report.skip(Level::L1, "level 0 found no region to go on with");
        report.skip(Level::L2, "level 0 found no region to go on with");
        return (report, None);
    };
    match levels::level1(&image, &mut report) {
        Some(tables) => {
            let leaked = trace::level2(&image, &tables, &mut report);
            image.leaked = leaked;
            image.tables = Some(tables);
        }
        None => report.skip(Level::L2, "level 1 found no tables to go on with"),
    }
    (report, Some(image))
}

/// Describes a region's file.
///
/// # Errors
///
/// Why its header, its schema or its superblocks cannot be read.
pub fn inspect(
    bytes: Vec<u8>,
    data: Option<DataLimits>,
) -> Result<Inspection, crate::region::FormatError> {
    data::inspect(bytes, data)
}
