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
    "journal.rs",
    "media.rs",
    "mod.rs",
    "open.rs",
    "ops.rs",
    "recovery.rs",
    "ring.rs",
    "snapshot.rs",
    "space.rs",
    "superblock.rs",
    "tee.rs",
    "write_set.rs"
);

impl Site {
    pub(crate) fn at(location: &'static Location<'static>) -> Site {
        let file = location.file();
        let cut = file.rfind(['/', '\\']).map_or(0, |at| at + 1);
        Site {
            file: &file[cut..],
            line: location.line(),
        }
    }
}

/// All sites, from the source itself, so that none can be forgotten.
pub(crate) fn all() -> BTreeSet<Site> {
    const CALLS: [&str; 5] = [".fence()", ".sync()", ".flush(", ".persist(", ".end_sync("];
    let mut sites = BTreeSet::new();
    for &(file, source) in SOURCES {
        for (number, line) in source.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if CALLS.iter().any(|call| code.contains(call)) {
                let line = number as u32 + 1;
                sites.insert(Site { file, line });
            }
        }
    }
    sites
}
