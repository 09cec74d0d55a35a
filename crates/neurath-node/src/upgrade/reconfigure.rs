//! Components that run on, and get another configuration.
//!
//! They are told at the switch, on their own state, in a transaction that stays open until the flip. If the
//! upgrade is undone, it is dropped, and they are told the other way round.

use std::collections::BTreeMap;
use std::sync::Arc;

use neurath_abi::MessageKind;
use neurath_plan::runs_on;
use serde_json::{Map, Value, json};

use super::part::Course;
use super::{PAUSE, Upgrade, UpgradeError, changes_what_runs, outside};
use crate::fault;
use crate::loader::Function;
use crate::mapping::Gate;
use crate::node::config_json;
use crate::shard::effects::Effects;

/// One component's change.
#[derive(Debug)]
pub(super) struct Reconfigured {
    /// Its place on the shard.
    at: usize,
    component: String,
    /// The new configuration, JSON.
    config: String,
    /// What it has asked for; none before it was told.
    effects: Option<Effects>,
}

impl Upgrade<'_> {
    /// Finds the components that run on with another configuration.
    pub(super) fn find_reconfigured(&mut self) -> Result<(), UpgradeError> {
        let configs = self.configs()?;
        let others = self.look(move |instances| {
            let others = instances.iter().enumerate().filter_map(|(at, one)| {
                let config = configs.get(&one.component)?;
                let other = *config != one.config;
                other.then(|| (at, one.component.clone(), config.clone()))
            });
            others.collect::<Vec<_>>()
        })?;
        let mut found = Vec::new();
        for (at, component, config) in others {
            let part = self.parts.iter().find(|part| part.component == component);
            if part.is_none_or(|part| part.course == Course::Ready) {
                found.push(Reconfigured {
                    at,
                    component,
                    config,
                    effects: None,
                });
            }
        }
        self.reconfigured = found;
        Ok(())
    }

    /// The configurations in the release that is led to.
    fn configs(&mut self) -> Result<Arc<BTreeMap<String, String>>, UpgradeError> {
        if let Some(known) = &self.configs {
            return Ok(known.clone());
        }
        let package = &self.goal.package;
        let names = package.components().keys();
        let made = names.map(|name| Ok((name.clone(), config_json(package, name)?)));
        let made: Result<BTreeMap<_, _>, UpgradeError> = made.collect();
        let made = Arc::new(made?);
        self.configs = Some(made.clone());
        Ok(made)
    }

    /// Looks beforehand whether there will be some; what cannot be seen now is seen at the switch.
    pub(super) fn finds_some_to_tell(&mut self) -> bool {
        if self.find_reconfigured().is_err() {
            return false;
        }
        let steps = &self.goal.steps;
        self.reconfigured
            .drain(..)
            .any(|one| runs_on(steps, &one.component))
    }

    /// Tells the components of it, in a step of its own.
    pub(super) fn reconfigure(&mut self) -> Result<(), UpgradeError> {
        self.find_reconfigured()?;
        if self.reconfigured.is_empty() {
            return Ok(());
        }
        let mut names: Vec<&str> = self
            .reconfigured
            .iter()
            .map(|one| &*one.component)
            .collect();
        // Several instances have one configuration.
        names.dedup();
        let last = self.goal.steps.iter().rposition(changes_what_runs);
        let place = last.unwrap_or(self.goal.steps.len()) as u32;
        self.timed("config_change", names.join(", "), place, |this| {
            (0..this.reconfigured.len()).try_for_each(|number| this.tell_of_change(number))
        })
    }

    fn tell_of_change(&mut self, number: usize) -> Result<(), UpgradeError> {
        let deadline = self.left()?;
        let Some(taken) = &mut self.taken else {
            unreachable!("it stands still")
        };
        let one = &mut self.reconfigured[number];
        let shard = &mut taken.shard;
        let mut called = outside(shard, one.at);
        let instance = &mut shard.instances[one.at];
        one.effects = Some(Effects::default());
        // A library of an earlier SDK reads it with its next message.
        if instance.library.has_config_change() {
            let message = Some((
                MessageKind::CONFIG_CHANGE,
                change(&instance.config, &one.config)?,
            ));
            called.config.clone_from(&one.config);
            let gate = Gate::open(instance.attached.handle(), &mut instance.region);
            let done = called.call_with(
                &mut self.worker,
                Function::ConfigChange,
                message,
                &gate,
                deadline,
            );
            gate.end(&mut instance.region);
            one.effects = Some(done?.1);
        }
        fault::point("upgrade.config-changed");
        Ok(())
    }

    /// After the flip: the new configurations count.
    pub(super) fn keep_reconfigured(&mut self) {
        let Some(taken) = &mut self.taken else {
            unreachable!("it stands still")
        };
        for one in self.reconfigured.drain(..) {
            let instance = &mut taken.shard.instances[one.at];
            let before = std::mem::replace(&mut instance.config, one.config);
            let now = instance.config.clone();
            // As for what `init` writes.
            if let Err(error) = instance.region.commit() {
                let component = one.component;
                tracing::error!(component, %error, "what config_change wrote is lost");
            }
            if let Some(mut effects) = one.effects {
                let asked = effects.take_asked_for();
                taken.shard.carry_out(one.at, &mut effects);
                // One that asks for nothing has not taken note: it would listen nowhere.
                if asked.is_empty() {
                    continue;
                }
                taken.shard.keep_listeners(one.at, |address| {
                    asked.iter().any(|one| one == address)
                        || !names(&before, address)
                        || names(&now, address)
                });
            }
        }
    }

    /// Drops what was told, and tells the other way round; what went wrong.
    pub(super) fn undo_reconfigured(&mut self) -> Vec<String> {
        let mut trouble = Vec::new();
        let Some(taken) = &mut self.taken else {
            return trouble;
        };
        let shard = &mut taken.shard;
        for one in self.reconfigured.drain(..) {
            if one.effects.is_none() {
                continue;
            }
            let called = outside(shard, one.at);
            let instance = &mut shard.instances[one.at];
            instance.region.abort();
            if !instance.library.has_config_change() {
                continue;
            }
            let gate = Gate::open(instance.attached.handle(), &mut instance.region);
            let back = change(&one.config, &instance.config).and_then(|json| {
                let message = Some((MessageKind::CONFIG_CHANGE, json));
                let back = Function::ConfigChange;
                Ok(called.call_with(&mut self.worker, back, message, &gate, PAUSE)?)
            });
            gate.end(&mut instance.region);
            match back {
                Ok((_, mut effects)) => {
                    if let Err(error) = instance.region.commit() {
                        trouble.push(error.to_string());
                    }
                    shard.carry_out(one.at, &mut effects);
                }
                Err(error) => {
                    instance.region.abort();
                    trouble.push(error.to_string());
                }
            }
        }
        trouble
    }
}

/// Whether a configuration has this text as a value: an address that it no longer names is not listened at any more.
/// What a component listens at of its own accord is left to it.
fn names(config: &str, text: &str) -> bool {
    fn is_in(value: &Value, text: &str) -> bool {
        match value {
            Value::String(value) => value == text,
            Value::Array(values) => values.iter().any(|value| is_in(value, text)),
            Value::Object(values) => values.values().any(|value| is_in(value, text)),
            _ => false,
        }
    }
    serde_json::from_str(config).is_ok_and(|value: Value| is_in(&value, text))
}

/// What differs between two configurations, as a component is told of it.
fn change(before: &str, after: &str) -> Result<String, UpgradeError> {
    let read = |text: &str| {
        let read = serde_json::from_str::<Map<String, Value>>(text);
        read.map_err(|error| UpgradeError::Script(error.to_string()))
    };
    let (before, after) = (read(before)?, read(after)?);
    let (mut changed, mut new) = (Map::new(), Map::new());
    for (key, value) in &after {
        match before.get(key) {
            None => drop(new.insert(key.clone(), value.clone())),
            Some(old) if old != value => drop(changed.insert(key.clone(), value.clone())),
            Some(_) => {}
        }
    }
    let removed: Vec<&String> = before
        .keys()
        .filter(|key| !after.contains_key(*key))
        .collect();
    Ok(json!({ "changed": changed, "new": new, "removed": removed }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_named_wherever_it_stands() {
        let config = r#"{"listen": ["a:1", {"more": "b:2"}], "max": 3}"#;
        assert!(names(config, "a:1") && names(config, "b:2"));
        assert!(!names(config, "listen") && !names(config, "c:3") && !names("{", "a:1"));
    }

    #[test]
    fn a_change_names_what_differs_and_nothing_else() {
        let told = change(
            r#"{"a": 1, "b": {"x": 1}, "c": "same"}"#,
            r#"{"b": {"x": 2}, "c": "same", "d": [1]}"#,
        );
        let told: Value = serde_json::from_str(&told.unwrap()).unwrap();
        let expected =
            json!({ "changed": { "b": { "x": 2 } }, "new": { "d": [1] }, "removed": ["a"] });
        assert_eq!(told, expected);
        assert!(change("{", "{}").is_err());
    }
}
