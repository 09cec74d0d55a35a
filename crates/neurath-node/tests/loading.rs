//! The loader on a real library. One test at a time: they count what the process has.

#![allow(
    unsafe_code,
    reason = "counts the free thread keys, and lends a region slot"
)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    ffi::c_void,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use neurath_abi::{InfoKey, LogLevel, MessageKind, Ref, RegionOps, RegionSlot, Status, Token};
use neurath_node::loader::{
    self, Batch, Event, Function, Host, Invocation, Library, LoadError, MoveEnd, RegionSource,
    Services, Unloading, retained,
};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts what each thread allocates.
struct Counting;

// SAFETY: passes everything on.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's own promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's own promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn fixture() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testing/loader-fixtures");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("loader-fixtures");
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--offline", "--manifest-path"])
            .arg(source.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            .env_remove("RUSTFLAGS")
            .status()
            .expect("cargo runs");
        assert!(status.success(), "the fixture builds");
        target.join("debug/libloader_fixtures.so")
    })
}

fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The fixture under a name of its own, after `edit`.
fn copy(dir: &tempfile::TempDir, edit: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = fs::read(fixture()).unwrap();
    edit(&mut bytes);
    let path = dir.path().canonicalize().unwrap().join("copy.so");
    fs::write(&path, bytes).unwrap();
    path
}

/// Where the descriptor lies in the file: size, ABI version, panic strategy, zero.
fn descriptor(bytes: &[u8]) -> usize {
    let size = size_of::<neurath_abi::ComponentDescriptor>() as u32;
    let head: Vec<u8> = [size, 1, 1, 0]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect();
    let mut found = bytes
        .windows(16)
        .enumerate()
        .filter(|(_, window)| *window == head);
    let at = found.next().expect("the descriptor is in the file").0;
    assert!(found.next().is_none());
    at
}

struct Region(RegionSlot);

impl Region {
    fn new() -> Region {
        Region(RegionSlot {
            ops: std::ptr::null::<RegionOps>(),
            owner: std::ptr::null_mut::<c_void>(),
            segments: std::ptr::null(),
            segment_count: 0,
            dirty: 0,
            root: Ref::NULL,
        })
    }
}

// SAFETY: the fixture never looks at the region.
unsafe impl RegionSource for Region {
    fn slot(&self) -> *const RegionSlot {
        &self.0
    }
}

#[derive(Default)]
struct Recorder {
    replies: Vec<(Token, Vec<u8>)>,
    port: u64,
    panics: bool,
}

impl Services for Recorder {
    fn reply(&mut self, token: Token, bytes: &[u8]) -> Status {
        assert!(!self.panics, "as the test wants");
        self.replies.push((token, bytes.to_vec()));
        Status::OK
    }
    fn send(&mut self, _: &str, _: Token, _: &[u8]) -> Status {
        Status::NOT_FOUND
    }
    fn next_token(&mut self, _: u64) -> Token {
        Token::NONE
    }
    fn connection_set(&mut self, _: u64, _: u64) -> Status {
        Status::OK
    }
    fn connection_close(&mut self, _: u64) -> Status {
        Status::OK
    }
    fn listen(&mut self, _: &str) -> Status {
        Status::OK
    }
    fn timer(&mut self, _: u64, _: u64) -> Status {
        Status::OK
    }
    fn log(&mut self, _: LogLevel, _: &str) {}
    fn info(&mut self, key: InfoKey) -> u64 {
        if key == InfoKey::PORT { self.port } else { 0 }
    }
    fn instances(&mut self, _: &str) -> u32 {
        0
    }
}

fn handle(
    library: &Library,
    services: &mut Recorder,
    bytes: &[u8],
) -> Result<usize, neurath_node::loader::CallError> {
    let region = Region::new();
    let event = Event {
        kind: MessageKind::DATA,
        source: 5,
        user: 0,
        token: Token {
            target: 5,
            sequence: 9,
        },
        bytes,
    };
    let invocation = Invocation::new(&region, Host::of(services))
        .now_ms(1)
        .event(event);
    library
        .call(Function::Handle, invocation)
        .map(|outcome| outcome.consumed)
}

/// Calls on a thread that is joined, as the node does.
fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join().unwrap())
}

/// Kilobytes of a loaded file's code: how many there are, and how many are in memory.
fn code_of(path: &Path) -> (u64, u64) {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut size, mut resident, mut inside) = (0, 0, false);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if first.contains('-') {
            inside = line.contains(" r-xp ") && line.ends_with(&*path.to_string_lossy());
            continue;
        }
        let kilobytes = words.next().and_then(|word| word.parse::<u64>().ok());
        match (inside, first, kilobytes) {
            (true, "Size:", Some(all)) => size += all,
            (true, "Rss:", Some(there)) => resident += there,
            _ => {}
        }
    }
    (size, resident)
}

/// Nothing of it has to be faulted in by what is called first, in the pause of an upgrade.
#[test]
fn the_code_of_a_library_is_in_memory_when_it_has_been_opened() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = copy(&dir, |_| ());
    let library = Library::open(&path).unwrap();
    let (size, resident) = code_of(&path);
    assert!(size > 0 && size == resident, "{resident} of {size} kB");
    assert_eq!(library.close(), Unloading::Unloaded);
}

#[test]
fn says_what_the_library_is() {
    let _alone = alone();
    let library = Library::open(fixture()).unwrap();
    let about = library.description();
    assert_eq!(
        (about.name.as_str(), about.version.as_str()),
        ("fixture", "1.2.3")
    );
    assert_eq!(about.compiler, "rustc for tests");
    assert_eq!(about.schema, b"SCHEMA-BYTES");
    assert_eq!(about.fingerprint, [7; 16]);
    assert_eq!(about.migrations.len(), 1);
    assert_eq!(
        (about.migrations[0].from_size, about.migrations[0].to_size),
        (8, 16)
    );
    assert_eq!(about.migrations[0].version, "1.0");
    assert_eq!(about.hooks, ["again"]);
    assert_eq!(library.hook("again"), Some(Function::Hook(0)));
    assert_eq!(library.hook("never"), None);
    assert!(library.has_config_change());
    assert!(library.facts().thread_locals);
    assert!(library.facts().retained().is_empty());
    assert_eq!(library.close(), Unloading::Unloaded);
}

/// A library of an earlier SDK has a shorter descriptor; one of a later SDK may have a longer one.
#[test]
fn what_a_descriptor_lacks_is_not_there() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    use std::mem::offset_of;
    let oldest = offset_of!(neurath_abi::ComponentDescriptor, config_change) as u32;
    let without_moves = offset_of!(neurath_abi::ComponentDescriptor, moves) as u32;
    let without_features = offset_of!(neurath_abi::ComponentDescriptor, features) as u32;
    let again = &["again"][..];
    for (size, hooks, moves) in [
        (oldest, &[][..], 0),
        (without_moves, again, 0),
        (without_features, again, 2),
    ] {
        let path = copy(&dir, |bytes| {
            let at = descriptor(bytes);
            bytes[at..at + 4].copy_from_slice(&size.to_le_bytes());
        });
        let library = Library::open(&path).unwrap();
        assert_eq!(library.description().hooks, hooks);
        assert_eq!(library.description().moves.len(), moves);
        assert!(!library.description().reads_through);
        assert_eq!(library.description().migrations.len(), 1);
        assert_eq!(library.has_config_change(), size != oldest);
        let described = neurath_node::loader::describe(&path, &fs::read(&path).unwrap()).unwrap();
        assert_eq!(&described, library.description());
        assert_eq!(library.close(), Unloading::Unloaded);
    }
    let whole = fs::read(fixture()).unwrap();
    let described = neurath_node::loader::describe(fixture(), &whole).unwrap();
    assert_eq!(described.hooks, ["again"]);
    assert_eq!(described.moves.len(), 2);
    assert!(described.reads_through);
}

/// What is moved comes in parts, and what a library does wrong is told.
#[test]
fn state_is_taken_out_and_put_in() {
    let _alone = alone();
    let opened = Library::open(fixture()).unwrap();
    let library = &opened;
    let find = |incoming| library.find_move("parcels", incoming, [7; 16]);
    let (out, about) = find(false).expect("it gives");
    assert_eq!(about.value, [8; 16]);
    let (into, _) = find(true).expect("it takes");
    assert!(library.find_move("parcels", false, [6; 16]).is_none());
    assert!(library.find_move("others", false, [7; 16]).is_none());
    on_a_thread(|| {
        let region = &Region::new();
        let mut end = MoveEnd {
            peer: "other",
            peer_instance: (0, 1),
            stays: true,
            extra: "{}",
            now_ms: 1,
            cursor: 0,
        };
        for part in 0..3 {
            let given = library.move_out(out, region, end).expect("a part");
            assert_eq!(given.value, [part; 4]);
            library
                .move_in(into, region, end, &given.value)
                .expect("it is taken");
            assert_eq!(given.next.is_none(), part == 2);
            end.cursor = given.next.unwrap_or_default();
        }
        let error = library.move_in(into, region, end, &[]).unwrap_err();
        assert_eq!(error.text, "there is nothing in it");
        for (peer, status, text) in [
            ("greedy", Status::TOO_LARGE, "larger"),
            ("twice", Status::TOO_LARGE, "larger"),
            ("mute", Status::FAILED, "it gave nothing"),
        ] {
            let error = library
                .move_out(out, region, MoveEnd { peer, ..end })
                .unwrap_err();
            assert_eq!(error.status, status, "{peer}");
            assert!(error.text.contains(text), "{peer}: {error}");
        }
        let error = library.move_out(2, region, end).unwrap_err();
        assert_eq!(error.text, "there is no move 2");
    });
    assert_eq!(opened.close(), Unloading::Unloaded);
}

#[test]
fn calls_and_hands_errors_over() {
    let _alone = alone();
    let opened = Library::open(fixture()).unwrap();
    let (library, region) = (&opened, &Region::new());
    let mut services = Recorder {
        port: 3,
        ..Recorder::default()
    };
    let host = Host::of(&mut services);
    let made = library
        .call(Function::Create, Invocation::new(region, host))
        .unwrap();
    assert_eq!(made.root, Ref::new(1, 2));
    let host = Host::of(&mut services);
    let refused = library
        .call(Function::Init, Invocation::new(region, host).config("bad"))
        .unwrap_err();
    assert_eq!(refused.status, Status::FAILED);
    assert_eq!(refused.text, "no such thing as \u{fffd} bad");
    for function in [Function::Quiesce, Function::Terminate, Function::CheckState] {
        let host = Host::of(&mut services);
        library
            .call(function, Invocation::new(region, host))
            .unwrap();
    }
    // More than there was is cut to what there was.
    assert_eq!(handle(library, &mut services, b"anything"), Ok(8));
    assert_eq!(handle(library, &mut services, b"port"), Ok(3));
    handle(library, &mut services, b"echo").unwrap();
    assert_eq!(
        services.replies,
        [(
            Token {
                target: 5,
                sequence: 9
            },
            b"echo".to_vec()
        )]
    );
    assert_eq!(
        handle(library, &mut services, b"full").unwrap_err().text,
        "the region is full"
    );
    assert_eq!(
        handle(library, &mut services, b"fail").unwrap_err().text,
        "x".repeat(1024)
    );
    services.panics = true;
    assert_eq!(
        handle(library, &mut services, b"echo").unwrap_err().status,
        Status::FAILED
    );
    assert_eq!(opened.close(), Unloading::Unloaded);
}

#[test]
fn converts_the_live_values_of_a_row() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let library = Library::open(&copy(&dir, |_| {})).unwrap();
    let old: Vec<u64> = (1..=100).collect();
    let mut new = vec![0u64; 200];
    let live = [u64::MAX << 1, u64::MAX];
    // SAFETY: plain numbers as bytes.
    let (old, new_bytes) = unsafe { (old.align_to::<u8>().1, new.align_to_mut::<u8>().1) };
    let mut batch = |index, count, stride, extra| {
        library.convert(
            index,
            Batch {
                old,
                old_stride: 8,
                new: new_bytes,
                new_stride: stride,
                count,
                live: &live,
                extra,
                now_ms: 0,
            },
        )
    };
    assert!(
        batch(1, 100, 16, "")
            .unwrap_err()
            .text
            .contains("no conversion 1")
    );
    assert!(
        batch(0, 101, 16, "")
            .unwrap_err()
            .text
            .contains("old values")
    );
    assert!(
        batch(0, 100, 8, "")
            .unwrap_err()
            .text
            .contains("new values")
    );
    assert_eq!(
        batch(0, 100, 16, "fail").unwrap_err().status,
        Status::PANICKED
    );
    batch(0, 100, 16, "").unwrap();
    assert_eq!(new[..4], [0, 0, 2, 4]);
    assert_eq!(new[198..], [100, 200]);
    assert_eq!(library.close(), Unloading::Unloaded);
}

#[test]
fn refuses_what_is_not_a_component() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let stayed = retained();
    let open = |path: &Path| Library::open(path).map(|_| ()).unwrap_err();
    assert!(matches!(open(Path::new("x.so")), LoadError::Relative(_)));
    assert!(matches!(
        open(&dir.path().join("none.so")),
        LoadError::Read { .. }
    ));
    let text = copy(&dir, |bytes| *bytes = b"hello".to_vec());
    assert!(open(&text).to_string().contains("cdylib"));
    let edits: [(usize, u32, &str); 4] = [
        (0, 8, "size"),
        (4, 99, "speaks version 99"),
        (8, 2, "panic=abort"),
        (8, 7, "neither unwind nor abort"),
    ];
    for (offset, value, expected) in edits {
        let path = copy(&dir, |bytes| {
            let at = descriptor(bytes) + offset;
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        });
        let error = open(&path).to_string();
        assert!(error.contains(expected), "{error}");
    }
    // The lengths of name and version, and the number of conversions.
    let count = std::mem::offset_of!(neurath_abi::ComponentDescriptor, migration_count);
    for (offset, value, expected) in [
        (24, 0u64, "name is not a component name"),
        (24, 65, "name is too long"),
        (40, 0, "version is not a version"),
        (72, 15 << 20, "schema does not lie in the library"),
        (count, 5000, "migration_count is too large"),
        (count, 4000, "migrations does not lie in the library"),
    ] {
        let path = copy(&dir, |bytes| {
            let at = descriptor(bytes) + offset;
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        });
        let error = open(&path).to_string();
        assert!(error.contains(expected), "{error}");
    }
    let nameless = copy(&dir, |bytes| {
        let name = b"NEURATH_COMPONENT\0";
        while let Some(at) = bytes.windows(name.len()).position(|window| window == name) {
            bytes[at] = b'X';
        }
    });
    assert!(matches!(open(&nameless), LoadError::MissingSymbol(_)));
    assert_eq!(retained(), stayed, "nothing that was refused stays");
}

#[test]
fn refuses_a_path_that_is_open() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = copy(&dir, |_| {});
    let library = Library::open(&path).unwrap();
    assert!(matches!(
        Library::open(&path),
        Err(LoadError::AlreadyOpen(_))
    ));
    // The system's loader takes a second link for the same library.
    let link = path.with_file_name("link.so");
    fs::hard_link(&path, &link).unwrap();
    assert!(matches!(
        Library::open(&link),
        Err(LoadError::AlreadyOpen(_))
    ));
    assert_eq!(library.close(), Unloading::Unloaded);
    assert_eq!(Library::open(&link).unwrap().close(), Unloading::Unloaded);
}

fn free_keys() -> usize {
    let mut keys = Vec::with_capacity(2000);
    let mut key = 0;
    // SAFETY: a valid place for a key; each is deleted again below.
    while unsafe { libc::pthread_key_create(&mut key, None) } == 0 {
        keys.push(key);
    }
    for key in &keys {
        // SAFETY: made above.
        unsafe { libc::pthread_key_delete(*key) };
    }
    keys.len()
}

/// Waits until a library is unloaded that the end of a thread has kept.
fn gone(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while retained().iter().any(|one| one == path) {
        assert!(
            Instant::now() < deadline,
            "the thread has ended, but not the library"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn fifteen_hundred_loads_leave_no_thread_key_behind() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = copy(&dir, |_| {});
    let before = free_keys();
    for _ in 0..1500 {
        let library = Library::open(&path).unwrap();
        on_a_thread(|| handle(&library, &mut Recorder::default(), b"use")).unwrap();
        assert!(
            library.thread_keys() >= 2,
            "it takes keys: the test is about something"
        );
        // The thread may not be gone for the system yet, though it has been joined.
        if library.close() != Unloading::Unloaded {
            gone(&path);
        }
    }
    assert_eq!(free_keys(), before);
}

#[test]
fn a_thread_that_lives_keeps_the_library_until_it_ends() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = copy(&dir, |_| {});
    let before = free_keys();
    let library = Library::open(&path).unwrap();
    let flag = path.with_file_name("flag");
    fs::write(&flag, "").unwrap();
    let message = format!("thread:{}", flag.display());
    on_a_thread(|| handle(&library, &mut Recorder::default(), message.as_bytes())).unwrap();
    let Unloading::Retained(reason) = library.close() else {
        panic!("a thread runs its code");
    };
    assert!(reason.contains("thread"), "{reason}");
    assert!(retained().contains(&path));
    assert!(matches!(
        Library::open(&path),
        Err(LoadError::AlreadyOpen(_))
    ));
    // Once the thread has ended, the library goes when it is next looked at.
    fs::remove_file(&flag).unwrap();
    gone(&path);
    assert_eq!(Library::open(&path).unwrap().close(), Unloading::Unloaded);
    assert_eq!(free_keys(), before);
}

#[test]
fn a_signal_handler_keeps_the_library() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = copy(&dir, |_| {});
    let library = Library::open(&path).unwrap();
    on_a_thread(|| handle(&library, &mut Recorder::default(), b"signal")).unwrap();
    let Unloading::Retained(reason) = library.close() else {
        panic!("a signal would crash the process");
    };
    assert!(reason.contains("signals [10]"), "{reason}");
    // SAFETY: as it was before the test.
    unsafe { libc::signal(10, libc::SIG_DFL) };
    assert!(!retained().contains(&path));
}

#[test]
fn a_library_that_forbids_its_unloading_stays_and_says_why() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = copy(&dir, |bytes| {
        // DT_FLAGS_1, and DF_1_NODELETE in it.
        let tag = 0x6fff_fffb_u64.to_le_bytes();
        let at = bytes.windows(8).position(|window| window == tag).unwrap();
        bytes[at + 8] |= 8;
    });
    let library = Library::open(&path).unwrap();
    assert!(library.facts().no_delete);
    let Unloading::Retained(reason) = library.close() else {
        panic!("the system keeps it");
    };
    assert!(reason.contains("nodelete"), "{reason}");
    assert!(retained().contains(&path));
}

#[test]
fn serving_a_message_allocates_nothing() {
    let _alone = alone();
    let library = Library::open(fixture()).unwrap();
    let mut services = Recorder::default();
    let before = ALLOCATIONS.get();
    for _ in 0..100 {
        assert_eq!(handle(&library, &mut services, b"anything"), Ok(8));
        assert_eq!(handle(&library, &mut services, b"port"), Ok(0));
    }
    assert_eq!(ALLOCATIONS.get(), before);
    assert_eq!(library.close(), Unloading::Unloaded);
}

#[test]
fn what_a_file_says_is_what_the_loaded_library_says() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = copy(&dir, |_| {});
    let bytes = fs::read(&path).unwrap();
    let described = loader::describe(&path, &bytes).unwrap();
    assert!(!described.migrations.is_empty() && !described.schema.is_empty());
    let library = Library::open(&path).unwrap();
    assert_eq!(*library.description(), described);
    library.close();
    // Cut short or changed anywhere, it is refused or read, and nothing else.
    for at in (0..bytes.len()).step_by(bytes.len() / 400 + 1) {
        let _ = loader::describe(&path, &bytes[..at]);
        let mut changed = bytes.clone();
        changed[at] ^= 0xff;
        let _ = loader::describe(&path, &changed);
    }
}
