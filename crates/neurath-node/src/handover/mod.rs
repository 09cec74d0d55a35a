//! Another program takes the node's place in the same process, and clients need not know.
//!
//! `exec` replaces the program and keeps the process. All that a node has in memory, beside its regions, goes
//! over in a record ([`record`]) with the descriptors that belong to it: sockets that listen, connections, the
//! directory's lock. Between the two programs a process of the old one, the keeper ([`keeper`]), holds them: if
//! no node comes up, it is the old node again, with everything. `docs/handover.md` tells the whole course.

mod arrive;
mod codec;
mod description;
pub mod errand;
pub mod keeper;
mod leave;
mod opens;
pub mod parcel;
pub(crate) mod program;
pub mod record;
pub mod trial;

use std::ffi::OsString;
use std::time::Duration;

pub use arrive::{Arrival, ArriveError, arrive};
pub use description::NodeDescription;
pub use leave::{LeaveError, go_back};
pub(crate) use leave::{leave, now_us};
pub use opens::OpensError;
pub(crate) use opens::check as check_opens;
pub use program::{ProgramError, command_to_start, to_start};

/// How a node was started that can be replaced: whoever comes next is started in the same way.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The arguments of a node program. One of [`KEEP`], [`TAKE_OVER`] and [`TRIAL`] is appended.
    pub arguments: Vec<OsString>,
    /// The version of the node that this program is, which releases name as `node`.
    pub version: String,
    /// How long a new program may take until it serves.
    pub within: Duration,
}

/// The argument of a keeper; the process it keeps for follows.
pub const KEEP: &str = "--keep";
/// The argument of a program that takes over from the one before in its process.
pub const TAKE_OVER: &str = "--take-over";
/// The argument of a program that comes up again after another could not; the reason follows.
pub const BECAUSE: &str = "--because";
/// The argument of a program that is only to say whether it could take over.
pub const TRIAL: &str = "--trial";

/// How long a new program may take until it serves, if nothing else is said.
pub const WITHIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
