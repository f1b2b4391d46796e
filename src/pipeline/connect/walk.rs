//! Through a payload, by its plan.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::super::extract::{Name, Raw};
use super::super::semantic::{self, Semantic};
use super::super::unchanged::{DEBEZIUM, UNAVAILABLE};
use super::Canonical;
use super::plan::Plan;
use crate::record::json::describe;
use crate::sink::unquoted;

const OTHER_KIND: &str = "not of the kind that its schema says";

/// # Errors
/// If it cannot be walked through. (A value that cannot be written is in [`Canonical::failures`].)
pub(super) fn write(plan: &Plan, payload: Raw<'_>) -> Result<Canonical, String> {
    let mut pen = Pen {
        out: Vec::with_capacity(payload.get().len() + payload.get().len() / 4),
        scratch: Vec::new(),
        failures: Vec::new(),
    };
    pen.value(plan, payload).map_err(|error| describe(&error))?;
    let failures =
        pen.failures.into_iter().map(|failure| (failure.range.clone(), failure.to_string())).collect();
    Ok(Canonical { text: pen.out, failures })
}

struct Pen<'p> {
    out: Vec<u8>,
    /// For base64.
    scratch: Vec<u8>,
    failures: Vec<Failure<'p>>,
}

struct Failure<'p> {
    range: Range<usize>,
    what: &'static str,
    /// The fields around it, the innermost first.
    path: Vec<&'p str>,
}

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            f.write_str("field ")?;
            for (at, name) in self.path.iter().rev().enumerate() {
                f.write_str(if at == 0 { "" } else { "." })?;
                f.write_str(name)?;
            }
            f.write_str(": ")?;
        }
        f.write_str(self.what)
    }
}

impl<'p> Pen<'p> {
    fn value(&mut self, plan: &'p Plan, raw: Raw<'_>) -> serde_json::Result<()> {
        semantic::within(&self.out).map_err(serde::de::Error::custom)?;
        let first = raw.get().as_bytes().first().copied();
        match (plan, first) {
            (Plan::Raw, _) | (_, Some(b'n')) => self.out.extend_from_slice(raw.get().as_bytes()),
            (Plan::Bytes | Plan::Meant(_), _) => self.leaf(plan, raw),
            // Numbers that stand for a value that is not there are no dates.
            (Plan::Array(items), Some(b'[')) if items.counts() && UNAVAILABLE.is_in(raw) => {
                self.out.extend_from_slice(raw.get().as_bytes());
            }
            (Plan::Array(_) | Plan::Pairs(..), Some(b'[')) | (Plan::Map(_) | Plan::Struct(_), Some(b'{')) => {
                Walk { pen: self, plan }.deserialize(&mut serde_json::Deserializer::from_str(raw.get()))?;
            }
            _ => self.fail(self.out.len(), OTHER_KIND),
        }
        Ok(())
    }

    fn leaf(&mut self, plan: &Plan, raw: Raw<'_>) {
        let start = self.out.len();
        if let Err(what) = self.plain(plan, raw) {
            self.fail(start, what);
        }
    }

    /// A null in place of what could not be written.
    fn fail(&mut self, start: usize, what: &'static str) {
        self.out.truncate(start);
        self.out.extend_from_slice(b"null");
        self.failures.push(Failure { range: start..self.out.len(), what, path: Vec::new() });
    }

    fn plain(&mut self, plan: &Plan, raw: Raw<'_>) -> Result<(), &'static str> {
        let text = raw.get();
        let semantic = match plan {
            Plan::Meant(semantic) => semantic,
            _ => {
                self.decode(text)?;
                semantic::bytes(&self.scratch, &mut self.out);
                return Ok(());
            }
        };
        match (semantic, text.as_bytes().first()) {
            (Semantic::Refused(what), _) => Err(what),
            (Semantic::VariableScaleDecimal, Some(b'{')) => {
                let VariableScale { scale, value } =
                    serde_json::from_str(text).map_err(|_| "not a scale and a value")?;
                self.decode(value.get())?;
                semantic::decimal(&self.scratch, scale, &mut self.out)
            }
            (Semantic::Decimal(_) | Semantic::Bits(_), Some(b'"')) => {
                self.decode(text)?;
                if self.scratch == DEBEZIUM.as_bytes() {
                    semantic::bytes(&self.scratch, &mut self.out);
                    return Ok(());
                }
                semantic.write_bytes(&self.scratch, &mut self.out)
            }
            // With decimal.format = NUMERIC.
            (Semantic::Decimal(_), Some(b'-' | b'0'..=b'9')) => {
                self.out.extend_from_slice(text.as_bytes());
                Ok(())
            }
            (_, Some(b'"')) => {
                let text = unquoted(text).map_err(|_| "a malformed string")?;
                semantic.write_text(&text, &mut self.out)
            }
            (_, Some(b'-' | b'0'..=b'9')) => {
                let count = text.parse().map_err(|_| "not an integer of 64 bits")?;
                semantic.write_integer(count, &mut self.out)
            }
            _ => Err(OTHER_KIND),
        }
    }

    fn decode(&mut self, raw: &str) -> Result<(), &'static str> {
        const NO_BASE64: &str = "not base64, in which Connect writes bytes";
        if !raw.starts_with('"') {
            return Err(NO_BASE64);
        }
        let text = unquoted(raw).map_err(|_| NO_BASE64)?;
        self.scratch.clear();
        STANDARD.decode_vec(text.as_bytes(), &mut self.scratch).map_err(|_| NO_BASE64)
    }

    /// A map's key: a string, whatever it is.
    fn key(&mut self, plan: &'p Plan, raw: Raw<'_>) -> serde_json::Result<()> {
        let start = self.out.len();
        self.value(plan, raw)?;
        if self.out.get(start) != Some(&b'"') {
            self.out.insert(start, b'"');
            self.out.push(b'"');
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct VariableScale<'a> {
    scale: i32,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// Into a container that its plan fits.
struct Walk<'w, 'p> {
    pen: &'w mut Pen<'p>,
    plan: &'p Plan,
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.plan {
            Plan::Array(_) | Plan::Pairs(..) => deserializer.deserialize_seq(self),
            _ => deserializer.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what its schema says")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let pen = self.pen;
        pen.out.push(b'{');
        let mut next = 0;
        let mut is_first = true;
        while let Some(Name(name)) = map.next_key()? {
            if !std::mem::take(&mut is_first) {
                pen.out.push(b',');
            }
            match &name {
                // Without an escape in it, it needs none.
                Cow::Borrowed(name) => {
                    pen.out.push(b'"');
                    pen.out.extend_from_slice(name.as_bytes());
                    pen.out.push(b'"');
                }
                Cow::Owned(name) => semantic::string(name, &mut pen.out),
            }
            pen.out.push(b':');
            let raw: &'de RawValue = map.next_value()?;
            let failures = pen.failures.len();
            let (plan, field) = match self.plan {
                Plan::Map(values) => (&**values, None),
                Plan::Struct(fields) => {
                    // The converter writes fields in the schema's order.
                    let guessed = fields.get(next).filter(|(known, _)| **known == *name);
                    match guessed.or_else(|| fields.iter().find(|(known, _)| **known == *name)) {
                        Some((known, plan)) => {
                            next += 1;
                            (plan, Some(&**known))
                        }
                        None => (&Plan::Raw, None),
                    }
                }
                _ => (&Plan::Raw, None),
            };
            pen.value(plan, raw.into()).map_err(serde::de::Error::custom)?;
            if let Some(field) = field {
                for failure in &mut pen.failures[failures..] {
                    failure.path.push(field);
                }
            }
        }
        pen.out.push(b'}');
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut array: S) -> Result<(), S::Error> {
        let pen = self.pen;
        let (open, close) = if matches!(self.plan, Plan::Pairs(..)) { (b'{', b'}') } else { (b'[', b']') };
        pen.out.push(open);
        let mut is_first = true;
        while let Some(raw) = array.next_element::<&'de RawValue>()? {
            if !std::mem::take(&mut is_first) {
                pen.out.push(b',');
            }
            let written = match self.plan {
                Plan::Array(items) => pen.value(items, raw.into()),
                Plan::Pairs(keys, values) => {
                    let (key, value): (&RawValue, &RawValue) = serde_json::from_str(raw.get())
                        .map_err(|_| serde::de::Error::custom("a map with an entry that is no pair"))?;
                    pen.key(keys, key.into()).and_then(|()| {
                        pen.out.push(b':');
                        pen.value(values, value.into())
                    })
                }
                _ => Ok(()),
            };
            written.map_err(serde::de::Error::custom)?;
        }
        pen.out.push(close);
        Ok(())
    }
}
