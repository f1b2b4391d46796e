//! `numeric(p,s)`: what has too many digits is refused here, with the column's name. The server rounds what is left, and
//! looks only when it writes the row: of one that is not there, or that is overwritten, it might never ask.

use super::target::Defect;

const TOO_LARGE: Defect = Defect::Invalid("out of the range of its type");
/// What a modifier counts beside the digits.
const HEADER: i32 = 4;

/// How large a number may be, once it is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digits {
    precision: i32,
    /// Digits behind the point; negative: rounded before it.
    scale: i32,
}

impl Digits {
    /// Of a type's modifier, if it has one.
    pub(crate) fn of(modifier: i32) -> Option<Self> {
        let packed = modifier.checked_sub(HEADER).filter(|packed| *packed >= 0)?;
        Some(Self { precision: (packed >> 16) & 0xFFFF, scale: ((packed & 0x7FF) ^ 0x400) - 0x400 })
    }

    /// Looks at a number in binary.
    ///
    /// # Errors
    /// If it is too large.
    pub(crate) fn fit(self, number: &[u8]) -> Result<(), Defect> {
        let Some((header, groups)) = number.split_first_chunk::<8>() else { return Ok(()) };
        let [_, _, high, low, sign, ..] = *header;
        match sign {
            0xC0 => return Ok(()),
            0xD0 | 0xF0 => return Err(TOO_LARGE),
            _ => {}
        }
        let (groups, _) = groups.as_chunks::<2>();
        let digits = groups.iter().flat_map(|group| {
            let group = u16::from_be_bytes(*group);
            [group / 1_000, group / 100 % 10, group / 10 % 10, group % 10]
        });
        let Some(leading) = digits.clone().position(|digit| digit > 0) else { return Ok(()) };
        // Of the first digit, and of the first one that there is room for.
        let exponent =
            4 * i32::from(i16::from_be_bytes([high, low])) + 3 - i32::try_from(leading).unwrap_or(0);
        let room = self.precision - self.scale - 1;
        if exponent < room {
            return Ok(());
        }
        let precision = usize::try_from(self.precision).unwrap_or(0);
        let mut kept = digits.skip(leading);
        let nines = kept.by_ref().take(precision).filter(|digit| *digit == 9).count();
        let rounds_up = nines == precision && kept.next().is_some_and(|digit| digit >= 5);
        if exponent > room || rounds_up { Err(TOO_LARGE) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::sink::numeric::put_text;

    fn fits(precision: i32, scale: i32, text: &str) -> bool {
        let digits = Digits::of(((precision << 16) | (scale & 0x7FF)) + HEADER).unwrap();
        assert_eq!(digits, Digits { precision, scale });
        let mut out = BytesMut::new();
        put_text(text, &mut out).unwrap();
        digits.fit(&out).is_ok()
    }

    #[test]
    fn a_number_fits_if_its_digits_do_once_they_are_rounded() {
        for (precision, scale, good, bad) in [
            (
                3,
                1,
                &["99.9", "99.94999", "-99.9", "0", "0.04", "NaN", "1e-30"][..],
                &["100", "99.95", "-99.951", "1e30"][..],
            ),
            (4, 0, &["9999", "9999.4", "1"], &["10000", "9999.5", "Infinity"]),
            (10, 2, &["12345678.99", "99999999.994"], &["123456789", "99999999.995", "-Infinity"]),
            (2, 4, &["0.0099", "0.00994"], &["0.01", "0.00995"]),
            (2, -3, &["99499", "499"], &["99500", "100000"]),
            (1, 0, &["9", "0.5"], &["9.5", "10"]),
        ] {
            for text in good {
                assert!(fits(precision, scale, text), "numeric({precision},{scale}): {text}");
            }
            for text in bad {
                assert!(!fits(precision, scale, text), "numeric({precision},{scale}): {text}");
            }
        }
        assert_eq!(Digits::of(-1), None);
    }
}
