//! Every place of the region's code that orders its stores.

use std::collections::BTreeSet;
use std::panic::Location;

/// A place that sends something to the medium or waits for it: by the functions of
/// [`Media`](crate::region::Media) that track their caller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Site {
    pub(crate) file: &'static str,
    pub(crate) line: u32,
}

impl std::fmt::Display for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

macro_rules! sources {
    ($($file:literal),*) => {
        /// The conversion, and the files of `region/` that are not tests, but for the media
        /// themselves.
        const SOURCES: &[(&str, &str)] = &[
            ("migrate.rs", include_str!("../migrate.rs")),
            $(($file, include_str!(concat!("../region/", $file))),)*
        ];
    };
}

sources!(
    "ablation.rs",
    "access.rs",
    "applied.rs",
    "commit.rs",
    "dirty.rs",
    "error.rs",
    "format.rs",
    "history.rs",
    "holes.rs",
    "journal.rs",
    "look.rs",
    "media.rs",
    "mod.rs",
    "open.rs",
    "ops.rs",
    "recovery.rs",
    "ring.rs",
    "snapshot.rs",
    "space.rs",
    "space/lent.rs",
    "space/load.rs",
    "space/segments.rs",
    "space/sums.rs",
    "superblock.rs",
    "sweep.rs",
    "sweep/collect.rs",
    "sweep/convert.rs",
    "sweep/plan.rs",
    "sweep/reach.rs",
    "sweep/record.rs",
    "tee.rs",
    "watch.rs",
    "write_set.rs"
);

impl Site {
    pub(crate) fn at(location: &'static Location<'static>) -> Site {
        Site {
            file: name(location.file()),
            line: location.line(),
        }
    }

    /// Whether it is this place.
    pub(crate) fn is_at(self, location: &Location<'_>) -> bool {
        self.line == location.line() && self.file == name(location.file())
    }
}

/// The last part of a path.
fn name(path: &str) -> &str {
    let cut = path.rfind(['/', '\\']).map_or(0, |at| at + 1);
    &path[cut..]
}

/// All sites, from the source itself, so that none can be forgotten.
pub(crate) fn all() -> BTreeSet<Site> {
    const CALLS: [&str; 5] = [".fence()", ".sync()", ".flush(", ".persist(", ".end_sync("];
    let mut sites = BTreeSet::new();
    for &(file, source) in SOURCES {
        for (number, line) in source.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if CALLS.iter().any(|call| code.contains(call)) {
                sites.insert(Site {
                    file: name(file),
                    line: number as u32 + 1,
                });
            }
        }
    }
    sites
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn files(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                files(&path, found);
            } else {
                found.push(path.to_str().expect("a name").to_owned());
            }
        }
    }

    #[test]
    fn no_file_of_the_region_is_forgotten() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/region");
        let mut found = Vec::new();
        files(&folder, &mut found);
        let prefix = format!("{}/", folder.display());
        let mut missing: Vec<&str> = found
            .iter()
            .filter_map(|path| path.strip_prefix(&prefix))
            .filter(|file| !file.contains("tests") && !file.starts_with("media/"))
            .filter(|file| !super::SOURCES.iter().any(|(name, _)| name == file))
            .collect();
        missing.sort_unstable();
        assert_eq!(missing, Vec::<&str>::new());
    }
}
