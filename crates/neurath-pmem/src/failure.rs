//! Why a transaction of a test, or of a campaign, failed.

use crate::TxError;
use crate::region::RegionError;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// What was asked of the transaction.
    #[error(transparent)]
    Tx(#[from] TxError),
    /// The region.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// It was to fail.
    #[error("asked for")]
    AskedFor,
}
