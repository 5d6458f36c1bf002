//! Subjects: one token from any device id, and whether a filter lies inside a stream's subjects.

/// Longest token, in bytes, after encoding.
pub const TOKEN_BYTES_MAX: usize = 128;

/// Why a device id cannot be part of a subject.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// The id is empty.
    #[error("device id is empty")]
    Empty,
    /// The id is too long once encoded.
    #[error(
        "device id has {bytes} bytes as a subject token, at most {TOKEN_BYTES_MAX} are allowed"
    )]
    TooLong {
        /// Bytes after encoding.
        bytes: usize,
    },
}

/// Encodes `id` as one subject token.
///
/// Bytes in `[A-Za-z0-9_-]` stay, every other becomes `%XX`, so a dot in a device id does not
/// open a further level of the subject.
///
/// # Errors
/// An empty id, or more than [`TOKEN_BYTES_MAX`] bytes after encoding.
pub fn encode_token(id: &str) -> Result<String, TokenError> {
    use std::fmt::Write as _;
    if id.is_empty() {
        return Err(TokenError::Empty);
    }
    let mut token = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' {
            token.push(char::from(byte));
        } else {
            write!(token, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::TooLong { bytes: token.len() });
    }
    Ok(token)
}

/// Tells whether every subject that `filter` matches is also matched by `subject`.
pub fn covers(subject: &str, filter: &str) -> bool {
    let mut wide = subject.split('.');
    let mut narrow = filter.split('.');
    loop {
        match (wide.next(), narrow.next()) {
            (None, None) | (Some(">"), Some(_)) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens() {
        assert_eq!(encode_token("sensor_1-A").as_deref(), Ok("sensor_1-A"));
        assert_eq!(encode_token("a.b").as_deref(), Ok("a%2Eb"));
        assert_eq!(encode_token("*> \r\n").as_deref(), Ok("%2A%3E%20%0D%0A"));
        assert_eq!(encode_token("ü").as_deref(), Ok("%C3%BC"));
        assert_eq!(encode_token(""), Err(TokenError::Empty));
        assert_eq!(
            encode_token(&"x".repeat(129)),
            Err(TokenError::TooLong { bytes: 129 })
        );
        assert!(encode_token(&"x".repeat(128)).is_ok());
    }

    #[test]
    fn coverage() {
        for (subject, filter, expected) in [
            ("a.>", "a.>", true),
            ("a.>", "a.b", true),
            ("a.>", "a.b.*", true),
            ("a.>", "a", false),
            ("a.*", "a.>", false),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.b", "a.*", false),
            (">", "a.b", true),
            ("a.*.c", "a.*.c", true),
            ("a.*.c", "a.>", false),
        ] {
            assert_eq!(
                covers(subject, filter),
                expected,
                "{subject} covers {filter}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_token_is_one_level_and_tells_ids_apart(a in "\\PC{1,20}", b in "\\PC{1,20}") {
            let (ta, tb) = (encode_token(&a), encode_token(&b));
            if let (Ok(ta), Ok(tb)) = (ta, tb) {
                prop_assert!(ta.bytes().all(|c| c.is_ascii_alphanumeric() || b"_-%".contains(&c)));
                prop_assert_eq!(a == b, ta == tb);
            }
        }
    }
}
