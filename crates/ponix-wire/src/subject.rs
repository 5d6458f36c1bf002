//! Subjects: one token from any device id, what is wrong with one, and whether one lies inside
//! another or has something in common with it.

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

/// Longest device id that clients may send, in bytes.
pub const DEVICE_ID_BYTES_MAX: usize = 64;

/// Tells whether clients may send a device id: ASCII letters, digits, `_`, `-` and `:` only. That is
/// less than a subject could carry, so that an id stays the same in every log, path and query.
pub fn is_plain_device_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-:".contains(&byte);
    (1..=DEVICE_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(plain)
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

/// Tells whether some subject matches both.
pub fn overlap(one: &str, two: &str) -> bool {
    let (mut one, mut two) = (one.split('.'), two.split('.'));
    loop {
        match (one.next(), two.next()) {
            (None, None) | (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            _ => return false,
        }
    }
}

/// Says what is wrong with a subject, perhaps one with wildcards.
pub fn subject_problem(subject: &str) -> Option<&'static str> {
    if subject.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Some("must have no white space");
    }
    if subject.split('.').any(str::is_empty) {
        return Some("must have no empty token");
    }
    let mut tokens = subject.split('.').rev();
    let last = tokens.next().unwrap_or_default();
    let is_part = |token: &str| token.contains(['*', '>']) && token != "*";
    if tokens.any(is_part) || (last != ">" && is_part(last)) {
        return Some("must have '*' as a token of its own, and '>' as the last one alone");
    }
    if subject.starts_with('$') || subject == ">" {
        return Some("must not take in the server's own subjects");
    }
    None
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

    #[test]
    fn wildcards_are_whole_tokens() {
        for right in ["a", "a.b", "a.*.c", "a.>", "*.b", "$"] {
            let expected = if right == "$" {
                subject_problem("$X")
            } else {
                None
            };
            assert_eq!(subject_problem(right), expected, "{right}");
        }
        for wrong in [
            "",
            ".",
            "a.",
            "a b",
            "a.>.b",
            "a.b*",
            "a*.>",
            "$JS.API.>",
            ">",
        ] {
            assert!(subject_problem(wrong).is_some(), "{wrong}");
        }
    }

    #[test]
    fn subjects_overlap_when_one_message_could_be_of_both() {
        for (one, two, expected) in [
            ("a.>", "a.b", true),
            ("a.*", "*.b", true),
            ("a.*.c", "a.b.>", true),
            ("a.>", "a", false),
            ("a.b", "a.c", false),
            ("a_dlq.>", "a.>", false),
        ] {
            assert_eq!(overlap(one, two), expected, "{one} and {two}");
            assert_eq!(overlap(two, one), expected, "{two} and {one}");
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
