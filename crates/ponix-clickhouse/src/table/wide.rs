//! Integers of up to 256 bits with a sign, and the decimals that are made of them.

/// A sign and 256 bits, the least significant 64 first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wide {
    negative: bool,
    limbs: [u64; 4],
}

impl From<i128> for Wide {
    fn from(number: i128) -> Self {
        let size = number.unsigned_abs();
        Self {
            negative: number < 0,
            limbs: [size as u64, (size >> 64) as u64, 0, 0],
        }
    }
}

impl Wide {
    /// Reads digits, with a minus in front or without; `None` for anything else or too many.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        if digits.is_empty() {
            return None;
        }
        let mut wide = Self::default();
        for byte in digits.bytes() {
            if !byte.is_ascii_digit() {
                return None;
            }
            wide.push_digit(byte - b'0')?;
        }
        wide.negative = negative;
        Some(wide)
    }

    /// Appends a decimal digit, `None` if it overflows.
    fn push_digit(&mut self, digit: u8) -> Option<()> {
        let mut carry = u128::from(digit);
        for limb in &mut self.limbs {
            let product = u128::from(*limb) * 10 + carry;
            *limb = product as u64;
            carry = product >> 64;
        }
        (carry == 0).then_some(())
    }

    fn is_zero(&self) -> bool {
        self.limbs == [0; 4]
    }

    /// Tells whether it is a value of an integer type.
    pub(super) fn fits(&self, bits: u16, signed: bool) -> bool {
        if self.is_zero() {
            return true;
        }
        if !signed {
            return !self.negative && self.bit_len() <= bits;
        }
        // The most negative value has a bit more than the most positive one.
        let least = self.negative && self.bit_len() == bits && self.is_power_of_two();
        self.bit_len() < bits || least
    }

    fn bit_len(&self) -> u16 {
        let top = (0..4).rev().find(|n| self.limbs[*n] != 0);
        top.map_or(0, |n| {
            n as u16 * 64 + (64 - self.limbs[n].leading_zeros() as u16)
        })
    }

    fn is_power_of_two(&self) -> bool {
        self.limbs.iter().map(|limb| limb.count_ones()).sum::<u32>() == 1
    }

    /// Returns the two's complement, little-endian.
    pub(super) fn to_le_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let mut carry = self.negative;
        for (limb, bytes) in self.limbs.iter().zip(bytes.chunks_exact_mut(8)) {
            let mut limb = *limb;
            if self.negative {
                let (sum, overflow) = (!limb).overflowing_add(u64::from(carry));
                (limb, carry) = (sum, overflow);
            }
            bytes.copy_from_slice(&limb.to_le_bytes());
        }
        bytes
    }
}

/// Why a text is not a value of `Decimal(P, S)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DecimalError {
    /// It is no number.
    Syntax,
    /// A digit other than 0 is beyond the scale.
    Scale,
    /// It has more digits than the precision.
    Precision,
}

/// Reads a decimal number such as `-12.50` or `1e-3` as the integer of so many digits after the
/// point, exactly.
pub(super) fn decimal(text: &str, precision: u8, scale: u8) -> Result<Wide, DecimalError> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() || mantissa.ends_with('.') {
        return Err(DecimalError::Syntax);
    }
    let mut wide = Wide::default();
    let mut digits: i64 = 0;
    // Zeros that count only when another digit follows.
    let mut zeros: i64 = 0;
    for byte in whole.bytes().chain(fraction.bytes()) {
        match byte {
            b'0' => zeros += i64::from(digits > 0),
            b'1'..=b'9' => {
                digits += zeros + 1;
                if digits > i64::from(precision) {
                    return Err(DecimalError::Precision);
                }
                for _ in 0..zeros {
                    wide.push_digit(0).ok_or(DecimalError::Precision)?;
                }
                wide.push_digit(byte - b'0')
                    .ok_or(DecimalError::Precision)?;
                zeros = 0;
            }
            _ => return Err(DecimalError::Syntax),
        }
    }
    if wide.is_zero() {
        return Ok(wide);
    }
    let shift = exponent + zeros - fraction.len() as i64 + i64::from(scale);
    if shift < 0 {
        return Err(DecimalError::Scale);
    }
    if digits + shift > i64::from(precision) {
        return Err(DecimalError::Precision);
    }
    for _ in 0..shift {
        wide.push_digit(0).ok_or(DecimalError::Precision)?;
    }
    wide.negative = negative;
    Ok(wide)
}

fn parse_exponent(text: &str) -> Result<i64, DecimalError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DecimalError::Syntax);
    }
    let size: i64 = digits.parse().unwrap_or(i64::MAX).min(1_000_000);
    Ok(if text.starts_with('-') { -size } else { size })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wide(text: &str) -> Wide {
        Wide::parse(text).expect(text)
    }

    #[test]
    fn the_ends_of_each_type_fit_and_what_is_beyond_does_not() {
        for (bits, least, most) in [
            (8, "-128", "127"),
            (64, "-9223372036854775808", "9223372036854775807"),
            (
                128,
                "-170141183460469231731687303715884105728",
                "170141183460469231731687303715884105727",
            ),
        ] {
            assert!(wide(least).fits(bits, true) && wide(most).fits(bits, true));
            assert!(wide(most).fits(bits, false) && !wide(least).fits(bits, false));
            let beyond = |text: &str| {
                let last = text.len() - 1;
                format!(
                    "{}{}",
                    &text[..last],
                    &text[last..].parse::<u8>().unwrap() + 1
                )
            };
            assert!(!wide(&beyond(least)).fits(bits, true), "{least}");
            assert!(!wide(&beyond(most)).fits(bits, true), "{most}");
        }
        let most = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
        assert!(wide(most).fits(256, false) && !wide(most).fits(256, true));
        let beyond = most.replace("9935", "9936");
        assert_eq!(Wide::parse(&beyond), None);
        assert!(wide("-0").fits(8, false));
        for no in ["", "-", "+1", "1.0", "0x1", " 1", "1e3"] {
            assert_eq!(Wide::parse(no), None, "{no}");
        }
    }

    #[test]
    fn decimals_are_exact_or_refused() {
        let read = |text, precision, scale| decimal(text, precision, scale);
        for (text, scale, same) in [
            ("12.5", 2, "1250"),
            ("-12.50", 2, "-1250"),
            ("0.1000000000000000000000000000000000000000", 1, "1"),
            ("1e3", 2, "100000"),
            ("1.5E-1", 2, "15"),
            ("0e9999999999999999999", 2, "0"),
            ("0.000", 0, "0"),
            ("0012", 0, "12"),
        ] {
            assert_eq!(read(text, 9, scale), Ok(wide(same)), "{text}");
        }
        for (text, error) in [
            ("12.345", DecimalError::Scale),
            ("1e-3", DecimalError::Scale),
            ("99999999.99", DecimalError::Precision),
            ("1e7", DecimalError::Precision),
            ("1e99999999999999999999", DecimalError::Precision),
            ("", DecimalError::Syntax),
            ("-", DecimalError::Syntax),
            (".5", DecimalError::Syntax),
            ("5.", DecimalError::Syntax),
            ("1e", DecimalError::Syntax),
            ("1e+-2", DecimalError::Syntax),
            ("1,5", DecimalError::Syntax),
            ("NaN", DecimalError::Syntax),
        ] {
            assert_eq!(read(text, 9, 2), Err(error), "{text}");
        }
        let most = "9".repeat(76);
        assert_eq!(read(&most, 76, 0), Ok(wide(&most)));
    }

    proptest::proptest! {
        #[test]
        fn numbers_of_128_bits_are_twos_complement(number: i128) {
            let bytes = Wide::from(number).to_le_bytes();
            proptest::prop_assert_eq!(&bytes[..16], &number.to_le_bytes());
            let sign = if number < 0 { 0xFF } else { 0 };
            proptest::prop_assert!(bytes[16..].iter().all(|byte| *byte == sign));
            proptest::prop_assert_eq!(Wide::parse(&number.to_string()), Some(Wide::from(number)));
        }

        #[test]
        fn no_text_makes_decimals_panic(text in "-?[0-9.eE+-]{0,90}", precision in 1_u8..=76, scale in 0_u8..=76) {
            let _ = decimal(&text, precision, scale.min(precision));
        }
    }
}
