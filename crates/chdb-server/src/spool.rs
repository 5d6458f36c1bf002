//! Holds the body of a request until all of it is there.
//!
//! An INSERT reaches the engine only when its body is complete. So a body that breaks off has stored nothing, and a
//! slow client holds memory or disk, not one of the engine's connections.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;

use bytes::Bytes;

/// Bytes read at a time from the file.
const READ_BYTES: usize = 1024 * 1024;

/// A body: the first part in memory, what is over the limit in a nameless file that vanishes with it.
#[derive(Debug)]
pub(crate) struct Spool {
    memory: Vec<Bytes>,
    memory_bytes: usize,
    memory_bytes_max: usize,
    file: Option<File>,
    folder: PathBuf,
    bytes: u64,
}

impl Spool {
    /// An empty one that goes on in a file in `folder` when it grows over `memory_bytes_max`.
    pub(crate) fn new(memory_bytes_max: usize, folder: PathBuf) -> Self {
        Self {
            memory: Vec::new(),
            memory_bytes: 0,
            memory_bytes_max,
            file: None,
            folder,
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

    /// `true` if the next push writes to the file, which may block.
    pub(crate) fn is_on_disk(&self) -> bool {
        self.memory_bytes >= self.memory_bytes_max
    }

    /// Adds bytes at the end.
    pub(crate) fn push(&mut self, bytes: Bytes) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        if !self.is_on_disk() {
            self.memory_bytes += bytes.len();
            self.memory.push(bytes);
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile_in(&self.folder)?),
        };
        file.write_all(&bytes)
    }

    /// The bytes in order, in pieces.
    pub(crate) fn into_pieces(mut self) -> io::Result<Pieces> {
        if let Some(file) = &mut self.file {
            file.rewind()?;
        }
        Ok(Pieces {
            memory: self.memory.into_iter(),
            file: self.file,
        })
    }
}

/// The pieces of a [`Spool`].
#[derive(Debug)]
pub(crate) struct Pieces {
    memory: std::vec::IntoIter<Bytes>,
    file: Option<File>,
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
    use bytes::Bytes;

    use super::Spool;

    #[test]
    fn bytes_come_back_in_order_whether_in_memory_or_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(10, folder.path().to_owned());
        let mut expected = Vec::new();
        for n in 0..200_u8 {
            let piece = vec![n; 7 * usize::from(n)];
            expected.extend_from_slice(&piece);
            spool.push(Bytes::from(piece)).unwrap();
        }
        assert!(spool.is_on_disk());
        assert_eq!(spool.len(), expected.len() as u64);
        let mut pieces = spool.into_pieces().unwrap();
        let mut found = pieces.read_at_least(20).unwrap();
        assert!(found.len() >= 20);
        for piece in pieces {
            found.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(found, expected);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_empty_one_has_no_pieces() {
        let spool = Spool::new(10, "/nonexistent".into());
        assert!(spool.is_empty());
        assert_eq!(spool.into_pieces().unwrap().count(), 0);
    }
}
