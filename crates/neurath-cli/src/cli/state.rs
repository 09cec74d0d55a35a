//! `state`: regions, looked at without their libraries.

use std::path::PathBuf;

use clap::Subcommand;

use super::node::OfNode;

/// `neurath state …`
#[derive(Debug, Subcommand)]
pub enum State {
    /// Check a region: its header and log, its tables, all that is reached from its root, and
    /// the checksums of its data.
    ///
    /// Exit code 20 if it is damaged, or if objects have leaked. The file does not change.
    Check {
        /// The region's file.
        file: PathBuf,
        /// The deepest level that is checked: 0 the header and the log, 1 the tables, 2 what is
        /// reached from the root, 3 the checksums of the data.
        #[arg(long, default_value_t = 3, value_name = "N",
            value_parser = clap::value_parser!(u8).range(0..=3))]
        level: u8,
    },
    /// Show what a region holds, by the schema in it.
    Inspect {
        /// The region's file.
        file: PathBuf,
        /// The state itself, too.
        #[arg(long)]
        data: bool,
        /// How many entries of each map and elements of each array are shown.
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: u64,
        /// How many bytes of each byte string are shown.
        #[arg(long, default_value_t = 4096, value_name = "N")]
        bytes: u64,
        /// How many references are followed, one after the other.
        #[arg(long, default_value_t = 4, value_name = "N",
            value_parser = clap::value_parser!(u32).range(0..=16))]
        depth: u32,
    },
    /// Copy a region, as its recovery and an orderly close would leave it.
    ///
    /// The region is checked first, the copy last. A file that is there is not overwritten.
    /// With `--dir`, a running node copies the state of one of its instances, as it is at some
    /// commit from now on; it goes on serving.
    Snapshot {
        /// The region's file; with `--dir`, `COMPONENT` or `COMPONENT.INSTANCE`.
        #[arg(value_name = "FILE|COMPONENT[.INSTANCE]")]
        region: PathBuf,
        /// The copy.
        out: PathBuf,
        /// The directory of the node that runs the component.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Put a snapshot in the place of a region; one that is there is kept under another name.
    Restore {
        /// The copy.
        snapshot: PathBuf,
        /// The region's file.
        file: PathBuf,
        /// Do it; else it is only said what would be done.
        #[arg(long)]
        execute: bool,
    },
    /// Delete a snapshot that a node has kept of a state which an upgrade has thrown away (`reset_node`). `node status`
    /// names them.
    RemoveSnapshot {
        /// Its name, such as `store.0.1`.
        name: String,
        /// The node that is meant; it need not run.
        #[command(flatten)]
        node: OfNode,
        /// Do it; else it is only said what would be done.
        #[arg(long)]
        execute: bool,
    },
    /// Mend a copy of a region: the header, a superblock, leaks.
    Repair {
        /// The region's file, which does not change.
        file: PathBuf,
        /// The mended copy; the file's name with `.repaired` when not given.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Write the copy; else it is only said what would be done.
        #[arg(long)]
        execute: bool,
    },
}
