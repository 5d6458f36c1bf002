//! The trace that a message belongs to, as the W3C's Trace Context writes it.

use std::fmt;

/// A `traceparent`: who asked for the work that a message is part of.
///
/// # Source
/// <https://www.w3.org/TR/trace-context/>, version 00; of later versions the part that they share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceParent(String);

const TRACE_ID: std::ops::Range<usize> = 3..35;
const PARENT_ID: std::ops::Range<usize> = 36..52;
/// Length of version 00.
const LENGTH: usize = 55;
/// Longer ones are of no version that is known.
const LENGTH_MAX: usize = 256;

impl TraceParent {
    /// Reads a header; `None` when it is none that the standard allows, which is to be left out.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = |range: std::ops::Range<usize>| {
            let part = text.as_bytes().get(range)?;
            let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            part.iter().all(is_hex).then_some(part)
        };
        let is_dash = |at: usize| text.as_bytes().get(at) == Some(&b'-');
        let version = is_hex(0..2)?;
        let (trace_id, parent_id) = (is_hex(TRACE_ID)?, is_hex(PARENT_ID)?);
        is_hex(53..LENGTH)?;
        let ends = match version {
            b"ff" => false,
            b"00" => text.len() == LENGTH,
            _ => text.len() == LENGTH || (is_dash(LENGTH) && text.len() <= LENGTH_MAX),
        };
        let is_set = |id: &[u8]| id.iter().any(|digit| *digit != b'0');
        let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        let is_right = [2, 35, 52].into_iter().all(is_dash)
            && ends
            && is_printable
            && is_set(trace_id)
            && is_set(parent_id);
        is_right.then(|| Self(text.to_owned()))
    }

    /// Returns the id of the whole trace, 32 hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        &self.0[TRACE_ID]
    }

    /// Tells whether who asked records the trace.
    pub fn is_sampled(&self) -> bool {
        let flags = u8::from_str_radix(&self.0[53..LENGTH], 16);
        flags.is_ok_and(|flags| flags & 1 == 1)
    }

    /// Returns the header's value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_the_standard_allows_is_read() {
        let trace = TraceParent::parse(GOOD).expect("a trace");
        assert_eq!(trace.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(trace.to_string(), GOOD);
        // A later version may say more.
        assert!(TraceParent::parse(&GOOD.replacen("00", "01", 1)).is_some());
        assert!(TraceParent::parse(&format!("01{}-more", &GOOD[2..])).is_some());
    }

    #[test]
    fn what_it_does_not_allow_is_none() {
        let zeros = |from: usize, to: usize| {
            let mut text = GOOD.to_owned();
            text.replace_range(from..to, &"0".repeat(to - from));
            text
        };
        for wrong in [
            "",
            "00",
            &GOOD.to_uppercase(),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replace('-', "_"),
            &format!("{GOOD}-more"),
            &format!("01{}\r\nX: y", &GOOD[2..]),
            &format!("01{}-{}", &GOOD[2..], "x".repeat(300)),
            &zeros(3, 35),
            &zeros(36, 52),
            &GOOD.replace("4bf9", "4bfé"),
        ] {
            assert_eq!(TraceParent::parse(wrong), None, "{wrong:?}");
        }
    }
}
