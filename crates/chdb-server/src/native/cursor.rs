//! Reads along a slice without ever going beyond it.

/// A place in a slice.
#[derive(Debug)]
pub(super) struct Cursor<'bytes> {
    bytes: &'bytes [u8],
    at: usize,
}

impl<'bytes> Cursor<'bytes> {
    pub(super) fn new(bytes: &'bytes [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// What was read since it was at `start`.
    pub(super) fn since(&self, start: usize) -> &'bytes [u8] {
        &self.bytes[start..self.at]
    }

    pub(super) fn skip(&mut self, count: u64) -> Option<()> {
        let end = usize::try_from(count)
            .ok()
            .and_then(|count| self.at.checked_add(count))?;
        if end > self.bytes.len() {
            return None;
        }
        self.at = end;
        Some(())
    }

    pub(super) fn skip_to_end(&mut self) {
        self.at = self.bytes.len();
    }

    /// A number of eight bytes, little-endian.
    pub(super) fn u64(&mut self) -> Option<u64> {
        let start = self.at;
        self.skip(8)?;
        self.since(start).try_into().ok().map(u64::from_le_bytes)
    }

    /// A number of seven bits a byte.
    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A string with its length in front.
    pub(super) fn text(&mut self) -> Option<&'bytes str> {
        let length = self.varint()?;
        let start = self.at;
        self.skip(length)?;
        std::str::from_utf8(self.since(start)).ok()
    }
}
