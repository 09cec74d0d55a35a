//! Room that is made ready before it is needed, and given back when it is not, on a thread of its own:
//! the file is made longer, with its blocks and its pages in memory; or a hole is made. Both
//! may wait for the file system's own writes, for milliseconds where something else is being made durable;
//! whoever serves messages must not. Nor may it wait for this thread: while the file's blocks change, it
//! can neither be made longer nor have a page faulted in, so that what is ready needs neither.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FallocateFlags as Flags, SeekFrom};

use super::mapping::Mapping;

/// Bytes that are made ready at a time: as long as this takes the file's owner may have to wait when
/// it closes the file.
const PIECE: u64 = 256 << 10;

/// Bytes of pages that are faulted in at a time: meanwhile nobody else can change what memory the process has.
const PAGES: u64 = 64 << 10;

/// One file's room. Dropping it waits for a piece that is being made ready, and gives back what was not
/// used: the file ends where its owner has left it, and nothing holds it, or its lock, afterwards.
#[derive(Debug)]
pub(super) struct Ahead {
    shared: Arc<Shared>,
    /// The owner's end of the file, which may be longer.
    len: u64,
    /// Only what lies behind this was made ready by the thread.
    start: u64,
    /// Up to here it was asked for.
    asked: u64,
    /// Whether the file may be longer than `len` by the thread's doing.
    longer: bool,
}

#[derive(Debug)]
struct Shared {
    /// The file and its memory; none when the owner has gone.
    room: Mutex<Option<(File, Mapping)>>,
    gone: AtomicBool,
    /// Up to here the file has its blocks, by the thread's doing or its owner's. It only grows.
    ready: AtomicU64,
    /// Whether the thread could not make more: there may be no room left. Until its owner could.
    failed: AtomicBool,
    /// Places that have been given back, or could not be.
    given_back: Mutex<Vec<(u64, u64)>>,
}

struct Job {
    shared: Arc<Shared>,
    work: Work,
}

/// What is done to a file.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// Room from where it ends up to there.
    Room(u64),
    /// Blocks and pages of a place are given back: where it is, and how long.
    GiveBack(u64, u64),
}

/// What the present thread has asked of the system, in bytes.
#[cfg(test)]
#[derive(Clone, Copy, Default, Debug)]
pub(in crate::region) struct Asked {
    pub(in crate::region) reserved: u64,
    pub(in crate::region) faulted: u64,
}

#[cfg(test)]
impl Asked {
    pub(super) fn add(change: impl FnOnce(&mut Asked)) {
        ASKED.with_borrow_mut(change);
    }

    /// What a call asks for.
    pub(in crate::region) fn done(call: impl FnOnce()) -> Asked {
        ASKED.take();
        call();
        ASKED.take()
    }
}

#[cfg(test)]
thread_local! {
    static ASKED: std::cell::RefCell<Asked> = std::cell::RefCell::default();
}

/// The way to the thread, which serves all files of the process, one after the other.
static HELPER: Mutex<Option<Sender<Job>>> = Mutex::new(None);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands a job to the thread, which is made if there is none.
fn send(job: Job) -> io::Result<()> {
    let mut helper = lock(&HELPER);
    let job = match &*helper {
        Some(jobs) => match jobs.send(job) {
            Ok(()) => return Ok(()),
            Err(mpsc::SendError(job)) => job,
        },
        None => job,
    };
    let (jobs, receive) = mpsc::channel::<Job>();
    std::thread::Builder::new()
        .name("neurath-room".into())
        .spawn(move || {
            hold_back_signals();
            for job in receive {
                job.run();
            }
        })?;
    let sent = jobs.send(job).map_err(|_| io::ErrorKind::BrokenPipe.into());
    *helper = Some(jobs);
    sent
}

/// The present thread gets none: a process that is allowed no larger files would be ended for room that
/// it may never need.
fn hold_back_signals() {
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` makes the set whole, and the call reads it. It changes this thread's mask alone.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), std::ptr::null_mut());
    }
}

impl Job {
    fn run(&self) {
        match self.work {
            Work::Room(to) => self.make_room(to),
            Work::GiveBack(at, len) => self.give_back(at, len),
        }
    }

    fn make_room(&self, to: u64) {
        let shared = &self.shared;
        while !shared.gone.load(Ordering::Relaxed) && !shared.failed.load(Ordering::Acquire) {
            let room = lock(&shared.room);
            let Some((file, map)) = &*room else {
                return;
            };
            // Each piece begins where what is ready ends, whoever has made that: so it has no gaps, also
            // after a failure.
            let from = shared.ready.load(Ordering::Acquire);
            if from >= to {
                return;
            }
            let end = (from + PIECE).min(to);
            if fallocate(file, Flags::empty(), from, end - from).is_err() {
                shared.failed.store(true, Ordering::Release);
                return;
            }
            for at in (from..end).step_by(PAGES as usize) {
                map.populate(at, PAGES.min(end - at));
            }
            shared.ready.fetch_max(end, Ordering::AcqRel);
        }
    }

    fn give_back(&self, at: u64, len: u64) {
        if let Some((file, _)) = &*lock(&self.shared.room) {
            // A file system that cannot do it keeps the blocks: the place is as free as before.
            let _ = fallocate(file, Flags::PUNCH_HOLE | Flags::KEEP_SIZE, at, len);
            lock(&self.shared.given_back).push((at, len));
        }
    }
}

/// A signal may come meanwhile, and says nothing about the room that there is.
fn fallocate(file: &File, flags: Flags, from: u64, len: u64) -> rustix::io::Result<()> {
    rustix::io::retry_on_intr(|| rustix::fs::fallocate(file, flags, from, len))
}

/// Reserves the blocks from `from` to `to`; the file is at least so long then.
pub(super) fn reserve(file: &File, from: u64, to: u64) -> io::Result<()> {
    #[cfg(test)]
    Asked::add(|work| work.reserved += to - from);
    match fallocate(file, Flags::empty(), from, to - from) {
        // Where blocks cannot be reserved, a longer file must do.
        Err(rustix::io::Errno::OPNOTSUPP) => {
            let len = file.metadata()?.len();
            file.set_len(len.max(to))
        }
        done => Ok(done?),
    }
}

/// Bytes of a hole that are reserved at a time: some file systems want room for all that they are asked for, also for what
/// has its blocks already.
const HOLE_PIECE: u64 = 64 << 20;

/// Reserves the blocks of the holes between `from` and `to`, in a file that is so long at least.
pub(super) fn reserve_holes(file: &File, from: u64, to: u64) -> io::Result<()> {
    let seek = |to| match rustix::fs::seek(file, to) {
        Ok(at) => Ok(Some(at)),
        // There is none up to the file's end.
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error),
    };
    let mut at = from;
    while at < to {
        let hole = match seek(SeekFrom::Hole(at)) {
            Ok(Some(hole)) if hole < to => hole,
            Ok(_) => return Ok(()),
            // Where holes cannot be told, all may be one.
            Err(_) => at,
        };
        let end = match seek(SeekFrom::Data(hole)) {
            Ok(Some(data)) if data > hole => data.min(to),
            _ => to,
        };
        at = hole;
        while at < end {
            let next = end.min(at + HOLE_PIECE);
            reserve(file, at, next)?;
            at = next;
        }
    }
    Ok(())
}

impl Ahead {
    /// Of a file that is `len` bytes long, mapped at `map`.
    pub(super) fn new(file: &File, map: &Mapping, len: u64) -> io::Result<Ahead> {
        Ok(Ahead {
            shared: Arc::new(Shared {
                room: Mutex::new(Some((file.try_clone()?, map.clone()))),
                gone: AtomicBool::new(false),
                ready: AtomicU64::new(len),
                failed: AtomicBool::new(false),
                given_back: Mutex::default(),
            }),
            len,
            start: len,
            asked: len,
            longer: false,
        })
    }

    /// Nothing behind `len` counts as ready, or as the owner's. It is cut off only if the thread is asked for something
    /// later: an opening that is refused leaves the file as it is. To be called before that.
    pub(super) fn ends_at(&mut self, len: u64) {
        (self.len, self.start, self.asked) = (len, len, len);
        self.shared.ready.store(len, Ordering::Release);
    }

    /// Asks for room up to `end`; does not wait for it.
    pub(super) fn ask(&mut self, end: u64) {
        let from = self.asked;
        if self.shared.failed.load(Ordering::Acquire) || end < from + PIECE {
            return;
        }
        self.asked = end;
        self.longer = true;
        if self.send(Work::Room(end)).is_err() {
            self.shared.failed.store(true, Ordering::Release);
        }
    }

    fn send(&self, work: Work) -> io::Result<()> {
        let shared = self.shared.clone();
        send(Job { shared, work })
    }

    /// Lets the blocks and pages of a place go that nobody reads or writes until it comes back by
    /// [`Ahead::given_back`]; whether it will.
    pub(super) fn give_back(&self, at: u64, len: u64) -> bool {
        self.send(Work::GiveBack(at, len)).is_ok()
    }

    /// The places that have come back since the last call. They are zero, and before they are used
    /// their blocks are to be reserved again.
    pub(super) fn given_back(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut *lock(&self.shared.given_back))
    }

    /// The file is as long as this now, by its owner's doing.
    pub(super) fn grown(&mut self, len: u64) {
        if len > self.shared.ready.fetch_max(len, Ordering::AcqRel) {
            // The owner has reserved what was missing, and its pages may not be there.
            self.start = self.start.max(len);
            // So there is room, even if the thread has met a full disk: it can be asked again.
            if self.shared.failed.swap(false, Ordering::AcqRel) {
                self.asked = len;
            }
        }
        self.len = len;
        self.asked = self.asked.max(len);
    }

    /// Up to where the file has its blocks.
    pub(super) fn ready(&self) -> u64 {
        self.shared.ready.load(Ordering::Acquire)
    }

    /// Whether all of a range was made ready by the thread, so that its pages are there.
    pub(super) fn has_pages(&self, offset: u64, len: u64) -> bool {
        offset >= self.start && offset + len <= self.ready()
    }

    /// Whether more is on its way, up to `end`.
    pub(super) fn will_reach(&self, end: u64) -> bool {
        self.asked >= end && !self.shared.failed.load(Ordering::Acquire)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.shared.gone.store(true, Ordering::Relaxed);
        let mut room = lock(&self.shared.room);
        if let Some((file, _)) = room.take()
            && self.longer
        {
            // What stays behind the owner's end does no harm: a crash leaves it as well.
            let _ = file.set_len(self.len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::mapping::Kind;
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    /// Beside the sources: not every file system for temporary files can do it.
    fn file(len: u64) -> File {
        use std::os::unix::fs::FileExt as _;
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.write_all_at(&vec![1; len as usize], 0).unwrap();
        file.sync_all().unwrap();
        file
    }

    fn blocks(file: &File) -> u64 {
        file.metadata().unwrap().blocks() * 512
    }

    fn map(file: &File) -> Mapping {
        Mapping::new(file, 16 << 20, Kind::Shared).unwrap()
    }

    /// Pages of a range that the process has in its memory.
    fn pages(map: &Mapping, at: u64, len: u64) -> usize {
        let mut there = vec![0; (len / 4096) as usize];
        // SAFETY: whole pages of the mapping, and a byte for each.
        let done = unsafe {
            let start = map.as_mut_ptr().add(at as usize);
            libc::mincore(start.cast(), len as usize, there.as_mut_ptr())
        };
        assert_eq!(done, 0);
        there.iter().filter(|&&page| page & 1 == 1).count()
    }

    /// Some file systems want room for all that is asked for, also where there are blocks.
    #[test]
    fn only_what_has_no_blocks_is_reserved() {
        let file = file(2 << 20);
        file.set_len(3 << 20).unwrap();
        let punch = Flags::PUNCH_HOLE | Flags::KEEP_SIZE;
        fallocate(&file, punch, 512 << 10, 256 << 10).unwrap();
        fallocate(&file, punch, 1 << 20, 128 << 10).unwrap();
        let before = blocks(&file);
        let fill = |from, to| Asked::done(|| reserve_holes(&file, from, to).unwrap()).reserved;
        assert_eq!(fill(0, 512 << 10), 0);
        assert_eq!(fill(0, 600 << 10), 88 << 10);
        // All that is reserved, and a hole at the end.
        fill(0, 3 << 20);
        let there = before + (256 << 10) + (128 << 10) + (1 << 20);
        // Some file systems count what they note of a file as well.
        assert!((there..there + (64 << 10)).contains(&blocks(&file)));
        assert_eq!(file.metadata().unwrap().len(), 3 << 20);
    }

    #[test]
    fn room_comes_behind_the_end_and_the_owner_did_nothing_for_it() {
        let file = file(1 << 20);
        let before = blocks(&file);
        let map = map(&file);
        let mut ahead = Ahead::new(&file, &map, 1 << 20).unwrap();
        let work = Asked::done(|| ahead.ask(4 << 20));
        assert_eq!(work.reserved + work.faulted, 0);
        assert!(ahead.will_reach(4 << 20) && !ahead.will_reach((4 << 20) + 1));
        while ahead.ready() < 4 << 20 {
            std::thread::yield_now();
        }
        assert_eq!(file.metadata().unwrap().len(), 4 << 20);
        assert!(blocks(&file) >= before + (3 << 20));
        assert_eq!(pages(&map, 1 << 20, 3 << 20), 768);
        assert!(ahead.has_pages(1 << 20, 3 << 20));
        assert!(!ahead.has_pages(0, 2 << 20) && !ahead.has_pages(4 << 20, 1));
        // Too little to be worth it.
        ahead.ask((4 << 20) + 4096);
        assert!(!ahead.will_reach((4 << 20) + 4096));
        ahead.grown(2 << 20);
        drop(ahead);
        assert_eq!(file.metadata().unwrap().len(), 2 << 20);
        assert!(blocks(&file) <= before + (1 << 20) + (64 << 10));
    }

    #[test]
    fn what_the_owner_has_reserved_has_no_pages_by_the_thread() {
        let file = file(4096);
        let mut ahead = Ahead::new(&file, &map(&file), 4096).unwrap();
        reserve(&file, 4096, 1 << 20).unwrap();
        ahead.grown(1 << 20);
        ahead.ask(2 << 20);
        while ahead.ready() < 2 << 20 {
            std::thread::yield_now();
        }
        assert!(ahead.has_pages(1 << 20, 1 << 20));
        assert!(!ahead.has_pages(4096, 1 << 20));
    }

    #[test]
    fn a_place_that_is_given_back_takes_no_room_until_it_is_reserved_again() {
        use std::os::unix::fs::FileExt as _;
        let file = file(1 << 20);
        let before = blocks(&file);
        let ahead = Ahead::new(&file, &map(&file), 1 << 20).unwrap();
        assert!(ahead.give_back(256 << 10, 256 << 10));
        let back = loop {
            match ahead.given_back()[..] {
                [] => std::thread::yield_now(),
                [one] => break one,
                _ => panic!("one was given back"),
            }
        };
        assert_eq!(back, (256 << 10, 256 << 10));
        assert_eq!(blocks(&file), before - (256 << 10));
        assert_eq!(file.metadata().unwrap().len(), 1 << 20);
        let mut byte = [9];
        file.read_exact_at(&mut byte, 300 << 10).unwrap();
        assert_eq!(byte, [0]);
        reserve(&file, 256 << 10, 512 << 10).unwrap();
        assert_eq!(blocks(&file), before);
        assert_eq!(file.metadata().unwrap().len(), 1 << 20);
    }

    #[test]
    fn nothing_holds_the_file_when_the_owner_has_gone() {
        use rustix::fs::{FlockOperation, flock};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for _ in 0..50 {
            let open = || {
                File::options()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .open(&path)
            };
            let file = open().unwrap();
            flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
            let mut ahead = Ahead::new(&file, &map(&file), 0).unwrap();
            ahead.ask(8 << 20);
            drop((ahead, file));
            let again = open().unwrap();
            flock(&again, FlockOperation::NonBlockingLockExclusive).unwrap();
        }
    }

    /// There may be room again by then; but nobody has seen it.
    #[test]
    fn what_was_asked_for_before_a_failure_is_not_ready_after_it() {
        let file = file(4096);
        let ahead = Ahead::new(&file, &map(&file), 4096).unwrap();
        ahead.shared.failed.store(true, Ordering::Release);
        let shared = ahead.shared.clone();
        let job = Job {
            shared,
            work: Work::Room(1 << 20),
        };
        job.run();
        assert_eq!(ahead.ready(), 4096);
    }

    /// The system ends a process that makes a file longer than it may, unless the thread gets no signals.
    #[test]
    fn a_limit_on_files_ends_nobody() {
        const INSIDE: &str = "NEURATH_TEST_LIMITED";
        if std::env::var_os(INSIDE).is_none() {
            let limited = "ulimit -S -f 4096 && ulimit -H -f 16384 && exec \"$0\" --exact \"$1\"";
            let name = "region::media::ahead::tests::a_limit_on_files_ends_nobody";
            let mut command = std::process::Command::new("bash");
            command.args(["-c", limited]).env(INSIDE, "1");
            let me = std::env::current_exe().unwrap();
            let ended = command.arg(me).arg(name).output().unwrap();
            assert!(ended.status.success(), "{ended:?}");
            return;
        }
        let file = file(1 << 20);
        let mut ahead = Ahead::new(&file, &map(&file), 1 << 20).unwrap();
        ahead.ask(8 << 20);
        while ahead.will_reach(8 << 20) {
            std::thread::yield_now();
        }
        assert_eq!(ahead.ready(), 4 << 20);

        // Nor for good: as soon as the owner gets room itself, more is made ready for it.
        ahead.ask(9 << 20);
        assert!(!ahead.will_reach(9 << 20));
        let limit = rustix::process::Rlimit {
            current: Some(16 << 20),
            maximum: Some(16 << 20),
        };
        rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
        reserve(&file, 4 << 20, 5 << 20).unwrap();
        ahead.grown(5 << 20);
        ahead.ask(9 << 20);
        assert!(ahead.will_reach(9 << 20));
        while ahead.ready() < 9 << 20 {
            std::thread::yield_now();
        }
        assert!(blocks(&file) >= 9 << 20);
        assert!(ahead.has_pages(5 << 20, 4 << 20) && !ahead.has_pages(4 << 20, 1 << 20));
    }

    #[test]
    fn room_that_cannot_be_had_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [0; 4096]).unwrap();
        let map = map(&File::options().read(true).write(true).open(&path).unwrap());
        let file = File::open(&path).unwrap();
        let mut ahead = Ahead::new(&file, &map, 4096).unwrap();
        ahead.ask(8 << 20);
        // It cannot be written to.
        while ahead.will_reach(8 << 20) {
            std::thread::yield_now();
        }
        assert_eq!(ahead.ready(), 4096);
    }
}
