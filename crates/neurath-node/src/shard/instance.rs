//! One instance of a component: its code, its region, and the handle between them.

use std::sync::Arc;
use std::time::Instant;

use neurath_pmem::region::Region;

use crate::loader::Library;
use crate::mapping::Attached;

#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) component: String,
    pub(crate) number: u32,
    pub(crate) library: Arc<Library>,
    pub(crate) attached: Attached,
    pub(crate) region: Region,
    pub(crate) generation: u64,
    /// The configuration, JSON.
    pub(crate) config: String,
    /// So many messages may wait for it.
    pub(crate) mailbox: usize,
    /// Until then nothing of its state is converted: what is left has failed.
    pub(super) rests_until: Option<Instant>,
    /// Why it has ended, if it has and was not started again.
    pub(crate) ended: Option<String>,
    /// Whether its `init` was called in this process.
    pub(crate) begun: bool,
}

impl Instance {
    /// An instance that reaches its region.
    pub(crate) fn new(
        component: String,
        number: u32,
        library: Arc<Library>,
        mut region: Region,
        generation: u64,
        config: String,
    ) -> Instance {
        let attached = Attached::new();
        region.attach(attached.handle());
        Instance {
            component,
            number,
            library,
            attached,
            region,
            generation,
            config,
            mailbox: usize::MAX,
            rests_until: None,
            ended: None,
            begun: false,
        }
    }

    /// Bytes of the region's file, and of its live objects.
    pub(crate) fn region_figures(&self) -> (u64, u64) {
        let stats = self.region.stats();
        (stats.file_bytes, stats.live_bytes)
    }
}
