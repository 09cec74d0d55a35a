//! Reads a library's descriptor, believing nothing it says.

use std::{
    mem::{MaybeUninit, offset_of, size_of},
    path::Path,
};

use neurath_abi::{
    ABI_VERSION, Bytes, ComponentDescriptor, Hook, Migration, Move, PANIC_ABORT, PANIC_UNWIND,
    READS_THROUGH,
};

use super::{LoadError, image::Image};

pub(super) const MAX_NAME: usize = 64;
pub(super) const MAX_VERSION: usize = 64;
pub(super) const MAX_COMPILER: usize = 256;
pub(super) const MAX_SCHEMA: usize = 16 << 20;
pub(super) const MAX_MIGRATIONS: usize = 4096;
pub(super) const MAX_HOOKS: usize = 1024;
pub(super) const MAX_MOVES: usize = 1024;
/// Bytes of the descriptor of the first SDK of this ABI. What comes after it may be missing.
pub(super) const OLDEST_SIZE: usize = offset_of!(ComponentDescriptor, config_change);
/// Bytes of the descriptor of an SDK without moves.
pub(super) const WITHOUT_MOVES: usize = offset_of!(ComponentDescriptor, moves);
/// Bytes of the descriptor of an SDK that says nothing of what else it can do.
pub(super) const WITHOUT_FEATURES: usize = offset_of!(ComponentDescriptor, features);

/// What a library says of itself, copied out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The component's name.
    pub name: String,
    /// The component's version.
    pub version: String,
    /// The compiler that built it.
    pub compiler: String,
    /// The encoded schema of its state.
    pub schema: Vec<u8>,
    /// The fingerprint of its state's type.
    pub fingerprint: [u8; 16],
    /// Its conversions; [`super::Library::convert`] takes their index.
    pub migrations: Vec<MigrationInfo>,
    /// The names of its hooks.
    pub hooks: Vec<String>,
    /// Its functions that take state out or put it in, for `move_state`.
    pub moves: Vec<MoveInfo>,
    /// Whether it can work on a state that is converted segment by segment.
    pub reads_through: bool,
}

/// One end of a move that a library offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveInfo {
    /// The name of the move.
    pub name: String,
    /// Whether it puts state in; else it takes it out.
    pub incoming: bool,
    /// The fingerprint of the state's type that it works on.
    pub state: [u8; 16],
    /// The fingerprint of the type of what is moved.
    pub value: [u8; 16],
}

/// One conversion that a library offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationInfo {
    /// The fingerprint of the type it takes.
    pub from: [u8; 16],
    /// The fingerprint of the type it gives.
    pub to: [u8; 16],
    /// The size of a value it takes, in bytes.
    pub from_size: u32,
    /// The size of a value it gives, in bytes.
    pub to_size: u32,
    /// The component's version it comes from, or goes back to.
    pub version: String,
    /// Whether it goes back.
    pub backward: bool,
}

/// [`ComponentDescriptor`] with numbers for the functions: a null function pointer must
/// not be read as one.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawDescriptor {
    size: u32,
    abi: u32,
    panic_strategy: u32,
    reserved: u32,
    name: Bytes,
    version: Bytes,
    compiler: Bytes,
    schema: Bytes,
    fingerprint: [u8; 16],
    functions: [usize; 6],
    migrations: *const RawMigration,
    migration_count: usize,
    tail: RawTail,
}

/// What a descriptor of an earlier SDK lacks; all zero then.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawTail {
    config_change: usize,
    hooks: *const RawHook,
    hook_count: usize,
    moves: *const RawMove,
    move_count: usize,
    features: u64,
}

/// [`Move`], likewise.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawMove {
    name: Bytes,
    incoming: u32,
    reserved: u32,
    state: [u8; 16],
    value: [u8; 16],
    call: usize,
}

/// [`Hook`], likewise.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawHook {
    name: Bytes,
    call: usize,
}

/// [`Migration`], likewise.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawMigration {
    from: [u8; 16],
    to: [u8; 16],
    from_size: u32,
    to_size: u32,
    version: Bytes,
    backward: u32,
    reserved: u32,
    convert: usize,
}

const _: () = {
    assert!(size_of::<RawDescriptor>() == size_of::<ComponentDescriptor>());
    assert!(offset_of!(RawDescriptor, functions) == offset_of!(ComponentDescriptor, functions));
    assert!(offset_of!(RawDescriptor, schema) == offset_of!(ComponentDescriptor, schema));
    assert!(offset_of!(RawDescriptor, tail) == OLDEST_SIZE);
    assert!(OLDEST_SIZE + offset_of!(RawTail, moves) == WITHOUT_MOVES);
    assert!(size_of::<RawMove>() == size_of::<Move>());
    assert!(offset_of!(RawMove, call) == offset_of!(Move, call));
    assert!(size_of::<RawHook>() == size_of::<Hook>());
    assert!(offset_of!(RawHook, call) == offset_of!(Hook, call));
    assert!(size_of::<RawMigration>() == size_of::<Migration>());
    assert!(offset_of!(RawMigration, convert) == offset_of!(Migration, convert));
    assert!(offset_of!(RawMigration, version) == offset_of!(Migration, version));
};

/// What [`read`] gives: the description, and the addresses of the six functions, of the
/// conversions, of the hooks and of the moves, each of which lies in the library's code.
pub(super) struct Parts {
    pub description: Description,
    pub functions: [usize; 6],
    pub conversions: Vec<usize>,
    pub hooks: Vec<usize>,
    pub moves: Vec<usize>,
    pub config_change: Option<usize>,
}

struct Reader<'a> {
    path: &'a Path,
    image: &'a Image,
}

/// Reads the descriptor at `address`.
pub(super) fn read(path: &Path, image: &Image, address: usize) -> Result<Parts, LoadError> {
    let reader = Reader { path, image };
    let no_descriptor = || reader.bad("the descriptor", "does not lie in the library");
    if !address.is_multiple_of(8) || !image.contains(address, 8) {
        return Err(no_descriptor());
    }
    // SAFETY: readable memory of the library, as just checked, and aligned.
    let [size, abi] = unsafe { (address as *const [u32; 2]).read() };
    if abi != ABI_VERSION {
        return Err(LoadError::Abi {
            path: path.to_owned(),
            found: abi,
        });
    }
    let size = reader.size(size)?;
    if !image.contains(address, size) {
        return Err(no_descriptor());
    }
    let mut raw = MaybeUninit::<RawDescriptor>::zeroed();
    // SAFETY: as above, as far as the descriptor goes; every bit pattern is a valid
    // `RawDescriptor`, and what it lacks is zero.
    let raw = unsafe {
        let to = raw.as_mut_ptr().cast::<u8>();
        std::ptr::copy_nonoverlapping(address as *const u8, to, size);
        raw.assume_init()
    };
    match raw.panic_strategy {
        PANIC_UNWIND => {}
        PANIC_ABORT => return Err(LoadError::PanicAbort(path.to_owned())),
        _ => return Err(reader.bad("panic_strategy", "is neither unwind nor abort")),
    }
    let name = reader.text("name", raw.name, MAX_NAME)?;
    if neurath_manifest::scalar::check_name(&name).is_err() {
        return Err(reader.bad("name", "is not a component name"));
    }
    let version = reader.text("version", raw.version, MAX_VERSION)?;
    if version.is_empty() || version.chars().any(|c| !c.is_ascii_graphic() || c == '/') {
        return Err(reader.bad("version", "is not a version"));
    }
    let names = [
        "create",
        "init",
        "handle",
        "quiesce",
        "terminate",
        "check_state",
    ];
    for (name, function) in names.into_iter().zip(raw.functions) {
        reader.code(name, function)?;
    }
    let (migrations, conversions) = reader.migrations(&raw)?;
    let (hook_names, hooks) = reader.hooks(&raw.tail)?;
    let (move_infos, moves) = reader.moves(&raw.tail)?;
    let config_change = Some(raw.tail.config_change).filter(|address| *address != 0);
    if let Some(address) = config_change {
        reader.code("config_change", address)?;
    }
    let description = Description {
        name,
        version,
        compiler: reader.text("compiler", raw.compiler, MAX_COMPILER)?,
        schema: reader.bytes("schema", raw.schema, MAX_SCHEMA)?,
        fingerprint: raw.fingerprint,
        migrations,
        hooks: hook_names,
        moves: move_infos,
        reads_through: raw.tail.features & READS_THROUGH != 0,
    };
    Ok(Parts {
        description,
        functions: raw.functions,
        conversions,
        hooks,
        moves,
        config_change,
    })
}

impl Reader<'_> {
    fn bad(&self, field: impl Into<String>, problem: &'static str) -> LoadError {
        LoadError::Descriptor {
            path: self.path.to_owned(),
            field: field.into(),
            problem,
        }
    }

    /// How much of the descriptor there is, of what this node knows.
    fn size(&self, size: u32) -> Result<usize, LoadError> {
        let known = size_of::<RawDescriptor>();
        match size as usize {
            size @ (OLDEST_SIZE | WITHOUT_MOVES | WITHOUT_FEATURES) => Ok(size),
            size if size >= known => Ok(known),
            _ => Err(self.bad("size", "is not that of this ABI version")),
        }
    }

    fn bytes(&self, field: &str, bytes: Bytes, limit: usize) -> Result<Vec<u8>, LoadError> {
        if bytes.len > limit {
            return Err(self.bad(field, "is too long"));
        }
        if bytes.len > 0 && !self.image.contains(bytes.ptr as usize, bytes.len) {
            return Err(self.bad(field, "does not lie in the library"));
        }
        // SAFETY: empty, or readable memory of the library, which no thread writes: none
        // runs its code yet.
        Ok(unsafe { bytes.as_slice() }.to_vec())
    }

    fn text(&self, field: &str, bytes: Bytes, limit: usize) -> Result<String, LoadError> {
        String::from_utf8(self.bytes(field, bytes, limit)?)
            .map_err(|_| self.bad(field, "is not UTF-8"))
    }

    fn code(&self, field: &str, address: usize) -> Result<(), LoadError> {
        match address {
            0 => Err(self.bad(field, "is null")),
            _ if !self.image.is_code(address) => {
                Err(self.bad(field, "does not lie in the library's code"))
            }
            _ => Ok(()),
        }
    }

    fn migrations(
        &self,
        raw: &RawDescriptor,
    ) -> Result<(Vec<MigrationInfo>, Vec<usize>), LoadError> {
        let count = raw.migration_count;
        if count > MAX_MIGRATIONS {
            return Err(self.bad("migration_count", "is too large"));
        }
        let start = raw.migrations as usize;
        if count > 0
            && (!start.is_multiple_of(8)
                || !self
                    .image
                    .contains(start, count * size_of::<RawMigration>()))
        {
            return Err(self.bad("migrations", "does not lie in the library"));
        }
        let mut infos = Vec::with_capacity(count);
        let mut conversions = Vec::with_capacity(count);
        for index in 0..count {
            let address = start + index * size_of::<RawMigration>();
            // SAFETY: aligned, readable memory of the library; every bit pattern is valid.
            let raw = unsafe { (address as *const RawMigration).read() };
            let field = |name: &str| format!("migrations[{index}].{name}");
            self.code(&field("convert"), raw.convert)?;
            let backward = match raw.backward {
                0 => false,
                1 => true,
                _ => return Err(self.bad(field("backward"), "is neither 0 nor 1")),
            };
            infos.push(MigrationInfo {
                from: raw.from,
                to: raw.to,
                from_size: raw.from_size,
                to_size: raw.to_size,
                version: self.text(&field("version"), raw.version, MAX_VERSION)?,
                backward,
            });
            conversions.push(raw.convert);
        }
        Ok((infos, conversions))
    }

    fn hooks(&self, tail: &RawTail) -> Result<(Vec<String>, Vec<usize>), LoadError> {
        let count = tail.hook_count;
        if count > MAX_HOOKS {
            return Err(self.bad("hook_count", "is too large"));
        }
        let start = tail.hooks as usize;
        if count > 0
            && (!start.is_multiple_of(8)
                || !self.image.contains(start, count * size_of::<RawHook>()))
        {
            return Err(self.bad("hooks", "does not lie in the library"));
        }
        let (mut names, mut hooks) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for index in 0..count {
            let address = start + index * size_of::<RawHook>();
            // SAFETY: aligned, readable memory of the library; every bit pattern is valid.
            let raw = unsafe { (address as *const RawHook).read() };
            let field = |name: &str| format!("hooks[{index}].{name}");
            self.code(&field("call"), raw.call)?;
            let name = self.text(&field("name"), raw.name, MAX_NAME)?;
            if neurath_manifest::scalar::check_name(&name).is_err() || names.contains(&name) {
                return Err(self.bad(field("name"), "is not a name, or is there twice"));
            }
            names.push(name);
            hooks.push(raw.call);
        }
        Ok((names, hooks))
    }

    fn moves(&self, tail: &RawTail) -> Result<(Vec<MoveInfo>, Vec<usize>), LoadError> {
        let count = tail.move_count;
        if count > MAX_MOVES {
            return Err(self.bad("move_count", "is too large"));
        }
        let start = tail.moves as usize;
        if count > 0
            && (!start.is_multiple_of(8)
                || !self.image.contains(start, count * size_of::<RawMove>()))
        {
            return Err(self.bad("moves", "does not lie in the library"));
        }
        let (mut infos, mut moves) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for index in 0..count {
            let address = start + index * size_of::<RawMove>();
            // SAFETY: aligned, readable memory of the library; every bit pattern is valid.
            let raw = unsafe { (address as *const RawMove).read() };
            let field = |name: &str| format!("moves[{index}].{name}");
            self.code(&field("call"), raw.call)?;
            let name = self.text(&field("name"), raw.name, MAX_NAME)?;
            let info = MoveInfo::checked(name, raw.incoming, raw.state, raw.value, &infos);
            infos.push(info.map_err(|(name, problem)| self.bad(field(name), problem))?);
            moves.push(raw.call);
        }
        Ok((infos, moves))
    }
}

impl MoveInfo {
    /// One end of a move, after those `before` it; or the field that is wrong, and how.
    pub(super) fn checked(
        name: String,
        incoming: u32,
        state: [u8; 16],
        value: [u8; 16],
        before: &[MoveInfo],
    ) -> Result<MoveInfo, (&'static str, &'static str)> {
        if neurath_manifest::scalar::check_name(&name).is_err() {
            return Err(("name", "is not a name"));
        }
        let incoming = match incoming {
            0 => false,
            1 => true,
            _ => return Err(("incoming", "is neither 0 nor 1")),
        };
        let twice =
            |one: &&MoveInfo| (&one.name, one.incoming, one.state) == (&name, incoming, state);
        if before.iter().any(|one| twice(&one)) {
            return Err(("name", "is there twice for one state and one direction"));
        }
        Ok(MoveInfo {
            name,
            incoming,
            state,
            value,
        })
    }
}
