//! A cursor over the protobuf wire format.
//!
//! It accepts and refuses exactly what prost does: the same varints, keys, wire types, groups and
//! nesting.

/// How many messages may lie inside one another, groups counted, as in prost.
pub(crate) const MESSAGE_DEPTH_MAX: u32 = 100;

/// Why bytes are no protobuf message of the expected type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The bytes end inside a field.
    #[error("the bytes end inside a field")]
    Truncated,
    /// A varint is longer than 64 bits.
    #[error("a varint is longer than 64 bits")]
    VarintTooLong,
    /// A field key is 0 or longer than 32 bits.
    #[error("field key {key} is out of range")]
    FieldKey {
        /// The key as it was read: field number and wire type.
        key: u64,
    },
    /// A wire type that does not exist (6 or 7).
    #[error("wire type {wire_type} does not exist")]
    UnknownWireType {
        /// The wire type as it was read.
        wire_type: u8,
    },
    /// A known field has another wire type than its declaration asks for.
    #[error("field {number} has wire type {wire_type}")]
    UnexpectedWireType {
        /// The field number.
        number: u32,
        /// The wire type as it was read.
        wire_type: u8,
    },
    /// A group ends that was not begun.
    #[error("a group ends that was not begun")]
    UnexpectedGroupEnd,
    /// Messages and groups lie too deep inside one another.
    #[error("messages are nested too deep")]
    TooDeep,
    /// A string is not UTF-8.
    #[error("a string is not UTF-8")]
    NotUtf8,
}

/// How the bytes of one field are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WireType {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    GroupStart = 3,
    GroupEnd = 4,
    Fixed32 = 5,
}

/// The key in front of every field.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) number: u32,
    pub(crate) wire_type: WireType,
}

impl Key {
    /// Refuses the field unless it has the wire type of its declaration.
    pub(crate) fn expect(self, wire_type: WireType) -> Result<(), WireError> {
        if self.wire_type == wire_type {
            return Ok(());
        }
        Err(WireError::UnexpectedWireType {
            number: self.number,
            wire_type: self.wire_type as u8,
        })
    }
}

/// The unread rest of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// Reads the key of the next field; `None` at the end of the message.
    #[inline]
    pub(crate) fn key(&mut self) -> Result<Option<Key>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let wire_type = match key & 7 {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::Bytes,
            3 => WireType::GroupStart,
            4 => WireType::GroupEnd,
            5 => WireType::Fixed32,
            other => {
                return Err(WireError::UnknownWireType {
                    wire_type: other as u8,
                });
            }
        };
        match u32::try_from(key) {
            Ok(narrow) if narrow >> 3 != 0 => Ok(Some(Key {
                number: narrow >> 3,
                wire_type,
            })),
            _ => Err(WireError::FieldKey { key }),
        }
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        match self.rest {
            [byte @ ..0x80, rest @ ..] => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0_u64;
        for (index, byte) in self.rest.iter().take(10).enumerate() {
            if index == 9 && *byte > 1 {
                return Err(WireError::VarintTooLong);
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if *byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(WireError::Truncated)
    }

    /// Reads the 8 bytes of a `double` or `fixed64`.
    #[inline]
    pub(crate) fn fixed64(&mut self) -> Result<[u8; 8], WireError> {
        let (value, rest) = self
            .rest
            .split_first_chunk::<8>()
            .ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*value)
    }

    /// Reads a length and that many bytes.
    #[inline]
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let length = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
        let (value, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(value)
    }

    /// Reads a length and that many bytes of UTF-8.
    #[inline]
    pub(crate) fn str(&mut self) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| WireError::NotUtf8)
    }

    /// Reads over the value of a field this program does not know.
    ///
    /// `depth_left` says how many messages and groups may still be opened, this field counted.
    pub(crate) fn skip(&mut self, key: Key, depth_left: u32) -> Result<(), WireError> {
        let deeper = depth_left.checked_sub(1).ok_or(WireError::TooDeep)?;
        match key.wire_type {
            WireType::Varint => self.varint().map(drop),
            WireType::Fixed64 => self.fixed64().map(drop),
            WireType::Bytes => self.bytes().map(drop),
            WireType::Fixed32 => {
                self.rest = self.rest.get(4..).ok_or(WireError::Truncated)?;
                Ok(())
            }
            WireType::GroupStart => self.skip_group(key.number, deeper),
            WireType::GroupEnd => Err(WireError::UnexpectedGroupEnd),
        }
    }

    fn skip_group(&mut self, number: u32, depth_left: u32) -> Result<(), WireError> {
        loop {
            let key = self.key()?.ok_or(WireError::Truncated)?;
            if key.wire_type == WireType::GroupEnd {
                return if key.number == number {
                    Ok(())
                } else {
                    Err(WireError::UnexpectedGroupEnd)
                };
            }
            self.skip(key, depth_left)?;
        }
    }
}
