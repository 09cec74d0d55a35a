//! The kernel that the machine boots, and the modules that it needs there.

use crate::exit::CommandError;
use anyhow::{Context as _, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Persistent memory of both kinds, the file systems, and the network by which clients come. What
/// a kernel has built in has no module.
const WANTED: [&str; 8] = [
    "nfit",
    "nd_pmem",
    "virtio_pci",
    "virtio_pmem",
    "virtio_net",
    "crc32c_generic",
    "ext4",
    "xfs",
];

/// A kernel's image and its modules.
#[derive(Debug)]
pub struct Kernel {
    /// The image.
    pub image: PathBuf,
    /// Its version, as its modules' folder is called.
    pub version: String,
    modules: PathBuf,
}

impl Kernel {
    /// The kernel that was asked for, an image or one of Debian's packages, which is unpacked into
    /// `folder`; without, the newest in `/boot`.
    ///
    /// # Errors
    ///
    /// If there is none, or it has no modules; says how to get one.
    pub fn find(asked: Option<&Path>, folder: &Path) -> anyhow::Result<Self> {
        match asked {
            Some(package) if package.extension().is_some_and(|end| end == "deb") => {
                unpack(package, folder)?;
                Self::in_root(folder)?.with_context(|| {
                    format!("{} has no kernel with modules in it", package.display())
                })
            }
            Some(image) => Self::of_image(image, Path::new("/")),
            None => Self::in_root(Path::new("/"))?.ok_or_else(no_kernel),
        }
    }

    fn in_root(root: &Path) -> anyhow::Result<Option<Self>> {
        let boot = root.join("boot");
        let Ok(entries) = boot.read_dir() else {
            return Ok(None);
        };
        let mut images: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| version_of(path).is_some())
            .collect();
        images.sort();
        Ok(images
            .iter()
            .rev()
            .find_map(|image| Self::of_image(image, root).ok()))
    }

    fn of_image(image: &Path, root: &Path) -> anyhow::Result<Self> {
        let version = version_of(image).with_context(|| {
            format!(
                "{} is not called vmlinuz-VERSION, so its modules cannot be found",
                image.display()
            )
        })?;
        let folders = ["lib/modules", "usr/lib/modules"];
        let modules = folders
            .map(|folder| root.join(folder).join(&version))
            .into_iter()
            .find(|folder| folder.join("kernel").is_dir());
        Ok(Self {
            image: image.to_owned(),
            modules: modules.with_context(|| format!("kernel {version} has no modules here"))?,
            version,
        })
    }

    /// The modules that the machine needs, each after those that it needs itself: name and bytes.
    ///
    /// # Errors
    ///
    /// If one cannot be read.
    pub fn modules(&self) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let mut files = BTreeMap::new();
        collect(&self.modules.join("kernel"), &mut files)?;
        let mut order = Order {
            files: &files,
            seen: BTreeSet::new(),
            loaded: Vec::new(),
        };
        for name in WANTED {
            order.add(name)?;
        }
        Ok(order.loaded)
    }
}

fn no_kernel() -> anyhow::Error {
    CommandError::Found(String::from(
        "there is no kernel with modules in /boot: apt-get install linux-image-cloud-amd64, or \
         apt-get download the package it depends on (linux-image-VERSION-cloud-amd64) and name the \
         file with --kernel",
    ))
    .into()
}

fn version_of(image: &Path) -> Option<String> {
    let name = image.file_name()?.to_str()?;
    Some(name.strip_prefix("vmlinuz-")?.to_owned())
}

fn unpack(package: &Path, folder: &Path) -> anyhow::Result<()> {
    let status = Command::new("dpkg-deb")
        .arg("-x")
        .args([package, folder])
        .status()
        .context("cannot run dpkg-deb, which a kernel in a package needs")?;
    if !status.success() {
        bail!("dpkg-deb cannot unpack {} ({status})", package.display());
    }
    Ok(())
}

/// A module's name by its file; `-` and `_` are the same.
fn module_name(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    let name = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"]
        .iter()
        .find_map(|end| name.strip_suffix(end))?;
    Some(name.replace('-', "_"))
}

fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> anyhow::Result<()> {
    let unread = || format!("cannot read {}", folder.display());
    for entry in folder.read_dir().with_context(unread)? {
        let path = entry.with_context(unread)?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if let Some(name) = module_name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

struct Order<'a> {
    files: &'a BTreeMap<String, PathBuf>,
    seen: BTreeSet<String>,
    loaded: Vec<(String, Vec<u8>)>,
}

impl Order<'_> {
    fn add(&mut self, name: &str) -> anyhow::Result<()> {
        let name = name.replace('-', "_");
        let Some(file) = self.files.get(&name) else {
            return Ok(());
        };
        if !self.seen.insert(name.clone()) {
            return Ok(());
        }
        let bytes = plain(file)?;
        for needed in depends(&bytes) {
            self.add(&needed)?;
        }
        self.loaded.push((format!("{name}.ko"), bytes));
        Ok(())
    }
}

/// A module's bytes, which may be compressed in the file.
fn plain(file: &Path) -> anyhow::Result<Vec<u8>> {
    let unread = || format!("cannot read {}", file.display());
    let program = match file.extension().and_then(|end| end.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return std::fs::read(file).with_context(unread),
    };
    let output = Command::new(program)
        .arg("-dc")
        .arg(file)
        .output()
        .with_context(|| format!("cannot run {program}, which compressed modules need"))?;
    if !output.status.success() {
        bail!("{program} cannot unpack {}", file.display());
    }
    Ok(output.stdout)
}

/// What a module says that it needs.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"depends=";
    let fields = module.split(|&byte| byte == 0);
    let list = fields
        .filter_map(|field| field.strip_prefix(KEY))
        .next()
        .unwrap_or_default();
    String::from_utf8_lossy(list)
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_after_what_they_need() -> anyhow::Result<()> {
        let root = tempfile::tempdir()?;
        let kernel = root.path().join("lib/modules/6.1.0-x/kernel/drivers");
        std::fs::create_dir_all(&kernel)?;
        std::fs::create_dir_all(root.path().join("boot"))?;
        std::fs::write(root.path().join("boot/vmlinuz-6.1.0-x"), "")?;
        let module = |name: &str, needs: &str| {
            let text = format!("ELF\0license=GPL\0depends={needs}\0retpoline=Y\0");
            std::fs::write(kernel.join(name), text)
        };
        module("nfit.ko", "libnvdimm")?;
        module("libnvdimm.ko", "")?;
        module("nd_pmem.ko", "nd_btt,libnvdimm")?;
        module("nd-btt.ko", "libnvdimm")?;
        module("other.ko", "")?;
        let found = Kernel::in_root(root.path())?.context("a kernel")?;
        assert_eq!(found.version, "6.1.0-x");
        let names: Vec<String> = found.modules()?.into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            ["libnvdimm.ko", "nfit.ko", "nd_btt.ko", "nd_pmem.ko"]
        );
        Ok(())
    }

    #[test]
    fn a_kernel_that_is_not_there_is_told_with_what_to_do() -> anyhow::Result<()> {
        let root = tempfile::tempdir()?;
        assert!(Kernel::in_root(root.path())?.is_none());
        assert!(no_kernel().to_string().contains("--kernel"));
        let image = root.path().join("vmlinuz-1");
        assert!(Kernel::find(Some(&image), root.path()).is_err());
        assert!(Kernel::find(Some(Path::new("bzImage")), root.path()).is_err());
        Ok(())
    }
}
