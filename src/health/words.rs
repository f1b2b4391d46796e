//! Figures as people read them, coarse enough to hold still for a while.

/// A duration: to 10 s under two minutes, then to minutes, hours, days.
pub(super) fn span(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    match seconds {
        s if s < 10 => format!("{s} s"),
        s if s < 120 => format!("{} s", s / 10 * 10),
        s if s < 7_200 => format!("{} min", s / 60),
        s if s < 172_800 => format!("{} h", s / 3_600),
        s => format!("{} days", s / 86_400),
    }
}

/// A rate, to two digits.
pub(super) fn rate(per_second: f64) -> String {
    let rounded = round(per_second, 2);
    if rounded.fract() == 0.0 { format!("{rounded:.0}/s") } else { format!("{rounded}/s") }
}

/// To so many significant digits. What is no number stays so.
pub(crate) fn round(value: f64, digits: i32) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    #[allow(clippy::cast_possible_truncation)] // a float's exponent is between -324 and 308
    let magnitude = value.abs().log10().floor() as i32 + 1 - digits;
    // Division by a whole power: 0.3 and not 0.30000000000000004.
    if magnitude >= 0 {
        (value / 10_f64.powi(magnitude)).round() * 10_f64.powi(magnitude)
    } else {
        (value * 10_f64.powi(-magnitude)).round() / 10_f64.powi(-magnitude)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_coarse() {
        for (ms, text) in [
            (-1, "0 s"),
            (9_999, "9 s"),
            (47_000, "40 s"),
            (119_999, "110 s"),
            (125_000, "2 min"),
            (7_200_000, "2 h"),
            (i64::MAX, "106751991167 days"),
        ] {
            assert_eq!(span(ms), text);
        }
        for (value, text) in
            [(0.0, "0/s"), (0.333, "0.33/s"), (4.96, "5/s"), (1_234.0, "1200/s"), (98_765.0, "99000/s")]
        {
            assert_eq!(rate(value), text);
        }
        assert!(round(f64::NAN, 2).is_nan());
        assert_eq!(round(-0.0123, 1), -0.01);
    }
}
