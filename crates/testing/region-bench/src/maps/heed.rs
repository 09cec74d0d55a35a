//! LMDB through heed; without syncing where the process is all that may die.

#[cfg(not(feature = "heed"))]
pub fn open(
    _: &std::path::Path,
    _: super::Survives,
) -> anyhow::Result<Result<Box<dyn super::Store>, String>> {
    Ok(Err("built without the crate heed".into()))
}

#[cfg(feature = "heed")]
pub use with::open;

#[cfg(feature = "heed")]
mod with {
    use std::path::Path;

    use anyhow::Context as _;
    use heed::byteorder::BigEndian;
    use heed::types::{Bytes, U64};
    use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions};

    use super::super::{Store, Survives, Value};

    type Table = Database<'static, U64<BigEndian>, Bytes>;

    struct Heed {
        env: Env,
        table: Table,
    }

    pub fn open(path: &Path, survives: Survives) -> anyhow::Result<Result<Box<dyn Store>, String>> {
        std::fs::create_dir(path)?;
        let mut options = EnvOpenOptions::new();
        options.map_size(4 << 30);
        let flags = match survives {
            Survives::Process => EnvFlags::NO_SYNC | EnvFlags::WRITE_MAP | EnvFlags::MAP_ASYNC,
            Survives::Power => EnvFlags::empty(),
        };
        // SAFETY: the folder is new and this process's alone, and an environment that is not
        // synced is lost with the machine only, which a benchmark may.
        let env = unsafe {
            options.flags(flags);
            options.open(path)?
        };
        let transaction = env.write_txn()?;
        let table = env
            .create_databases_and_commit(transaction, |opener, transaction| {
                let made = opener.create_database(transaction, None);
                made.map(CommitOrAbort::<_, ()>::Commit)
            })?
            .unwrap_commit();
        Ok(Ok(Box::new(Heed { env, table })))
    }

    impl Store for Heed {
        fn put(&mut self, keys: &[u64], value: &Value) -> anyhow::Result<()> {
            let mut transaction = self.env.write_txn()?;
            for key in keys {
                self.table.put(&mut transaction, key, value)?;
            }
            Ok(transaction.commit()?)
        }

        fn remove(&mut self, keys: &[u64]) -> anyhow::Result<()> {
            let mut transaction = self.env.write_txn()?;
            for key in keys {
                self.table.delete(&mut transaction, key)?;
            }
            Ok(transaction.commit()?)
        }

        fn get(&mut self, keys: &[u64]) -> anyhow::Result<u64> {
            let transaction = self.env.read_txn()?;
            let mut sum = 0;
            for key in keys {
                let found = self.table.get(&transaction, key)?;
                // As ours: a copy of the value.
                let value: Value = found.context("a key is not there")?.try_into()?;
                sum += u64::from(std::hint::black_box(value)[0]);
            }
            Ok(sum)
        }

        fn range(&mut self, keys: &[u64], count: usize) -> anyhow::Result<Option<u64>> {
            let transaction = self.env.read_txn()?;
            let mut seen = 0;
            for key in keys {
                for entry in self.table.range(&transaction, &(*key..))?.take(count) {
                    let value: Value = entry?.1.try_into()?;
                    std::hint::black_box(value[0]);
                    seen += 1;
                }
            }
            Ok(Some(seen))
        }
    }
}
