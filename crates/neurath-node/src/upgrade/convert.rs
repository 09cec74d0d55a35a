//! Step 3: the old states become the new ones.

use std::time::Instant;

use super::suspend::AT_ONCE;
use super::{Upgrade, UpgradeError, no_code_of};
use crate::fault;
use crate::worker::Worker;

impl Upgrade<'_> {
    /// Converts the states of all instances of a component, several at the same time, each on all cores.
    pub(super) fn code_change(
        &mut self,
        component: &str,
        extra: String,
    ) -> Result<(), UpgradeError> {
        let mine = self.parts_of(component);
        if mine.is_empty() {
            return Err(no_code_of(component));
        }
        for some in mine.chunks(AT_ONCE) {
            self.convert_some(some, &extra)?;
        }
        Ok(())
    }

    /// The same, of one instance.
    pub(super) fn convert(&mut self, at: usize, extra: String) -> Result<(), UpgradeError> {
        self.convert_some(&[at], &extra)
    }

    fn convert_some(&mut self, parts: &[usize], extra: &str) -> Result<(), UpgradeError> {
        let until = Instant::now() + self.left()?;
        let mut told = Vec::new();
        for &at in parts {
            told.push(self.history_at(at));
        }
        let Some(taken) = &mut self.taken else {
            return Err(UpgradeError::Script(
                "a code_change before any suspend".into(),
            ));
        };
        while self.crew.len() + 1 < parts.len() {
            self.crew.push(Worker::default());
        }
        let workers = std::iter::once(&mut self.worker).chain(&mut self.crew);
        let mut begun = Vec::new();
        let mut result = Ok(());
        for ((&at, worker), history) in parts.iter().zip(workers).zip(told) {
            let part = &mut self.parts[at];
            let Some(place) = part.at else {
                let component = &part.component;
                let what = format!("a code_change of `{component}`, which does not run yet");
                result = result.and(Err(UpgradeError::Script(what)));
                continue;
            };
            let region = &mut taken.shard.instances[place].region;
            let begins = part
                .begin_stepwise(region)
                .and_then(|stepwise| match stepwise {
                    true => Ok(None),
                    false => part.begin_convert(worker, region, history, extra.to_owned()),
                });
            match begins {
                Ok(work) => begun.push((at, worker, work)),
                Err(error) => result = result.and(Err(error)),
            }
        }
        // Each is waited for, also where another has failed: none may go on in the old release.
        for (at, worker, work) in begun {
            if let Some(work) = work {
                let left = until.saturating_duration_since(Instant::now());
                let ended = self.parts[at].end_convert(worker, work, left);
                result = result.and(ended);
            }
            fault::point("upgrade.converted");
        }
        result
    }
}
