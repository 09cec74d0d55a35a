//! How many instances a catalog has room for: a state is one slot, and in an upgrade it names every region twice.

use neurath_manifest::{Appup, Component, Instruction, Release, Strategy};

use super::{
    Mark, Migrated, PAYLOAD_LIMIT, Previous, ProgramBefore, RegionEntry, ReleaseEntry, ReleaseId,
    State, SweepEntry, SweepLibrary, SweepLink,
};

/// Releases that a node has beside the two of an upgrade.
const RELEASES: usize = 16;
/// A number as long as any that a node comes to.
const GENERATION: u64 = 9_999_999_999;

/// The instances of a release are more than a catalog has room for while the release is upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "its components have {instances} instances in all, and the catalog of a node has room for {room} of them while it is \
     upgraded: lower `instances` in the component manifests"
)]
pub struct TooManyInstances {
    /// How many there are.
    pub instances: u32,
    /// How many of them there may be.
    pub room: u32,
}

/// Whether an upgrade from a release to one of as many instances fits the catalog, its way back kept.
///
/// # Errors
///
/// [`TooManyInstances`].
pub fn have_room(
    release: &Release,
    parts: &[(Component, Option<Appup>)],
) -> Result<(), TooManyInstances> {
    let running = parts.iter().filter(|(component, _)| {
        let part = release.component(&component.name);
        part.is_some_and(|part| part.start.runs())
    });
    let mut state = without_instances(release);
    let without = bytes_of(&state);
    let mut instances = 0;
    for (component, appup) in running {
        instances += component.instances;
        add(&mut state, component, appup.as_ref(), component.instances);
    }
    let needed = bytes_of(&state);
    if needed <= PAYLOAD_LIMIT {
        return Ok(());
    }
    // The numbers of the first instances are shorter: so many of them need no more than their share.
    let (left, of_all) = (PAYLOAD_LIMIT.saturating_sub(without), needed - without);
    let room = u64::from(instances) * left as u64 / of_all as u64;
    Err(TooManyInstances {
        instances,
        room: u32::try_from(room).unwrap_or(instances),
    })
}

/// The length of a state's payload.
fn bytes_of(state: &State) -> usize {
    serde_json::to_vec(state).map_or(usize::MAX, |payload| payload.len())
}

/// A state of an unconfirmed upgrade without its instances: all else at the length that it may well have.
fn without_instances(release: &Release) -> State {
    let id = ReleaseId::new(&release.name, release.version.to_string());
    let hash = "0".repeat(64);
    let known = ReleaseEntry {
        release: id.clone(),
        manifest: hash.clone(),
        sequence: GENERATION,
        epoch: GENERATION,
        ran: false,
    };
    State {
        current: Some(id.clone()),
        permanent: Some(id.clone()),
        previous: Some(Previous {
            release: id.clone(),
            regions: Vec::new(),
            plan_id: hash.clone(),
            reset: Vec::new(),
        }),
        unconfirmed_since_ms: Some(u64::MAX),
        next_generation: GENERATION,
        sequence: GENERATION,
        releases: vec![known; RELEASES],
        journal: Some(Mark {
            sequence: GENERATION,
            chain: hash.clone(),
        }),
        program_before: Some(ProgramBefore {
            release: id,
            blake3: hash,
        }),
        ..State::default()
    }
}

/// Adds the instances of a component, as an upgrade of it names them.
fn add(state: &mut State, component: &Component, appup: Option<&Appup>, instances: u32) {
    let name = &component.name;
    let version = component.version.to_string();
    let fingerprint = "0".repeat(32);
    let regions = (0..instances).map(|instance| RegionEntry {
        component: name.clone(),
        instance,
        generation: GENERATION,
        file: format!("{name}.{instance}.{GENERATION}"),
        fingerprint: fingerprint.clone(),
        version: version.clone(),
    });
    let regions: Vec<RegionEntry> = regions.collect();
    let release = state
        .current
        .clone()
        .unwrap_or_else(|| ReleaseId::new("", ""));
    if let Some(previous) = &mut state.previous {
        previous.regions.extend(regions.iter().cloned());
    }
    state.regions.extend(regions);
    state.migrations.push(Migrated {
        component: name.clone(),
        instances: (0..instances).map(|one| (one, GENERATION)).collect(),
        from_version: version.clone(),
        to_version: version.clone(),
        from_schema: fingerprint.clone(),
        to_schema: fingerprint.clone(),
        name: format!("{name}_from_{version}"),
        library: format!("{name} {version}"),
        strategy: "incremental".to_owned(),
        back: false,
        release: release.to_string(),
        at_ms: u64::MAX,
        operation: "apply-9999999999".to_owned(),
    });
    if !appup.is_some_and(incremental) {
        return;
    }
    state
        .sweeps
        .extend((0..instances).map(|instance| SweepEntry {
            component: name.clone(),
            instance,
            from: fingerprint.clone(),
            links: vec![SweepLink {
                to: fingerprint.clone(),
                libraries: vec![SweepLibrary {
                    release: release.clone(),
                    version: version.clone(),
                }],
                extra: "{}".to_owned(),
            }],
            now_ms: u64::MAX,
        }));
}

/// Whether an appup converts a state while it is served.
fn incremental(appup: &Appup) -> bool {
    let mut all = appup
        .up
        .iter()
        .chain(&appup.down)
        .flat_map(|entry| &entry.instructions);
    all.any(|one| matches!(&one.value, Instruction::Update(update) if update.strategy == Strategy::Incremental))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release() -> Release {
        let text = "name = \"kv\"\nversion = \"1.0.0\"\nnode = \"0.1.0\"\n\
                    [components]\nstore = { version = \"1.0.0\" }\n";
        Release::parse("kv.toml", text).unwrap_or_else(|found| panic!("{found}"))
    }

    fn store(instances: u32) -> Component {
        let text = format!(
            "name = \"store\"\nversion = \"1.0.0\"\nlibrary = \"store\"\ninstances = {instances}\n\
             [region]\ninitial_size = \"1MiB\"\nlimit = \"1GiB\"\ndurability = \"process\"\n"
        );
        Component::parse("store.toml", &text).unwrap_or_else(|found| panic!("{found}"))
    }

    fn appup(strategy: &str) -> Appup {
        let text = format!(
            "[[up]]\nfrom = \"*\"\ninstructions = [\n\
             {{ update = \"store\", change = {{ advanced = {{}} }}, strategy = \"{strategy}\" }},\n]\n"
        );
        Appup::parse("store.appup.toml", &text).unwrap_or_else(|found| panic!("{found}"))
    }

    #[test]
    fn what_is_said_to_fit_fits_and_no_more() {
        let release = release();
        for appup in [None, Some(appup("eager")), Some(appup("incremental"))] {
            let of = |instances| [(store(instances), appup.clone())];
            assert_eq!(have_room(&release, &of(1)), Ok(()));
            let refused = have_room(&release, &of(1024)).expect_err("too many");
            assert_eq!(refused.instances, 1024);
            assert!(refused.room > 50, "{refused}");
            assert_eq!(have_room(&release, &of(refused.room)), Ok(()));
            let more = refused.room + refused.room / 50 + 2;
            assert!(have_room(&release, &of(more)).is_err(), "{more}");
        }
    }

    /// What is counted is what a catalog would be asked to hold.
    #[test]
    fn a_catalog_takes_a_state_that_is_said_to_fit() {
        let release = release();
        let room = have_room(&release, &[(store(1024), None)])
            .expect_err("too many")
            .room;
        let mut state = without_instances(&release);
        add(&mut state, &store(1024), None, room);
        let folder = tempfile::tempdir().expect("a folder");
        let mut catalog = super::super::Catalog::create(folder.path()).expect("a catalog");
        catalog.commit(state.clone()).expect("it fits");
        add(&mut state, &store(1024), None, room / 10);
        assert!(catalog.commit(state).is_err(), "and more does not");
    }

    #[test]
    fn what_does_not_run_needs_no_room() {
        let text = "name = \"kv\"\nversion = \"1.0.0\"\nnode = \"0.1.0\"\n\
                    [components]\nstore = { version = \"1.0.0\", start = \"load\" }\n";
        let release = Release::parse("kv.toml", text).unwrap_or_else(|found| panic!("{found}"));
        assert_eq!(have_room(&release, &[(store(1024), None)]), Ok(()));
    }
}
