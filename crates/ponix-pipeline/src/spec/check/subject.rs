//! Subjects of NATS.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_are_filled() {
        assert_eq!(concrete("meters.*.>", "http"), "meters.http.http");
    }
}
