//! From a built release to a package.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use flate2::{Compression, GzBuilder};
use tar::{EntryType, Header};
use thiserror::Error;

use super::{FORMAT, MAX_BYTES, PackageError, SIGNATURE, STATEMENT, Seal, Statement, io_error};
use crate::release::{ReleasePackage, manifest_bytes};

/// Why a statement was not signed.
#[derive(Debug, Error)]
#[error("the package cannot be signed: {0}")]
pub struct SignError(pub String);

/// Gives the signature of these bytes with this trusted comment, as minisign writes it.
pub type Sign<'a> = dyn FnMut(&[u8], &str) -> Result<String, SignError> + 'a;

/// Packs a release into the file `out`, in one step. The same release with the same numbers gives the
/// same bytes, but for the signature, which has randomness in it.
///
/// # Errors
///
/// The release was changed since it was opened, is too large, has too long a name, or is not
/// signed; or the system refused. No file is left then.
pub fn pack(
    release: &ReleasePackage,
    out: &Path,
    (sequence, epoch): (u64, u64),
    sign: Option<&mut Sign<'_>>,
) -> Result<Statement, PackageError> {
    let manifest = manifest_bytes(release)?;
    let bytes = release.files().map(|file| file.size).sum();
    if bytes > MAX_BYTES {
        return Err(PackageError::TooLarge {
            path: release.dir().to_owned(),
            what: "the release".to_owned(),
            limit: MAX_BYTES,
        });
    }
    let statement = Statement {
        neurath_package: FORMAT,
        name: release.name().to_owned(),
        version: release.version(),
        manifest: release.hash().to_hex().to_string(),
        manifest_size: manifest.len() as u64,
        files: release.files().count() as u64,
        bytes,
        sequence,
        epoch,
    };
    let wrong = |problem| PackageError::Statement {
        path: out.to_owned(),
        problem,
    };
    let text = statement
        .to_text()
        .map_err(|error| wrong(error.to_string()))?;
    let signature = match sign {
        Some(sign) => Some(sign(text.as_bytes(), &statement.comment())?),
        None => None,
    };
    let seal = Seal::new(text, signature).map_err(wrong)?;
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = out.with_file_name(name);
    let written = write(release, &seal, &manifest, &part).and_then(|()| {
        std::fs::rename(&part, out).map_err(io_error(out))?;
        let folder = match out.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        crate::directory::fsync_dir(folder).map_err(io_error(folder))
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written.map(|()| statement)
}

fn write(
    release: &ReleasePackage,
    seal: &Seal,
    manifest: &[u8],
    part: &Path,
) -> Result<(), PackageError> {
    let _ = std::fs::remove_file(part);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(part)
        .map_err(io_error(part))?;
    // No time, no file name: nothing in the head depends on when and where.
    let gzip = GzBuilder::new()
        .mtime(0)
        .write(BufWriter::new(file), Compression::best());
    let mut archive = tar::Builder::new(gzip);
    let mut put = |name: &str, bytes: &mut dyn Read, size: u64| {
        let mut header = Header::new_ustar();
        header.set_path(name)?;
        header.set_entry_type(EntryType::Regular);
        header.set_size(size);
        header.set_mode(0o444);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        archive.append(&header, bytes)
    };
    let mut put_text = |name: &str, bytes: &[u8]| {
        put(name, &mut &bytes[..], bytes.len() as u64).map_err(io_error(part))
    };
    put_text(STATEMENT, seal.text().as_bytes())?;
    if let Some(signature) = seal.signature() {
        put_text(SIGNATURE, signature.as_bytes())?;
    }
    put_text(crate::release::MANIFEST, manifest)?;
    for entry in release.files() {
        let bytes = release.file_bytes(&entry.path)?;
        put_text(&entry.path, &bytes)?;
    }
    let finish = || -> io::Result<File> {
        let writer = archive.into_inner()?.finish()?;
        writer.into_inner().map_err(io::IntoInnerError::into_error)
    };
    let mut file = finish().map_err(io_error(part))?;
    file.flush()
        .and_then(|()| file.sync_all())
        .map_err(io_error(part))
}
