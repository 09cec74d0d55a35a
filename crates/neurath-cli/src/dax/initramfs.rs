//! The files that the machine boots with: an archive in the form that the kernel unpacks (cpio,
//! `newc`), made of this machine's programs and the libraries that they need.

use anyhow::{Context as _, bail};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_000;
const DEVICE: u32 = 0o020_600;

/// An archive that is being written.
#[derive(Debug)]
pub struct Archive<W: Write = BufWriter<File>> {
    out: W,
    names: BTreeSet<String>,
}

impl Archive {
    /// Begins an archive in a new file.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let file =
            File::create_new(path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self::new(BufWriter::new(file)))
    }
}

impl<W: Write> Archive<W> {
    fn new(out: W) -> Self {
        Self {
            out,
            names: BTreeSet::new(),
        }
    }

    /// Adds a file; the folders above it come by themselves. A name counts once.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn bytes(&mut self, name: &str, bytes: &[u8], executable: bool) -> anyhow::Result<()> {
        let mode = FILE | if executable { 0o755 } else { 0o644 };
        self.entry(name, mode, (0, 0), bytes)
    }

    /// Adds a folder.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn folder(&mut self, name: &str) -> anyhow::Result<()> {
        self.entry(name, FOLDER, (0, 0), &[])
    }

    /// Adds a device by its numbers.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn device(&mut self, name: &str, major: u32, minor: u32) -> anyhow::Result<()> {
        self.entry(name, DEVICE, (major, minor), &[])
    }

    /// Adds a file of this machine under another name.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn copy(&mut self, name: &str, from: &Path) -> anyhow::Result<()> {
        let unread = || format!("cannot read {}", from.display());
        let mode = from.metadata().with_context(unread)?.permissions().mode();
        let bytes = std::fs::read(from).with_context(unread)?;
        self.bytes(name, &bytes, mode & 0o111 != 0)
    }

    /// Adds all files of a folder.
    ///
    /// # Errors
    ///
    /// If one cannot be read.
    pub fn tree(&mut self, name: &str, from: &Path) -> anyhow::Result<()> {
        self.folder(name)?;
        let unread = || format!("cannot read {}", from.display());
        for entry in from.read_dir().with_context(unread)? {
            let path = entry.with_context(unread)?.path();
            let last = path.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("{name}/{last}");
            if path.is_dir() {
                self.tree(&name, &path)?;
            } else {
                self.copy(&name, &path)?;
            }
        }
        Ok(())
    }

    /// Adds a program, and the libraries that it is linked with where it looks for them.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or a library of it is missing.
    pub fn program(&mut self, name: &str, from: &Path) -> anyhow::Result<()> {
        self.copy(name, from)?;
        for library in libraries(from)? {
            self.copy(&library.to_string_lossy(), &library)?;
        }
        Ok(())
    }

    /// Ends the archive.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn finish(mut self) -> anyhow::Result<W> {
        self.header("TRAILER!!!", 0, (0, 0), 0)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(
        &mut self,
        name: &str,
        mode: u32,
        device: (u32, u32),
        bytes: &[u8],
    ) -> anyhow::Result<()> {
        let name = name.trim_matches('/').to_owned();
        if let Some((above, _)) = name.rsplit_once('/') {
            self.entry(above, FOLDER, (0, 0), &[])?;
        }
        if name.is_empty() || !self.names.insert(name.clone()) {
            return Ok(());
        }
        let len = u32::try_from(bytes.len()).context("a file is too large for the archive")?;
        self.header(&name, mode, device, len)?;
        self.out.write_all(bytes)?;
        self.pad(bytes.len())
    }

    fn header(
        &mut self,
        name: &str,
        mode: u32,
        (major, minor): (u32, u32),
        len: u32,
    ) -> anyhow::Result<()> {
        let number = u32::try_from(self.names.len())?;
        let name_len = u32::try_from(name.len() + 1)?;
        // Number, mode, owner, group, links, time, length, device of the file, numbers of a
        // device, length of the name, checksum: none.
        let fields = [
            number, mode, 0, 0, 1, 0, len, 0, 0, major, minor, name_len, 0,
        ];
        self.out.write_all(b"070701")?;
        for field in fields {
            write!(self.out, "{field:08x}")?;
        }
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(6 + 8 * fields.len() + name.len() + 1)
    }

    fn pad(&mut self, len: usize) -> anyhow::Result<()> {
        Ok(self
            .out
            .write_all(&[0; 3][..len.next_multiple_of(4) - len])?)
    }
}

/// The libraries that a program is linked with, and its loader.
fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("cannot run ldd")?;
    linked(&String::from_utf8_lossy(&output.stdout))
        .with_context(|| format!("{} cannot run here", program.display()))
}

/// Reads what `ldd` writes; of a program without libraries it says so on stderr.
fn linked(said: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in said.lines() {
        let mut words = line.split_whitespace();
        let path = match (words.next(), words.next(), words.next()) {
            (Some(name), Some("=>"), Some("not")) => bail!("{name} is not installed"),
            (_, Some("=>"), Some(path)) => path,
            (Some(path), _, _) => path,
            _ => continue,
        };
        if path.starts_with('/') {
            found.push(PathBuf::from(path.trim_end_matches(':')));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_the_kernel_reads() -> anyhow::Result<()> {
        let mut archive = Archive::new(Vec::new());
        archive.device("dev/console", 5, 1)?;
        archive.bytes("/bin/a", b"12345", true)?;
        archive.bytes("bin/a", b"another", true)?;
        let out = archive.finish()?;
        assert!(out.len().is_multiple_of(4));
        let mut at = 0;
        let mut found = Vec::new();
        loop {
            let field = |n: usize| {
                let text = std::str::from_utf8(&out[at + 6 + 8 * n..][..8]).expect("digits");
                usize::from_str_radix(text, 16).expect("a number")
            };
            assert_eq!(&out[at..at + 6], b"070701");
            let (mode, len, name_len) = (field(1), field(6), field(11));
            let name = &out[at + 110..][..name_len - 1];
            let data = (at + 110 + name_len).next_multiple_of(4);
            found.push((
                String::from_utf8_lossy(name).into_owned(),
                mode,
                out[data..data + len].to_vec(),
            ));
            at = (data + len).next_multiple_of(4);
            if name == b"TRAILER!!!" {
                break;
            }
        }
        assert_eq!(at, out.len());
        let names: Vec<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["dev", "dev/console", "bin", "bin/a", "TRAILER!!!"]);
        assert_eq!(found[1].1, 0o020_600);
        assert_eq!(
            (found[3].1, found[3].2.as_slice()),
            (0o100_755, &b"12345"[..])
        );
        Ok(())
    }

    #[test]
    fn libraries_are_read_and_missing_ones_told() {
        let said = "\tlinux-vdso.so.1 (0x00007ff)\n\tlibc.so.6 => /lib/libc.so.6 (0x00)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00)\n";
        let found = linked(said).expect("all there");
        assert_eq!(
            found,
            [
                Path::new("/lib/libc.so.6"),
                Path::new("/lib64/ld-linux-x86-64.so.2")
            ]
        );
        assert!(linked("\tlibx.so => not found\n").is_err());
        assert!(linked("").expect("static").is_empty());
    }
}
