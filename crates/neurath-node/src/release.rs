//! A built release on disk: a folder whose every byte is accounted for. `docs/package-format.md`
//! describes it.

mod disk;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use neurath_manifest::{Appup, Component, Diagnostics, Release, Relup};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::catalog::{ReleaseId, have_room};
pub use crate::file_bytes::FileBytes;
use crate::handover::NodeDescription;
use crate::package::Seal;
use disk::{
    Body, PROGRAM, PROGRAM_DESCRIPTION, RELEASE, RELUP, SEAL, damaged, entries, fill, io_error,
    is_code, parse_manifest, read_manifest, read_seal, read_verified, refuse_unknown, sync,
    sync_folder, write_seal,
};
pub(crate) use disk::{MANIFEST, MAX_MANIFEST, begin_part, create_in_part};

/// The format that this node writes and reads.
pub const FORMAT: u32 = 1;

/// Why a folder is not a release that can be used.
#[derive(Debug, Error)]
pub enum ReleaseError {
    /// The system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is on disk is not what `MANIFEST.json` says, or that is damaged itself.
    #[error("{path}: {problem}. Build the release again, or copy it again as a whole", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The release was packed in a format of another time.
    #[error(
        "{path} is a release in format {found}, and this version of Neurath reads format {FORMAT}: \
         build it with the `neurath` command of this version",
        path = path.display()
    )]
    Format {
        /// The manifest.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// A file that does not say what it must.
    #[error(transparent)]
    Content(#[from] Diagnostics),
    /// Files that do not fit each other.
    #[error("release {release}: {problem}")]
    Unfit {
        /// The release.
        release: String,
        /// What does not fit.
        problem: String,
    },
    /// There is another release in the place.
    #[error(
        "{path} exists, with other contents: a release never changes; give the new one a new \
         version, or remove the folder if it was never in use",
        path = .0.display()
    )]
    Exists(PathBuf),
}

/// A file of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its path in the release's folder.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its BLAKE3 hash, 64 lower-case hex digits.
    pub blake3: String,
}

/// What a release is made of, for [`ReleasePackage::assemble`].
#[derive(Debug, Clone)]
pub struct Sources {
    /// The release file, and the name to use for it in diagnostics.
    pub release: (String, String),
    /// The relup, likewise.
    pub relup: Option<(String, String)>,
    /// The components, in any order.
    pub components: Vec<ComponentSources>,
    /// The node's program, where the release names one (`node_program`).
    pub node: Option<NodeSources>,
}

/// The node's program of a release.
#[derive(Debug, Clone)]
pub struct NodeSources {
    /// The program's file.
    pub program: PathBuf,
    /// What it says of itself.
    pub description: NodeDescription,
}

/// What a component of a release is made of.
#[derive(Debug, Clone)]
pub struct ComponentSources {
    /// The component's manifest, and the name to use for it in diagnostics.
    pub manifest: (String, String),
    /// The component's appup, likewise.
    pub appup: Option<(String, String)>,
    /// The library's file.
    pub library: PathBuf,
}

/// A verified release.
#[derive(Debug, Clone)]
pub struct ReleasePackage {
    dir: PathBuf,
    hash: blake3::Hash,
    files: BTreeMap<String, FileEntry>,
    texts: BTreeMap<String, String>,
    release: Release,
    components: BTreeMap<String, Component>,
    appups: BTreeMap<String, Appup>,
    relup: Option<Relup>,
    node: Option<NodeDescription>,
    seal: Option<Seal>,
}

impl ReleasePackage {
    /// Writes the release `NAME-VERSION` into the folder `dest`, in one step: it is there as a
    /// whole or not at all. The same release in the place is left as it is.
    ///
    /// # Errors
    ///
    /// A source is wrong or missing, another release is in the place, or the system refused.
    pub fn assemble(dest: &Path, sources: &Sources) -> Result<ReleasePackage, ReleaseError> {
        let release = Release::parse(&sources.release.0, &sources.release.1)?;
        let mut bodies = BTreeMap::new();
        let mut put = |path: String, body| match bodies.insert(path.clone(), body) {
            Some(_) => Err(ReleaseError::Unfit {
                release: full_name(&release.name, &release.version),
                problem: format!("{path} is given twice"),
            }),
            None => Ok(()),
        };
        put(RELEASE.to_owned(), Body::Text(sources.release.1.clone()))?;
        if let Some((file, text)) = &sources.relup {
            Relup::parse(file, text)?;
            put(RELUP.to_owned(), Body::Text(text.clone()))?;
        }
        let mut parts = Vec::new();
        for source in &sources.components {
            let (file, text) = &source.manifest;
            let component = Component::parse(file, text)?;
            let appup = source.appup.as_ref();
            let appup = appup
                .map(|(file, text)| Appup::parse(file, text))
                .transpose()?;
            let stem = full_name(&component.name, &component.version);
            put(format!("components/{stem}.toml"), Body::Text(text.clone()))?;
            put(
                format!("lib/{stem}.so"),
                Body::Library(source.library.clone()),
            )?;
            if let Some((_, text)) = &source.appup {
                put(
                    format!("appups/{stem}.appup.toml"),
                    Body::Text(text.clone()),
                )?;
            }
            parts.push((component, appup));
        }
        have_room(&release, &parts).map_err(|problem| ReleaseError::Unfit {
            release: full_name(&release.name, &release.version),
            problem: problem.to_string(),
        })?;
        if let Some(node) = &sources.node {
            put(PROGRAM.to_owned(), Body::Library(node.program.clone()))?;
            let text = Body::Text(node.description.to_json());
            put(PROGRAM_DESCRIPTION.to_owned(), text)?;
        }
        let id = ReleaseId::new(&release.name, release.version.to_string());
        write(dest, &id, &bodies, None)
    }

    /// Opens the release in `dir`, and verifies every file of it.
    ///
    /// # Errors
    ///
    /// Anything missing, changed, added or linked, and what does not parse or fit.
    pub fn open(dir: &Path) -> Result<ReleasePackage, ReleaseError> {
        let (manifest, hash) = read_manifest(dir)?;
        let files = entries(&dir.join(MANIFEST), manifest.files)?;
        refuse_unknown(dir, &files)?;
        let mut texts = BTreeMap::new();
        for entry in files.values() {
            let path = dir.join(&entry.path);
            if is_code(&entry.path) {
                read_verified(&path, entry, &mut io::sink())?;
            } else {
                let mut bytes = Vec::new();
                read_verified(&path, entry, &mut bytes)?;
                let text =
                    String::from_utf8(bytes).map_err(|_| damaged(&path, "it is not UTF-8"))?;
                texts.insert(entry.path.clone(), text);
            }
        }
        let text = |path: &str| {
            texts
                .get(path)
                .ok_or_else(|| damaged(&dir.join(path), "it is missing"))
        };
        // Without the folder that the release happens to be in, so that a plan made of its files
        // is the same on every machine.
        let folder = dir.file_name().unwrap_or_default().to_string_lossy();
        let shown = |path: &str| format!("{folder}/{path}");
        let release = Release::parse(&shown(RELEASE), text(RELEASE)?)?;
        let relup = match texts.get(RELUP) {
            Some(text) => Some(Relup::parse(&shown(RELUP), text)?),
            None => None,
        };
        let mut package = ReleasePackage {
            dir: dir.to_owned(),
            hash,
            files,
            release,
            relup,
            components: BTreeMap::new(),
            appups: BTreeMap::new(),
            texts: BTreeMap::new(),
            node: None,
            seal: read_seal(dir)?,
        };
        if let Some(seal) = &package.seal {
            let of = seal.statement();
            let stated = (&of.name, &of.version, of.manifest.as_str());
            if stated != (&manifest.name, &manifest.version, hash.to_hex().as_str()) {
                return Err(damaged(
                    &dir.join(SEAL),
                    "it is the seal of another release",
                ));
            }
        }
        let unfit = |problem: String| ReleaseError::Unfit {
            release: full_name(&manifest.name, &manifest.version),
            problem,
        };
        let own = (&package.release.name, package.release.version.to_string());
        if own != (&manifest.name, manifest.version.clone()) {
            return Err(unfit(format!(
                "{RELEASE} is that of {}",
                full_name(own.0, &own.1)
            )));
        }
        let mut expected = BTreeSet::from([RELEASE.to_owned(), RELUP.to_owned()]);
        for wanted in &package.release.components {
            let stem = full_name(&wanted.name, &wanted.version);
            let file = format!("components/{stem}.toml");
            let library = format!("lib/{stem}.so");
            let appup = format!("appups/{stem}.appup.toml");
            if !package.files.contains_key(&file) || !package.files.contains_key(&library) {
                return Err(unfit(format!(
                    "it lists {stem}, but has no {file} with {library}: give that component to \
                     the build"
                )));
            }
            let component = Component::parse(&shown(&file), text(&file)?)?;
            if component.name != wanted.name || component.version != wanted.version {
                let other = full_name(&component.name, &component.version);
                return Err(unfit(format!("{file} is that of {other}")));
            }
            if let Some(text) = texts.get(&appup) {
                let parsed = Appup::parse(&shown(&appup), text)?;
                package.appups.insert(component.name.clone(), parsed);
            }
            package.components.insert(component.name.clone(), component);
            expected.extend([file, library, appup]);
        }
        if let Some(program) = &package.release.node_program {
            if !package.files.contains_key(PROGRAM) {
                return Err(unfit(format!(
                    "it names the node program {program}, but has no {PROGRAM}: build it with that program"
                )));
            }
            let path = dir.join(PROGRAM_DESCRIPTION);
            let described = NodeDescription::from_json(text(PROGRAM_DESCRIPTION)?);
            let described = described.map_err(|error| damaged(&path, error.to_string()))?;
            let wanted = &package.release.node;
            if described.version != wanted.to_string() {
                return Err(unfit(format!(
                    "it wants node {wanted}, and its node program is {}: correct `node`, or name another program",
                    described.version
                )));
            }
            package.node = Some(described);
            expected.extend([PROGRAM.to_owned(), PROGRAM_DESCRIPTION.to_owned()]);
        }
        if let Some(extra) = package.files.keys().find(|path| !expected.contains(*path)) {
            return Err(unfit(format!(
                "{extra} belongs to no component that it lists, nor to its node"
            )));
        }
        package.texts = texts;
        Ok(package)
    }

    /// Copies the release into the folder `dest`, verified on the way, in one step. The same
    /// release in the place is left as it is.
    ///
    /// # Errors
    ///
    /// A file was changed meanwhile, another release is in the place, or the system refused.
    pub fn install(&self, dest: &Path) -> Result<ReleasePackage, ReleaseError> {
        let body = |path: &String| match self.texts.get(path) {
            Some(text) => Body::Text(text.clone()),
            None => Body::Library(self.dir.join(path)),
        };
        let bodies = self
            .files
            .keys()
            .map(|path| (path.clone(), body(path)))
            .collect();
        let copy = write(dest, &self.id(), &bodies, self.seal.as_ref())?;
        if copy.hash != self.hash {
            let _ = fs::remove_dir_all(&copy.dir);
            return Err(damaged(&self.dir, "it was changed while it was copied"));
        }
        Ok(copy)
    }

    /// Its name and version.
    pub fn id(&self) -> ReleaseId {
        ReleaseId::new(self.name(), self.version())
    }

    /// What the package stated that it came in; nothing if it was built here.
    pub fn seal(&self) -> Option<&Seal> {
        self.seal.as_ref()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.release.name
    }

    /// Its version.
    pub fn version(&self) -> String {
        self.release.version.to_string()
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The hash of `MANIFEST.json`, and so of everything in it.
    pub fn hash(&self) -> blake3::Hash {
        self.hash
    }

    /// Its files, by path.
    pub fn files(&self) -> impl Iterator<Item = &FileEntry> {
        self.files.values()
    }

    /// The release file.
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// The manifest of a component.
    pub fn component(&self, name: &str) -> Option<&Component> {
        self.components.get(name)
    }

    /// The manifests of all components, by name.
    pub fn components(&self) -> &BTreeMap<String, Component> {
        &self.components
    }

    /// The appup of a component.
    pub fn appup(&self, component: &str) -> Option<&Appup> {
        self.appups.get(component)
    }

    /// The appups, by component.
    pub fn appups(&self) -> &BTreeMap<String, Appup> {
        &self.appups
    }

    /// The relup.
    pub fn relup(&self) -> Option<&Relup> {
        self.relup.as_ref()
    }

    /// The text of a file, by its path in the folder.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    /// The hash that the library of a component has.
    pub fn library_hash(&self, component: &str) -> Option<blake3::Hash> {
        blake3::Hash::from_hex(&self.library_entry(component)?.blake3).ok()
    }

    /// The library of a component, verified again.
    ///
    /// # Errors
    ///
    /// No such component, or the file was changed since the release was opened.
    pub fn library_bytes(&self, component: &str) -> Result<FileBytes, ReleaseError> {
        let entry = self
            .library_entry(component)
            .ok_or_else(|| ReleaseError::Unfit {
                release: full_name(self.name(), &self.version()),
                problem: format!("it has no component {component}"),
            })?;
        self.entry_bytes(entry)
    }

    /// What its node program says of itself, where it has one.
    pub fn node(&self) -> Option<&NodeDescription> {
        self.node.as_ref()
    }

    /// Its node program, verified again, and the program's hash; nothing if it has none.
    ///
    /// # Errors
    ///
    /// The file was changed since the release was opened.
    pub fn program_bytes(&self) -> Result<Option<(FileBytes, blake3::Hash)>, ReleaseError> {
        let Some(entry) = self.files.get(PROGRAM).filter(|_| self.node.is_some()) else {
            return Ok(None);
        };
        let bytes = self.entry_bytes(entry)?;
        let hash = blake3::hash(&bytes);
        Ok(Some((bytes, hash)))
    }

    /// A file of the release by its path, verified again.
    pub(crate) fn file_bytes(&self, path: &str) -> Result<FileBytes, ReleaseError> {
        let missing = || damaged(&self.dir.join(path), "it is missing");
        self.entry_bytes(self.files.get(path).ok_or_else(missing)?)
    }

    fn entry_bytes(&self, entry: &FileEntry) -> Result<FileBytes, ReleaseError> {
        let path = self.dir.join(&entry.path);
        let mut bytes = FileBytes::room(entry.size).map_err(io_error(&path))?;
        read_verified(&path, entry, &mut bytes)?;
        Ok(bytes)
    }

    fn library_entry(&self, component: &str) -> Option<&FileEntry> {
        let component = self.components.get(component)?;
        let stem = full_name(&component.name, &component.version);
        self.files.get(&format!("lib/{stem}.so"))
    }
}

fn full_name(name: &str, version: &impl ToString) -> String {
    format!("{name}-{}", version.to_string())
}

/// Where a release is made before it is moved to its place in `dest`.
pub(crate) fn part_path(dest: &Path, release: &ReleaseId) -> PathBuf {
    dest.join(format!(".{release}.{}.part", std::process::id()))
}

/// Removes what interrupted installations have left in a folder of releases. Nobody else may be
/// installing there.
pub(crate) fn remove_parts(dest: &Path) -> Result<(), ReleaseError> {
    for entry in fs::read_dir(dest).map_err(io_error(dest))? {
        let entry = entry.map_err(io_error(dest))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && (name.ends_with(".part") || name.ends_with(".removed")) {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a release's folder: first from its place, in one step.
pub(crate) fn remove(dest: &Path, release: &ReleaseId) -> Result<(), ReleaseError> {
    let place = dest.join(release.to_string());
    let gone = dest.join(format!(".{release}.{}.removed", std::process::id()));
    crate::fault::point("release.remove.before");
    match fs::rename(&place, &gone) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(&place)(error)),
        Ok(()) => {}
    }
    sync_folder(dest)?;
    crate::fault::point("release.remove.moved");
    remove_tree(&gone)?;
    crate::fault::point("release.remove.gone");
    Ok(())
}

fn remove_tree(path: &Path) -> Result<(), ReleaseError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path)(error)),
        _ => Ok(()),
    }
}

/// The manifest of a release as it lies there, if it still is the one that was verified.
pub(crate) fn manifest_bytes(release: &ReleasePackage) -> Result<Vec<u8>, ReleaseError> {
    let path = release.dir.join(MANIFEST);
    let bytes = fs::read(&path).map_err(io_error(&path))?;
    match blake3::hash(&bytes) == release.hash {
        true => Ok(bytes),
        false => Err(damaged(&path, "it was changed since it was verified")),
    }
}

/// The files that the manifest of this release lists, sorted by path.
pub(crate) fn listed(
    path: &Path,
    manifest: &[u8],
    release: &ReleaseId,
) -> Result<Vec<FileEntry>, ReleaseError> {
    let manifest = parse_manifest(path, manifest)?;
    if (&manifest.name, &manifest.version) != (&release.name, &release.version) {
        let other = full_name(&manifest.name, &manifest.version);
        return Err(damaged(path, format!("its manifest is that of {other}")));
    }
    Ok(entries(path, manifest.files)?.into_values().collect())
}

/// Writes a release beside its place, and moves it there.
fn write(
    dest: &Path,
    id: &ReleaseId,
    bodies: &BTreeMap<String, Body>,
    seal: Option<&Seal>,
) -> Result<ReleasePackage, ReleaseError> {
    fs::create_dir_all(dest).map_err(io_error(dest))?;
    let part = part_path(dest, id);
    let result = fill(&part, &id.name, &id.version, bodies).and_then(|()| place(&part, dest, seal));
    // There no more if it has been moved.
    let _ = fs::remove_dir_all(&part);
    result
}

/// Opens the release in the folder `part`, and moves it to its place in `dest`. The same release in
/// the place is left as it is, and gets the seal if that is a later one.
pub(crate) fn place(
    part: &Path,
    dest: &Path,
    seal: Option<&Seal>,
) -> Result<ReleasePackage, ReleaseError> {
    if let Some(seal) = seal {
        write_seal(part, seal)?;
    }
    sync(part)?;
    let package = ReleasePackage::open(part)?;
    let place = dest.join(package.id().to_string());
    let present = match ReleasePackage::open(&place) {
        _ if fs::symlink_metadata(&place).is_err() => None,
        // What is damaged is of use to nobody: this is how it is mended.
        Err(ReleaseError::Damaged { .. }) => {
            remove(dest, &package.id())?;
            None
        }
        opened => Some(opened?),
    };
    if let Some(mut present) = present {
        if present.hash != package.hash {
            return Err(ReleaseError::Exists(place));
        }
        if let Some(seal) = seal
            && present
                .seal
                .as_ref()
                .is_none_or(|known| supersedes(seal, known))
        {
            write_seal(&place, seal)?;
            present.seal = Some(seal.clone());
        }
        return Ok(present);
    }
    crate::fault::point("release.place.before-rename");
    fs::rename(part, &place).map_err(io_error(&place))?;
    crate::fault::point("release.place.after-rename");
    sync_folder(dest)?;
    Ok(ReleasePackage {
        dir: place,
        ..package
    })
}

/// Whether a seal says more than the one that a release has.
fn supersedes(new: &Seal, known: &Seal) -> bool {
    let rank = |seal: &Seal| (seal.statement().sequence, seal.signature().is_some());
    // Of the same rank, another key may have signed: the newcomer was admitted, the other may not be.
    rank(new) >= rank(known) && new != known
}

#[cfg(test)]
mod tests;
