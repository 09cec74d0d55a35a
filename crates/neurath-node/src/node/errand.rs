//! What a node goes on with that has taken over from another in the midst of an operation.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Node, Shared, StartError, lock, restarts};
use crate::control::Asker;
use crate::handover::errand::Errand;
use crate::lifecycle::Phase;
use crate::protocol::{InFlight, Progress, Response};
use crate::shard::now_ms;

impl Node {
    /// Does the errand, on a thread of its own, and answers whoever waits for it.
    pub(super) fn begin_errand(
        &self,
        asker: Option<OwnedFd>,
        errand: Errand,
        because: Option<String>,
    ) -> Result<(), StartError> {
        let shared: Arc<Shared> = self.shared.clone();
        let work = move |asker: Option<&Asker>, progress: &mut dyn FnMut(Progress)| {
            shared.errand(asker, errand, because, progress)
        };
        if let (Some(stream), Some(control)) = (asker, &self.control) {
            let stream = UnixStream::from(stream);
            let begun = control.go_on(stream, |asker, progress| work(Some(asker), progress));
            return begun.map_err(|error| StartError::HandOver(error.to_string()));
        }
        let thread = std::thread::Builder::new().name("neurath-errand".into());
        let begun = thread.spawn(move || work(None, &mut |_| {}));
        begun.map(drop).map_err(StartError::EventLoop)
    }
}

impl Shared {
    fn errand(
        &self,
        asker: Option<&Asker>,
        errand: Errand,
        because: Option<String>,
        progress: &mut dyn FnMut(Progress),
    ) -> Option<Response> {
        let _operation = lock(&self.operation);
        self.errand_first.store(false, Ordering::SeqCst);
        let mut core = lock(&self.core);
        *lock(&self.flight) = Some(InFlight {
            phase: Phase::Applying,
            release: core.catalog.state().current.clone(),
            who: asker.map_or_else(|| "nobody".into(), |asker| asker.peer().to_string()),
            since_ms: now_ms(),
            step: None,
            now: None,
        });
        self.in_flight(&mut core, asker, progress, |core, told| {
            restarts::go_on(core, errand, because.as_deref(), told)
        })
    }
}
