//! What a file's medium can do, and what is made of it.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};

use super::line::LineFlush;
use super::mapping::{Kind, Mapping};

/// What a committed transaction survives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// The death of the process.
    #[default]
    Process,
    /// A loss of power.
    Power,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Durability::Process => "process",
            Durability::Power => "power",
        })
    }
}

/// How stores get to the medium.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Backend {
    /// They need not: the page cache survives the process.
    Process,
    /// The processor's caches survive a loss of power (eADR): a barrier is enough.
    Byte,
    /// Cache lines are written by the processor's instructions: DAX with `MAP_SYNC`.
    Line,
    /// Pages are written by the file system, and a batch of commits waits for them together.
    Page,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Process => "process",
            Backend::Byte => "byte",
            Backend::Line => "line",
            Backend::Page => "page",
        })
    }
}

/// What was found out about a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Detection {
    /// What was asked, and what the answer was, in order.
    pub steps: Vec<String>,
    /// How stores get to the medium; or why they cannot, as far as was asked for.
    pub outcome: Result<Backend, String>,
}

impl fmt::Display for Detection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.steps.join("; "))
    }
}

/// Where the kernel says what its persistent memory survives.
pub(super) const REGIONS: &str = "/sys/bus/nd/devices";

const MEMORY_SYSTEMS: [(u64, &str); 3] = [
    (0x0102_1994, "tmpfs"),
    (0x8584_58F6, "ramfs"),
    (0x9584_58F6, "hugetlbfs"),
];

const OTHER_SYSTEMS: [(u64, &str); 6] = [
    (0xEF53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683E, "btrfs"),
    (0x794C_7630, "overlayfs"),
    (0x6969, "nfs"),
    (0x2FC1_2FC1, "zfs"),
];

/// Finds out how `file` is made durable. Changes nothing.
#[must_use]
pub fn detect(file: &File, durability: Durability) -> Detection {
    let mut steps = Vec::new();
    let outcome = match durability {
        Durability::Process => {
            steps.push("`process` asks nothing of the medium".to_owned());
            Ok(Backend::Process)
        }
        Durability::Power => power(file, &mut steps),
    };
    if let Ok(backend) = outcome {
        steps.push(format!("backend `{backend}`"));
    }
    Detection { steps, outcome }
}

fn power(file: &File, steps: &mut Vec<String>) -> Result<Backend, String> {
    if is_dax(file, steps) {
        match map_sync(file) {
            Ok(()) => {
                steps.push("MAP_SYNC is granted".to_owned());
                let flush = LineFlush::detect();
                if caches_survive(Path::new(REGIONS), steps) {
                    return Ok(Backend::Byte);
                }
                if let Some(flush) = flush {
                    steps.push(format!("lines are written by `{}`", flush.name()));
                    return Ok(Backend::Line);
                }
                steps.push("the processor cannot write lines of 64 bytes".to_owned());
            }
            Err(error) => steps.push(format!("MAP_SYNC is refused ({error})")),
        }
    }
    let kind = kind_of(file)
        .map_err(|error| format!("the file system does not say what it is: {error}"))?;
    let name = name_of(kind);
    if let Some(memory) = name.filter(|name| MEMORY_SYSTEMS.iter().any(|(_, one)| one == name)) {
        steps.push(format!("the file system is {memory}"));
        return Err(format!(
            "{memory} is memory, and empty after a loss of power"
        ));
    }
    steps.push(match name {
        Some(name) => format!("the file system is {name}"),
        None => format!("the file system is of kind {kind:#x}"),
    });
    Ok(Backend::Page)
}

/// How a region's file is kept where `found` is the way to its medium, by its log.
///
/// # Errors
///
/// Why it is refused.
pub(in crate::region) fn with_log(found: Backend, journal: bool) -> Result<Backend, String> {
    match (found, journal) {
        // More than what was asked for is no harm.
        (_, true) => Ok(Backend::Page),
        (Backend::Page, false) => Err(
            "its log is not a journal, which an ordinary file needs: it was made for \
             durability `process`, or on DAX; give it durability `process`, or convert \
             it by an upgrade to a release that says `power`"
                .to_owned(),
        ),
        (other, false) => Ok(other),
    }
}

/// The number that the kernel gives a file's file system.
pub(super) fn kind_of(file: &File) -> io::Result<u64> {
    Ok(rustix::fs::fstatfs(file)?.f_type as u64 & 0xFFFF_FFFF)
}

/// Whether what a file holds is in memory and nowhere else.
pub(super) fn is_memory(file: &File) -> bool {
    let is = |kind| MEMORY_SYSTEMS.iter().any(|(memory, _)| *memory == kind);
    kind_of(file).is_ok_and(is)
}

/// The name of the file system with this number, if it is known.
pub(super) fn name_of(kind: u64) -> Option<&'static str> {
    let mut known = MEMORY_SYSTEMS.iter().chain(&OTHER_SYSTEMS);
    known
        .find(|(number, _)| *number == kind)
        .map(|(_, name)| *name)
}

/// Whether a mapping with `MAP_SYNC` is granted.
pub(super) fn map_sync(file: &File) -> io::Result<()> {
    Mapping::new(file, 4096, Kind::Synchronous).map(drop)
}

/// Whether a file is on DAX; none if the kernel does not know of that.
pub(super) fn dax(file: &File) -> io::Result<Option<bool>> {
    let found = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    let known = found.stx_attributes_mask.contains(StatxAttributes::DAX);
    Ok(known.then(|| found.stx_attributes.contains(StatxAttributes::DAX)))
}

fn is_dax(file: &File, steps: &mut Vec<String>) -> bool {
    let found = dax(file);
    steps.push(match &found {
        Ok(Some(true)) => "statx says DAX".to_owned(),
        Ok(Some(false)) => "statx says no DAX".to_owned(),
        Ok(None) => "statx knows of no DAX".to_owned(),
        Err(error) => format!("statx fails ({error})"),
    });
    matches!(found, Ok(Some(true)))
}

/// Whether all persistent memory of the machine says that caches survive.
pub(super) fn caches_survive(regions: &Path, steps: &mut Vec<String>) -> bool {
    let domains = match persistence_domains(regions) {
        Ok(domains) => domains,
        Err(error) => {
            steps.push(format!("no persistence domain can be read ({error})"));
            return false;
        }
    };
    if domains.is_empty() {
        steps.push("no persistence domain is told".to_owned());
        return false;
    }
    for (region, domain) in &domains {
        let warning = match domain.as_str() {
            "cpu_cache" | "memory_controller" => "",
            _ => ", so the kernel does not vouch for its writes",
        };
        steps.push(format!("{region} persists from `{domain}`{warning}"));
    }
    domains.iter().all(|(_, domain)| domain == "cpu_cache")
}

pub(super) fn persistence_domains(regions: &Path) -> io::Result<Vec<(String, String)>> {
    let mut domains = Vec::new();
    for entry in std::fs::read_dir(regions)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("region") {
            continue;
        }
        let domain = std::fs::read_to_string(entry.path().join("persistence_domain"));
        let domain = domain.unwrap_or_else(|error| match error.kind() {
            // virtio-pmem says nothing.
            io::ErrorKind::NotFound => "unknown".to_owned(),
            _ => error.to_string(),
        });
        domains.push((name, domain.trim().to_owned()));
    }
    domains.sort();
    Ok(domains)
}

#[cfg(test)]
mod tests {
    use super::{Backend, Durability, caches_survive, detect};

    #[test]
    fn memory_is_refused_by_its_name_and_never_replaced() {
        let Ok(dir) = tempfile::tempdir_in("/dev/shm") else {
            return;
        };
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(dir.path().join("file"))
            .expect("made");
        let found = detect(&file, Durability::Power);
        let refusal = found.outcome.expect_err("no medium survives");
        assert!(refusal.contains("tmpfs"), "{refusal}");
        assert!(found.steps.len() >= 2, "{:?}", found.steps);
        assert_eq!(
            detect(&file, Durability::Process).outcome,
            Ok(Backend::Process)
        );
    }

    #[test]
    fn caches_survive_only_if_every_region_says_so() {
        let dir = tempfile::tempdir().expect("a folder");
        let said = |domains: &[&str]| {
            for (number, domain) in domains.iter().enumerate() {
                let region = dir.path().join(format!("region{number}"));
                std::fs::create_dir_all(&region).expect("made");
                std::fs::write(region.join("persistence_domain"), domain).expect("written");
            }
            let mut steps = Vec::new();
            (caches_survive(dir.path(), &mut steps), steps)
        };
        assert!(!said(&[]).0);
        assert!(said(&["cpu_cache\n"]).0);
        assert!(said(&["cpu_cache\n", "cpu_cache\n"]).0);
        assert!(!said(&["cpu_cache\n", "memory_controller\n"]).0);
        let (survive, steps) = said(&["unknown\n"]);
        assert!(!survive && steps.iter().any(|step| step.contains("does not vouch")));
    }
}
