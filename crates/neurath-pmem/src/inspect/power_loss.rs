//! A region of durability `process` that was open when the machine went down: its last changes may
//! be there in any mixture, as the kernel writes dirty pages in any order. It opens only for who
//! accepts that, and only if nothing is wrong with it as far as a check can tell.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::files::{InspectError, check_file_as};
use super::report::Report;
use super::{CheckOptions, Level};
use crate::region::format::{HEADER_AT, HEADER_COPY_AT, Header, PAGE, SUPERBLOCK_AT, Superblock};
use crate::region::{OpenError, Region, RegionOptions, boot_id};
use crate::schema::Fingerprint;

/// Why a region was not opened with the loss accepted.
#[derive(Debug, thiserror::Error)]
pub enum PowerLossError {
    /// It could not be checked.
    #[error(transparent)]
    Check(#[from] InspectError),
    /// The check found errors.
    #[error(
        "{} is damaged, as it was open when the machine went down: {}", path.display(),
        report.first_error()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What the check found.
        report: Box<Report>,
    },
    /// Part of it is of another schema, and what refers to what cannot be checked.
    #[error(
        "{} was being converted segment by segment when the machine went down: what refers to what \
         cannot be checked; restore a snapshot", path.display()
    )]
    Swept {
        /// Which file.
        path: PathBuf,
    },
    /// It does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Whether a region's file was open, for the death of a process only, when the machine went down.
/// Little is read. What is no region was not.
///
/// # Errors
///
/// If the file cannot be read.
pub fn has_lost_power(path: &Path) -> std::io::Result<bool> {
    let file = File::open(path)?;
    let page = |at| -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; PAGE as usize];
        match file.read_exact_at(&mut bytes, at) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(Vec::new()),
            read => read.map(|()| bytes),
        }
    };
    let (first, copy) = (page(HEADER_AT)?, page(HEADER_COPY_AT)?);
    let Ok(header) = Header::parse(&first).or_else(|_| Header::parse(&copy)) else {
        return Ok(false);
    };
    let slots = [page(SUPERBLOCK_AT[0])?, page(SUPERBLOCK_AT[1])?];
    let chosen = Superblock::choose([&slots[0], &slots[1]], &header);
    Ok(chosen.is_ok_and(|(superblock, _)| superblock.lost_power(&header, boot_id())))
}

/// Opens a region as [`Region::open`] does, but accepts that the machine went down while it was
/// open. All levels are checked first. What the check cannot tell stays: in segments that have no
/// checksum yet, numbers and texts may be of different commits. From then on the region is open as
/// any other: the loss is accepted once.
///
/// # Errors
///
/// If the check finds errors, or the region does not open. The file is as it was then.
pub fn open_after_power_loss(
    path: &Path,
    options: &RegionOptions,
    schema: Option<Fingerprint>,
) -> Result<(Region, Report), PowerLossError> {
    // Without a boot id, it counts as a region whose process died.
    let check = CheckOptions {
        level: Level::L3,
        boot_id: None,
    };
    let report = check_file_as(path, check)?;
    if !report.is_sound() {
        return Err(PowerLossError::Damaged {
            path: path.into(),
            report: Box::new(report),
        });
    }
    if report.swept {
        return Err(PowerLossError::Swept { path: path.into() });
    }
    let region = Region::open_if(path, options, schema, true)?;
    Ok((region, report))
}
