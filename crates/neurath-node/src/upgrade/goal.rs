//! Where an upgrade leads, and which way.

use std::sync::Arc;
use std::time::Duration;

use neurath_manifest::Step;

use crate::catalog::RegionEntry;
use crate::release::ReleasePackage;

/// Where an upgrade leads.
#[derive(Debug)]
pub(crate) struct Goal {
    pub(crate) package: Arc<ReleasePackage>,
    /// Releases between, whose libraries have conversions that are needed.
    pub(crate) between: Vec<Arc<ReleasePackage>>,
    pub(crate) steps: Vec<Step>,
    pub(crate) plan_id: String,
    pub(crate) operation: String,
    pub(crate) who: String,
    pub(crate) way: Way,
    /// For a script that goes on in another node than it began in.
    pub(crate) begun: Option<Begun>,
}

impl Goal {
    /// Whether the release it leads to has the component in another version.
    pub(super) fn has_other(&self, component: &str, version: &str) -> bool {
        let named = self.package.component(component);
        named.is_some_and(|named| named.version.to_string() != version)
    }
}

/// Which way it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// To another release, to be confirmed.
    Forward,
    /// Back to the release before, with the writes made since.
    Back,
    /// Back to the release before as it was: the writes made since are lost.
    BackWithLoss(Vec<RegionEntry>),
}

/// What a script has taken before it came to the node that goes on with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    /// How long clients have waited for this node.
    pub(crate) waited: Duration,
    /// How long ago the operation began.
    pub(crate) took: Duration,
}
