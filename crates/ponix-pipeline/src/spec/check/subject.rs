//! Subjects of NATS.

/// Says what is wrong with a subject, perhaps one with wildcards.
pub(super) fn problem(subject: &str) -> Option<&'static str> {
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

/// A subject that this one takes in, with `token` for each wildcard.
pub(super) fn concrete(subject: &str, token: &str) -> String {
    let tokens = subject.split('.');
    let tokens = tokens.map(|part| {
        if part == "*" || part == ">" {
            token
        } else {
            part
        }
    });
    tokens.collect::<Vec<_>>().join(".")
}

/// Tells whether some subject matches both.
pub(in crate::spec) fn overlap(one: &str, two: &str) -> bool {
    let (mut one, mut two) = (one.split('.'), two.split('.'));
    loop {
        match (one.next(), two.next()) {
            (None, None) | (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_are_whole_tokens() {
        for right in ["a", "a.b", "a.*.c", "a.>", "*.b", "$"] {
            let expected = if right == "$" { problem("$X") } else { None };
            assert_eq!(problem(right), expected, "{right}");
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
            assert!(problem(wrong).is_some(), "{wrong}");
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

    #[test]
    fn wildcards_are_filled() {
        assert_eq!(concrete("meters.*.>", "http"), "meters.http.http");
    }
}
