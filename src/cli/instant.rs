//! Instants and durations as people and Kafka's tool write them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::civil::DateTime;
use jiff::tz::Offset;
use jiff::{SpanRelativeTo, Timestamp};

/// `2026-04-25T03:00:00.000`, in UTC unless it says otherwise; or milliseconds since 1970.
pub(crate) fn instant(text: &str) -> Result<SystemTime, String> {
    let wrong = |why: String| {
        format!(
            "{why}: write it as 2026-04-25T03:00:00, which is UTC, or with a zone as in 2026-04-25T05:00:00+02:00"
        )
    };
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let at = match (text.parse::<Timestamp>(), text.parse::<DateTime>()) {
        _ if is_number => {
            let ms = text.parse().map_err(|_| wrong("there is no such year".to_owned()))?;
            Timestamp::from_millisecond(ms).map_err(|error| wrong(error.to_string()))?
        }
        (Ok(at), _) => at,
        (Err(_), Ok(civil)) => Offset::UTC.to_timestamp(civil).map_err(|error| wrong(error.to_string()))?,
        (Err(error), Err(_)) => return Err(wrong(error.to_string())),
    };
    let since = Duration::try_from(at.as_duration()).map_err(|_| wrong("it lies before 1970".to_owned()))?;
    Ok(UNIX_EPOCH + since)
}

/// `P1DT2H3M4S`, with days of 24 hours, as Java has them.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = |why: String| format!("{why}: write it as PnDTnHnMnS, such as PT1H or P1DT12H");
    if !text.starts_with('P') {
        return Err(wrong("it is no duration of ISO 8601".to_owned()));
    }
    let span: jiff::Span = text.parse().map_err(|error: jiff::Error| wrong(error.to_string()))?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours());
    let duration = duration.map_err(|error| wrong(error.to_string()))?;
    Duration::try_from(duration).map_err(|_| wrong("it is negative".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_without_a_zone_is_utc() {
        let seconds = |text: &str| instant(text).unwrap().duration_since(UNIX_EPOCH).unwrap().as_millis();
        assert_eq!(seconds("2026-04-25T03:00:00"), 1_777_086_000_000);
        assert_eq!(seconds("2026-04-25T03:00:00.250"), 1_777_086_000_250);
        for same in
            ["2026-04-25T03:00:00Z", "2026-04-25T05:00:00+02:00", "2026-04-25T05:00:00+0200", "1777086000000"]
        {
            assert_eq!(seconds(same), 1_777_086_000_000, "{same}");
        }
        for wrong in ["", "yesterday", "1969-12-31T23:59:59Z", "2026-13-01T00:00:00"] {
            assert!(instant(wrong).unwrap_err().contains("UTC"), "{wrong}");
        }
    }

    #[test]
    fn a_day_has_24_hours() {
        assert_eq!(duration("PT1H").unwrap(), Duration::from_secs(3_600));
        assert_eq!(duration("P1DT2H3M4.5S").unwrap(), Duration::from_millis(93_784_500));
        for wrong in ["", "1h", "P1M", "-PT1H", "PT"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
