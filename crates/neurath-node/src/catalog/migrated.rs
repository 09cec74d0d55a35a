//! Migrations that a commit made, as the catalog names them until they stand in the regions' files.

use neurath_pmem::history::{Migration, Strategy};
use neurath_pmem::schema::{Fingerprint, hex};
use serde::{Deserialize, Serialize};

/// One migration of some instances of a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Migrated {
    /// The component whose state it is.
    pub component: String,
    /// The instances' numbers, and the generations of their regions.
    pub instances: Vec<(u32, u64)>,
    /// The version of the component that the state was of.
    pub from_version: String,
    /// The version that it is of since.
    pub to_version: String,
    /// The fingerprint of the schema before.
    pub from_schema: String,
    /// The fingerprint of the schema since.
    pub to_schema: String,
    /// What was done.
    pub name: String,
    /// The component and the version of the library whose functions did it; empty if none was needed.
    pub library: String,
    /// How: `keep`, `eager`, `incremental`, `move` or `reset`.
    pub strategy: String,
    /// Whether it led back to the release before.
    pub back: bool,
    /// The release that it led to.
    pub release: String,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The operation in the journal.
    pub operation: String,
}

impl Migrated {
    /// The migration of one instance.
    pub(crate) fn new(component: &str, instance: u32, one: &Migration) -> Migrated {
        Migrated {
            component: component.to_owned(),
            instances: vec![(instance, one.generation)],
            from_version: one.from_version.clone(),
            to_version: one.to_version.clone(),
            from_schema: hex(one.from_schema),
            to_schema: hex(one.to_schema),
            name: one.name.clone(),
            library: one.library.clone(),
            strategy: one.strategy.as_str().to_owned(),
            back: one.back,
            release: one.release.clone(),
            at_ms: one.at_ms,
            operation: one.operation.clone(),
        }
    }

    /// Adds it to a list, where what several instances have in common stands once.
    pub(crate) fn add_to(self, all: &mut Vec<Migrated>) {
        let same = |known: &&mut Migrated| {
            let instances = self.instances.clone();
            self == Migrated {
                instances,
                ..(**known).clone()
            }
        };
        match all.iter_mut().find(same) {
            Some(known) => known.instances.extend(self.instances),
            None => all.push(self),
        }
    }

    /// The same for the region of an instance; none if it is not of that one.
    pub(crate) fn of(&self, component: &str, instance: u32) -> Option<Migration> {
        let mut instances = self.instances.iter();
        let &(_, generation) = instances.find(|(number, _)| *number == instance)?;
        (self.component == component).then(|| Migration {
            from_version: self.from_version.clone(),
            to_version: self.to_version.clone(),
            from_schema: parse(&self.from_schema),
            to_schema: parse(&self.to_schema),
            name: self.name.clone(),
            library: self.library.clone(),
            // Whoever wrote it knew no others.
            strategy: Strategy::of(&self.strategy).unwrap_or(Strategy::Keep),
            back: self.back,
            release: self.release.clone(),
            at_ms: self.at_ms,
            generation,
            operation: self.operation.clone(),
        })
    }
}

/// A fingerprint from its digits; zeros if they are none.
fn parse(digits: &str) -> Fingerprint {
    let number = u128::from_str_radix(digits, 16).unwrap_or_default();
    number.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn migration(generation: u64, at_ms: u64) -> Migration {
        Migration {
            from_version: "1.0.0".into(),
            to_version: "1.1.0".into(),
            from_schema: [0x0f; 16],
            to_schema: [0xa0; 16],
            name: "load".into(),
            library: String::new(),
            strategy: Strategy::Keep,
            back: true,
            release: "shop-1.0.0".into(),
            at_ms,
            generation,
            operation: "rollback-3".into(),
        }
    }

    #[test]
    fn what_instances_have_in_common_stands_once_and_each_gets_its_own() {
        let mut all = Vec::new();
        for number in 0..3 {
            let one = migration(number.into(), 5);
            Migrated::new("store", number, &one).add_to(&mut all);
        }
        Migrated::new("store", 0, &migration(0, 6)).add_to(&mut all);
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].instances, [(0, 0), (1, 1), (2, 2)]);
        assert_eq!(all[0].of("store", 2), Some(migration(2, 5)));
        assert_eq!(all[0].of("store", 3), None);
        assert_eq!(all[0].of("gateway", 2), None);
    }
}
