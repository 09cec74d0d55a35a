//! One instance of a component: its code, its region, and the handle between them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use neurath_pmem::region::Region;

use crate::loader::Library;
use crate::mapping::Attached;

/// Restarts that a supervisor makes within [`PERIOD`]; one more, and the node gives up, as
/// in OTP.
const INTENSITY: usize = 20;
const PERIOD: Duration = Duration::from_secs(10);

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
    restarts: VecDeque<Instant>,
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
        let restarts = VecDeque::new();
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
            restarts,
        }
    }

    /// Bytes of the region's file, and of its live objects.
    pub(crate) fn region_figures(&self) -> (u64, u64) {
        let stats = self.region.stats();
        (stats.file_bytes, stats.live_bytes)
    }

    /// Whether it may be restarted once more; otherwise how often it was.
    pub(super) fn may_restart(&mut self, now: Instant) -> Result<(), usize> {
        while self
            .restarts
            .front()
            .is_some_and(|first| now - *first > PERIOD)
        {
            self.restarts.pop_front();
        }
        self.restarts.push_back(now);
        if self.restarts.len() > INTENSITY {
            Err(self.restarts.len())
        } else {
            Ok(())
        }
    }
}
