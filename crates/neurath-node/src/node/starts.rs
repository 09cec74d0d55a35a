//! Starts that leave a release which was not confirmed, and how many of them there may be.
//!
//! A library of that release can end the process at any moment, also while the node starts: by a wild write, or an
//! abort. So each such start is counted in the catalog before the first library is loaded, none of the release's functions is
//! called but its conversions, and after so many starts of which none came up the node does not try again by itself.

use super::core::Core;
use super::error::Crashes;
use super::{NodeOptions, StartError};
use crate::fault;

/// Counts a start that leaves the current release; refuses one too many.
pub(super) fn count(core: &mut Core, options: &NodeOptions) -> Result<(), StartError> {
    let state = core.catalog.state();
    let Some(previous) = &state.previous else {
        return Ok(());
    };
    let allowed = core.package.release().confirm.starts;
    if state.starts >= allowed && !options.try_again {
        return Err(StartError::Crashes(Box::new(Crashes {
            release: core.current(),
            before: previous.release.clone(),
            starts: state.starts,
            directory: core.directory.path().to_owned(),
        })));
    }
    let mut counted = state.clone();
    counted.starts = match options.try_again {
        true => 1,
        false => counted.starts + 1,
    };
    tracing::warn!(
        release = %core.current(),
        start = counted.starts,
        of = allowed,
        "it was not confirmed: this start goes back from it"
    );
    core.catalog.commit(counted)?;
    core.untrusted = true;
    fault::point("start.counted");
    Ok(())
}
