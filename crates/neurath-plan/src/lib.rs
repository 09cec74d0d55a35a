//! From manifests to an ordered upgrade script.
