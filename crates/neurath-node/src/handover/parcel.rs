//! A record with its descriptors, passed from one process to another over a Unix socket.
//!
//! The sender writes a head: magic, version and number of descriptors. Descriptors follow, at most 128 with
//! each byte `D`, and the receiver answers each such byte with `A`: the system bounds how many descriptors are
//! under way. The record itself is the first of them, a sealed file in memory.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::record::{Record, RecordError};

const HEAD: [u8; 8] = *b"NEURKEEP";
/// The version of the way in which a parcel is passed.
pub(super) const VERSION: u32 = 1;
/// Descriptors in one message; the system takes 253.
const AT_ONCE: usize = 128;
/// The longest record: more is refused before memory is asked for.
const LONGEST: u64 = 16 << 30;

/// Why a parcel did not arrive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParcelError {
    /// The system refused, or the other side ended.
    #[error("the hand-over cannot be passed: {0}")]
    Io(#[from] io::Error),
    /// The other side speaks otherwise.
    #[error("the other side of the hand-over is of version {found}, and this one of {VERSION}")]
    Version {
        /// Its version.
        found: u32,
    },
    /// What came is no parcel.
    #[error("the hand-over came in disorder: {0}")]
    Disorder(&'static str),
    /// The record is not taken.
    #[error("the hand-over record: {0}")]
    Record(#[from] RecordError),
}

/// A record as it came, with its descriptors by place.
#[derive(Debug)]
pub struct Parcel {
    record: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Parcel {
    /// Reads what came.
    ///
    /// # Errors
    ///
    /// [`RecordError`].
    pub fn open(self) -> Result<(Record, Descriptors), RecordError> {
        let descriptors = u32::try_from(self.descriptors.len()).unwrap_or(u32::MAX);
        let record = Record::decode(&self.record, descriptors)?;
        let all = self.descriptors.into_iter().map(Some).collect();
        Ok((record, Descriptors(all)))
    }

    /// Passes it on; it stays here as well.
    pub(super) fn pass(&self, to: &UnixStream) -> Result<(), ParcelError> {
        let descriptors: Vec<BorrowedFd<'_>> =
            self.descriptors.iter().map(|one| one.as_fd()).collect();
        send(to, &self.record, &descriptors)
    }
}

/// Descriptors by their place in the list, each to be taken once.
#[derive(Debug)]
pub struct Descriptors(Vec<Option<OwnedFd>>);

impl Descriptors {
    /// Takes one.
    ///
    /// # Errors
    ///
    /// There is none at this place any more.
    pub fn take(&mut self, place: u32) -> Result<OwnedFd, RecordError> {
        let found = self.0.get_mut(place as usize).and_then(Option::take);
        found.ok_or_else(|| RecordError::Field {
            field: "descriptors",
            text: format!("there is none at place {place}"),
        })
    }
}

/// Passes a record and its descriptors.
pub(super) fn send(
    to: &UnixStream,
    record: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), ParcelError> {
    let file = in_memory(record)?;
    let mut all = vec![file.as_fd()];
    all.extend_from_slice(descriptors);
    let mut stream = to;
    let mut head = Vec::from(HEAD);
    head.extend_from_slice(&VERSION.to_le_bytes());
    let count = u32::try_from(all.len()).map_err(|_| ParcelError::Disorder("too many"))?;
    head.extend_from_slice(&count.to_le_bytes());
    stream.write_all(&head)?;
    for some in all.chunks(AT_ONCE) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(some)) {
            return Err(ParcelError::Disorder("too many descriptors at once"));
        }
        let byte = [IoSlice::new(b"D")];
        sendmsg(to, &byte, &mut control, SendFlags::NOSIGNAL).map_err(io::Error::from)?;
        if read_byte(to)? != b'A' {
            return Err(ParcelError::Disorder("descriptors were not acknowledged"));
        }
    }
    Ok(())
}

/// Receives what [`send`] passes.
pub(super) fn receive(from: &UnixStream) -> Result<Parcel, ParcelError> {
    let mut stream = from;
    let mut head = [0; 16];
    stream.read_exact(&mut head)?;
    let number =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if head[..8] != HEAD {
        return Err(ParcelError::Disorder("its first bytes are another's"));
    }
    if number(8) != VERSION {
        return Err(ParcelError::Version { found: number(8) });
    }
    let count = number(12) as usize;
    let mut all: Vec<OwnedFd> = Vec::new();
    while all.len() < count {
        let before = all.len();
        receive_some(from, &mut all)?;
        if all.len() == before || all.len() > count {
            return Err(ParcelError::Disorder("another number of descriptors came"));
        }
        stream.write_all(b"A")?;
    }
    if all.is_empty() {
        return Err(ParcelError::Disorder("no record came"));
    }
    let file = File::from(all.remove(0));
    let length = file.metadata()?.len();
    if length > LONGEST {
        return Err(ParcelError::Disorder("the record is too long"));
    }
    let mut record = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut record, 0)?;
    Ok(Parcel {
        record,
        descriptors: all,
    })
}

fn receive_some(from: &UnixStream, all: &mut Vec<OwnedFd>) -> Result<(), ParcelError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = recvmsg(
        from,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    );
    if received.map_err(io::Error::from)?.bytes == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            all.extend(some);
        }
    }
    match byte[0] {
        b'D' => Ok(()),
        _ => Err(ParcelError::Disorder(
            "a byte that belongs to no descriptor",
        )),
    }
}

/// One byte of the other side.
pub(super) fn read_byte(from: &UnixStream) -> io::Result<u8> {
    let mut stream = from;
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// A file in memory that nobody can change any more.
fn in_memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(rustix::fs::memfd_create("neurath-handover", flags)?);
    file.write_all_at(bytes, 0)?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parcel_arrives_with_all_its_descriptors() {
        let (one, other) = UnixStream::pair().unwrap();
        let files: Vec<File> = (0..300_u32)
            .map(|number| {
                let file = tempfile::tempfile().unwrap();
                file.write_all_at(&number.to_le_bytes(), 0).unwrap();
                file
            })
            .collect();
        let record = vec![7; 100_000];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let all: Vec<BorrowedFd<'_>> = files.iter().map(|file| file.as_fd()).collect();
                send(&one, &record, &all).unwrap();
            });
            let parcel = receive(&other).unwrap();
            assert_eq!(parcel.record, record);
            assert_eq!(parcel.descriptors.len(), 300);
            for (number, file) in parcel.descriptors.into_iter().enumerate() {
                let mut bytes = [0; 4];
                File::from(file).read_exact_at(&mut bytes, 0).unwrap();
                assert_eq!(u32::from_le_bytes(bytes) as usize, number);
            }
        });
    }

    #[test]
    fn what_is_no_parcel_is_refused() {
        let told = |bytes: &[u8]| {
            let (one, other) = UnixStream::pair().unwrap();
            (&one).write_all(bytes).unwrap();
            drop(one);
            receive(&other).unwrap_err().to_string()
        };
        assert!(told(b"GET / HTTP/1.1\r\n\r\n").contains("another's"));
        let newer = [&HEAD[..], &9_u32.to_le_bytes(), &1_u32.to_le_bytes()].concat();
        assert!(told(&newer).contains("version 9"));
        let short = [&HEAD[..], &VERSION.to_le_bytes(), &2_u32.to_le_bytes()].concat();
        assert!(told(&short).contains("cannot be passed"));
        let none = [&short[..], b"D"].concat();
        assert!(told(&none).contains("another number"));
    }
}
