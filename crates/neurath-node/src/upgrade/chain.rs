//! The conversions of one component's state: none, one, or one for each hop through versions between.

use std::path::PathBuf;
use std::sync::Arc;

use neurath_manifest::{Hop, Step};
use neurath_pmem::migrate::{Conversion, MigrationPlan};
use neurath_pmem::region::RegionOptions;
use neurath_pmem::schema::{SchemaDesc, hex};

use super::error::UpgradeError;
use super::json_of;
use super::part::Place;
use super::via::Vias;
use crate::loader::Library;

/// One conversion of the whole state.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) plan: MigrationPlan,
    /// Where each conversion of the plan is.
    pub(super) conversions: Vec<Place>,
    /// The encoded schema that it leads to.
    pub(super) schema: Vec<u8>,
    /// The table of the hop, JSON; that of the step if there is none.
    pub(super) extra: Option<String>,
}

/// A link that comes after another one: its generation is made when the one before it is there.
#[derive(Debug)]
pub(super) struct Later {
    pub(super) link: Link,
    pub(super) path: PathBuf,
    pub(super) options: RegionOptions,
}

/// The libraries between which a state goes.
pub(super) struct Ends<'a> {
    pub(super) component: &'a str,
    /// The libraries of other components that its conversions are in.
    pub(super) vias: &'a Vias,
    /// The one that has them all, if the state is converted in one go.
    pub(super) whole: Option<&'a str>,
    pub(super) old: &'a Arc<Library>,
    pub(super) new: &'a Arc<Library>,
    /// Those of versions between, which only convert.
    pub(super) between: &'a [Arc<Library>],
    /// The state is to be made again, also if nothing changes.
    pub(super) again: bool,
    /// Whether it is the way back.
    pub(super) back: bool,
}

/// The hops of a component in a script; none if its state is converted in one go, or not at all.
pub(super) fn hops<'a>(steps: &'a [Step], name: &str) -> &'a [Hop] {
    let found = steps.iter().find_map(|step| match step {
        Step::CodeChange {
            component, hops, ..
        } if component == name => Some(hops.as_slice()),
        _ => None,
    });
    found.unwrap_or_default()
}

impl Ends<'_> {
    /// Plans the links from the schema of a region to that of the new library.
    pub(super) fn links(
        &self,
        region_schema: &[u8],
        hops: &[Hop],
    ) -> Result<Vec<Link>, UpgradeError> {
        if hops.is_empty() {
            let schema = &self.new.description().schema;
            // The newer of the two libraries knows the way, there and back.
            let own = [self.new, self.old];
            let other = self.whole.map(|name| self.via(name)).transpose()?;
            let libraries = other.as_ref().map_or(&own[..], std::slice::from_ref);
            let link = self.link(region_schema, schema, libraries, None, self.again)?;
            return Ok(link.into_iter().collect());
        }
        let mut links = Vec::new();
        let mut at = region_schema.to_vec();
        for (index, hop) in hops.iter().enumerate() {
            let up = hop.to > hop.from;
            // Without another word the newer version's library has the way, there and back.
            let library = self.library(&std::cmp::max(&hop.from, &hop.to).to_string())?;
            let schema = match hops.get(index + 1) {
                None => &self.new.description().schema,
                Some(_) if up => &library.description().schema,
                // On the way down each library begins with its own state.
                Some(next) => &self.library(&next.from.to_string())?.description().schema,
            };
            let extra = Some(json_of(hop.extra.as_ref())?);
            let conversions = match &hop.via {
                Some(name) => self.via(name)?,
                None => library,
            };
            if let Some(link) = self.link(&at, schema, &[conversions], extra, false)? {
                at.clone_from(&link.schema);
                links.push(link);
            }
        }
        if links.is_empty() && self.again {
            let schema = &self.new.description().schema;
            links.extend(self.link(&at, schema, &[], None, true)?);
        }
        Ok(links)
    }

    fn via(&self, name: &str) -> Result<&'_ Arc<Library>, UpgradeError> {
        self.vias.get(name).ok_or_else(|| {
            let what = format!(
                "`{name}`, whose library has a code_change of `{}`, is not open",
                self.component
            );
            UpgradeError::Script(what)
        })
    }

    fn library(&self, version: &str) -> Result<&Arc<Library>, UpgradeError> {
        let mut all = [self.new, self.old].into_iter().chain(self.between);
        all.find(|library| library.description().version == version)
            .ok_or_else(|| {
                UpgradeError::Script(format!(
                    "`{} {version}` was not made ready, and its library has a code_change that is \
                     needed",
                    self.component
                ))
            })
    }

    /// One link; `None` if nothing changes, unless it is to be made `again`.
    pub(super) fn link(
        &self,
        from: &[u8],
        to: &[u8],
        libraries: &[&Arc<Library>],
        extra: Option<String>,
        again: bool,
    ) -> Result<Option<Link>, UpgradeError> {
        let decode = |bytes: &[u8]| {
            SchemaDesc::decode(bytes).map_err(|error| UpgradeError::Schema {
                component: self.component.to_owned(),
                text: error.to_string(),
            })
        };
        let (old, new) = (decode(from)?, decode(to)?);
        let declared = self.new.description();
        if to == declared.schema && new.fingerprint != declared.fingerprint {
            return Err(UpgradeError::Schema {
                component: self.component.to_owned(),
                text: format!("its fingerprint is not {}", hex(new.fingerprint)),
            });
        }
        if old.fingerprint == new.fingerprint && !again {
            return Ok(None);
        }
        let mut conversions = Vec::new();
        let mut known: Vec<Conversion> = Vec::new();
        for library in libraries {
            for (index, migration) in library.description().migrations.iter().enumerate() {
                let conversion = Conversion {
                    from: migration.from,
                    to: migration.to,
                };
                if !known.contains(&conversion) {
                    known.push(conversion);
                    conversions.push(((*library).clone(), index));
                }
            }
        }
        let plan =
            MigrationPlan::new(&old, &new, &known).map_err(|source| UpgradeError::Uncovered {
                component: self.component.to_owned(),
                version: declared.version.clone(),
                source,
            })?;
        let plan = match self.back {
            true => plan.back(&old, &new),
            false => plan,
        };
        Ok(Some(Link {
            plan,
            conversions,
            schema: to.to_vec(),
            extra,
        }))
    }
}
