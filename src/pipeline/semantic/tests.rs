use proptest::prelude::*;

use super::*;

fn text(write: impl FnOnce(&mut Vec<u8>) -> Result<(), &'static str>) -> Result<String, &'static str> {
    let mut out = Vec::new();
    write(&mut out)?;
    let text = String::from_utf8(out).unwrap();
    serde_json::from_str::<serde::de::IgnoredAny>(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    Ok(text)
}

fn of_date(days: i64) -> Result<String, &'static str> {
    text(|out| date(days, out))
}

fn of_time(count: i64, unit: Unit) -> Result<String, &'static str> {
    text(|out| time(count, unit, out))
}

fn of_timestamp(count: i64, unit: Unit) -> Result<String, &'static str> {
    text(|out| timestamp(count, unit, false, out))
}

fn of_decimal(unscaled: &[u8], scale: i32) -> Result<String, &'static str> {
    text(|out| decimal(unscaled, scale, out))
}

#[test]
fn dates_are_those_of_postgres() {
    for (days, expected) in [
        (0, "1970-01-01"),
        (-1, "1969-12-31"),
        (20_717, "2026-09-21"),
        (11_016, "2000-02-29"),
        (-719_162, "0001-01-01"),
        (-719_163, "0001-12-31 BC"),
        (-719_468, "0001-03-01 BC"),
        (2_932_896, "9999-12-31"),
        (2_932_897, "10000-01-01"),
        (-2_440_588, "4714-11-24 BC"),
        (2_145_042_905, "5874897-12-31"),
    ] {
        assert_eq!(of_date(days).as_deref(), Ok(&*format!("\"{expected}\"")), "{days}");
    }
    for days in [-2_440_589, 2_145_042_906, i64::MIN, i64::MAX] {
        assert_eq!(of_date(days), Err("out of the range of dates"));
    }
}

#[test]
fn times_of_day_are_those_of_postgres() {
    for (count, unit, expected) in [
        (0, Unit::Milliseconds, "00:00:00"),
        (51_200_123, Unit::Milliseconds, "14:13:20.123"),
        (51_200_123_456, Unit::Microseconds, "14:13:20.123456"),
        (51_200_000_001, Unit::Microseconds, "14:13:20.000001"),
        (51_200_123_456_999, Unit::Nanoseconds, "14:13:20.123456"),
        (51_200, Unit::Seconds, "14:13:20"),
        (86_400_000, Unit::Milliseconds, "24:00:00"),
    ] {
        assert_eq!(of_time(count, unit).as_deref(), Ok(&*format!("\"{expected}\"")));
    }
    for (count, unit) in [
        (-1, Unit::Nanoseconds),
        (86_400_001, Unit::Milliseconds),
        (i64::MIN, Unit::Nanoseconds),
        (i64::MAX, Unit::Seconds),
        (i64::MIN, Unit::Days),
    ] {
        assert_eq!(of_time(count, unit), Err("out of the range of times of day"));
    }
}

#[test]
fn timestamps_are_those_of_postgres() {
    for (count, unit, expected) in [
        (1_790_000_000, Unit::Seconds, "2026-09-21T14:13:20"),
        (1_790_000_000_120, Unit::Milliseconds, "2026-09-21T14:13:20.12"),
        (1_790_000_000_123_456, Unit::Microseconds, "2026-09-21T14:13:20.123456"),
        (1_790_000_000_123_456_999, Unit::Nanoseconds, "2026-09-21T14:13:20.123456"),
        // Towards the past.
        (-1, Unit::Nanoseconds, "1969-12-31T23:59:59.999999"),
        (-1, Unit::Milliseconds, "1969-12-31T23:59:59.999"),
        (i64::MAX, Unit::Nanoseconds, "2262-04-11T23:47:16.854775"),
        (i64::MIN, Unit::Nanoseconds, "1677-09-21T00:12:43.145224"),
        (i64::MAX, Unit::Microseconds, "294247-01-10T04:00:54.775807"),
        (9_224_318_015_999_999, Unit::Milliseconds, "294276-12-31T23:59:59.999"),
        (-210_866_803_200, Unit::Seconds, "4714-11-24T00:00:00 BC"),
        (-62_135_596_800_001, Unit::Milliseconds, "0001-12-31T23:59:59.999 BC"),
        (INFINITY_US, Unit::Microseconds, "infinity"),
        (9_223_372_036_825_200, Unit::Milliseconds, "infinity"),
        (-9_223_372_036_832_400_000, Unit::Microseconds, "-infinity"),
        (-9_223_372_036_832_400, Unit::Milliseconds, "-infinity"),
    ] {
        assert_eq!(of_timestamp(count, unit).as_deref(), Ok(&*format!("\"{expected}\"")), "{count}");
    }
    assert_eq!(
        text(|out| timestamp(-62_135_596_801, Unit::Seconds, true, out)).as_deref(),
        Ok("\"0001-12-31T23:59:59Z BC\"")
    );
    for (count, unit) in [
        (i64::MIN, Unit::Microseconds),
        (9_224_318_016_000_000, Unit::Milliseconds),
        (-210_866_803_200_001, Unit::Milliseconds),
        (i64::MAX, Unit::Milliseconds),
        (i64::MIN, Unit::Seconds),
        (i64::MAX, Unit::Days),
    ] {
        assert_eq!(of_timestamp(count, unit), Err("out of the range of timestamps"), "{count}");
    }
}

#[test]
fn decimals_have_every_digit() {
    let long = [&[0x01][..], &[0; 16]].concat();
    let negative = [&[0xff][..], &[0; 16]].concat();
    for (unscaled, scale, expected) in [
        (&[0x03, 0xde][..], 2, "9.90"),
        (&[0xfc, 0x22], 2, "-9.90"),
        (&[0x00], 2, "0.00"),
        (&[0x00], 0, "0"),
        (&[0x00], -3, "0"),
        (&[0x05], 5, "0.00005"),
        (&[0xfb], 1, "-0.5"),
        (&[0x05], -3, "5000"),
        (&[0x00, 0x00, 0x00, 0x7b], 0, "123"),
        (&[0xff; 16], 0, "-1"),
        (&[0xff; 17], 0, "-1"),
        (&[0x00; 17], 1, "0.0"),
        (&long, 0, "340282366920938463463374607431768211456"),
        (&long, 39, "0.340282366920938463463374607431768211456"),
        (&negative, 2, "-3402823669209384634633746074317682114.56"),
    ] {
        assert_eq!(of_decimal(unscaled, scale).as_deref(), Ok(expected));
    }
    assert_eq!(
        of_decimal(&i128::MIN.to_be_bytes(), 0).as_deref(),
        Ok("-170141183460469231731687303715884105728")
    );
    for (unscaled, scale, why) in [
        (&[][..], 0, "without bytes"),
        (&[0; LONGEST_DECIMAL + 1], 0, "16 KiB"),
        (&[1], 16_384, "scale"),
        (&[1], i32::MIN, "scale"),
        (&[1], i32::MAX, "scale"),
    ] {
        assert!(of_decimal(unscaled, scale).unwrap_err().contains(why));
    }
    // As long as it may be: 2^131064.
    let longest = [&[0x01][..], &[0; LONGEST_DECIMAL - 1]].concat();
    assert_eq!(of_decimal(&longest, 0).unwrap().len(), 39_455);
}

#[test]
fn other_values_are_as_postgres_writes_them() {
    let written = |write: &dyn Fn(&mut Vec<u8>)| {
        text(|out| {
            write(out);
            Ok(())
        })
        .unwrap()
    };
    assert_eq!(written(&|out| bytes(&[0x0a, 0xff], out)), r#""\\x0aff""#);
    assert_eq!(written(&|out| bytes(&[], out)), r#""\\x""#);
    assert_eq!(written(&|out| string("a\"\n\u{1}é", out)), r#""a\"\n\u0001é""#);
    assert_eq!(written(&|out| float(0.1, out)), "0.1");
    assert_eq!(written(&|out| float(f64::NAN, out)), r#""NaN""#);
    assert_eq!(written(&|out| float(f64::NEG_INFINITY, out)), r#""-Infinity""#);
    assert_eq!(written(&|out| float32(0.1, out)), "0.1");
    assert_eq!(written(&|out| float32(f32::INFINITY, out)), r#""Infinity""#);
    assert_eq!(written(&|out| micro_duration(90_061_500_000, out)), r#""PT90061.5S""#);
    assert_eq!(written(&|out| micro_duration(-500_000, out)), r#""PT-0.5S""#);
    assert_eq!(written(&|out| micro_duration(0, out)), r#""PT0S""#);
    assert_eq!(written(&|out| micro_duration(i64::MIN, out)), r#""PT-9223372036854.775808S""#);
    assert_eq!(written(&|out| integer(i64::MIN, out)), i64::MIN.to_string());
    assert_eq!(written(&|out| bits(&[0x0a], Some(4), out)), r#""1010""#);
    assert_eq!(written(&|out| bits(&[0x01, 0x02], Some(10), out)), r#""1000000001""#);
    assert_eq!(written(&|out| bits(&[0x05, 0x00], Some(u32::MAX), out)), r#""101""#);
    assert_eq!(written(&|out| bits(&[], Some(3), out)), r#""""#);
    let spliced = |json: &str| text(|out| document(json, out));
    assert_eq!(spliced(r#" {"a": 1.10} "#).as_deref(), Ok(r#"{"a": 1.10}"#));
    assert!(spliced("{").is_err());
    assert!(spliced("1, \"b\": 2").is_err());
    let placeholder = "__debezium_unavailable_value";
    assert_eq!(spliced(placeholder).unwrap(), format!("\"{placeholder}\""));
}

#[test]
fn names_say_what_values_stand_for() {
    let parameter = |name: &str| match name {
        "scale" => Some("2".to_owned()),
        "length" => Some("4".to_owned()),
        _ => None,
    };
    let of = |name: &str| Semantic::of(name, &parameter);
    assert_eq!(of("org.apache.kafka.connect.data.Decimal"), Some(Semantic::Decimal(2)));
    assert_eq!(of("org.apache.kafka.connect.data.Timestamp"), Some(Semantic::Instant(Unit::Milliseconds)));
    assert_eq!(of("io.debezium.time.MicroTimestamp"), Some(Semantic::Timestamp(Unit::Microseconds)));
    assert_eq!(of("io.debezium.data.Bits"), Some(Semantic::Bits(Some(4))));
    assert_eq!(of("io.debezium.data.geometry.Point"), Some(Semantic::Refused("geometry")));
    assert_eq!(of("shop.public.orders.Value"), None);
    let none = |_: &str| None;
    assert!(matches!(
        Semantic::of("org.apache.kafka.connect.data.Decimal", &none),
        Some(Semantic::Refused(_))
    ));
    let members = |members: &str| text(|out| Semantic::EnumSet.write_text(members, out)).unwrap();
    assert_eq!(members("a,b"), r#"["a","b"]"#);
    assert_eq!(members(""), "[]");
    assert_eq!(text(|out| Semantic::TextBeforeZ.write_text("2017-09-15Z", out)).unwrap(), "\"2017-09-15\"");
    assert!(text(|out| Semantic::Date.write_text("2017-09-15", out)).is_err());
    assert!(text(|out| Semantic::Json.write_integer(1, out)).is_err());
    assert!(text(|out| Semantic::Date.write_bytes(&[1], out)).is_err());
}

fn any_unit() -> impl Strategy<Value = Unit> {
    prop_oneof![
        Just(Unit::Days),
        Just(Unit::Seconds),
        Just(Unit::Milliseconds),
        Just(Unit::Microseconds),
        Just(Unit::Nanoseconds)
    ]
}

/// Of all sizes.
fn any_count() -> impl Strategy<Value = i64> {
    (any::<i64>(), 0..64_u32).prop_map(|(count, shift)| count >> shift)
}

proptest! {
    #[test]
    fn nothing_panics(count in any_count(), unit in any_unit(), zoned: bool) {
        let _ = of_date(count);
        let _ = of_time(count, unit);
        let _ = text(|out| timestamp(count, unit, zoned, out));
        let _ = text(|out| { micro_duration(count, out); Ok(()) });
    }

    #[test]
    fn dates_and_times_are_those_of_jiff(us in -62_135_596_800_000_000..=253_402_207_200_000_000_i64) {
        let at = jiff::Timestamp::from_microsecond(us).unwrap();
        let text = text(|out| timestamp(us, Unit::Microseconds, true, out)).unwrap();
        prop_assert_eq!(text, format!("\"{at}\""));
        let days = us.div_euclid(DAY_US);
        prop_assert_eq!(&of_date(days).unwrap()[1..11], &at.to_string()[..10]);
    }

    #[test]
    fn days_go_up_one_by_one(days in -2_440_588..2_145_042_905_i64) {
        let (one, next) = (of_date(days).unwrap(), of_date(days + 1).unwrap());
        prop_assert_ne!(&one, &next);
        // Four hundred years have so many days, on both sides of the year 1.
        if !(-719_162 - 146_097..=-719_162).contains(&days) {
            let later = days + 146_097;
            if let Ok(later) = of_date(later) {
                prop_assert_eq!(later.trim_end_matches(" BC\"").trim_end_matches('"').rsplit_once('-').map(|(_, day)| day.to_owned()),
                    one.trim_end_matches(" BC\"").trim_end_matches('"').rsplit_once('-').map(|(_, day)| day.to_owned()));
            }
        }
    }

    #[test]
    fn long_decimals_are_the_short_ones(number: i128, shift in 0..128_u32, padding in 1..20_usize) {
        let number = number >> shift;
        let sign = if number < 0 { 0xff } else { 0 };
        let long = [&vec![sign; padding][..], &number.to_be_bytes()].concat();
        prop_assert_eq!(of_decimal(&long, 0).unwrap(), number.to_string());
        prop_assert_eq!(of_decimal(&number.to_be_bytes(), 0).unwrap(), number.to_string());
    }

    #[test]
    fn long_decimals_are_what_multiplication_makes(digits in proptest::collection::vec(0..10_u8, 40..200), negative: bool) {
        // Digits into bytes, the other way round.
        let mut magnitude = vec![0_u8; 100];
        for digit in &digits {
            let mut carry = u16::from(*digit);
            for byte in magnitude.iter_mut().rev() {
                let value = u16::from(*byte) * 10 + carry;
                let [low, high] = value.to_le_bytes();
                (*byte, carry) = (low, high.into());
            }
        }
        if negative {
            let mut carry = true;
            for byte in magnitude.iter_mut().rev() {
                (*byte, carry) = (!*byte).overflowing_add(carry.into());
            }
        }
        let text: String = digits.iter().map(|digit| char::from(b'0' + digit)).collect();
        let text = match text.trim_start_matches('0') { "" => "0", text => text };
        let sign = if negative && text != "0" { "-" } else { "" };
        prop_assert_eq!(of_decimal(&magnitude, 0).unwrap(), format!("{sign}{text}"));
    }

    #[test]
    fn any_bytes_and_scale_are_a_number_or_refused(unscaled in proptest::collection::vec(any::<u8>(), 0..64), scale: i32) {
        let _ = of_decimal(&unscaled, scale);
        let _ = of_decimal(&unscaled, scale % 100);
    }

    #[test]
    fn any_text_is_a_string_and_any_document_stays(any_text in ".*") {
        let written = text(|out| { string(&any_text, out); Ok(()) }).unwrap();
        prop_assert_eq!(serde_json::from_str::<String>(&written).unwrap(), &*any_text);
        let spliced = text(|out| document(&written, out)).unwrap();
        prop_assert_eq!(spliced, written);
        let _ = text(|out| document(&any_text, out));
    }
}
