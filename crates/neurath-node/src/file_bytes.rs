//! The bytes of a file in memory that goes back to the system as soon as they are not needed: a library may be
//! many megabytes, and what an allocator has had once it keeps for the next one. Nor is the file mapped: what cannot
//! be read, or is cut off meanwhile, is an error then, and no signal that ends the process.

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Deref;

use memmap2::MmapMut;

/// No file that is read whole has more bytes: with all that a debugger wants, a library has some hundred megabytes.
const LIMIT: u64 = 4 << 30;

/// See the module.
#[derive(Debug)]
pub struct FileBytes {
    memory: MmapMut,
    len: usize,
}

impl FileBytes {
    /// Room for `len` bytes and one more, so that it is seen if there are too many.
    pub(crate) fn room(len: u64) -> io::Result<FileBytes> {
        let room = usize::try_from(len.saturating_add(1)).unwrap_or(usize::MAX);
        let memory = MmapMut::map_anon(room)?;
        Ok(FileBytes { memory, len: 0 })
    }

    /// All of a file, as long as it is now; one of more than 4 GiB is refused.
    pub(crate) fn read(file: &File) -> io::Result<FileBytes> {
        let len = file.metadata()?.len();
        if len > LIMIT {
            let text = format!("it has {len} bytes, more than the {LIMIT} of any library");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        let mut bytes = FileBytes::room(len)?;
        let mut file = file.take(len);
        loop {
            match file.read(&mut bytes.memory[bytes.len..]) {
                Ok(0) => return Ok(bytes),
                Ok(read) => bytes.len += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl io::Write for FileBytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = (&mut self.memory[self.len..]).write(bytes)?;
        self.len += written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What takes no room on the disk would take it in memory.
    #[test]
    fn a_file_that_no_library_is_as_long_as_is_not_read() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(LIMIT + 1).unwrap();
        let error = FileBytes::read(&file).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        file.set_len(3).unwrap();
        assert_eq!(&*FileBytes::read(&file).unwrap(), &[0; 3]);
    }
}
