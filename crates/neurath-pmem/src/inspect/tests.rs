//! The check finds what is wrong, and nothing where nothing is.

use proptest::prelude::*;

use super::image::Image;
use super::{
    CheckOptions, Code, Data, DataLimits, InspectError, Level, Report, Severity, check, check_file,
    checked, inspect, inspect_file, repair_file, restore_file, schema_text, snapshot_file,
};
use crate::region::format::{
    BITMAP_LEN, CHUNK_LEN, DIRECTORY_AT, ENTRY_LEN, HEADER_AT, HEADER_COPY_AT, HEAP_AT, LOG_AT,
    LOG_LEN, PAGE, RECORD_HEADER_LEN, ROOT_AT, SCHEMA_AT, SCHEMA_MAX, SEGMENTS_PER_CHUNK,
    SUPERBLOCK_AT, newest_records,
};
use crate::region::{Media, Region, RegionError, RegionOptions, TestState, TestStateSchema};
use crate::{Bytes, Map, P, Pmem, Tx, TxError};

#[derive(Debug)]
#[expect(dead_code, reason = "printed")]
enum Failure {
    Tx(TxError),
    Region(RegionError),
}

impl From<TxError> for Failure {
    fn from(error: TxError) -> Failure {
        Failure::Tx(error)
    }
}

impl From<RegionError> for Failure {
    fn from(error: RegionError) -> Failure {
        Failure::Region(error)
    }
}
