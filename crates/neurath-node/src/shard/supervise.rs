//! Instances that have failed are started again, alone or with what depends on them, or left out.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::supervisor::Decision;
use super::{Function, Shard};
use crate::loader::CallError;

impl Shard {
    /// A handler of an instance has panicked; its state is as before that message.
    pub(super) fn panicked(&mut self, at: usize, error: &CallError) {
        tracing::error!(component = self.names[at], %error, "a handler panicked");
        self.supervise(at, error.to_string());
    }

    /// Does about an instance that has failed what the supervisor decides, until all that is to run has started.
    fn supervise(&mut self, at: usize, why: String) {
        // One moment for all of it: an `init` that takes its time to fail is not tried for ever.
        let now = Instant::now();
        let mut failed = Some((at, why));
        let mut down: Vec<usize> = Vec::new();
        loop {
            if let Some((at, why)) = failed.take() {
                self.figures.failures.fetch_add(1, Ordering::Relaxed);
                let instance = &self.instances[at];
                let (component, number) = (instance.component.clone(), instance.number);
                match self.supervisor.failed((&component, number), &why, now) {
                    Decision::Restart => down.push(at),
                    Decision::LeaveOut => {
                        down.retain(|one| *one != at);
                        self.leave_out(at, &why);
                    }
                    Decision::GiveUp(reason) => {
                        self.failed = Some(reason);
                        return;
                    }
                    Decision::Escalate(dependants) => {
                        tracing::error!(
                            component,
                            ?dependants,
                            "it failed too often: what depends on it starts again with it"
                        );
                        down.push(at);
                        self.stop_together(&component, &dependants, &mut down);
                    }
                }
            }
            down.sort_by_key(|at| self.supervisor.rank(&self.instances[*at].component));
            down.dedup();
            let Some(&next) = down.first() else { return };
            match self.call(next, Function::Init, None) {
                Ok(_) => {
                    tracing::warn!(component = self.names[next], "started again");
                    down.remove(0);
                }
                Err(error) => {
                    let component = &self.names[next];
                    tracing::error!(component, %error, "it could not start again");
                    failed = Some((next, format!("init: {error}")));
                }
            }
        }
    }

    /// Stops what depends on a component, the farthest first, and the other instances of the component itself.
    fn stop_together(&mut self, component: &str, dependants: &[String], down: &mut Vec<usize>) {
        let farthest_first = dependants.iter().map(String::as_str).rev();
        for name in farthest_first.chain([component]) {
            for at in self.places_of(name) {
                if down.contains(&at) || self.instances[at].ended.is_some() {
                    continue;
                }
                if let Err(error) = self.call(at, Function::Terminate, None) {
                    tracing::warn!(component = name, %error, "it did not end well");
                }
                if name != component && self.supervisor.is_temporary(name) {
                    self.leave_out(at, &format!("{component}, which it depends on, has failed"));
                } else {
                    let number = self.instances[at].number;
                    self.supervisor.restarted_with((name, number), component);
                    down.push(at);
                }
            }
        }
    }

    /// Lets an instance rest: nobody reaches it, its state stays as it is. An upgrade of it, and the next start of the
    /// node, start it again.
    pub(crate) fn leave_out(&mut self, at: usize, why: &str) {
        tracing::error!(
            component = self.names[at],
            why,
            "it has ended, and is left out"
        );
        self.instances[at].ended = Some(why.to_owned());
        self.timers.forget(at);
        self.close_listeners(at);
        for slot in 0..self.connections.slots.len() {
            if let Some(Some(connection)) = self.connections.slots.get_mut(slot)
                && connection.owner == at
            {
                connection.close();
                self.mark_dirty(slot);
            }
        }
    }
}
