//! The former format of the index: tables of many types of keys. One that is found is turned into the present format, in the
//! transaction that opens it, so that a crash leaves the one or the other.

use std::io;

use redb::{ReadableTable, TableDefinition, TableError, WriteTransaction};

use super::index::{GONE, GROUPS, HELD, INODES, LISTS, META, PLACES, UNSENT, block_key, failed, word};

const FORMER_META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
const FORMER_LISTS: TableDefinition<'static, (&[u8], u32), &[u8]> = TableDefinition::new("lists, former");
const FORMER_UNSENT: TableDefinition<'static, &[u8], ()> = TableDefinition::new("unsent, former");

/// Turns the tables that have another type now. `entries` never had another one.
///
/// # Errors
///
/// What the file system says; then nothing has changed.
pub(super) fn convert(tx: &WriteTransaction) -> io::Result<()> {
    if !matches!(tx.open_table(META), Err(TableError::TableTypeMismatch { .. })) {
        return Ok(());
    }
    log::info!("the index is of a former format, and is converted");
    let mut words = Vec::new();
    let former = tx.open_table(FORMER_META).map_err(failed)?;
    for word in [word::CUT, word::FILES, word::SERVED] {
        let name = std::str::from_utf8(word).map_err(io::Error::other)?;
        words.extend(former.get(name).map_err(failed)?.map(|value| (word, value.value().to_vec())));
    }
    drop(former);
    tx.delete_table(META).map_err(failed)?;
    let mut meta = tx.open_table(META).map_err(failed)?;
    for (word, value) in words {
        meta.insert(word, value.as_slice()).map_err(failed)?;
    }

    tx.rename_table(LISTS, FORMER_LISTS).map_err(failed)?;
    let (former, mut lists) = (tx.open_table(FORMER_LISTS).map_err(failed)?, tx.open_table(LISTS).map_err(failed)?);
    for row in former.iter().map_err(failed)? {
        let (key, block) = row.map_err(failed)?;
        let (name, number) = key.value();
        lists.insert(block_key(name, number).as_slice(), block.value()).map_err(failed)?;
    }
    drop(former);
    tx.delete_table(FORMER_LISTS).map_err(failed)?;

    tx.rename_table(UNSENT, FORMER_UNSENT).map_err(failed)?;
    let (former, mut unsent) = (tx.open_table(FORMER_UNSENT).map_err(failed)?, tx.open_table(UNSENT).map_err(failed)?);
    for row in former.iter().map_err(failed)? {
        unsent.insert(row.map_err(failed)?.0.value(), [].as_slice()).map_err(failed)?;
    }
    drop(former);
    tx.delete_table(FORMER_UNSENT).map_err(failed)?;

    // The hints are made anew from the rows, the others by the next scan and cycle.
    for table in [PLACES, INODES, GROUPS, GONE, HELD] {
        tx.delete_table(table).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::control::Generation;
    use crate::mirror::entry::{Chunk, Entry, Kind, Local, Stamp};
    use crate::mirror::index::{ENTRIES, Index, Lookup};
    use crate::mirror::row::{self, BLOCK, Cut};
    use redb::Database;

    fn chunks(count: usize) -> Vec<Chunk> {
        (0..count).map(|n| Chunk { hash: Some([n as u8; 32]), len: 600 }).collect()
    }

    /// What a program of the former format leaves behind: a file with a long list in two blocks, and a cut.
    fn former(path: &std::path::Path, entry: &Entry, cut: &Cut) {
        let database = Database::create(path).unwrap();
        let tx = database.begin_write().unwrap();
        let row = row::encode(entry, Local::default(), None);
        tx.open_table(ENTRIES).unwrap().insert(b"mail/1".as_slice(), row.as_slice()).unwrap();
        let mut lists = tx.open_table(TableDefinition::<(&[u8], u32), &[u8]>::new("lists")).unwrap();
        for (number, count) in [(0, BLOCK), (1, 3)] {
            let mut block = Vec::new();
            chunks(count).iter().for_each(|chunk| chunk.encode(&mut block));
            lists.insert((b"mail/1".as_slice(), number), block.as_slice()).unwrap();
        }
        drop(lists);
        let unsent = TableDefinition::<&[u8], ()>::new("unsent");
        tx.open_table(unsent).unwrap().insert(b"mail/2".as_slice(), ()).unwrap();
        for name in ["places", "held"] {
            let table = TableDefinition::<&[u8; 32], &[u8]>::new(name);
            tx.open_table(table).unwrap().insert(&[1; 32], b"nonsense".as_slice()).unwrap();
        }
        for name in ["inodes", "groups"] {
            let table = TableDefinition::<u64, &[u8]>::new(name);
            tx.open_table(table).unwrap().insert(7, b"mail/1".as_slice()).unwrap();
        }
        tx.open_table(TableDefinition::<&[u8], ()>::new("gone")).unwrap().insert(b"x".as_slice(), ()).unwrap();
        let mut meta = tx.open_table(FORMER_META).unwrap();
        meta.insert("cut", cut.encode().as_slice()).unwrap();
        meta.insert("served", [9, 5].as_slice()).unwrap();
        meta.insert("files", 1u64.to_le_bytes().as_slice()).unwrap();
        meta.insert("hinted", [].as_slice()).unwrap();
        drop(meta);
        tx.commit().unwrap();
    }

    #[test]
    fn an_index_of_the_former_format_says_the_same_as_before() {
        let path = std::env::temp_dir().join(format!("twobox-former-index-{}", std::process::id()));
        let _ = std::fs::remove_file(&path); // of a run that failed
        let size = (BLOCK as u64 + 3) * 600;
        let kind = Kind::File { size, content: [2; 32] };
        let entry = Entry { kind, mode: 0o600, uid: 1, gid: 2, mtime: Stamp::default(), xattrs: Vec::new() };
        let cut = Cut { id: [3; 16], generation: Generation { term: 9, boot: 5 }, root: (1, 2), unix_s: 4 };
        former(&path, &entry, &cut);
        // The second time it is of the present format.
        for _ in 0..2 {
            let index = Index::open(&path).unwrap();
            let reader = index.reader().unwrap();
            assert_eq!(reader.cut().unwrap(), cut);
            assert_eq!(reader.served().unwrap(), Generation { term: 9, boot: 5 });
            assert_eq!((reader.count().unwrap(), reader.files().unwrap()), (1, 1));
            let row = reader.row(b"mail/1").unwrap().unwrap();
            assert_eq!((row.entry, row.short), (entry.clone(), None));
            assert_eq!(reader.block(b"mail/1", 0).unwrap(), chunks(BLOCK));
            assert_eq!(reader.block(b"mail/1", 1).unwrap(), chunks(3));
            assert!(reader.block(b"mail/1", 2).unwrap().is_empty());
            assert!(reader.is_unsent(b"mail/2").unwrap() && reader.unsent().unwrap() == 1);
            assert_eq!(reader.name_of(7).unwrap(), None, "hints are made anew");
            // Nothing of the transient tables is left.
            let tx = index.begin(false).unwrap();
            let mut writer = crate::mirror::index_writer::Writer::new(&tx).unwrap();
            assert_eq!(writer.first_of(7).unwrap(), None);
            assert_eq!(writer.held(&[1; 32]).unwrap(), None);
            assert!(!writer.take_gone(b"x").unwrap());
        }
        std::fs::remove_file(&path).unwrap();
    }
}
