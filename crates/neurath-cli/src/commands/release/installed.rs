//! The releases that a node has.

use crate::control;
use crate::output::Output;
use crate::table::Table;
use anyhow::Context as _;
use neurath_node::catalog::{Catalog, ReleaseId};
use neurath_node::directory::TRUSTED_KEYS;
use neurath_node::package::{self, Seal, Statement};
use neurath_node::protocol::{Outcome, Request};
use neurath_node::release::ReleasePackage;
use neurath_node::release_handler::ReleaseInfo;
use neurath_node::trust::{TrustedKeys, check_numbers};
use serde_json::json;
use std::path::Path;

/// What a node has, whether it runs or not.
pub fn ask(dir: &Path) -> anyhow::Result<Vec<ReleaseInfo>> {
    match control::ask_or_offline(dir, Request::Releases)? {
        Outcome::Releases { releases, .. } => Ok(releases),
        other => control::unexpected(&other),
    }
}

pub fn which(dir: &Path, output: &Output) -> anyhow::Result<()> {
    let Outcome::Releases { releases, trust } = control::ask_or_offline(dir, Request::Releases)?
    else {
        anyhow::bail!("the node answered something else than it was asked");
    };
    let mut table = Table::new(&[
        "release",
        "status",
        "sequence>",
        "epoch>",
        "signed by",
        "problem",
    ]);
    for one in &releases {
        table.row([
            one.release.to_string().trim_end_matches('-').to_owned(),
            one.status
                .map_or_else(|| "not known".into(), |status| status.to_string()),
            one.sequence
                .map(|number| number.to_string())
                .unwrap_or_default(),
            one.epoch.to_string(),
            one.signer.clone().unwrap_or_default(),
            one.problem.clone().unwrap_or_default(),
        ]);
    }
    output.text(&table.render());
    output.json(&json!({ "kind": "releases", "releases": releases, "trust": trust }));
    Ok(())
}

pub fn unpack(
    dir: &Path,
    file: &Path,
    allow_older: bool,
    execute: bool,
    output: &Output,
) -> anyhow::Result<()> {
    if !execute {
        let catalog = Catalog::open(dir)?;
        let release = try_out(dir, &catalog, file, |_| allow_older)?.id();
        output.text(&format!("{release} would be unpacked; --execute does it"));
        output.json(&json!({ "kind": "unpack", "release": release, "done": false }));
        return Ok(());
    }
    let info = control::unpack(dir, file, allow_older)?;
    told(&info, output);
    Ok(())
}

/// Checks a package as the node would, without touching the node. `takes_older` says whether it may be older than
/// what was seen.
fn try_out(
    dir: &Path,
    catalog: &Catalog,
    file: &Path,
    takes_older: impl Fn(&Statement) -> bool,
) -> anyhow::Result<ReleasePackage> {
    let keys = TrustedKeys::read(&dir.join(TRUSTED_KEYS))?;
    let seen = &catalog.state().seen;
    let admit = |seal: &Seal| {
        let release = seal.statement().release();
        keys.check(&release, Some(seal))?;
        let seen = seen.get(&release.name);
        check_numbers(seal, seen, takes_older(seal.statement()))
    };
    let folder = tempfile::tempdir()?;
    Ok(package::unpack_if(file, folder.path(), admit)?.release)
}

/// The release of a package, once the node has it. Without `execute`, one that the node does not have is
/// only checked, and there is nothing to go on with.
pub fn unpacked(
    dir: &Path,
    file: &Path,
    allow_older: bool,
    execute: bool,
    output: &Output,
) -> anyhow::Result<Option<ReleaseId>> {
    let catalog = Catalog::open(dir)?;
    let is_there = |release: &ReleaseId, manifest: &str| {
        let known = catalog.state().entry(release);
        known.is_some_and(|known| known.manifest == manifest)
    };
    // One that was unpacked may be older than what was seen since.
    let package = try_out(dir, &catalog, file, |statement| {
        allow_older || is_there(&statement.release(), &statement.manifest)
    })?;
    let release = package.id();
    if is_there(&release, &package.hash().to_hex()) {
        return Ok(Some(release));
    }
    if execute {
        let info = control::unpack(dir, file, allow_older)?;
        output.progress(&format!("{} is unpacked", info.release));
        return Ok(Some(info.release));
    }
    output.text(&format!(
        "{release} would be unpacked, and then gone to; `neurath release unpack` alone takes it in, \
         and the plan can be seen then"
    ));
    output.json(&json!({ "kind": "unpack", "release": release, "done": false }));
    Ok(None)
}

pub fn check(dir: &Path, release: &ReleaseId, output: &Output) -> anyhow::Result<()> {
    let request = Request::Check {
        release: release.clone(),
    };
    let Outcome::Checked { release, planned } = control::ask_or_offline(dir, request)? else {
        anyhow::bail!("the node answered something else than it was asked");
    };
    let status = release.status.context("the node does not know it")?;
    let way = match &planned {
        Some(planned) => format!("can be gone to in {} steps", planned.steps.len()),
        None => String::from("is whole and trusted"),
    };
    output.text(&format!("{} is {status}, and {way}", release.release));
    output.json(&json!({ "kind": "release_checked", "release": release, "planned": planned }));
    Ok(())
}

pub fn remove(
    dir: &Path,
    release: &ReleaseId,
    execute: bool,
    output: &Output,
) -> anyhow::Result<()> {
    if !execute {
        let found = ask(dir)?.into_iter().find(|one| one.release == *release);
        let status = found.and_then(|one| one.status);
        output.text(&match status {
            Some(status) => {
                format!("{release}, which is {status}, would be removed; --execute does it")
            }
            None => format!("{release} is not there"),
        });
        output.json(
            &json!({ "kind": "remove", "release": release, "status": status, "done": false }),
        );
        return Ok(());
    }
    let request = Request::Remove {
        release: release.clone(),
    };
    match control::ask_or_offline(dir, request)? {
        Outcome::Removed { release, was_there } => {
            let what = if was_there {
                "is removed"
            } else {
                "was not there"
            };
            output.text(&format!("{release} {what}"));
            output.json(&json!({
                "kind": "remove", "release": release, "was_there": was_there, "done": true,
            }));
            Ok(())
        }
        other => control::unexpected(&other),
    }
}

pub fn set_unpacked(
    dir: &Path,
    release: &ReleaseId,
    execute: bool,
    output: &Output,
) -> anyhow::Result<()> {
    if !execute {
        output.text(&format!("{release} would be taken in; --execute does it"));
        output.json(&json!({ "kind": "unpack", "release": release, "done": false }));
        return Ok(());
    }
    let request = Request::SetUnpacked {
        release: release.clone(),
    };
    match control::ask_or_offline(dir, request)? {
        Outcome::Unpacked(info) => {
            told(&info, output);
            Ok(())
        }
        other => control::unexpected(&other),
    }
}

fn told(info: &ReleaseInfo, output: &Output) {
    let status = info
        .status
        .map(|status| status.to_string())
        .unwrap_or_default();
    let signer = match &info.signer {
        Some(key) => format!(", signed by {key}"),
        None => String::from(", by no key that is trusted"),
    };
    output.text(&format!("{} is {status}{signer}", info.release));
    output.json(&json!({ "kind": "unpacked", "release": info }));
}
