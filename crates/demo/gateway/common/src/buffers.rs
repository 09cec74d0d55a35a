//! Memory that is kept from one message to the next, so that serving allocates nothing.
//! Nothing here is needed: a library that is unloaded loses no more than some time.
//!
//! Not thread-locals, as one with a destructor would keep the library loaded.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kv_resp::Args;

/// A larger buffer is not kept.
const KEPT: usize = 1 << 20;
/// How many connections may have a long request under way at once without its being read
/// from its beginning each time.
const WAITING: usize = 1024;
/// Bytes of a request by which it is known again.
const HEAD: usize = 16;

/// What serving needs.
#[derive(Default)]
pub(crate) struct Buffers {
    /// Where the arguments are, and how far an incomplete request was read.
    pub(crate) args: Args,
    /// For answers and messages.
    pub(crate) out: Vec<u8>,
}

/// A request that is not whole yet.
struct Waiting {
    /// Bytes that there must be before it can be read on.
    needed: usize,
    head: Vec<u8>,
    args: Args,
}

struct Kept {
    buffers: Option<Buffers>,
    waiting: BTreeMap<u64, Waiting>,
}

static KEPT_BUFFERS: Mutex<Kept> = Mutex::new(Kept {
    buffers: None,
    waiting: BTreeMap::new(),
});

fn kept() -> MutexGuard<'static, Kept> {
    KEPT_BUFFERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Buffers for reading `bytes`; `None` if a request is under way that they cannot complete.
pub(crate) fn take(connection: u64, bytes: &[u8]) -> Option<Buffers> {
    let mut kept = kept();
    if !kept.waiting.is_empty()
        && let Some(waiting) = kept.waiting.get(&connection)
    {
        let known = bytes.starts_with(&waiting.head);
        if known && bytes.len() < waiting.needed {
            return None;
        }
        if let Some(waiting) = kept.waiting.remove(&connection).filter(|_| known) {
            return Some(Buffers {
                args: waiting.args,
                out: Vec::new(),
            });
        }
    }
    let mut buffers = kept.buffers.take().unwrap_or_default();
    buffers.args.reset();
    Some(buffers)
}

/// Gives buffers back.
pub(crate) fn put(buffers: Buffers) {
    // What many arguments took goes; a few thousand stay.
    if buffers.out.capacity() <= KEPT && buffers.args.len() <= KEPT / 64 {
        kept().buffers = Some(buffers);
    }
}

/// Remembers how far the request was read that the connection's bytes begin with.
pub(crate) fn wait(connection: u64, needed: usize, head: &[u8], buffers: Buffers) {
    let mut kept = kept();
    if kept.waiting.len() < WAITING {
        let head = head[..head.len().min(HEAD)].to_vec();
        kept.waiting.insert(
            connection,
            Waiting {
                needed,
                head,
                args: buffers.args,
            },
        );
    }
}

/// Forgets a connection's request.
pub(crate) fn forget(connection: u64) {
    let mut kept = kept();
    if !kept.waiting.is_empty() {
        kept.waiting.remove(&connection);
    }
}

/// Gives all memory back.
pub(crate) fn drop_all() {
    let mut kept = kept();
    kept.buffers = None;
    kept.waiting = BTreeMap::new();
}
