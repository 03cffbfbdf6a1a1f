// SPDX-License-Identifier: Apache-2.0

//! The record of all Keeps: contracts seen, with their signatures, and how each Keep ended. A contract only ever has
//! one Keep, so records outlive their Keeps, until nobody could launch the contract again.

use crate::past::Past;
use crate::record::{Claim, Claimed, End, Id, Record, Settled, Unclaimable};
use crate::tokens::Owner;
use crate::{ManagerError, StateError, files};
use enarx_contract::canonical::Hex;
use redb::backends::FileBackend;
use redb::{
    Builder, Database, Durability, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Seconds for which a record is kept after its Keep's end and its contract's.
const RETENTION: u64 = 7 * 24 * 3600;

/// Name of a Keep → record, in JSON.
const KEEPS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("keeps");
/// Names of the Keeps that have not ended.
const LIVING: TableDefinition<&[u8], ()> = TableDefinition::new("living");
/// Owner, complement of the record's number, name of a Keep: a token's Keeps, newest first.
const OWNED: TableDefinition<&[u8], ()> = TableDefinition::new("owned");
/// Time from which on a record is of no use, name of its Keep.
const EXPIRING: TableDefinition<&[u8], ()> = TableDefinition::new("expiring");

/// Name of a Keep that has ended → the last words of its process.
const LOGS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("logs");

/// Knowledge of the manager about itself.
const META: TableDefinition<&[u8], &[u8]> = TableDefinition::new("meta");
/// Its clock, in [`META`]: a [`Past`], in JSON.
const PAST: &[u8] = b"past";

/// The name of a token's Keep in [`OWNED`]; `None` for a Keep of nobody.
fn owned_key(id: &Id, record: &Record) -> Option<Vec<u8>> {
    let newest_first = !record.number;
    let owner = record.owner?;
    Some([&owner.0[..], &newest_first.to_be_bytes(), &id.0].concat())
}

/// A key after all those of this owner in [`OWNED`].
fn last_key(owner: &Owner) -> Vec<u8> {
    [&owner.0[..], &[0xff; 24]].concat()
}

/// Lists a record that has just got its owner, as the owner's newest.
fn list(write: &WriteTransaction, id: &Id, record: &mut Record) -> Result<(), StoreError> {
    let Some(owner) = record.owner else {
        return Ok(());
    };
    let mut owned = write.open_table(OWNED)?;
    let newest = owned
        .range(&owner.0[..]..=last_key(&owner).as_slice())?
        .next()
        .transpose()?;
    let newest = newest.and_then(|(key, _)| {
        let (_, rest) = key.value().split_first_chunk::<32>()?;
        rest.first_chunk().copied().map(u64::from_be_bytes)
    });
    record.number = newest.map_or(0, |number| !number).saturating_add(1);
    if let Some(key) = owned_key(id, record) {
        owned.insert(key.as_slice(), ())?;
    }
    Ok(())
}

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Database(Box<redb::Error>),
    #[error("a record of a Keep is damaged: {0}")]
    Record(#[from] serde_json::Error),
    #[error("there is no record of Keep {0}")]
    Missing(Id),
}

macro_rules! database_errors {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        })*
    };
}

database_errors!(
    CommitError,
    DatabaseError,
    SetDurabilityError,
    StorageError,
    TableError,
    TransactionError
);

impl StoreError {
    /// True if the disk is full, or this user's or process's share of it.
    pub(crate) fn is_full(&self) -> bool {
        let Self::Database(error) = self else {
            return false;
        };
        matches!(
            &**error,
            redb::Error::Io(error) if matches!(
                error.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
            )
        )
    }
}

/// The record of all Keeps. Every change is on the disk when a function returns.
pub(crate) struct Store {
    path: PathBuf,
    /// `None` after an error: the database is then unusable, and is opened again.
    database: Mutex<Option<Database>>,
}

impl Store {
    /// Opens the record, and makes it if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self, ManagerError> {
        let database = open(path).map_err(|error| error.of(path))?;
        Ok(Self {
            path: path.to_owned(),
            database: Mutex::new(Some(database)),
        })
    }

    fn with<T>(
        &self,
        with: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut opened = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        // It is put back only after success: a database that failed or panicked is closed.
        let database = match opened.take() {
            Some(database) => database,
            None => open(&self.path)?,
        };
        let result = with(&database);
        if !matches!(result, Err(StoreError::Database(_))) {
            *opened = Some(database);
        }
        result
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.with(|database| self::change(database, change))
    }

    /// Keeps a new record.
    pub(crate) fn insert(&self, id: &Id, mut record: Record) -> Result<(), StoreError> {
        self.change(|write| {
            list(write, id, &mut record)?;
            let bytes = serde_json::to_vec(&record)?;
            write
                .open_table(KEEPS)?
                .insert(&id.0[..], bytes.as_slice())?;
            write.open_table(LIVING)?.insert(&id.0[..], ())?;
            Ok(())
        })
    }

    /// Records the claim of a Keep. The answer is permanent, even if the manager is killed before it could report it.
    pub(crate) fn claim(&self, id: &Id, claim: &Claim) -> Result<Settled, StoreError> {
        // A claim that changes nothing costs no commit, so that nobody can load the disk with pointless claims.
        let Some(mut found) = self.get(id)? else {
            return Ok(Settled::Refused(Unclaimable::Unknown));
        };
        match Settled::from(found.claim(claim)) {
            Settled::Granted(Claimed::Now) => {}
            settled => return Ok(settled),
        }
        self.change(|write| {
            let mut keeps = write.open_table(KEEPS)?;
            let Some(mut record) = read(&keeps, id)? else {
                return Ok(Settled::Refused(Unclaimable::Unknown));
            };
            let settled = Settled::from(record.claim(claim));
            if settled == Settled::Granted(Claimed::Now) {
                list(write, id, &mut record)?;
                let bytes = serde_json::to_vec(&record)?;
                keeps.insert(&id.0[..], bytes.as_slice())?;
            }
            Ok(settled)
        })
    }

    /// Records the end of a Keep, with the last words of its process.
    pub(crate) fn end(&self, id: &Id, end: End, log: &str) -> Result<(), StoreError> {
        self.change(|write| {
            end_in(write, id, end)?;
            write.open_table(LOGS)?.insert(&id.0[..], log.as_bytes())?;
            Ok(())
        })
    }

    /// The last log lines of the process of an ended Keep; empty if there are none.
    pub(crate) fn log(&self, id: &Id) -> Result<String, StoreError> {
        self.with(|database| {
            let read = database.begin_read()?;
            let found = read.open_table(LOGS)?.get(&id.0[..])?;
            Ok(found.map_or_else(String::new, |bytes| {
                String::from_utf8_lossy(bytes.value()).into_owned()
            }))
        })
    }

    /// The record of a Keep.
    pub(crate) fn get(&self, id: &Id) -> Result<Option<Record>, StoreError> {
        self.with(|database| read(&database.begin_read()?.open_table(KEEPS)?, id))
    }

    /// The last Keeps of an owner, newest first, at most `limit`; true if there are more.
    pub(crate) fn owned(
        &self,
        owner: &Owner,
        limit: usize,
    ) -> Result<(Vec<(Id, Record)>, bool), StoreError> {
        self.with(|database| {
            let read = database.begin_read()?;
            let (owned, keeps) = (read.open_table(OWNED)?, read.open_table(KEEPS)?);
            let mut found = Vec::new();
            for entry in owned.range(&owner.0[..]..=last_key(owner).as_slice())? {
                let (key, _) = entry?;
                let Some(id) = key.value().last_chunk::<16>().copied().map(Hex) else {
                    continue;
                };
                if found.len() == limit {
                    return Ok((found, true));
                }
                let bytes = keeps.get(&id.0[..])?.ok_or(StoreError::Missing(id))?;
                found.push((id, serde_json::from_slice(bytes.value())?));
            }
            Ok((found, false))
        })
    }

    /// Ends all Keeps whose end nobody recorded. Returns how many.
    pub(crate) fn end_unfinished(&self, end: &End) -> Result<usize, StoreError> {
        self.change(|write| {
            let mut living = Vec::new();
            for entry in write.open_table(LIVING)?.iter()? {
                if let Some(id) = entry?.0.value().first_chunk::<16>() {
                    living.push(Hex(*id));
                }
            }
            for id in &living {
                end_in(write, id, end.clone())?;
            }
            Ok(living.len())
        })
    }

    /// Records that the clock says `now`, in seconds since 1970, this long after the last check, and removes the
    /// records that are certainly obsolete, because nobody could launch their contracts again. Returns how many.
    pub(crate) fn forget(&self, now: u64, after: Duration) -> Result<usize, StoreError> {
        self.change(|write| {
            let until = {
                let mut meta = write.open_table(META)?;
                let known = meta.get(PAST)?;
                let known = known.map(|bytes| serde_json::from_slice(bytes.value()));
                let mut past = known.transpose()?.unwrap_or_else(|| Past::begin(now));
                let until = past.look(now, after);
                meta.insert(PAST, serde_json::to_vec(&past)?.as_slice())?;
                until
            };
            until.map_or(Ok(0), |until| forget_until(write, until))
        })
    }
}

impl StoreError {
    /// The manager's error about this file. Any error other than those of the database means damage.
    pub(crate) fn of(self, path: &Path) -> ManagerError {
        ManagerError::Store {
            path: path.to_owned(),
            error: match self {
                Self::Database(error) => error,
                other => Box::new(redb::Error::Corrupted(other.to_string())),
            },
        }
    }
}

/// Opens the database in this file, with all tables.
fn open(path: &Path) -> Result<Database, StoreError> {
    let file = files::open(path).map_err(|error| match error {
        StateError::File { error, .. } => redb::StorageError::Io(error),
        other => redb::StorageError::Io(std::io::Error::other(other)),
    })?;
    let database = Builder::new().create_with_backend(FileBackend::new(file)?)?;
    change(&database, |write| {
        for table in [LIVING, OWNED, EXPIRING] {
            write.open_table(table)?;
        }
        for table in [KEEPS, LOGS, META] {
            write.open_table(table)?;
        }
        Ok(())
    })?;
    Ok(database)
}

fn change<T>(
    database: &Database,
    change: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut write = database.begin_write()?;
    write.set_durability(Durability::Immediate)?;
    // Tenants influence the contents, and the database's checksum is not cryptographic.
    write.set_two_phase_commit(true);
    write.set_quick_repair(true);
    let value = change(&write)?;
    write.commit()?;
    Ok(value)
}

fn read(
    keeps: &impl ReadableTable<&'static [u8], &'static [u8]>,
    id: &Id,
) -> Result<Option<Record>, StoreError> {
    let bytes = keeps.get(&id.0[..])?;
    Ok(bytes
        .map(|bytes| serde_json::from_slice(bytes.value()))
        .transpose()?)
}

/// Removes the records that expired before `until`. Returns how many.
fn forget_until(write: &WriteTransaction, until: u64) -> Result<usize, StoreError> {
    let mut keeps = write.open_table(KEEPS)?;
    let mut owned = write.open_table(OWNED)?;
    let mut logs = write.open_table(LOGS)?;
    let mut expiring = write.open_table(EXPIRING)?;
    let mut old = Vec::new();
    for entry in expiring.range(..&until.to_be_bytes()[..])? {
        old.push(entry?.0.value().to_vec());
    }
    for key in &old {
        expiring.remove(key.as_slice())?;
        let Some(id) = key.last_chunk::<16>().copied().map(Hex) else {
            continue;
        };
        logs.remove(&id.0[..])?;
        let Some(bytes) = keeps.remove(&id.0[..])? else {
            continue;
        };
        let record: Record = serde_json::from_slice(bytes.value())?;
        if let Some(key) = owned_key(&id, &record) {
            owned.remove(key.as_slice())?;
        }
    }
    Ok(old.len())
}

fn end_in(write: &WriteTransaction, id: &Id, end: End) -> Result<(), StoreError> {
    let mut keeps = write.open_table(KEEPS)?;
    let mut record = read(&keeps, id)?.ok_or(StoreError::Missing(*id))?;
    let expires = record.not_after.max(end.at).saturating_add(RETENTION);
    record.end = Some(end);
    let bytes = serde_json::to_vec(&record)?;
    keeps.insert(&id.0[..], bytes.as_slice())?;
    write.open_table(LIVING)?.remove(&id.0[..])?;
    let key = [&expires.to_be_bytes()[..], &id.0].concat();
    write.open_table(EXPIRING)?.insert(key.as_slice(), ())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::{claim, open};
    use enarx_contract::Agreement;
    use enarx_contract::canonical::Base64;

    fn record(owner: u8, created: u64) -> Record {
        let agreement = Agreement {
            contract: Base64(vec![1]),
            tenant: None,
            host: None,
        };
        let owner = Some(Hex([owner; 32]));
        Record::new(agreement, Hex([9; 32]), owner, created, 1000)
    }

    fn end(at: u64) -> End {
        End {
            reason: "deleted".to_string(),
            code: Some(1),
            at,
        }
    }

    fn forget(store: &Store, until: u64) -> usize {
        store.change(|write| forget_until(write, until)).unwrap()
    }

    fn id(number: u8) -> Id {
        Hex([number; 16])
    }

    #[test]
    fn records_outlive_the_store_and_end_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keeps.redb");
        let store = Store::open(&path).unwrap();
        store.insert(&id(1), record(1, 10)).unwrap();
        store.insert(&id(2), record(1, 20)).unwrap();
        store.insert(&id(3), record(2, 30)).unwrap();
        store.end(&id(1), end(40), "last").unwrap();
        assert!(store.end(&id(4), end(40), "").is_err());
        drop(store);
        let store = Store::open(&path).unwrap();
        let lost = End {
            reason: "manager-lost".to_string(),
            code: None,
            at: 50,
        };
        assert_eq!(store.end_unfinished(&lost).unwrap(), 2);
        assert_eq!(store.end_unfinished(&lost).unwrap(), 0);
        let found = |number| store.get(&id(number)).unwrap().unwrap().end;
        assert_eq!(found(1), Some(end(40)));
        assert_eq!(store.log(&id(1)).unwrap(), "last");
        assert_eq!(store.log(&id(2)).unwrap(), "");
        assert_eq!(found(2), Some(lost.clone()));
        assert_eq!(found(3), Some(lost));
        assert!(store.get(&id(4)).unwrap().is_none());
    }

    #[test]
    fn a_claim_outlives_the_store_and_its_keep_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keeps.redb");
        let store = Store::open(&path).unwrap();
        store.insert(&id(1), open()).unwrap();
        store.insert(&id(2), open()).unwrap();
        let claims = |store: &Store, number, owner| {
            let claim = claim(owner, owner);
            store.claim(&id(number), &claim).unwrap()
        };
        let unknown = Settled::Refused(Unclaimable::Unknown);
        assert_eq!(claims(&store, 3, 1), unknown);
        assert_eq!(claims(&store, 1, 1), Settled::Granted(Claimed::Now));
        drop(store);
        let store = Store::open(&path).unwrap();
        store.end_unfinished(&end(40)).unwrap();
        assert_eq!(claims(&store, 1, 1), Settled::Granted(Claimed::Before));
        assert_eq!(claims(&store, 1, 2), Settled::Refused(Unclaimable::Taken));
        assert_eq!(claims(&store, 2, 2), Settled::Refused(Unclaimable::Gone));
        let (owned, _) = store.owned(&Hex([1; 32]), 10).unwrap();
        assert_eq!(owned.len(), 1);
        let record = &owned[0].1;
        assert_eq!((record.created, record.end.clone()), (20, Some(end(40))));
        assert!(store.owned(&Hex([2; 32]), 10).unwrap().0.is_empty());
        assert_eq!(forget(&store, u64::MAX), 2);
        assert!(store.owned(&Hex([1; 32]), 10).unwrap().0.is_empty());
    }

    #[test]
    fn an_owner_sees_its_own_newest_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("keeps.redb")).unwrap();
        for number in 1..=9 {
            let owner = number % 2;
            store
                .insert(&id(number), record(owner, number.into()))
                .unwrap();
        }
        let owned = |owner: u8, limit| {
            let (found, more) = store.owned(&Hex([owner; 32]), limit).unwrap();
            let ids: Vec<_> = found.iter().map(|(id, _)| id.0[0]).collect();
            (ids, more)
        };
        assert_eq!(owned(1, 10), (vec![9, 7, 5, 3, 1], false));
        assert_eq!(owned(0, 10), (vec![8, 6, 4, 2], false));
        assert_eq!(owned(0, 4), (vec![8, 6, 4, 2], false));
        assert_eq!(owned(1, 2), (vec![9, 7], true));
        assert_eq!(owned(2, 10), (vec![], false));
    }

    /// Several Keeps of a second, and a clock that is set back.
    #[test]
    fn the_order_is_that_of_the_records_and_not_the_clocks() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("keeps.redb")).unwrap();
        for (number, created) in [(5, 20), (9, 20), (1, 20), (7, 10), (3, 20)] {
            store.insert(&id(number), record(1, created)).unwrap();
        }
        // One that was launched before them, and is claimed after them.
        store.insert(&id(2), open()).unwrap();
        store.insert(&id(4), record(1, 20)).unwrap();
        let claimed = store.claim(&id(2), &claim(1, 1)).unwrap();
        assert_eq!(claimed, Settled::Granted(Claimed::Now));
        let listed = || -> Vec<_> {
            let (found, _) = store.owned(&Hex([1; 32]), 10).unwrap();
            found.iter().map(|(id, _)| id.0[0]).collect()
        };
        assert_eq!(listed(), [2, 4, 3, 7, 1, 9, 5]);
        // When some are forgotten, the rest keeps its order, and the next is the newest.
        for number in [9, 2] {
            store.end(&id(number), end(40), "").unwrap();
        }
        assert_eq!(forget(&store, u64::MAX), 2);
        store.insert(&id(6), record(1, 20)).unwrap();
        assert_eq!(listed(), [6, 4, 3, 7, 1, 5]);
    }

    /// A week of the manager's own time, in spite of restarts, and not of the clock's.
    #[test]
    fn clock_readings_outlive_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keeps.redb");
        let day = Duration::from_hours(24);
        let later = 1001 + RETENTION;
        let store = Store::open(&path).unwrap();
        store.insert(&id(1), record(1, 10)).unwrap();
        store.end(&id(1), end(40), "").unwrap();
        drop(store);
        for _ in 0..6 {
            let store = Store::open(&path).unwrap();
            assert_eq!(store.forget(later, Duration::ZERO).unwrap(), 0);
            assert_eq!(store.forget(later, day).unwrap(), 0);
        }
        let store = Store::open(&path).unwrap();
        assert_eq!(store.forget(later, day).unwrap(), 1);
        assert!(store.get(&id(1)).unwrap().is_none());
    }

    #[test]
    fn records_are_forgotten_after_their_contracts_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("keeps.redb")).unwrap();
        store.insert(&id(1), record(1, 10)).unwrap();
        store.insert(&id(2), record(1, 20)).unwrap();
        store.insert(&id(3), record(1, 30)).unwrap();
        store.end(&id(1), end(40), "last").unwrap();
        store.end(&id(2), end(2000), "").unwrap();
        assert_eq!(forget(&store, 1000 + RETENTION), 0);
        assert_eq!(forget(&store, 1001 + RETENTION), 1);
        assert!(store.get(&id(1)).unwrap().is_none());
        assert_eq!(store.log(&id(1)).unwrap(), "");
        assert_eq!(forget(&store, u64::MAX), 1);
        let (left, _) = store.owned(&Hex([1; 32]), 10).unwrap();
        assert_eq!(left.len(), 1, "a Keep that lives is never forgotten");
    }
}
