//! `release`: what is built, packed and unpacked.

use std::path::PathBuf;

use clap::Subcommand;
use neurath_node::catalog::ReleaseId;
use semver::Version;

use super::node::OfNode;
use super::values::release_id;
use super::{BUILT, Folders};

/// `neurath release …`
#[derive(Debug, Subcommand)]
pub enum Release {
    /// Compile the components of a release, check them, and assemble it with its relup.
    Build {
        /// Name of the release.
        #[arg(required_unless_present = "all", requires = "version")]
        name: Option<String>,
        /// Its version.
        version: Option<Version>,
        /// Every release there is.
        #[arg(long, conflicts_with_all = ["name", "version"])]
        all: bool,
        /// Where the project's files are.
        #[command(flatten)]
        folders: Folders,
        /// Where built releases go.
        #[arg(long, default_value = BUILT, value_name = "DIR")]
        out: PathBuf,
        /// Remove another build of the same release there; else a release never changes.
        #[arg(long)]
        replace: bool,
    },
    /// Make a pair of keys, in minisign's format: FILE, which signs, and FILE.pub, for nodes that are
    /// to trust it.
    ///
    /// The secret key is protected by a password: `NEURATH_KEY_PASSWORD`, or asked for on a terminal.
    Keygen {
        /// The secret key's file. Nothing is overwritten.
        file: PathBuf,
        /// Without a password: whoever can read the file can sign.
        #[arg(long)]
        no_password: bool,
    },
    /// Pack a built release into one file, signed.
    Pack {
        /// The release, such as `kv-1.1.0`.
        #[arg(value_name = "NAME-VERSION", value_parser = release_id)]
        release: ReleaseId,
        /// The package's number: larger than that of every package of this name before.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        sequence: u64,
        /// Once a release of an epoch is permanent, a node runs none of an earlier one any more.
        #[arg(long, value_name = "N", default_value_t = 0)]
        epoch: u64,
        /// The secret key that signs.
        #[arg(long, value_name = "FILE", required_unless_present = "unsigned")]
        key: Option<PathBuf>,
        /// Not signed: for nodes that trust no key.
        #[arg(long, conflicts_with = "key")]
        unsigned: bool,
        /// The folder with built releases.
        #[arg(long, default_value = BUILT, value_name = "DIR")]
        from: PathBuf,
        /// The package; NAME-VERSION.neurath.tar.gz in the folder of built releases if not given.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Check a package, or the folder of a built release: every byte of it.
    Verify {
        /// The package or the folder.
        path: PathBuf,
        /// A public key; one of those given must have signed it.
        #[arg(long, value_name = "FILE")]
        trust: Vec<PathBuf>,
    },
    /// Take a package into a node, so that it can be gone to.
    ///
    /// Every byte is checked before anything of it is there. Nothing that runs changes.
    Unpack {
        /// The package.
        package: PathBuf,
        /// The node that is meant.
        #[command(flatten)]
        node: OfNode,
        /// Also a package that is older than one that was seen.
        #[arg(long)]
        allow_older: bool,
        /// Do it; else the package is only checked.
        #[arg(long)]
        execute: bool,
    },
    /// The releases that a node has: unpacked, current, permanent or old.
    Which(OfNode),
    /// Whether a node could go to a release: it is verified again, and the way is planned.
    Check {
        /// The release, such as `kv-1.1.0`.
        #[arg(value_name = "NAME-VERSION", value_parser = release_id)]
        release: ReleaseId,
        /// The node that is meant.
        #[command(flatten)]
        node: OfNode,
    },
    /// Remove a release that is not in use from a node.
    Remove {
        /// The release, such as `kv-1.1.0`.
        #[arg(value_name = "NAME-VERSION", value_parser = release_id)]
        release: ReleaseId,
        /// The node that is meant.
        #[command(flatten)]
        node: OfNode,
        /// Do it; else it is only said what would be done.
        #[arg(long)]
        execute: bool,
    },
    /// Take in a release whose folder was put into the node's `releases/` by other means.
    SetUnpacked {
        /// The release, such as `kv-1.1.0`.
        #[arg(value_name = "NAME-VERSION", value_parser = release_id)]
        release: ReleaseId,
        /// The node that is meant.
        #[command(flatten)]
        node: OfNode,
        /// Do it; else it is only said what would be done.
        #[arg(long)]
        execute: bool,
    },
    /// The releases there are, and which of them are built.
    List {
        /// Where the project's files are.
        #[command(flatten)]
        folders: Folders,
        /// Where built releases are.
        #[arg(long, default_value = BUILT, value_name = "DIR")]
        out: PathBuf,
    },
}
