//! The way of pages: what was stored is written to the file when that is asked for, and never
//! before, as the mapping is private.

use std::fs::File;
use std::io;
use std::thread::JoinHandle;

use rustix::io::{Errno, ReadWriteFlags};

/// What is under way to a file.
#[derive(Debug)]
pub(super) struct Pages {
    /// The same open file, for the thread that waits.
    again: File,
    waiting: Option<JoinHandle<Result<(), Errno>>>,
    /// The first error. What is in the file is unknown from then on, as the kernel forgets
    /// what it could not write: nothing is tried again.
    failed: Option<Errno>,
    /// Whether the kernel can write and wait in one call.
    writes_durably: bool,
}

fn sync(file: &File) -> Result<(), Errno> {
    loop {
        match rustix::fs::fdatasync(file) {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

impl Pages {
    pub(super) fn new(file: &File) -> io::Result<Pages> {
        Ok(Pages {
            again: file.try_clone()?,
            waiting: None,
            failed: None,
            writes_durably: true,
        })
    }

    fn note(&mut self, done: Result<(), Errno>) -> io::Result<()> {
        if let Err(error) = done {
            self.failed.get_or_insert(error);
        }
        match self.failed {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    fn put(
        &mut self,
        file: &File,
        mut at: u64,
        mut bytes: &[u8],
        flags: ReadWriteFlags,
    ) -> Result<(), Errno> {
        while !bytes.is_empty() {
            let part = [io::IoSlice::new(bytes)];
            let written = if flags.is_empty() {
                rustix::io::pwrite(file, bytes, at)
            } else {
                rustix::io::pwritev2(file, &part, at, flags)
            };
            match written {
                // No progress is possible, and no reason given.
                Ok(0) => return Err(Errno::IO),
                Ok(count) => {
                    at += count as u64;
                    bytes = &bytes[count..];
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes bytes; an error is told by the next that waits.
    pub(super) fn write(&mut self, file: &File, at: u64, bytes: &[u8]) {
        if self.failed.is_none() {
            let done = self.put(file, at, bytes, ReadWriteFlags::empty());
            // Kept, and told later.
            let _ = self.note(done);
        }
    }

    /// Writes bytes and waits for them, and for no others.
    pub(super) fn write_durably(&mut self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.note(Ok(()))?;
        if self.writes_durably {
            match self.put(file, at, bytes, ReadWriteFlags::DSYNC) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.writes_durably = false,
                done => return self.note(done),
            }
        }
        let done = self.put(file, at, bytes, ReadWriteFlags::empty());
        self.note(done.and_then(|()| sync(file)))
    }

    /// Waits for all that was written.
    pub(super) fn wait(&mut self, file: &File) -> io::Result<()> {
        self.note(Ok(()))?;
        // An error is told once to each open file: what the thread is told is not told here.
        if let Some(done) = self.end_wait(true) {
            done?;
        }
        let done = sync(file);
        self.note(done)
    }

    /// Begins to wait, on another thread, for all that was written until now.
    pub(super) fn begin_wait(&mut self) -> io::Result<()> {
        self.note(Ok(()))?;
        debug_assert!(self.waiting.is_none(), "one at a time");
        let file = self.again.try_clone()?;
        let thread = std::thread::Builder::new().name("neurath-sync".into());
        self.waiting = Some(thread.spawn(move || sync(&file))?);
        Ok(())
    }

    /// Whether that has ended, and how.
    pub(super) fn end_wait(&mut self, block: bool) -> Option<io::Result<()>> {
        if !block
            && self
                .waiting
                .as_ref()
                .is_some_and(|thread| !thread.is_finished())
        {
            return None;
        }
        let done = match self.waiting.take().map(JoinHandle::join) {
            Some(Ok(done)) => done,
            Some(Err(_)) => Err(Errno::IO),
            None => Ok(()),
        };
        Some(self.note(done))
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // A thread that is left must not outlive whoever may want the file next.
        let _ = self.end_wait(true);
    }
}
