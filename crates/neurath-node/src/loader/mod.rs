//! Loads, calls and unloads component libraries: the only unsafe code of this crate.
//!
//! A file is read and judged before it is loaded ([`elf`]), its descriptor is copied out and
//! every address in it checked ([`Description`]), the thread keys it makes are watched
//! (`thread_keys`), and its end is verified ([`Unloading`]). `docs/loading.md` has the reasons.

mod call;
mod description;
pub mod elf;
mod error;
mod file;
mod image;
mod moves;
mod services;
mod thread_keys;

use std::{
    ffi::CString,
    fs,
    mem::{ManuallyDrop, MaybeUninit},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use libloading::os::unix;
use neurath_abi::{Bytes, Call, DESCRIPTOR_SYMBOL, MigrationBatch, MoveCall, Status};

pub use call::{Batch, CallError, Event, Function, Invocation, Outcome, RegionSource};
pub use description::{Description, MigrationInfo, MoveInfo};
pub use error::LoadError;
pub use file::describe;
pub use moves::{Given, MoveEnd};
pub use services::{Host, Services};

use crate::file_bytes::FileBytes;
use elf::ElfFacts;
use image::Image;
use thread_keys::Slot;

type CallFn = unsafe extern "C" fn(*mut Call) -> Status;
type ConvertFn = unsafe extern "C" fn(*mut MigrationBatch) -> Status;
type MoveFn = unsafe extern "C" fn(*mut MoveCall) -> Status;

/// A loaded component.
///
/// Dropping it without [`Library::close`] leaves it loaded for good, on purpose: only who
/// closes it knows that no thread has run its code and is alive.
#[derive(Debug)]
pub struct Library {
    handle: ManuallyDrop<unix::Library>,
    slot: Slot,
    image: Image,
    path: PathBuf,
    facts: ElfFacts,
    description: Description,
    functions: [CallFn; 6],
    config_change: Option<CallFn>,
    hooks: Vec<CallFn>,
    conversions: Vec<ConvertFn>,
    moves: Vec<MoveFn>,
}

/// How [`Library::close`] ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unloading {
    /// It is gone, and its thread keys are free.
    Unloaded,
    /// It stays in memory, for this reason. Legal, to be reported and bounded.
    Retained(String),
}

/// How long a closed library's threads are waited for. They have been joined, if at all.
const THREAD_END: Duration = Duration::from_millis(50);

/// A library that was closed, and is still in memory.
#[derive(Debug)]
struct Leftover {
    component: String,
    version: String,
    /// Why it could not be unloaded when it was closed.
    reason: String,
    path: PathBuf,
    image: Image,
    slot: Slot,
    /// There until `dlclose` was called.
    handle: Option<unix::Library>,
}

impl Leftover {
    /// Unloads it if nothing forbids that, or says what does.
    fn unload(&mut self, facts: Option<&ElfFacts>) -> Result<(), String> {
        let first_time = facts.is_some();
        let patience = if first_time {
            THREAD_END
        } else {
            Duration::ZERO
        };
        let threads = self.slot.live_threads(patience);
        if !threads.is_empty() {
            return Err(format!(
                "threads it has made are alive ({}): components must keep none",
                threads.join(", ")
            ));
        }
        let signals = self.image.signal_handlers();
        if !signals.is_empty() {
            return Err(format!(
                "it handles signals {signals:?}: components must install no signal handlers"
            ));
        }
        let closed = self.handle.take().map_or(Ok(()), unix::Library::close);
        if !image::is_loaded(&self.path) {
            return Ok(());
        }
        let mut reasons = facts.map(ElfFacts::retained).unwrap_or_default();
        reasons.extend(closed.err().map(|error| system_text(&error)));
        if reasons.is_empty() {
            reasons.push(format!(
                "a live thread holds thread-local values of it (threads: {})",
                thread_names().join(", ")
            ));
        }
        Err(reasons.join("; "))
    }
}

/// Libraries that stayed. Each is tried again whenever another comes or goes; the system
/// drops some by itself at a later `dlclose`.
static LEFTOVERS: Mutex<Vec<Leftover>> = Mutex::new(Vec::new());

/// Held while libraries come and go, so that "is it open" stays true until it is.
fn registry() -> MutexGuard<'static, Vec<Leftover>> {
    LEFTOVERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives back what belonged to libraries that are gone by now.
fn sweep(leftovers: &mut Vec<Leftover>) {
    for leftover in leftovers.extract_if(.., |leftover| leftover.unload(None).is_ok()) {
        leftover.slot.release();
    }
}

/// A library that was closed, and is still in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lingering {
    /// Its component; empty for a file that was refused before that was known.
    pub component: String,
    /// The component's version.
    pub version: String,
    /// Its file.
    pub path: PathBuf,
    /// Why it could not be unloaded when it was closed.
    pub reason: String,
}

/// The libraries that were closed and are still in memory, after another try to unload them.
pub fn lingering() -> Vec<Lingering> {
    let mut leftovers = registry();
    sweep(&mut leftovers);
    let all = leftovers.iter().map(|leftover| Lingering {
        component: leftover.component.clone(),
        version: leftover.version.clone(),
        path: leftover.path.clone(),
        reason: leftover.reason.clone(),
    });
    all.collect()
}

/// The files of [`lingering`].
pub fn retained() -> Vec<PathBuf> {
    lingering().into_iter().map(|one| one.path).collect()
}

/// Judges a file without loading it.
///
/// # Errors
///
/// As for [`Library::open`], as far as the file alone shows it.
pub fn inspect(path: &Path) -> Result<ElfFacts, LoadError> {
    let read = |source| LoadError::Read {
        path: path.to_owned(),
        source,
    };
    let file = fs::File::open(path).map_err(read)?;
    let bytes = FileBytes::read(&file).map_err(read)?;
    let symbol = DESCRIPTOR_SYMBOL
        .strip_suffix(b"\0")
        .unwrap_or(DESCRIPTOR_SYMBOL);
    let facts = elf::inspect(&bytes, &String::from_utf8_lossy(symbol)).map_err(|source| {
        LoadError::Elf {
            path: path.to_owned(),
            source,
        }
    })?;
    match facts.defines_symbol {
        true => Ok(facts),
        false => Err(LoadError::MissingSymbol(path.to_owned())),
    }
}

impl Library {
    /// Loads the component in `path`, an absolute path that is not open in this process.
    ///
    /// Runs the library's constructors: load what you trust. No other function of it is called.
    ///
    /// # Errors
    ///
    /// [`LoadError`] says what is wrong with the file, and what to do. Nothing stays loaded.
    pub fn open(path: &Path) -> Result<Library, LoadError> {
        if !path.is_absolute() {
            return Err(LoadError::Relative(path.to_owned()));
        }
        let facts = inspect(path)?;
        let mut leftovers = registry();
        sweep(&mut leftovers);
        let c_path = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| LoadError::Relative(path.to_owned()))?;
        if is_open(&c_path) {
            return Err(LoadError::AlreadyOpen(path.to_owned()));
        }
        let slot = Slot::take().ok_or(LoadError::TooMany(thread_keys::SLOT_COUNT))?;
        // SAFETY: runs the constructors of a file that the operator has released; see above.
        let opened = unsafe { unix::Library::open(Some(path), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        let handle = match opened {
            Ok(handle) => handle,
            Err(error) => {
                slot.release();
                return Err(LoadError::System {
                    path: path.to_owned(),
                    text: system_text(&error),
                });
            }
        };
        let Some(image) = Image::find(path) else {
            let _ = handle.close();
            slot.release();
            return Err(LoadError::System {
                path: path.to_owned(),
                text: "it was loaded under another name than its path".to_owned(),
            });
        };
        image.touch();
        match read_loaded(path, &handle, &slot, &image) {
            Ok(parts) => Ok(Library {
                handle: ManuallyDrop::new(handle),
                slot,
                image,
                path: path.to_owned(),
                facts,
                description: parts.description,
                // SAFETY: addresses in the library's code, where its descriptor says
                // functions of these types are; the ABI version vouches for the types.
                functions: parts
                    .functions
                    .map(|address| unsafe { std::mem::transmute::<usize, CallFn>(address) }),
                conversions: parts
                    .conversions
                    .into_iter()
                    // SAFETY: likewise.
                    .map(|address| unsafe { std::mem::transmute::<usize, ConvertFn>(address) })
                    .collect(),
                config_change: parts
                    .config_change
                    // SAFETY: likewise.
                    .map(|address| unsafe { std::mem::transmute::<usize, CallFn>(address) }),
                hooks: parts
                    .hooks
                    .into_iter()
                    // SAFETY: likewise.
                    .map(|address| unsafe { std::mem::transmute::<usize, CallFn>(address) })
                    .collect(),
                moves: parts
                    .moves
                    .into_iter()
                    // SAFETY: likewise.
                    .map(|address| unsafe { std::mem::transmute::<usize, MoveFn>(address) })
                    .collect(),
            }),
            Err(error) => {
                let path = path.to_owned();
                leftovers.push(Leftover {
                    component: String::new(),
                    version: String::new(),
                    reason: "it was refused, and could not be unloaded".into(),
                    path,
                    image,
                    slot,
                    handle: Some(handle),
                });
                sweep(&mut leftovers);
                Err(error)
            }
        }
    }

    /// What it says of itself.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// What its file says.
    pub fn facts(&self) -> &ElfFacts {
        &self.facts
    }

    /// The file it was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many thread keys it holds.
    pub fn thread_keys(&self) -> usize {
        self.slot.held()
    }

    /// Calls a function of the component. Costs no allocation unless it fails.
    ///
    /// To be used only on a thread that is joined before [`Library::close`].
    ///
    /// # Errors
    ///
    /// What the component answered.
    #[inline]
    pub fn call(
        &self,
        function: Function,
        invocation: Invocation<'_>,
    ) -> Result<Outcome, CallError> {
        let called = match function {
            Function::Create => Some(self.functions[0]),
            Function::Init => Some(self.functions[1]),
            Function::Handle => Some(self.functions[2]),
            Function::Quiesce => Some(self.functions[3]),
            Function::Terminate => Some(self.functions[4]),
            Function::CheckState => Some(self.functions[5]),
            Function::ConfigChange => self.config_change,
            Function::Hook(number) => self.hooks.get(number).copied(),
        };
        let Some(called) = called else {
            return Err(CallError::refused("the library has no such function"));
        };
        // SAFETY: a function of this component, which is loaded; `run` always passes the
        // beginning of a `CreateCall`, which is what `Create` needs.
        unsafe { invocation.run(called) }
    }

    /// Whether [`Function::ConfigChange`] can be called: libraries of earlier SDKs have none.
    pub fn has_config_change(&self) -> bool {
        self.config_change.is_some()
    }

    /// The hook of this name, to be called.
    pub fn hook(&self, name: &str) -> Option<Function> {
        let hooks = self.description.hooks.iter();
        hooks
            .zip(0..)
            .find(|(known, _)| *known == name)
            .map(|(_, number)| Function::Hook(number))
    }

    /// Converts a row of values with the conversion `index` of the description.
    ///
    /// # Errors
    ///
    /// No such conversion, a batch that does not fit it, or what the component answered.
    pub fn convert(&self, index: usize, batch: Batch<'_>) -> Result<(), CallError> {
        let (Some(info), Some(convert)) = (
            self.description.migrations.get(index),
            self.conversions.get(index),
        ) else {
            return Err(CallError::refused(format!(
                "there is no conversion {index}"
            )));
        };
        batch.check(info.from_size, info.to_size)?;
        let mut text = MaybeUninit::uninit();
        let mut raw = MigrationBatch {
            size: size_of::<MigrationBatch>() as u32,
            reserved: 0,
            old: batch.old.as_ptr(),
            old_stride: batch.old_stride,
            new: batch.new.as_mut_ptr(),
            new_stride: batch.new_stride,
            count: batch.count,
            live: batch.live.as_ptr(),
            extra: Bytes::new(batch.extra.as_bytes()),
            now_ms: batch.now_ms,
            error: call::error_text(&mut text),
        };
        // SAFETY: a conversion of this component, which is loaded, for values of the sizes
        // that `check` has found room for.
        let status = unsafe { convert(&raw mut raw) };
        match status.is_ok() {
            true => Ok(()),
            // SAFETY: `error` was made of `text` above.
            false => Err(unsafe { call::failure(status, &raw.error, &text) }),
        }
    }

    /// Unloads it, and looks whether it is gone. Every thread that has run its code must
    /// have been joined: one that is alive and holds thread-local values of the library
    /// keeps it. So do threads that the library has made, and signal handlers in it. What
    /// stays is tried again whenever another library comes or goes; see [`retained`].
    pub fn close(self) -> Unloading {
        let mut leftovers = registry();
        let mut leftover = Leftover {
            component: self.description.name,
            version: self.description.version,
            reason: String::new(),
            path: self.path,
            image: self.image,
            slot: self.slot,
            handle: Some(ManuallyDrop::into_inner(self.handle)),
        };
        let outcome = match leftover.unload(Some(&self.facts)) {
            Ok(()) => {
                leftover.slot.release();
                Unloading::Unloaded
            }
            Err(reason) => {
                leftover.reason.clone_from(&reason);
                leftovers.push(leftover);
                return Unloading::Retained(reason);
            }
        };
        sweep(&mut leftovers);
        outcome
    }
}

fn read_loaded(
    path: &Path,
    handle: &unix::Library,
    slot: &Slot,
    image: &Image,
) -> Result<description::Parts, LoadError> {
    slot.attach(image).map_err(|source| LoadError::ThreadKeys {
        path: path.to_owned(),
        source,
    })?;
    // SAFETY: only the address is used, whatever lies there.
    let symbol = unsafe { handle.get::<*const u8>(DESCRIPTOR_SYMBOL) }
        .map_err(|_| LoadError::MissingSymbol(path.to_owned()))?;
    description::read(path, image, symbol.into_raw() as usize)
}

/// Whether the system's loader would answer `path` with something that is loaded already.
fn is_open(path: &CString) -> bool {
    // SAFETY: a terminated string; loads nothing.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
    if handle.is_null() {
        return false;
    }
    // SAFETY: undoes the count that `dlopen` has just added.
    unsafe { libc::dlclose(handle) };
    true
}

fn system_text(error: &libloading::Error) -> String {
    use std::error::Error as _;
    error
        .source()
        .map_or_else(|| error.to_string(), ToString::to_string)
}

/// The names of this process's threads, the first few of them.
fn thread_names() -> Vec<String> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    tasks
        .flatten()
        .take(16)
        .filter_map(|task| {
            let name = fs::read_to_string(task.path().join("comm")).ok()?;
            Some(format!(
                "{} {:?}",
                task.file_name().to_string_lossy(),
                name.trim()
            ))
        })
        .collect()
}

// A library is shared by the threads that call it.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Library>();
};

#[cfg(test)]
mod tests {
    use super::*;

    /// A mapping of it would end the process.
    #[test]
    fn a_library_that_is_cut_off_meanwhile_is_refused() {
        let maps = fs::read_to_string("/proc/self/maps").expect("mappings");
        let words = maps.split_ascii_whitespace();
        let libc = words.into_iter().find(|word| word.contains("libc.so"));
        let bytes = fs::read(libc.expect("the test runs on glibc")).expect("read");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("library.so");
        fs::write(&path, &bytes).expect("written");
        std::thread::scope(|scope| {
            let cut = scope.spawn(|| {
                for _ in 0..50 {
                    let file = fs::File::options().write(true).open(&path);
                    file.and_then(|file| file.set_len(4096)).expect("cut off");
                    fs::write(&path, &bytes).expect("written");
                }
            });
            while !cut.is_finished() {
                assert!(matches!(
                    inspect(&path),
                    Err(LoadError::Elf { .. } | LoadError::MissingSymbol(_))
                ));
            }
        });
        // Nor is it whole by chance of where it ends.
        let file = fs::File::options().write(true).open(&path);
        file.and_then(|file| file.set_len(4096)).expect("cut off");
        assert!(matches!(inspect(&path), Err(LoadError::Elf { .. })));
    }
}
