//! A look at a region's file that another process has open: read, not mapped, not locked.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::error::{FormatError, OpenError};
use super::format::{
    HEADER_AT, HEADER_COPY_AT, Header, PAGE, SCHEMA_AT, SUPERBLOCK_AT, Superblock,
};
use crate::schema::{Fingerprint, SchemaDesc};

/// Looks whether this code could open the region of a component's instance: header, schema and superblock are read and
/// checked as [`super::Region::open`] does it. Nothing is changed; the region may be in use. Gives the fingerprint of the
/// schema.
///
/// # Errors
///
/// [`OpenError`] says why it could not. What the log would complete is not looked at.
pub fn look_at(path: &Path, component: &str, instance: u32) -> Result<Fingerprint, OpenError> {
    let io = |source| OpenError::Io {
        action: "look at",
        path: path.into(),
        source,
    };
    let format = |source| OpenError::Format {
        path: path.into(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let page = |at: u64, bytes: u64| {
        super::format::require(length, at + bytes, "a region").map_err(format)?;
        let mut page = vec![0; bytes as usize];
        file.read_exact_at(&mut page, at).map_err(io)?;
        Ok(page)
    };
    let header = match Header::parse(&page(HEADER_AT, PAGE)?) {
        Ok(header) => header,
        Err(error @ (FormatError::Checksum { .. } | FormatError::Magic)) => {
            Header::parse(&page(HEADER_COPY_AT, PAGE)?).map_err(|_| format(error))?
        }
        Err(error) => return Err(format(error)),
    };
    if header.component != component || header.instance != instance {
        let name = |component: &str, instance| format!("{component}.{instance}");
        return Err(OpenError::Owner {
            path: path.into(),
            found: name(&header.component, header.instance),
            wanted: name(component, instance),
        });
    }
    let schema = page(SCHEMA_AT, header.schema_len.into())?;
    let decoded = SchemaDesc::decode(&schema).map_err(|error| format(error.into()))?;
    if xxh3_64(&schema) != header.schema_hash || decoded.fingerprint != header.fingerprint {
        return Err(format(FormatError::Checksum {
            what: "the schema".into(),
        }));
    }
    let slots = [page(SUPERBLOCK_AT[0], PAGE)?, page(SUPERBLOCK_AT[1], PAGE)?];
    Superblock::choose([&slots[0], &slots[1]], &header).map_err(format)?;
    Ok(header.fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::tests::create;

    #[test]
    fn a_region_in_use_is_looked_at_and_a_foreign_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("region");
        let region = create(&path);
        let found = look_at(&path, "test", 0).unwrap();
        assert_eq!(found, region.fingerprint());
        assert!(matches!(
            look_at(&path, "test", 1),
            Err(OpenError::Owner { .. })
        ));
        let other = folder.path().join("other");
        std::fs::write(&other, vec![7; 1 << 20]).unwrap();
        assert!(matches!(
            look_at(&other, "test", 0),
            Err(OpenError::Format { .. })
        ));
        std::fs::write(&other, b"").unwrap();
        assert!(matches!(
            look_at(&other, "test", 0),
            Err(OpenError::Format { .. })
        ));
    }
}
