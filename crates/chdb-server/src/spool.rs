//! Holds the body of a request until all of it is there.
//!
//! An INSERT reaches the engine only when its body is complete. So a body that breaks off has stored nothing, and a
//! slow client holds memory or disk, not one of the engine's connections.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// Bytes read at a time from the file.
const READ_BYTES: usize = 1024 * 1024;

/// The memory and the folder all spools of a server share.
#[derive(Debug)]
pub(crate) struct Room {
    folder: PathBuf,
    bytes_max: usize,
    spool_bytes_max: usize,
    bytes: AtomicUsize,
}

impl Room {
    /// One with `bytes_max` of memory for all spools, `spool_bytes_max` for each; what is more goes to files in
    /// `folder`.
    pub(crate) fn new(folder: PathBuf, bytes_max: usize, spool_bytes_max: usize) -> Self {
        Self {
            folder,
            bytes_max,
            spool_bytes_max,
            bytes: AtomicUsize::new(0),
        }
    }
}

/// The part of the memory of a [`Room`] that a spool has taken, given back on drop.
#[derive(Debug)]
struct Share {
    room: Arc<Room>,
    bytes: usize,
}

impl Share {
    /// Takes more, if there is some for this spool and for all.
    fn grow(&mut self, bytes: usize) -> bool {
        let fits = self.bytes + bytes <= self.room.spool_bytes_max
            && self.room.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.room.bytes_max;
        if fits {
            self.bytes += bytes;
        } else if self.bytes + bytes <= self.room.spool_bytes_max {
            self.room.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.room.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A body: the first part in memory, what is over the limit in a nameless file that vanishes with it.
#[derive(Debug)]
pub(crate) struct Spool {
    memory: Vec<Bytes>,
    share: Share,
    file: Option<File>,
    bytes: u64,
}

impl Spool {
    /// An empty one.
    pub(crate) fn new(room: Arc<Room>) -> Self {
        Self {
            memory: Vec::new(),
            share: Share { room, bytes: 0 },
            file: None,
            bytes: 0,
        }
    }

    /// Its length so far, in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.bytes
    }

    /// `true` while nothing was pushed.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Adds bytes at the end; for asynchronous code, on a runtime of several threads.
    pub(crate) fn push(&mut self, bytes: Bytes) -> io::Result<()> {
        match self.push_to_memory(bytes) {
            None => Ok(()),
            // Short writes to a local file, but they can block, and other connections must go on meanwhile.
            Some(bytes) => tokio::task::block_in_place(|| self.push_to_file(&bytes)),
        }
    }

    /// Gives the bytes back if there is no room for them.
    fn push_to_memory(&mut self, bytes: Bytes) -> Option<Bytes> {
        if self.file.is_some() || !self.share.grow(bytes.len()) {
            return Some(bytes);
        }
        self.bytes += bytes.len() as u64;
        self.memory.push(bytes);
        None
    }

    fn push_to_file(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile_in(&self.share.room.folder)?),
        };
        file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// The bytes in order, in pieces.
    pub(crate) fn into_pieces(mut self) -> io::Result<Pieces> {
        if let Some(file) = &mut self.file {
            file.rewind()?;
        }
        Ok(Pieces {
            memory: self.memory.into_iter(),
            file: self.file,
            _share: self.share,
        })
    }
}

/// The pieces of a [`Spool`].
#[derive(Debug)]
pub(crate) struct Pieces {
    memory: std::vec::IntoIter<Bytes>,
    file: Option<File>,
    _share: Share,
}

impl Pieces {
    /// The pieces that hold the first `bytes_min` bytes, as one; fewer when there are no more.
    pub(crate) fn read_at_least(&mut self, bytes_min: usize) -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        while head.len() < bytes_min {
            match self.next().transpose()? {
                Some(piece) => head.extend_from_slice(&piece),
                None => break,
            }
        }
        Ok(head)
    }
}

impl Iterator for Pieces {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(piece) = self.memory.next() {
            return Some(Ok(piece));
        }
        let mut piece = Vec::new();
        match self
            .file
            .as_mut()?
            .take(READ_BYTES as u64)
            .read_to_end(&mut piece)
        {
            Ok(0) => {
                self.file = None;
                None
            }
            Ok(_) => Some(Ok(Bytes::from(piece))),
            Err(error) => Some(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use bytes::Bytes;

    use super::{Room, Spool};

    fn files(folder: &Path) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn bytes_come_back_in_order_whether_in_memory_or_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(Arc::new(Room::new(folder.path().to_owned(), 1000, 100)));
        let mut expected = Vec::new();
        for n in 0..200_u8 {
            let piece = vec![n; 7 * usize::from(n % 20)];
            expected.extend_from_slice(&piece);
            spool.push(Bytes::from(piece)).unwrap();
        }
        assert!(spool.file.is_some() && spool.share.bytes <= 100);
        assert_eq!(spool.len(), expected.len() as u64);
        let mut pieces = spool.into_pieces().unwrap();
        let mut found = pieces.read_at_least(20).unwrap();
        assert!(found.len() >= 20);
        for piece in pieces {
            found.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(found, expected);
        assert_eq!(files(folder.path()), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn all_spools_together_keep_to_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let room = Arc::new(Room::new(folder.path().to_owned(), 150, 100));
        let mut first = Spool::new(Arc::clone(&room));
        let mut second = Spool::new(Arc::clone(&room));
        for spool in [&mut first, &mut second] {
            spool.push(Bytes::from(vec![1; 90])).unwrap();
        }
        assert!(first.file.is_none() && second.file.is_some());
        assert_eq!(room.bytes.load(Ordering::Relaxed), 90);
        drop(first.into_pieces());
        assert_eq!(room.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_empty_one_has_no_pieces() {
        let spool = Spool::new(Arc::new(Room::new("/nonexistent".into(), 10, 10)));
        assert!(spool.is_empty());
        assert_eq!(spool.into_pieces().unwrap().count(), 0);
    }
}
