//! `multipart/form-data`: how some clients send a query with its parameters.
//!
//! # Source
//! RFC 7578 and RFC 2046, section 5.1.

/// The boundary named by a `Content-Type`, if that is a form's.
pub(crate) fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("boundary")
            .then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// The fields of a form, as name and bytes, in order; `None` if it is not well formed.
pub(crate) fn fields<'body>(
    body: &'body [u8],
    boundary: &str,
) -> Option<Vec<(String, &'body [u8])>> {
    let opening = format!("--{boundary}");
    let delimiter = format!("\r\n--{boundary}");
    let mut rest = body.strip_prefix(opening.as_bytes())?;
    let mut fields = Vec::new();
    loop {
        if rest.starts_with(b"--") {
            return Some(fields);
        }
        rest = rest.strip_prefix(b"\r\n")?;
        let head_end = find(rest, b"\r\n\r\n")?;
        let value_at = head_end + 4;
        let value_end = value_at + find(&rest[value_at..], delimiter.as_bytes())?;
        fields.push((field_name(&rest[..head_end])?, &rest[value_at..value_end]));
        rest = &rest[value_end + delimiter.len()..];
    }
}

fn field_name(head: &[u8]) -> Option<String> {
    let head = std::str::from_utf8(head).ok()?;
    let disposition = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-disposition")
            .then_some(value)
    })?;
    disposition.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        (name.trim() == "name").then(|| value.trim().trim_matches('"').to_owned())
    })
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len())
        .position(|window| window == pattern)
}

#[cfg(test)]
mod tests {
    use super::{boundary, fields};

    #[test]
    fn fields_come_in_order_with_their_bytes() {
        let body = b"--x\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT {a:String}\r\n\
            --x\r\nContent-Type: text/plain\r\ncontent-disposition: form-data; name=\"param_a\"\r\n\r\n\r\n--y\r\n--x--\r\n";
        let found = fields(body, "x").unwrap();
        assert_eq!(
            found[0],
            ("query".to_owned(), b"SELECT {a:String}".as_slice())
        );
        assert_eq!(found[1], ("param_a".to_owned(), b"\r\n--y".as_slice()));
    }

    #[test]
    fn a_broken_form_is_none() {
        for body in [
            "",
            "--x",
            "--x\r\n",
            "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nv",
            "--xyz\r\n",
        ] {
            assert!(fields(body.as_bytes(), "x").is_none(), "{body:?}");
        }
    }

    #[test]
    fn a_boundary_is_read_from_the_content_type() {
        assert_eq!(
            boundary("multipart/form-data; boundary=\"a b\"").as_deref(),
            Some("a b")
        );
        assert_eq!(
            boundary("Multipart/Form-Data; charset=x; boundary=ab").as_deref(),
            Some("ab")
        );
        assert_eq!(boundary("text/plain; boundary=ab"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in "(--x|\r\n|Content-Disposition: form-data; name=\"a\"|--|.){0,20}") {
            fields(body.as_bytes(), "x");
            boundary(&body);
        }
    }
}
