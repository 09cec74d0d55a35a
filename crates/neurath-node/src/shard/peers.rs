//! Who can be sent to: components, how many instances each has, and how one of them is named.

use std::collections::BTreeMap;

use super::Instance;
use crate::release::ReleasePackage;

/// The components that can be sent to, and how many instances each has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peers(BTreeMap<String, u32>);

/// Why nobody is meant by an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Nobody {
    #[error("the release has no component `{0}`")]
    Component(String),
    #[error(
        "{component} has {instances} instances, from {component}.0 on; `{address}` is none of them"
    )]
    Instance {
        component: String,
        instances: u32,
        address: String,
    },
    #[error("{component} has {instances} instances; say which: {component}.0")]
    Several { component: String, instances: u32 },
}

impl Peers {
    /// Those of a release.
    pub(crate) fn of_release(package: &ReleasePackage) -> Peers {
        let all = package.components().iter();
        Peers(
            all.map(|(name, one)| (name.clone(), one.instances))
                .collect(),
        )
    }

    /// Those that run.
    pub(super) fn of(instances: &[Instance]) -> Peers {
        let mut found = BTreeMap::new();
        for instance in instances {
            *found.entry(instance.component.clone()).or_default() += 1;
        }
        Peers(found)
    }

    /// How many instances a component has; 0 if there is no such component.
    pub(crate) fn instances(&self, component: &str) -> u32 {
        self.0.get(component).copied().unwrap_or(0)
    }

    /// The instance that is meant by `store`, of which there is one, or by `store.3`.
    pub(crate) fn find<'a>(&self, address: &'a str) -> Result<(&'a str, u32), Nobody> {
        let (component, number) = match address.split_once('.') {
            Some((component, number)) => (component, Some(number)),
            None => (address, None),
        };
        match (self.instances(component), number) {
            (0, _) => Err(Nobody::Component(component.to_owned())),
            (1, None) => Ok((component, 0)),
            (instances, None) => Err(Nobody::Several {
                component: component.to_owned(),
                instances,
            }),
            (instances, Some(number)) => match number.parse() {
                Ok(number) if number < instances => Ok((component, number)),
                _ => Err(Nobody::Instance {
                    component: component.to_owned(),
                    instances,
                    address: address.to_owned(),
                }),
            },
        }
    }

    /// What an instance is called: as its component, if there is one of it only.
    pub(super) fn name(&self, instance: &Instance) -> String {
        let Instance {
            component, number, ..
        } = instance;
        match self.instances(component) {
            1 => component.clone(),
            _ => format!("{component}.{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_found_by_its_address() {
        let peers = Peers([("store".to_owned(), 4), ("gateway".to_owned(), 1)].into());
        assert_eq!(peers.find("gateway"), Ok(("gateway", 0)));
        assert_eq!(peers.find("gateway.0"), Ok(("gateway", 0)));
        assert_eq!(peers.find("store.3"), Ok(("store", 3)));
        let refused = |address| peers.find(address).expect_err(address).to_string();
        assert_eq!(
            refused("store"),
            "store has 4 instances; say which: store.0"
        );
        assert_eq!(refused("stock"), "the release has no component `stock`");
        for wrong in [
            "store.4",
            "store.",
            "store.-1",
            "store.1.2",
            "store.99999999999",
            "gateway.1",
        ] {
            assert!(
                refused(wrong).contains(&format!("`{wrong}` is none of them")),
                "{wrong}"
            );
        }
        assert_eq!((peers.instances("store"), peers.instances("stock")), (4, 0));
    }
}
