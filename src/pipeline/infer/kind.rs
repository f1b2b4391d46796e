//! What the values of a field have in common.

use bytes::BytesMut;

use crate::pipeline::extract::Raw;
use crate::sink::{put_date, put_timestamp, unquoted};

/// Integers between these may be instants: from 2001 to 2099, in seconds.
const SECONDS: std::ops::Range<i64> = 978_307_200..4_070_908_800;

/// How many values of each kind a field had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Kinds {
    /// Within `bigint`.
    integers: usize,
    /// With a point, an exponent, or more digits.
    decimals: usize,
    booleans: usize,
    texts: usize,
    /// Of the texts: RFC 3339 with an offset, and dates.
    instants: usize,
    dates: usize,
    /// Of the texts: with U+0000.
    pub(super) nuls: usize,
    documents: usize,
    /// Of the integers: may be instants in this unit.
    units: [usize; 4],
    pub(super) nulls: usize,
}

/// Units that an integer may have, and how many there are in a second.
const UNITS: [(&str, i64); 4] = [("s", 1), ("ms", 1_000), ("us", 1_000_000), ("ns", 1_000_000_000)];

impl Kinds {
    pub(super) fn note(&mut self, raw: Raw<'_>) {
        match raw.get().as_bytes().first() {
            Some(b'n') | None => self.nulls += 1,
            Some(b't' | b'f') => self.booleans += 1,
            Some(b'{' | b'[') => {
                self.documents += 1;
                self.nuls += usize::from(raw.get().contains("\\u0000"));
            }
            Some(b'"') => self.note_text(raw),
            Some(_) => match raw.get().parse::<i64>() {
                Ok(number) => {
                    self.integers += 1;
                    for (count, (_, per_second)) in self.units.iter_mut().zip(UNITS) {
                        *count += usize::from(SECONDS.contains(&(number / per_second)));
                    }
                }
                Err(_) => self.decimals += 1,
            },
        }
    }

    fn note_text(&mut self, raw: Raw<'_>) {
        self.texts += 1;
        let Ok(text) = unquoted(raw.get()) else { return };
        self.nuls += usize::from(text.contains('\0'));
        // `infinity` is neither to a reader.
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mut scratch = BytesMut::new();
            self.instants += usize::from(put_timestamp(&text, true, &mut scratch).is_ok());
            self.dates += usize::from(put_date(&text, &mut scratch).is_ok());
        }
    }

    /// How many were no `null`.
    pub(super) fn values(&self) -> usize {
        self.integers + self.decimals + self.booleans + self.texts + self.documents
    }

    /// A type that takes all of them. `of_events`: text goes into JSON columns as the document that it is.
    pub(super) fn sql_type(&self, of_events: bool) -> &'static str {
        let all = self.values();
        if all == 0 {
            return if of_events { "text" } else { "jsonb" };
        }
        if self.integers == all {
            "bigint"
        } else if self.integers + self.decimals == all {
            "numeric"
        } else if self.booleans == all {
            "boolean"
        } else if self.instants == all {
            "timestamptz"
        } else if self.dates == all {
            "date"
        } else if self.texts == all {
            "text"
        } else if self.documents == all || !of_events {
            "jsonb"
        } else {
            "text"
        }
    }

    /// What a reader should know of it.
    pub(super) fn remark(&self) -> Option<&'static str> {
        let all = self.values();
        if all == 0 {
            return Some("only null so far");
        }
        let kinds = [self.integers + self.decimals, self.booleans, self.texts, self.documents];
        (kinds.into_iter().filter(|count| *count > 0).count() > 1).then_some("of several kinds")
    }

    /// The unit that these integers may have, if they are instants at all. Seconds only under a name that speaks of time:
    /// many numbers have ten digits.
    pub(super) fn unit(&self, name: &str) -> Option<&'static str> {
        let all = self.values();
        let speaks_of_time = || {
            let name = name.to_ascii_lowercase();
            ["ts", "time", "date", "_at", "created", "updated"].iter().any(|word| name.contains(word))
                || name.ends_with("at")
        };
        let fits = |at: &usize| all > 0 && self.integers == all && self.units[*at] == all;
        (0..UNITS.len()).find(fits).filter(|at| *at > 0 || speaks_of_time()).map(|at| UNITS[at].0)
    }
}
