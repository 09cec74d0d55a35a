//! `neurath release …`

pub(super) mod installed;

use crate::build::{self, Which};
use crate::cli::{Folders, Release};
use crate::manifests::Project;
use crate::numbers;
use crate::output::Output;
use crate::signing;
use crate::table::Table;
use anyhow::anyhow;
use neurath_node::package::{self, EXTENSION, Seal};
use neurath_node::release::ReleasePackage;
use neurath_node::trust::{TrustedKeys, read_key};
use serde_json::json;
use std::path::{Path, PathBuf};

pub fn run(command: &Release, output: &Output) -> anyhow::Result<()> {
    match command {
        Release::Build {
            name,
            version,
            all: _,
            folders,
            out,
            replace,
        } => {
            let which = match (name, version) {
                (Some(name), Some(version)) => Which::These(name, std::slice::from_ref(version)),
                _ => Which::All,
            };
            build_releases(folders, which, out, *replace, output)
        }
        Release::Keygen { file, no_password } => keygen(file, !*no_password, output),
        Release::Pack {
            release,
            sequence,
            epoch,
            key,
            unsigned: _,
            from,
            out,
        } => {
            let out = out
                .clone()
                .unwrap_or_else(|| from.join(format!("{release}.{EXTENSION}")));
            let source = from.join(release.to_string());
            pack(&source, &out, (*sequence, *epoch), key.as_deref(), output)
        }
        Release::Verify { path, trust } => verify(path, trust, output),
        Release::Unpack {
            package,
            node,
            allow_older,
            execute,
        } => installed::unpack(&node.dir, package, *allow_older, *execute, output),
        Release::Which(node) => installed::which(&node.dir, output),
        Release::Check { release, node } => installed::check(&node.dir, release, output),
        Release::Remove {
            release,
            node,
            execute,
        } => installed::remove(&node.dir, release, *execute, output),
        Release::SetUnpacked {
            release,
            node,
            execute,
        } => installed::set_unpacked(&node.dir, release, *execute, output),
        Release::List { folders, out } => list(folders, out, output),
    }
}

fn keygen(file: &Path, with_password: bool, output: &Output) -> anyhow::Result<()> {
    let public = signing::generate(file, with_password)?;
    output.text(&format!(
        "{} signs packages: keep it secret\n{} is for the nodes that are to trust it",
        file.display(),
        public.display()
    ));
    output.json(&json!({ "kind": "keys", "secret": file, "public": public }));
    Ok(())
}

fn pack(
    source: &Path,
    out: &Path,
    numbers: (u64, u64),
    key: Option<&Path>,
    output: &Output,
) -> anyhow::Result<()> {
    let release = ReleasePackage::open(source)?;
    let key = key.map(signing::read_secret).transpose()?;
    let statement = match &key {
        Some(key) => {
            let mut sign = |bytes: &[u8], comment: &str| signing::sign(key, bytes, comment);
            package::pack(&release, out, numbers, Some(&mut sign))?
        }
        None => package::pack(&release, out, numbers, None)?,
    };
    let size = std::fs::metadata(out)?.len();
    let signed = if key.is_some() {
        "signed"
    } else {
        "not signed"
    };
    output.text(&format!(
        "{}: {}, {signed}, sequence {}, epoch {}",
        out.display(),
        numbers::bytes(size),
        statement.sequence,
        statement.epoch
    ));
    output.json(&json!({
        "kind": "packed",
        "file": out,
        "bytes": size,
        "signed": key.is_some(),
        "statement": statement,
    }));
    Ok(())
}

/// What is known of a release after it was verified.
fn verify(path: &Path, trust: &[PathBuf], output: &Output) -> anyhow::Result<()> {
    let mut trusted = TrustedKeys::default();
    for file in trust {
        let key = read_key(file).map_err(|problem| anyhow!("{}: {problem}", file.display()))?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        trusted.add(&name, key);
    }
    let folder = tempfile::tempdir()?;
    let release = if path.is_dir() {
        ReleasePackage::open(path)?
    } else {
        let admit = |seal: &Seal| {
            let release = seal.statement().release();
            trusted.check(&release, Some(seal)).map(drop)
        };
        package::unpack_if(path, folder.path(), admit)?.release
    };
    let signer = trusted.check(&release.id(), release.seal())?;
    let seal = release.seal();
    let signed = match (&signer, seal.and_then(Seal::signature)) {
        (Some(key), _) => format!("signed by {key}"),
        (None, Some(_)) => String::from("signed; `--trust` says by whose key"),
        (None, None) => String::from("not signed"),
    };
    let numbers = seal.map(|seal| {
        let statement = seal.statement();
        format!(
            ", sequence {}, epoch {}",
            statement.sequence, statement.epoch
        )
    });
    output.text(&format!(
        "{} is whole: {} files, hash {}, {signed}{}",
        release.id(),
        release.files().count(),
        &release.hash().to_hex()[..16],
        numbers.unwrap_or_default()
    ));
    output.json(&json!({
        "kind": "verified",
        "release": release.id(),
        "hash": release.hash().to_hex().as_str(),
        "statement": seal.map(Seal::statement),
        "signed": seal.is_some_and(|seal| seal.signature().is_some()),
        "signer": signer,
    }));
    Ok(())
}

fn build_releases(
    folders: &Folders,
    which: Which<'_>,
    out: &Path,
    replace: bool,
    output: &Output,
) -> anyhow::Result<()> {
    let mut table = Table::new(&["release", "files>", "size>", "hash", "folder"]);
    for package in build::build(folders, which, out, replace, output)? {
        let size = package.files().map(|file| file.size).sum();
        let files = package.files().count();
        let hash = package.hash().to_hex();
        table.row([
            format!("{}-{}", package.name(), package.version()),
            files.to_string(),
            numbers::bytes(size),
            hash[..16].to_owned(),
            package.dir().display().to_string(),
        ]);
        output.json(&json!({
            "kind": "built",
            "name": package.name(),
            "version": package.version(),
            "folder": package.dir(),
            "hash": hash.as_str(),
            "files": files,
            "bytes": size,
        }));
    }
    output.text(&table.render());
    Ok(())
}

fn list(folders: &Folders, out: &Path, output: &Output) -> anyhow::Result<()> {
    let project = Project::read(folders)?;
    let mut table = Table::new(&["release", "components", "upgraded from", "built"]);
    for ((name, version), file) in &project.releases {
        let components: Vec<String> = file
            .value
            .components
            .iter()
            .map(|one| format!("{} {}", one.name, one.version))
            .collect();
        let relup = project.relups.get(&(name.clone(), version.clone()));
        let bases: Vec<String> = relup
            .map(|relup| {
                relup
                    .value
                    .up
                    .iter()
                    .map(|entry| entry.base.to_string())
                    .collect()
            })
            .unwrap_or_default();
        let place = out.join(format!("{name}-{version}"));
        let built = place.exists().then(|| ReleasePackage::open(&place));
        let state = match &built {
            None => String::from("no"),
            Some(Ok(package)) => package.hash().to_hex()[..16].to_owned(),
            Some(Err(error)) => format!("damaged: {error}"),
        };
        output.json(&json!({
            "kind": "release",
            "name": name,
            "version": version.to_string(),
            "components": components,
            "bases": bases,
            "built": built.as_ref().is_some_and(Result::is_ok),
            "damaged": built.and_then(Result::err).map(|error| error.to_string()),
        }));
        table.row([
            format!("{name}-{version}"),
            components.join(", "),
            bases.join(", "),
            state,
        ]);
    }
    output.text(&table.render());
    Ok(())
}
