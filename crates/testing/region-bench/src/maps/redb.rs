//! redb; without durability where the process is all that may die.

#[cfg(not(feature = "redb"))]
pub fn open(
    _: &std::path::Path,
    _: super::Survives,
) -> anyhow::Result<Result<Box<dyn super::Store>, String>> {
    Ok(Err("built without the crate redb".into()))
}

#[cfg(feature = "redb")]
pub use with::open;

#[cfg(feature = "redb")]
mod with {
    use std::path::Path;

    use anyhow::Context as _;
    use redb::{Database, Durability, ReadableDatabase as _, TableDefinition};

    use super::super::{Store, Survives, Value};

    const TABLE: TableDefinition<'_, u64, &Value> = TableDefinition::new("entries");

    struct Redb {
        database: Database,
        durability: Durability,
    }

    pub fn open(path: &Path, survives: Survives) -> anyhow::Result<Result<Box<dyn Store>, String>> {
        let mut builder = Database::builder();
        // All of it, so that it never reads what it has.
        builder.set_cache_size(1 << 30);
        let database = builder.create(path)?;
        let durability = match survives {
            Survives::Process => Durability::None,
            Survives::Power => Durability::Immediate,
        };
        let mut store = Redb {
            database,
            durability,
        };
        // The table is there, also for a lookup.
        store.write(|_| Ok(()))?;
        Ok(Ok(Box::new(store)))
    }

    impl Redb {
        fn write(
            &mut self,
            change: impl FnOnce(&mut redb::Table<'_, u64, &'static Value>) -> anyhow::Result<()>,
        ) -> anyhow::Result<()> {
            let mut transaction = self.database.begin_write()?;
            transaction.set_durability(self.durability)?;
            let mut table = transaction.open_table(TABLE)?;
            change(&mut table)?;
            drop(table);
            Ok(transaction.commit()?)
        }
    }

    impl Store for Redb {
        fn put(&mut self, keys: &[u64], value: &Value) -> anyhow::Result<()> {
            self.write(|table| {
                for key in keys {
                    table.insert(key, value)?;
                }
                Ok(())
            })
        }

        fn remove(&mut self, keys: &[u64]) -> anyhow::Result<()> {
            self.write(|table| {
                for key in keys {
                    table.remove(key)?;
                }
                Ok(())
            })
        }

        fn get(&mut self, keys: &[u64]) -> anyhow::Result<u64> {
            let table = self.database.begin_read()?.open_table(TABLE)?;
            let mut sum = 0;
            for key in keys {
                let value = table.get(key)?.context("a key is not there")?;
                // As ours: a copy of the value.
                let value: Value = *value.value();
                sum += u64::from(std::hint::black_box(value)[0]);
            }
            Ok(sum)
        }

        fn range(&mut self, keys: &[u64], count: usize) -> anyhow::Result<Option<u64>> {
            let table = self.database.begin_read()?.open_table(TABLE)?;
            let mut seen = 0;
            for &key in keys {
                for entry in table.range(key..)?.take(count) {
                    let value: Value = *entry?.1.value();
                    std::hint::black_box(value[0]);
                    seen += 1;
                }
            }
            Ok(Some(seen))
        }
    }
}
