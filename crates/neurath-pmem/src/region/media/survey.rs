//! All that a file's medium says of itself, whatever is asked of it: for people and tools.

use std::fs::File;
use std::path::Path;

use super::detect::{self, Backend, Detection, Durability};
use super::line::LineFlush;

/// What a file's medium and this machine's processor give.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Medium {
    /// The file system, or the number of its kind.
    pub file_system: String,
    /// Whether the file is on DAX; none if the kernel does not tell.
    pub dax: Option<bool>,
    /// Whether a mapping with `MAP_SYNC` is granted: page faults then return only when the file
    /// system's own data are durable.
    pub map_sync: bool,
    /// The instruction that writes a cache line to memory; none if the processor has no such.
    pub line_flush: Option<&'static str>,
    /// The machine's regions of persistent memory, and from where on each keeps what is stored.
    pub domains: Vec<(String, String)>,
    /// Whether all of them keep what is in the processor's caches (eADR).
    pub caches_survive: bool,
    /// How durability `power` would be had, and how that was found out.
    pub power: Detection,
}

impl Medium {
    /// Asks the kernel and the processor. The file is open for reading and writing, else
    /// `MAP_SYNC` is not granted. Changes nothing.
    #[must_use]
    pub fn of(file: &File) -> Medium {
        let mut unsaid = Vec::new();
        let regions = Path::new(detect::REGIONS);
        Medium {
            file_system: match detect::kind_of(file) {
                Ok(kind) => detect::name_of(kind).map_or(format!("{kind:#x}"), str::to_owned),
                Err(error) => error.to_string(),
            },
            dax: detect::dax(file).ok().flatten(),
            map_sync: detect::map_sync(file).is_ok(),
            line_flush: LineFlush::detect().map(LineFlush::name),
            domains: detect::persistence_domains(regions).unwrap_or_default(),
            caches_survive: detect::caches_survive(regions, &mut unsaid),
            power: detect::detect(file, Durability::Power),
        }
    }

    /// How a region with this durability, and a journal or not, is kept when it is opened here.
    ///
    /// # Errors
    ///
    /// Why it is refused.
    pub fn opens(&self, durability: Durability, journal: bool) -> Result<Backend, String> {
        let found = match durability {
            Durability::Process => Ok(Backend::Process),
            Durability::Power => self.power.outcome.clone(),
        };
        found.and_then(|found| detect::with_log(found, journal))
    }
}

#[cfg(test)]
mod tests {
    use super::{Backend, Durability, Medium};

    #[test]
    fn an_ordinary_file_has_what_its_detection_says() {
        let file = tempfile::tempfile().expect("a file");
        let medium = Medium::of(&file);
        let has_sync = medium
            .power
            .steps
            .iter()
            .any(|step| step == "MAP_SYNC is granted");
        assert_eq!(medium.map_sync, has_sync, "{medium:?}");
        // virtio-pmem is DAX without it.
        assert!(!has_sync || medium.dax == Some(true), "{medium:?}");
        assert!(!medium.file_system.is_empty());
        assert_eq!(
            medium.opens(Durability::Process, false),
            Ok(Backend::Process)
        );
        // A journal is never given up.
        assert_eq!(medium.opens(Durability::Process, true), Ok(Backend::Page));
        match medium.opens(Durability::Power, false) {
            Ok(backend) => assert!(has_sync && backend < Backend::Page, "{medium:?}"),
            Err(reason) => assert!(
                reason.contains("journal") || reason.contains("is memory"),
                "{reason}"
            ),
        }
    }
}
