//! Which pages commits have stored to since somebody began to copy the region.

use std::sync::Arc;

use super::dirty::DirtyPages;
use super::format;

/// Says which watch is meant. As long as somebody other than the region has it, what is stored to is noted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched(Arc<()>);

impl Watched {
    /// Whether both are of the same watch.
    pub(crate) fn is(&self, other: &Watched) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The pages that were stored to.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    watched: Watched,
    pages: DirtyPages,
}

impl Watch {
    /// Who began it has this, too.
    pub(crate) fn watched(&self) -> &Watched {
        &self.watched
    }

    /// Whether nobody will ask for it any more.
    pub(super) fn is_over(&self) -> bool {
        Arc::strong_count(&self.watched.0) == 1
    }

    /// Notes what a record stores: to be called before the first of it is.
    pub(super) fn note(&mut self, record: &[u8], words: usize) {
        for (at, (offset, second)) in format::record_pairs(record).enumerate() {
            let len = if at < words {
                size_of::<u64>() as u64
            } else {
                second
            };
            self.pages.mark(offset, len);
        }
    }

    /// The pages within a range that were stored to, those beside each other as one: their offset and length, cut
    /// at the range's end.
    pub(crate) fn stored(&self, offset: u64, len: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.pages.runs(offset, len)
    }
}
