//! Which program runs a release, and where it is: verified, in a place that only the node can reach.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use super::trial;
use super::{LeaveError, NodeDescription};
use crate::catalog::{Catalog, ProgramBefore, ReleaseId, State};
use crate::directory::NodeDirectory;
use crate::fault;
use crate::libraries::{Libraries, PlaceError};
use crate::node::{Core, StartError, starts};
use crate::release::{ReleaseError, ReleasePackage};
use crate::release_handler::open_for_use;

/// This process's own program, whatever its file is now.
pub(super) const OWN: &str = "/proc/self/exe";

/// Why there is no program for a release.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// Nobody has one.
    #[error(
        "{release} wants node {wanted}, and this one is {found}: the release has no program of it; name it as \
         `node_program`, and build the release again"
    )]
    Missing {
        /// The release.
        release: ReleaseId,
        /// The node that it wants.
        wanted: String,
        /// This one.
        found: String,
    },
    /// It is not what it was.
    #[error(
        "the program that ran {release} is not what it was; go there with a release that has its own"
    )]
    Changed {
        /// The release.
        release: ReleaseId,
    },
    /// The release is not what it was.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// It cannot be put where it is run from.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// This process's own program cannot be read.
    #[error("this node's own program cannot be read: {0}")]
    Own(std::io::Error),
}

/// The program that comes next.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    /// The same again.
    Same,
    /// Another one.
    At(PathBuf),
}

impl Program {
    pub(super) fn path(&self) -> &Path {
        match self {
            Program::Same => Path::new(OWN),
            Program::At(path) => path,
        }
    }

    /// Tries it beside this node; it has to be of this version.
    pub(crate) fn tried(&self, core: &Core, version: &str) -> Result<NodeDescription, LeaveError> {
        let launch = core.launch.as_ref().ok_or(LeaveError::Embedded)?;
        Ok(trial::of(self.path(), launch, version)?)
    }
}

/// This process's own program, and its hash.
fn own() -> Result<(Vec<u8>, blake3::Hash), ProgramError> {
    let bytes = std::fs::read(OWN).map_err(ProgramError::Own)?;
    let hash = blake3::hash(&bytes);
    Ok((bytes, hash))
}

/// The program that runs a release: the one that it has, the one that ran it before, or this one. `version` is this
/// one's.
pub(crate) fn of_release(
    libraries: &Libraries,
    state: &State,
    package: &ReleasePackage,
    version: &str,
) -> Result<Program, ProgramError> {
    let is_own = |hash: &blake3::Hash| Ok::<_, ProgramError>(own()?.1 == *hash);
    if let Some((bytes, hash)) = package.program_bytes()? {
        return Ok(match is_own(&hash)? {
            true => Program::Same,
            false => Program::At(libraries.place_program(&bytes, &hash)?),
        });
    }
    let release = package.id();
    if let Some(before) = state
        .program_before
        .as_ref()
        .filter(|one| one.release == release)
    {
        let changed = || ProgramError::Changed {
            release: release.clone(),
        };
        let hash = blake3::Hash::from_hex(&before.blake3).map_err(|_| changed())?;
        if is_own(&hash)? {
            return Ok(Program::Same);
        }
        let path = libraries.program(&hash);
        let bytes = std::fs::read(&path).map_err(|_| changed())?;
        return match blake3::hash(&bytes) == hash {
            true => Ok(Program::At(path)),
            false => Err(changed()),
        };
    }
    let wanted = package.release().node.to_string();
    match wanted == version {
        true => Ok(Program::Same),
        false => Err(ProgramError::Missing {
            release,
            wanted,
            found: version.to_owned(),
        }),
    }
}

/// The program that a start of the node in this directory is for, if it is another one than this of version `version`.
/// What keeps the node from starting is seen when it starts.
pub fn to_start(directory: &Path, version: &str) -> Result<Option<PathBuf>, ProgramError> {
    let Some(at_rest) = AtRest::open(directory) else {
        return Ok(None);
    };
    at_rest.program(version)
}

/// Makes the command that starts the node in this directory by the program that the start is for, in this process, with the
/// arguments of this one; `None` if it is this one, of version `version`. A start that leaves a release which was not
/// confirmed is counted: that program may crash before it can. `try_again`: there may be one more than was allowed.
///
/// # Errors
///
/// [`ProgramError`], and [`StartError::Crashes`] where there were too many such starts.
pub fn command_to_start(
    directory: &Path,
    version: &str,
    try_again: bool,
) -> Result<Option<Command>, StartError> {
    let Some(mut at_rest) = AtRest::open(directory) else {
        return Ok(None);
    };
    let Some(program) = at_rest.program(version)? else {
        return Ok(None);
    };
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1));
    let AtRest {
        catalog, package, ..
    } = &mut at_rest;
    if let Some(number) = starts::add_one(catalog, package, directory, try_again)? {
        command.env(starts::COUNTED, number.to_string());
    }
    fault::point("start.by-its-own-program");
    Ok(Some(command))
}

/// A node that does not run, and the release that it is to run in.
struct AtRest {
    directory: NodeDirectory,
    catalog: Catalog,
    package: Arc<ReleasePackage>,
}

impl AtRest {
    fn open(directory: &Path) -> Option<Self> {
        let directory = NodeDirectory::open(directory).ok()?;
        let catalog = Catalog::open(directory.path()).ok()?;
        let current = catalog.state().current.clone()?;
        let package = open_for_use(&directory, catalog.state(), &current).ok()?;
        Some(Self {
            directory,
            catalog,
            package,
        })
    }

    fn program(&self, version: &str) -> Result<Option<PathBuf>, ProgramError> {
        let libraries = Libraries::new(self.directory.libraries())?;
        match of_release(&libraries, self.catalog.state(), &self.package, version) {
            Ok(Program::At(path)) => Ok(Some(path)),
            Ok(Program::Same) => Ok(None),
            Err(error @ ProgramError::Missing { .. }) => {
                tracing::warn!(%error, "it is run by this one");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Keeps this process's own program for the way back to a release.
pub(crate) fn keep_own(
    libraries: &Libraries,
    release: ReleaseId,
) -> Result<ProgramBefore, ProgramError> {
    let (bytes, hash) = own()?;
    libraries.place_program(&bytes, &hash)?;
    Ok(ProgramBefore {
        release,
        blake3: hash.to_hex().to_string(),
    })
}
