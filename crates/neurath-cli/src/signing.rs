//! Keys and signatures, in minisign's format.

use crate::exit::CommandError;
use anyhow::{Context as _, anyhow};
use minisign::{KeyPair, SecretKey, SecretKeyBox};
use neurath_node::package::SignError;
use std::fs::OpenOptions;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The variable of the environment that a key's password is taken from.
pub const PASSWORD: &str = "NEURATH_KEY_PASSWORD";

/// Where the public key of a pair lies: beside the secret one, with `.pub`.
#[must_use]
pub fn public_path(secret: &Path) -> PathBuf {
    let mut name = secret.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// Makes a pair of keys: the secret one in `file`, which only its owner can read, the public one beside
/// it. Neither is overwritten.
///
/// # Errors
///
/// If a file is there, or cannot be written, or there is nobody to give a password.
pub fn generate(file: &Path, with_password: bool) -> anyhow::Result<PathBuf> {
    let public = public_path(file);
    for path in [file, &public] {
        if path.symlink_metadata().is_ok() {
            let message = format!(
                "{} is there already: keys are not overwritten",
                path.display()
            );
            return Err(CommandError::Usage(message).into());
        }
    }
    let pair = if with_password {
        KeyPair::generate_encrypted_keypair(password()?)
    } else {
        KeyPair::generate_unencrypted_keypair()
    };
    let pair = pair.map_err(|error| anyhow!("no key was made: {error}"))?;
    let comment = Some("Neurath secret key");
    let secret = pair.sk.to_box(comment).map_err(failed)?.into_string();
    write(file, &secret, 0o600)?;
    let text = pair.pk.to_box().map_err(failed)?.into_string();
    if let Err(error) = write(&public, &text, 0o644) {
        let _ = std::fs::remove_file(file);
        return Err(error);
    }
    Ok(public)
}

fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let mut open = OpenOptions::new();
    let file = open.write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    })
    .with_context(|| format!("cannot write {}", path.display()))
}

/// Reads a secret key.
///
/// # Errors
///
/// If it is none, or its password is wrong or cannot be asked for.
pub fn read_secret(file: &Path) -> anyhow::Result<SecretKey> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let boxed = || SecretKeyBox::from_string(&text).map_err(failed);
    if let Ok(key) = boxed()?.into_unencrypted_secret_key() {
        return Ok(key);
    }
    let password = password()?;
    boxed()?
        .into_secret_key(password)
        .map_err(|error| anyhow!("{}: {error}", file.display()))
}

/// The signature of these bytes.
///
/// # Errors
///
/// If the system has no randomness.
pub fn sign(key: &SecretKey, bytes: &[u8], comment: &str) -> Result<String, SignError> {
    let untrusted = Some("signature of a Neurath package");
    minisign::sign(None, key, bytes, Some(comment), untrusted)
        .map(minisign::SignatureBox::into_string)
        .map_err(|error| SignError(error.to_string()))
}

/// The password, if it is in the environment; else it will be asked for, where there is somebody.
fn password() -> anyhow::Result<Option<String>> {
    match std::env::var(PASSWORD) {
        Ok(password) => Ok(Some(password)),
        Err(_) if std::io::stdin().is_terminal() => Ok(None),
        Err(_) => Err(CommandError::Usage(format!(
            "the key needs a password, and there is no terminal to ask for it: set {PASSWORD}"
        ))
        .into()),
    }
}

fn failed(error: minisign::PError) -> anyhow::Error {
    anyhow!("the key cannot be used: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_pair_signs_what_the_node_checks() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("release.key");
        let public = generate(&file, false)?;
        assert_eq!(public, folder.path().join("release.key.pub"));
        let mode = |path: &Path| std::fs::metadata(path).map(|about| about.permissions().mode());
        assert_eq!(mode(&file)? & 0o777, 0o600);
        let before = std::fs::read(&file)?;
        assert!(generate(&file, false).is_err());
        assert_eq!(std::fs::read(&file)?, before);
        let signature = sign(&read_secret(&file)?, b"text", "a comment")?;
        assert!(signature.contains("trusted comment: a comment"));
        neurath_node::trust::read_key(&public).map_err(|problem| anyhow!(problem))?;
        assert!(read_secret(&public).is_err());
        Ok(())
    }
}
