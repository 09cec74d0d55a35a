//! A stand-in for the node in unit tests of components: one region, one instance, and a
//! record of everything that the component answers, sends and asks for.

mod host;

use std::marker::PhantomData;

use neurath::{Component, Token};
use neurath_abi::{
    Bytes, Call, CreateCall, ErrorText, Message, MessageKind, Migration, MigrationBatch, Ref,
    Status,
};
use neurath_pmem::migrate::{Conversion, MigrationPlan, Row};
use neurath_pmem::region::{Region, RegionError, RegionOptions};
use neurath_pmem::schema::SchemaDesc;
use neurath_pmem::{Handle, Pmem, Tx};
use tempfile::TempDir;

pub use host::{Log, Sent};

/// The encoded schema of a state type.
#[macro_export]
macro_rules! schema {
    ($state:ty) => {{
        const LEN: usize =
            $crate::pmem::schema::encoded_len(<$state as $crate::pmem::Pmem>::SCHEMA);
        static SCHEMA: [u8; LEN] =
            $crate::pmem::schema::encode(<$state as $crate::pmem::Pmem>::SCHEMA);
        &SCHEMA
    }};
}

#[doc(hidden)]
pub use neurath_pmem as pmem;

/// A region in a directory of its own, which goes with it.
#[derive(Debug)]
pub struct Store {
    /// The region.
    pub region: Region,
    /// Removed with the region.
    _dir: TempDir,
}

fn options(limit: u64) -> RegionOptions {
    RegionOptions::new("test", 0, limit)
}

impl Store {
    /// A region without a root.
    ///
    /// # Panics
    ///
    /// If the file system refuses.
    pub fn new(schema: &[u8], limit: u64) -> Store {
        let dir = tempfile::tempdir().expect("a directory");
        let region =
            Region::create(&dir.path().join("region"), &options(limit), schema).expect("a region");
        Store { region, _dir: dir }
    }

    /// A region whose root is `root`.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    pub fn with_root<S: Pmem>(schema: &[u8], root: &S) -> Store {
        let mut store = Store::new(schema, 256 << 20);
        let root = store
            .region
            .transact(|tx| tx.alloc(root).map_err(|error| Failed(error.to_string())))
            .expect("a root");
        store.region.set_root(root.to_ref());
        store.region.commit().expect("a commit");
        store
    }

    /// Changes or looks at the state in a transaction.
    ///
    /// # Panics
    ///
    /// If anything fails.
    pub fn with<S: Pmem, R>(
        &mut self,
        work: impl FnOnce(&mut S, &mut Tx<'_>) -> neurath::Result<R>,
    ) -> R {
        self.region
            .transact(|tx| {
                let text = |error: &dyn std::fmt::Display| Failed(error.to_string());
                let root = tx.root::<S>();
                let mut state = tx.read(root).map_err(|error| text(&error))?;
                let result = work(&mut state, tx).map_err(|error| text(&error))?;
                tx.write(root, &state).map_err(|error| text(&error))?;
                Ok::<R, Failed>(result)
            })
            .expect("the transaction")
    }

    /// The state as another version has it, made by its conversions as the node does it.
    ///
    /// # Panics
    ///
    /// If there is no way, or it fails.
    pub fn migrate(self, schema: &[u8], migrations: &[Migration], now_ms: u64) -> Store {
        let conversions: Vec<Conversion> = migrations
            .iter()
            .map(|migration| Conversion {
                from: migration.from,
                to: migration.to,
            })
            .collect();
        let old = SchemaDesc::decode(&self.region.schema()).expect("a schema");
        let new = SchemaDesc::decode(schema).expect("a schema");
        let plan = MigrationPlan::new(&old, &new, &conversions).expect("a way");
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("region");
        let source = self.region.source();
        let mut building = plan
            .prepare(&source, &path, &options(256 << 20), schema)
            .expect("a file");
        building
            .fill(&source, "{}", now_ms, &|index, row| {
                convert(&migrations[index], row)
            })
            .expect("a conversion");
        Store {
            region: building.finish().expect("a region"),
            _dir: dir,
        }
    }
}

fn convert(migration: &Migration, row: Row<'_>) -> Result<(), String> {
    let mut text = [0; 512];
    let mut batch = MigrationBatch {
        size: size_of::<MigrationBatch>() as u32,
        reserved: 0,
        old: row.old.as_ptr(),
        old_stride: row.old_stride,
        new: row.new.as_mut_ptr(),
        new_stride: row.new_stride,
        count: row.count,
        live: row.live.as_ptr(),
        extra: Bytes::new(row.extra.as_bytes()),
        now_ms: row.now_ms,
        error: ErrorText {
            ptr: text.as_mut_ptr(),
            capacity: text.len(),
            len: 0,
        },
    };
    // SAFETY: the row's memory, which outlives the call, as the plan made it for these types.
    let status = unsafe { (migration.convert)(&raw mut batch) };
    let len = batch.error.len;
    if status.is_ok() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&text[..len]).into_owned())
    }
}

struct Failed(String);

impl std::fmt::Debug for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<RegionError> for Failed {
    fn from(error: RegionError) -> Failed {
        Failed(error.to_string())
    }
}

/// An instance of a component, and all that it did.
#[derive(Debug)]
pub struct Instance<S> {
    /// The clock that it sees.
    pub now_ms: u64,
    /// Its region.
    pub store: Store,
    /// What it did in the last call.
    pub log: Log,
    handle: Handle,
    config: String,
    state: PhantomData<fn() -> S>,
}

impl<S: Component> Instance<S> {
    /// A new instance, initialised.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    pub fn new(schema: &[u8], config: &str) -> Instance<S> {
        Self::with_limit(schema, config, 256 << 20)
    }

    /// A new instance whose region may have so many bytes.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    pub fn with_limit(schema: &[u8], config: &str, limit: u64) -> Instance<S> {
        let mut this = Self::over(Store::new(schema, limit), config);
        let functions = neurath::entry::functions::<S>();
        let root = this
            .run(None, |call| {
                // SAFETY: a bitwise copy of a struct of plain fields, whose original is not
                // used until the copy's results have been put back.
                let copy = unsafe { std::ptr::read(call) };
                let mut create = CreateCall {
                    call: copy,
                    root: Ref::NULL,
                };
                // SAFETY: a valid call.
                let status = unsafe { (functions.create)(&raw mut create) };
                *call = create.call;
                (status, create.root)
            })
            .expect("a state");
        this.store.region.set_root(root);
        this.store.region.commit().expect("a commit");
        this.init().expect("init");
        this
    }

    /// An instance whose state is there already; not initialised.
    pub fn over(mut store: Store, config: &str) -> Instance<S> {
        let handle = Handle::new();
        store.region.attach(&handle);
        Instance {
            now_ms: 1_700_000_000_000,
            store,
            log: Log::default(),
            handle,
            config: config.into(),
            state: PhantomData,
        }
    }

    /// The region, for a migration.
    pub fn into_store(self) -> Store {
        let mut store = self.store;
        store.region.detach();
        store
    }

    /// Makes a call and commits, or aborts.
    fn run<R>(
        &mut self,
        message: Option<&Message>,
        function: impl FnOnce(&mut Call) -> (Status, R),
    ) -> Result<R, String> {
        self.log.begin();
        let mut text = [0; 512];
        let mut call = Call {
            size: size_of::<Call>() as u32,
            reserved: 0,
            region: self.handle.slot(),
            host_ops: &raw const host::OPS,
            host: (&raw mut self.log).cast(),
            config: Bytes::new(self.config.as_bytes()),
            now_ms: self.now_ms,
            message: message.map_or(std::ptr::null(), std::ptr::from_ref),
            consumed: 0,
            error: ErrorText {
                ptr: text.as_mut_ptr(),
                capacity: text.len(),
                len: 0,
            },
        };
        let (status, result) = function(&mut call);
        let (consumed, len) = (call.consumed, call.error.len);
        if status.is_ok() {
            self.log.consumed = consumed;
            self.log.committed = self
                .store
                .region
                .commit()
                .map_err(|error| error.to_string())?;
            return Ok(result);
        }
        self.store.region.abort();
        self.log.begin();
        Err(String::from_utf8_lossy(&text[..len]).into_owned())
    }

    fn call(
        &mut self,
        function: unsafe extern "C" fn(*mut Call) -> Status,
        message: Option<&Message>,
    ) -> Result<(), String> {
        // SAFETY: a valid call, as `run` makes it.
        self.run(message, |call| (unsafe { function(call) }, ()))
    }

    /// `init`.
    ///
    /// # Errors
    ///
    /// The component's text.
    pub fn init(&mut self) -> Result<(), String> {
        self.call(neurath::entry::functions::<S>().init, None)
    }

    /// `quiesce`.
    ///
    /// # Errors
    ///
    /// The component's text.
    pub fn quiesce(&mut self) -> Result<(), String> {
        self.call(neurath::entry::functions::<S>().quiesce, None)
    }

    /// `terminate`.
    ///
    /// # Errors
    ///
    /// The component's text.
    pub fn terminate(&mut self) -> Result<(), String> {
        self.call(neurath::entry::functions::<S>().terminate, None)
    }

    /// `check_state`.
    ///
    /// # Errors
    ///
    /// The component's text.
    pub fn check_state(&mut self) -> Result<(), String> {
        self.call(neurath::entry::functions::<S>().check_state, None)
    }

    fn message(
        &mut self,
        kind: MessageKind,
        source: u64,
        token: Token,
        bytes: &[u8],
    ) -> Result<(), String> {
        let user = self.log.users.get(&source).copied().unwrap_or(0);
        let bytes = Bytes::new(bytes);
        let message = Message {
            kind,
            reserved: 0,
            source,
            user,
            token,
            bytes,
        };
        self.call(neurath::entry::functions::<S>().handle, Some(&message))
    }

    /// A connection is there.
    ///
    /// # Errors
    ///
    /// The component's text.
    pub fn opened(&mut self, connection: u64) -> Result<(), String> {
        self.message(MessageKind::OPENED, connection, Token::NONE, b"")
    }

    /// Bytes come in; how many were consumed.
    ///
    /// # Errors
    ///
    /// The component's text.
    pub fn data(&mut self, connection: u64, bytes: &[u8]) -> Result<usize, String> {
        self.message(MessageKind::DATA, connection, Token::NONE, bytes)?;
        Ok(self.log.consumed)
    }

    /// A connection is gone.
    ///
    /// # Errors
    ///
    /// The component's text.
    pub fn closed(&mut self, connection: u64) -> Result<(), String> {
        self.message(MessageKind::CLOSED, connection, Token::NONE, b"")
    }

    /// A timer goes off.
    ///
    /// # Errors
    ///
    /// The component's text.
    pub fn timer(&mut self, id: u64) -> Result<(), String> {
        self.message(MessageKind::TIMER, id, Token::NONE, b"")
    }

    /// A request comes in that nobody waits for.
    ///
    /// # Errors
    ///
    /// The component's text.
    pub fn tell(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.message(MessageKind::REQUEST, 0, Token::NONE, bytes)
    }

    /// A request comes in; its answer.
    ///
    /// # Errors
    ///
    /// The component's text, or that there was no answer.
    pub fn request(&mut self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let token = Token {
            target: 1,
            sequence: 1,
        };
        self.message(MessageKind::REQUEST, 0, token, bytes)?;
        match self.log.replies.pop() {
            Some((to, reply)) if to == token => Ok(reply),
            other => Err(format!("no answer, but {other:?}")),
        }
    }
}
