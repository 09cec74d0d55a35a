//! A file's bytes as memory of this process's own: to look through all of them.

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};

use memmap2::{Advice, MmapMut, MmapOptions, UncheckedAdvice};

use super::detect;

/// A private mapping: the pages are the file's own until they are stored to, and what is stored
/// is not in the file.
#[derive(Debug)]
pub(crate) struct CopyOfFile(MmapMut);

/// What a thread brings in or gives back is at least so many bytes.
const PART: usize = 4 << 20;

impl CopyOfFile {
    /// The bytes of a file, which must not be made shorter meanwhile: who has its lock, or made it,
    /// sees to that. From a disk they are brought in at once, on all cores, so that one that
    /// cannot be read is an error here. Where a file is memory already there is none such, and
    /// each page is mapped with its neighbours when it is first looked at, which costs less.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn map(file: &File) -> io::Result<CopyOfFile> {
        // SAFETY: a private mapping. Others may not change the file, as said above.
        let map = unsafe { MmapOptions::new().map_copy(file) }?;
        if !detect::is_memory(file) {
            in_parts(map.len(), |from, len| {
                match map.advise_range(Advice::PopulateRead, from, len) {
                    // An older kernel brings them in one by one.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
                    other => other,
                }
            })?;
        }
        Ok(CopyOfFile(map))
    }
}

/// Does `work` with all of `len` bytes, on all cores: a part is where it begins and how long it is.
fn in_parts(len: usize, work: impl Fn(usize, usize) -> io::Result<()> + Sync) -> io::Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part = len.div_ceil(threads).next_multiple_of(PART);
    std::thread::scope(|scope| {
        let work = &work;
        let parts: Vec<_> = (0..len)
            .step_by(part)
            .map(|from| scope.spawn(move || work(from, part.min(len - from))))
            .collect();
        parts.into_iter().try_for_each(|part| {
            let ended = part.join();
            ended.unwrap_or_else(|_| Err(io::Error::other("a thread that reads panicked")))
        })
    })
}

impl Drop for CopyOfFile {
    fn drop(&mut self) {
        // To take pages out of a mapping takes as long as to bring them in, and unmapping does it
        // on one core.
        let _ = in_parts(self.0.len(), |from, len| {
            // SAFETY: whole pages of a mapping that nobody has a reference to any more: it is
            // dropped, and what it holds does not matter.
            unsafe {
                self.0
                    .unchecked_advise_range(UncheckedAdvice::DontNeed, from, len)
            }
        });
    }
}

impl Deref for CopyOfFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for CopyOfFile {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    /// Where files are memory, and where they are not, as far as this machine has both.
    fn files() -> Vec<File> {
        let folders = ["/dev/shm", env!("CARGO_MANIFEST_DIR")];
        let files = folders.map(|folder| tempfile::tempfile_in(folder).ok());
        files.into_iter().flatten().collect()
    }

    #[test]
    fn a_copy_has_the_bytes_of_the_file_and_keeps_what_is_stored_to_itself() {
        let files = files();
        assert!(!files.is_empty());
        for file in files {
            let len = 2 * PART + 4097;
            let bytes: Vec<u8> = (0..len).map(|at| (at / 4096) as u8).collect();
            file.write_all_at(&bytes, 0).expect("written");
            let mut copy = CopyOfFile::map(&file).expect("mapped");
            assert!(*copy == *bytes);
            copy[len - 1] ^= 1;
            drop(copy);
            let again = CopyOfFile::map(&file).expect("mapped");
            assert!(*again == *bytes);
        }
    }
}
