//! Starts that leave a release which was not confirmed, and how many of them there may be.
//!
//! A library of that release can end the process at any moment, also while the node starts: by a wild write, or an
//! abort. So each such start is counted in the catalog before the first library is loaded, none of the release's functions is
//! called but its conversions, and after so many starts of which none came up the node does not try again by itself.
//!
//! A release with a node program of its own can crash before it has counted anything. There the program that was started
//! counts, before it lets that one take its place, and says so in the environment.

use std::path::Path;

use super::core::Core;
use super::error::Crashes;
use super::{NodeOptions, StartError};
use crate::catalog::{Catalog, State};
use crate::fault;
use crate::release::ReleasePackage;

/// The number that this start was counted as, by the program before in this process.
pub(crate) const COUNTED: &str = "NEURATH_START_COUNTED";

/// Counts a start that leaves the current release, unless the program before in this process has; refuses one too many.
pub(super) fn count(core: &mut Core, options: &NodeOptions) -> Result<(), StartError> {
    let state = core.catalog.state();
    if state.previous.is_none() {
        return Ok(());
    }
    let counted = std::env::var(COUNTED).is_ok_and(|number| number == state.starts.to_string());
    if counted {
        fault::point("start.was-counted");
    } else {
        let (catalog, package) = (&mut core.catalog, &core.package);
        add_one(catalog, package, core.directory.path(), options.try_again)?;
    }
    tracing::warn!(
        release = %core.current(),
        start = core.catalog.state().starts,
        of = core.package.release().confirm.starts,
        "it was not confirmed: this start goes back from it"
    );
    core.untrusted = true;
    fault::point("start.counted");
    Ok(())
}

/// Counts a start that leaves the current release, of this program or of another; refuses one too many. The number, where
/// there is something to leave.
pub(crate) fn add_one(
    catalog: &mut Catalog,
    package: &ReleasePackage,
    directory: &Path,
    try_again: bool,
) -> Result<Option<u32>, StartError> {
    let state = catalog.state();
    let Some(previous) = &state.previous else {
        return Ok(None);
    };
    if state.starts >= package.release().confirm.starts && !try_again {
        return Err(StartError::Crashes(Box::new(Crashes {
            release: package.id(),
            before: previous.release.clone(),
            starts: state.starts,
            directory: directory.to_owned(),
        })));
    }
    let starts = match try_again {
        true => 1,
        false => state.starts + 1,
    };
    let state = State {
        starts,
        ..state.clone()
    };
    catalog.commit(state)?;
    Ok(Some(starts))
}
