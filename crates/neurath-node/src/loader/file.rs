//! Reads a library's descriptor out of its file, without loading it: loading runs its
//! constructors, and what is only looked at must not run.

use std::collections::HashMap;
use std::mem::{offset_of, size_of};
use std::path::Path;

use neurath_abi::{
    ABI_VERSION, Bytes, ComponentDescriptor, DESCRIPTOR_SYMBOL, Hook, Migration, Move, PANIC_ABORT,
    PANIC_UNWIND, READS_THROUGH,
};

use super::LoadError;
use super::description::{
    Description, MAX_COMPILER, MAX_HOOKS, MAX_MIGRATIONS, MAX_MOVES, MAX_NAME, MAX_SCHEMA,
    MAX_VERSION, MigrationInfo, MoveInfo, OLDEST_SIZE, WITHOUT_FEATURES, WITHOUT_MOVES,
};
use super::elf::{self, Tables};

/// `R_X86_64_RELATIVE`: the base and the addend.
const RELATIVE: u32 = 8;
/// `R_X86_64_64`: a symbol's address and the addend.
const ADDRESS: u32 = 1;

/// What the library in these bytes says of itself. `path` is only what errors call it.
///
/// # Errors
///
/// [`LoadError`] says what is wrong with the file or with its descriptor; for one of another
/// ABI version it is [`LoadError::Abi`], whatever else there is.
pub fn describe(path: &Path, bytes: &[u8]) -> Result<Description, LoadError> {
    let symbol = DESCRIPTOR_SYMBOL
        .strip_suffix(b"\0")
        .unwrap_or(DESCRIPTOR_SYMBOL);
    let data = Data::read(bytes).map_err(|source| LoadError::Elf {
        path: path.to_owned(),
        source,
    })?;
    let at = (1..data.tables.symbol_count)
        .filter_map(|index| data.tables.symbol(index).ok())
        .find(|found| found.section != 0 && found.name.as_bytes() == symbol);
    match at {
        Some(found) => Reader { path, data: &data }.descriptor(found.value),
        None => Err(LoadError::MissingSymbol(path.to_owned())),
    }
}

/// The file as it would lie in memory, if it were loaded at address 0.
struct Data<'a> {
    tables: Tables<'a>,
    /// What relocations put where.
    pointers: HashMap<u64, u64>,
}

impl<'a> Data<'a> {
    fn read(bytes: &'a [u8]) -> Result<Data<'a>, elf::ElfError> {
        let tables = Tables::read(bytes)?;
        let mut pointers = HashMap::new();
        for (place, kind, symbol, addend) in tables.relocations()? {
            let value = match kind {
                RELATIVE => Some(addend),
                ADDRESS => {
                    let symbol = tables.symbol(symbol)?;
                    (symbol.section != 0).then(|| symbol.value.wrapping_add(addend))
                }
                _ => None,
            };
            if let Some(value) = value {
                pointers.insert(place, value);
            }
        }
        Ok(Data { tables, pointers })
    }

    fn read_array<const N: usize>(&self, at: u64, offset: usize) -> Option<[u8; N]> {
        let at = at.checked_add(u64::try_from(offset).ok()?)?;
        self.tables.bytes(at, N)?.try_into().ok()
    }

    /// The pointer at a place. What no relocation puts there stands in the file: a packed
    /// relocation (`DT_RELR`) adds the base to it, which is 0 here.
    fn pointer(&self, at: u64, offset: usize) -> Option<u64> {
        let place = at.checked_add(u64::try_from(offset).ok()?)?;
        match self.pointers.get(&place) {
            Some(value) => Some(*value),
            None => self.read_array(at, offset).map(u64::from_le_bytes),
        }
    }
}

struct Reader<'a> {
    path: &'a Path,
    data: &'a Data<'a>,
}

impl Reader<'_> {
    fn bad(&self, field: &str, problem: &'static str) -> LoadError {
        LoadError::Descriptor {
            path: self.path.to_owned(),
            field: field.into(),
            problem,
        }
    }

    fn outside(&self, field: &str) -> LoadError {
        self.bad(field, "does not lie in the library")
    }

    fn u32(&self, at: u64, offset: usize, field: &str) -> Result<u32, LoadError> {
        let found = self
            .data
            .read_array::<4>(at, offset)
            .map(u32::from_le_bytes);
        found.ok_or_else(|| self.outside(field))
    }

    fn descriptor(&self, at: u64) -> Result<Description, LoadError> {
        let abi = self.u32(at, offset_of!(ComponentDescriptor, abi), "abi")?;
        if abi != ABI_VERSION {
            return Err(LoadError::Abi {
                path: self.path.to_owned(),
                found: abi,
            });
        }
        let size = self.u32(at, offset_of!(ComponentDescriptor, size), "size")?;
        let size = size as usize;
        let whole = size >= size_of::<ComponentDescriptor>();
        let known = [OLDEST_SIZE, WITHOUT_MOVES, WITHOUT_FEATURES];
        if !whole && !known.contains(&size) {
            return Err(self.bad("size", "is not that of this ABI version"));
        }
        let strategy = offset_of!(ComponentDescriptor, panic_strategy);
        match self.u32(at, strategy, "panic_strategy")? {
            PANIC_UNWIND => {}
            PANIC_ABORT => return Err(LoadError::PanicAbort(self.path.to_owned())),
            _ => return Err(self.bad("panic_strategy", "is neither unwind nor abort")),
        }
        let text = |offset, field, limit| self.text(at, offset, field, limit);
        let name = text(offset_of!(ComponentDescriptor, name), "name", MAX_NAME)?;
        if neurath_manifest::scalar::check_name(&name).is_err() {
            return Err(self.bad("name", "is not a component name"));
        }
        let fingerprint = offset_of!(ComponentDescriptor, fingerprint);
        Ok(Description {
            name,
            version: text(
                offset_of!(ComponentDescriptor, version),
                "version",
                MAX_VERSION,
            )?,
            compiler: text(
                offset_of!(ComponentDescriptor, compiler),
                "compiler",
                MAX_COMPILER,
            )?,
            schema: self.slice(
                at,
                offset_of!(ComponentDescriptor, schema),
                "schema",
                MAX_SCHEMA,
            )?,
            fingerprint: self
                .data
                .read_array(at, fingerprint)
                .ok_or_else(|| self.outside("fingerprint"))?,
            migrations: self.migrations(at)?,
            hooks: match size {
                OLDEST_SIZE => Vec::new(),
                _ => self.hooks(at)?,
            },
            moves: match size {
                OLDEST_SIZE | WITHOUT_MOVES => Vec::new(),
                _ => self.moves(at)?,
            },
            reads_through: whole && self.features(at)? & READS_THROUGH != 0,
        })
    }

    fn migrations(&self, at: u64) -> Result<Vec<MigrationInfo>, LoadError> {
        let (count, place) = (
            offset_of!(ComponentDescriptor, migration_count),
            offset_of!(ComponentDescriptor, migrations),
        );
        let places = self.table(
            "migrations",
            (at, count, place),
            MAX_MIGRATIONS,
            size_of::<Migration>(),
        )?;
        let all = places.into_iter().enumerate();
        all.map(|(index, at)| self.migration(at, index)).collect()
    }

    fn hooks(&self, at: u64) -> Result<Vec<String>, LoadError> {
        let (count, place) = (
            offset_of!(ComponentDescriptor, hook_count),
            offset_of!(ComponentDescriptor, hooks),
        );
        let places = self.table("hooks", (at, count, place), MAX_HOOKS, size_of::<Hook>())?;
        let name = |(index, at)| {
            let field = format!("hooks[{index}].name");
            self.text(at, offset_of!(Hook, name), &field, MAX_NAME)
        };
        places.into_iter().enumerate().map(name).collect()
    }

    fn moves(&self, at: u64) -> Result<Vec<MoveInfo>, LoadError> {
        let (count, place) = (
            offset_of!(ComponentDescriptor, move_count),
            offset_of!(ComponentDescriptor, moves),
        );
        let places = self.table("moves", (at, count, place), MAX_MOVES, size_of::<Move>())?;
        let mut found: Vec<MoveInfo> = Vec::new();
        for (index, at) in places.into_iter().enumerate() {
            let field = |name: &str| format!("moves[{index}].{name}");
            let print = |offset, name: &str| {
                let bytes = self.data.read_array(at, offset);
                bytes.ok_or_else(|| self.outside(&field(name)))
            };
            let name = self.text(at, offset_of!(Move, name), &field("name"), MAX_NAME)?;
            let incoming = self.u32(at, offset_of!(Move, incoming), &field("incoming"))?;
            let state = print(offset_of!(Move, state), "state")?;
            let value = print(offset_of!(Move, value), "value")?;
            let one = MoveInfo::checked(name, incoming, state, value, &found);
            found.push(one.map_err(|(name, problem)| self.bad(&field(name), problem))?);
        }
        Ok(found)
    }

    /// Where the rows of a table are: what the descriptor at a place says of it, by the offsets of their number
    /// and of the first.
    fn table(
        &self,
        field: &str,
        (at, count, first): (u64, usize, usize),
        most: usize,
        size: usize,
    ) -> Result<Vec<u64>, LoadError> {
        let count_field = format!("{}_count", field.trim_end_matches('s'));
        let count = self
            .data
            .read_array::<8>(at, count)
            .map(u64::from_le_bytes)
            .ok_or_else(|| self.outside(&count_field))?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > most {
            return Err(self.bad(&count_field, "is too large"));
        }
        if count == 0 {
            return Ok(Vec::new());
        }
        let start = self.data.pointer(at, first);
        let start = start.ok_or_else(|| self.outside(field))?;
        let row = |index: usize| start.checked_add((index * size) as u64);
        let rows = (0..count).map(|index| row(index).ok_or_else(|| self.outside(field)));
        rows.collect()
    }

    fn features(&self, at: u64) -> Result<u64, LoadError> {
        let read = self
            .data
            .read_array::<8>(at, offset_of!(ComponentDescriptor, features));
        let features = read.map(u64::from_le_bytes);
        features.ok_or_else(|| self.outside("features"))
    }

    fn migration(&self, at: u64, index: usize) -> Result<MigrationInfo, LoadError> {
        let field = |name: &str| format!("migrations[{index}].{name}");
        let print = |offset, name: &str| {
            let found = self.data.read_array(at, offset);
            found.ok_or_else(|| self.outside(&field(name)))
        };
        let backward = offset_of!(Migration, backward);
        Ok(MigrationInfo {
            from: print(offset_of!(Migration, from), "from")?,
            to: print(offset_of!(Migration, to), "to")?,
            from_size: self.u32(at, offset_of!(Migration, from_size), &field("from_size"))?,
            to_size: self.u32(at, offset_of!(Migration, to_size), &field("to_size"))?,
            version: self.text(
                at,
                offset_of!(Migration, version),
                &field("version"),
                MAX_VERSION,
            )?,
            backward: match self.u32(at, backward, &field("backward"))? {
                0 => false,
                1 => true,
                _ => return Err(self.bad(&field("backward"), "is neither 0 nor 1")),
            },
        })
    }

    fn slice(
        &self,
        at: u64,
        offset: usize,
        field: &str,
        limit: usize,
    ) -> Result<Vec<u8>, LoadError> {
        let len = self
            .data
            .read_array::<8>(at, offset + offset_of!(Bytes, len))
            .map(u64::from_le_bytes)
            .and_then(|len| usize::try_from(len).ok())
            .ok_or_else(|| self.outside(field))?;
        if len > limit {
            return Err(self.bad(field, "is too long"));
        }
        if len == 0 {
            return Ok(Vec::new());
        }
        let start = self.data.pointer(at, offset + offset_of!(Bytes, ptr));
        let bytes = start.and_then(|start| self.data.tables.bytes(start, len));
        Ok(bytes.ok_or_else(|| self.outside(field))?.to_vec())
    }

    fn text(&self, at: u64, offset: usize, field: &str, limit: usize) -> Result<String, LoadError> {
        String::from_utf8(self.slice(at, offset, field, limit)?)
            .map_err(|_| self.bad(field, "is not UTF-8"))
    }
}
