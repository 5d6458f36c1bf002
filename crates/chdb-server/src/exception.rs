//! ClickHouse's exceptions: text, code, HTTP status, and the block that ends a broken result.

use std::fmt;

use hyper::StatusCode;

/// Error codes this server raises by itself; the engine raises all others.
///
/// # Source
/// `src/Common/ErrorCodes.cpp` of ClickHouse.
pub(crate) mod codes {
    pub(crate) const BAD_ARGUMENTS: u32 = 36;
    pub(crate) const CHECKSUM_DOESNT_MATCH: u32 = 40;
    pub(crate) const NOT_IMPLEMENTED: u32 = 48;
    pub(crate) const SYNTAX_ERROR: u32 = 62;
    pub(crate) const UNKNOWN_TYPE_OF_QUERY: u32 = 78;
    pub(crate) const UNKNOWN_COMPRESSION_METHOD: u32 = 89;
    pub(crate) const READONLY: u32 = 164;
    pub(crate) const TOO_MANY_SIMULTANEOUS_QUERIES: u32 = 202;
    pub(crate) const SOCKET_TIMEOUT: u32 = 209;
    pub(crate) const NETWORK_ERROR: u32 = 210;
    pub(crate) const QUERY_IS_TOO_LARGE: u32 = 229;
    pub(crate) const CANNOT_DECOMPRESS: u32 = 271;
    pub(crate) const INTO_OUTFILE_NOT_ALLOWED: u32 = 358;
    pub(crate) const SESSION_NOT_FOUND: u32 = 372;
    pub(crate) const SESSION_IS_LOCKED: u32 = 373;
    pub(crate) const AUTHENTICATION_FAILED: u32 = 516;
    pub(crate) const UNKNOWN_EXCEPTION: u32 = 1002;
}

/// An error as ClickHouse words it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    code: u32,
    text: String,
}

impl Exception {
    /// An exception of this server's own; `name` is the code's symbolic name.
    pub(crate) fn new(code: u32, name: &str, message: impl fmt::Display) -> Self {
        Self {
            code,
            text: format!("Code: {code}. DB::Exception: {message} ({name})"),
        }
    }

    /// The engine's text, which begins with `Code: N.` in all but odd cases.
    pub(crate) fn from_engine(text: String) -> Self {
        let code = text
            .find("Code: ")
            .and_then(|at| {
                let digits = &text[at + "Code: ".len()..];
                digits[..digits.find(|c: char| !c.is_ascii_digit())?]
                    .parse()
                    .ok()
            })
            .unwrap_or(codes::UNKNOWN_EXCEPTION);
        if text.starts_with("Code: ") {
            Self { code, text }
        } else if code == codes::UNKNOWN_EXCEPTION {
            Self::new(code, "UNKNOWN_EXCEPTION", text)
        } else {
            Self {
                code,
                text: text[text.find("Code: ").unwrap_or(0)..].to_owned(),
            }
        }
    }

    /// The error code, ClickHouse's own numbering.
    pub fn code(&self) -> u32 {
        self.code
    }

    /// The text as it goes to the client: with the version, and a line end.
    pub(crate) fn to_body(&self, version: &str) -> String {
        format!("{} (version {version})\n", self.text)
    }

    /// The block that ends a result when the statement fails after the status line has gone out.
    ///
    /// # Source
    /// ClickHouse documentation, "HTTP interface", section on HTTP status codes: since 25.11 the block is framed by
    /// the tag of `X-ClickHouse-Exception-Tag` and is at most 16 KiB long.
    pub(crate) fn to_block(&self, version: &str, tag: &str) -> Vec<u8> {
        const TEXT_BYTES_MAX: usize = 15 * 1024;
        let mut message = self.to_body(version);
        if message.len() > TEXT_BYTES_MAX {
            let cut = (0..=TEXT_BYTES_MAX)
                .rev()
                .find(|at| message.is_char_boundary(*at))
                .unwrap_or(0);
            message.truncate(cut);
            message.push('\n');
        }
        let length = message.len();
        format!("\r\n__exception__\r\n{tag}\r\n{message}{length} {tag}\r\n__exception__\r\n")
            .into_bytes()
    }

    /// The HTTP status ClickHouse answers with.
    ///
    /// # Source
    /// `src/Server/HTTP/exceptionCodeToHTTPStatus.cpp` of ClickHouse.
    pub(crate) fn status(&self) -> StatusCode {
        match self.code {
            194 => StatusCode::UNAUTHORIZED,
            192 | 193 | 497 | 512 | 516 => StatusCode::FORBIDDEN,
            6 | 8 | 15 | 25 | 26 | 27 | 36 | 37 | 38 | 41 | 44 | 53 | 62 | 72 | 117 | 123 | 167
            | 168 | 223 | 321 | 376 | 427 | 441 | 675 | 676 => StatusCode::BAD_REQUEST,
            46 | 47 | 50 | 56 | 60 | 63 | 73 | 78 | 81 | 115 | 152 | 336 | 511 => {
                StatusCode::NOT_FOUND
            }
            48 => StatusCode::NOT_IMPLEMENTED,
            76 | 209 | 439 => StatusCode::SERVICE_UNAVAILABLE,
            159 => StatusCode::REQUEST_TIMEOUT,
            229 => StatusCode::PAYLOAD_TOO_LARGE,
            381 => StatusCode::LENGTH_REQUIRED,
            779 => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Exception {}
