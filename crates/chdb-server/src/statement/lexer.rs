//! ClickHouse's tokens, as coarse as the parent module needs them.

/// A piece of the text, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) start: usize,
    pub(super) end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// A keyword, a bare name or a number.
    Word,
    /// A string literal or a quoted name.
    Quoted,
    Open,
    Close,
    Dot,
    Semicolon,
    /// Any other single byte.
    Other,
}

impl Token {
    /// `true` if it can be the name of a format.
    pub(super) fn is_name(self) -> bool {
        matches!(self.kind, TokenKind::Word | TokenKind::Quoted)
    }

    /// `true` if it is this keyword, in any case.
    pub(super) fn is_word(self, text: &[u8], word: &str) -> bool {
        self.kind == TokenKind::Word
            && text[self.start..self.end].eq_ignore_ascii_case(word.as_bytes())
    }
}

/// Yields the tokens of a text, without blanks and comments. Never fails: odd bytes are tokens of their own.
pub(super) struct Lexer<'text> {
    text: &'text [u8],
    at: usize,
}

impl<'text> Lexer<'text> {
    pub(super) fn new(text: &'text [u8]) -> Self {
        Self::starting_at(text, 0)
    }

    pub(super) fn starting_at(text: &'text [u8], at: usize) -> Self {
        Self { text, at }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn skip_blanks_and_comments(&mut self) {
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(byte), _) if byte.is_ascii_whitespace() || byte == 0x0b => self.at += 1,
                (Some(b'-'), Some(b'-'))
                | (Some(b'#'), Some(b' ' | b'!'))
                | (Some(b'/'), Some(b'/')) => {
                    self.skip_line();
                }
                (Some(b'/'), Some(b'*')) => self.skip_past(b"*/", 2),
                _ => return,
            }
        }
    }

    fn skip_line(&mut self) {
        while self.peek(0).is_some_and(|byte| byte != b'\n') {
            self.at += 1;
        }
    }

    /// Moves behind the next `end`, searched from `ahead` bytes on, or to the end of the text.
    fn skip_past(&mut self, end: &[u8], ahead: usize) {
        let from = (self.at + ahead).min(self.text.len());
        self.at =
            find(&self.text[from..], end).map_or(self.text.len(), |found| from + found + end.len());
    }

    fn skip_quoted(&mut self, quote: u8) {
        self.at += 1;
        while let Some(byte) = self.peek(0) {
            if byte == b'\\' || (byte == quote && self.peek(1) == Some(quote)) {
                self.at += 2;
            } else {
                self.at += 1;
                if byte == quote {
                    break;
                }
            }
        }
        self.at = self.at.min(self.text.len());
    }

    /// Moves behind `$tag$…$tag$` and says so; stays where it is when the text is not a heredoc.
    fn skip_heredoc(&mut self) -> bool {
        let rest = &self.text[self.at..];
        let Some(tag_end) = rest[1..]
            .iter()
            .position(|byte| !is_word_byte(*byte) || *byte == b'$')
        else {
            return false;
        };
        if rest[1 + tag_end] != b'$' {
            return false;
        }
        let tag = &rest[..tag_end + 2];
        if find(&rest[tag.len()..], tag).is_none() {
            return false;
        }
        self.skip_past(tag, tag.len());
        true
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.skip_blanks_and_comments();
        let start = self.at;
        let kind = match self.peek(0)? {
            quote @ (b'\'' | b'"' | b'`') => {
                self.skip_quoted(quote);
                TokenKind::Quoted
            }
            b'$' if self.skip_heredoc() => TokenKind::Quoted,
            byte if is_word_byte(byte) => {
                while self.peek(0).is_some_and(is_word_byte) {
                    self.at += 1;
                }
                TokenKind::Word
            }
            byte => {
                self.at += 1;
                match byte {
                    b'(' => TokenKind::Open,
                    b')' => TokenKind::Close,
                    b'.' => TokenKind::Dot,
                    b';' => TokenKind::Semicolon,
                    _ => TokenKind::Other,
                }
            }
        };
        Some(Token {
            kind,
            start,
            end: self.at,
        })
    }
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len())
        .position(|window| window == pattern)
}
