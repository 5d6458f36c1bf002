//! The path of a field in error texts: `data.sensors[2]["a.b"]`.

use std::fmt::Write as _;

/// More of a name than this is cut from error texts, in characters: names come from outside.
const NAME_CHARS_MAX: usize = 64;

/// The part of a path below the value an error is reported for; grows towards the root as the error
/// is handed up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FieldPath(String);

impl FieldPath {
    /// This path seen from the object that holds it under `name`.
    pub(crate) fn under_name(self, name: &str) -> Self {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let mut path = String::new();
        if !name.is_empty() && name.len() <= NAME_CHARS_MAX && name.bytes().all(plain) {
            path.push('.');
            path.push_str(name);
        } else {
            path.push_str("[\"");
            path.extend(
                name.chars()
                    .take(NAME_CHARS_MAX)
                    .flat_map(char::escape_debug),
            );
            path.push_str(if name.chars().nth(NAME_CHARS_MAX).is_some() {
                "…\"]"
            } else {
                "\"]"
            });
        }
        path.push_str(&self.0);
        Self(path)
    }

    /// This path seen from the list that holds it at `index`, counted from 0.
    pub(crate) fn under_index(self, index: usize) -> Self {
        let mut path = String::new();
        write!(path, "[{index}]").expect("writing to a String cannot fail");
        path.push_str(&self.0);
        Self(path)
    }

    /// The whole path, below the field `root` of the envelope.
    pub(crate) fn below(&self, root: &str) -> String {
        format!("{root}{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::FieldPath;

    #[test]
    fn names_and_indices_read_as_in_code() {
        let path = FieldPath::default()
            .under_name("x")
            .under_index(2)
            .under_name("sensors")
            .below("data");
        assert_eq!(path, "data.sensors[2].x");
    }

    #[test]
    fn odd_names_are_quoted_escaped_and_cut() {
        let odd = |name: &str| FieldPath::default().under_name(name).below("data");
        assert_eq!(odd("a.b"), r#"data["a.b"]"#);
        assert_eq!(odd(""), r#"data[""]"#);
        assert_eq!(odd("line\r\nbreak\""), r#"data["line\r\nbreak\""]"#);
        assert_eq!(
            odd(&"é".repeat(65)),
            format!("data[\"{}…\"]", "é".repeat(64))
        );
    }
}
