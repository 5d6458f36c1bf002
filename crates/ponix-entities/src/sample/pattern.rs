//! Texts that match a regular expression.

use regex::Regex;
use regex_syntax::hir::{Class, Hir, HirKind};

/// More of it is not made: `a{1000000}` is a sound pattern.
const BYTES_MAX: usize = 4096;
/// What is taken of a class of characters if it is in there.
const PLAIN: [char; 4] = ['1', 'A', 'a', ' '];

/// A short text that matches, made of plain characters where there is a choice. `None` when there is
/// none, or when it would take more than to follow the expression.
pub(super) fn shortest(pattern: &Regex) -> Option<String> {
    let hir = regex_syntax::parse(pattern.as_str()).ok()?;
    let mut text = String::new();
    push(&hir, &mut text)?;
    pattern.is_match(&text).then_some(text)
}

fn push(hir: &Hir, text: &mut String) -> Option<()> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => text.push_str(std::str::from_utf8(&literal.0).ok()?),
        HirKind::Class(class) => text.push(one_of(class)?),
        HirKind::Capture(capture) => push(&capture.sub, text)?,
        HirKind::Repetition(repetition) => {
            for _ in 0..repetition.min {
                let before = text.len();
                push(&repetition.sub, text)?;
                if text.len() == before {
                    break;
                }
            }
        }
        HirKind::Concat(parts) => {
            for part in parts {
                push(part, text)?;
            }
        }
        HirKind::Alternation(choices) => push(choices.first()?, text)?,
    }
    (text.len() <= BYTES_MAX).then_some(())
}

fn one_of(class: &Class) -> Option<char> {
    let Class::Unicode(class) = class else {
        return None;
    };
    let is_in = |c: &char| {
        let mut ranges = class.iter();
        ranges.any(|range| (range.start()..=range.end()).contains(c))
    };
    let plain = PLAIN.into_iter().find(is_in);
    plain.or_else(|| {
        class
            .iter()
            .next()
            .map(regex_syntax::hir::ClassUnicodeRange::start)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_matches() {
        for (pattern, expected) in [
            (r"^(?:Clerk#\d{9})$", Some("Clerk#111111111")),
            ("^(?:[A-Z]{2}-[x-z]+)$", Some("AA-x")),
            ("^(?:a?b*(c|d).)$", Some("c1")),
            ("^(?:)$", Some("")),
            (r"^(?:é\|)$", Some("é|")),
            ("^(?:a{5000})$", None),
            ("^(?:(?:^){1000})$", Some("")),
            ("^(?:[^\\s\\S])$", None),
        ] {
            let regex = Regex::new(pattern).unwrap();
            assert_eq!(shortest(&regex).as_deref(), expected, "{pattern}");
        }
    }
}
