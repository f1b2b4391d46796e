//! Values, by a compiled schema.

use super::super::semantic;
use super::super::unchanged::DEBEZIUM;
use super::super::wire::varint;
use super::plan::{Node, Plan};

/// Of recursive types.
const DEEPEST: usize = 64;

const SHORT: &str = "it ends before its end";

impl Plan {
    /// Appends a value as JSON.
    ///
    /// # Errors
    /// Why it is none of the schema's, in words that complete "value: "; nothing of it is in them.
    pub(crate) fn read(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let mut reader = Reader { plan: self, bytes, out };
        reader.value(self.root, 0).map_err(|what| format!("not of its Avro schema: {what}"))?;
        match reader.bytes.len() {
            0 => Ok(()),
            left => Err(format!("not of its Avro schema: {left} bytes are left over")),
        }
    }
}

struct Reader<'a> {
    plan: &'a Plan,
    /// What is still to be read.
    bytes: &'a [u8],
    out: &'a mut Vec<u8>,
}

impl<'a> Reader<'a> {
    fn value(&mut self, node: usize, depth: usize) -> Result<(), &'static str> {
        if depth > DEEPEST {
            return Err("nested more than 64 deep");
        }
        let plan = self.plan;
        match &plan.nodes[node] {
            Node::Pending => return Err("a type that is not there"),
            Node::Null => self.out.extend_from_slice(b"null"),
            Node::Boolean => match self.take(1)? {
                [0] => self.out.extend_from_slice(b"false"),
                [1] => self.out.extend_from_slice(b"true"),
                _ => return Err("a boolean that is neither 0 nor 1"),
            },
            Node::Int => {
                let number = self.int()?;
                self.number(number);
            }
            Node::Long => {
                let number = self.long()?;
                self.number(number);
            }
            Node::Float => {
                let bytes = self.array()?;
                semantic::float32(f32::from_le_bytes(bytes), self.out);
            }
            Node::Double => {
                let bytes = self.array()?;
                semantic::float(f64::from_le_bytes(bytes), self.out);
            }
            Node::Bytes => semantic::bytes(self.bytes()?, self.out),
            Node::String | Node::Uuid => semantic::string(self.text()?, self.out),
            Node::Fixed(size) => semantic::bytes(self.take(*size)?, self.out),
            Node::Enum(symbols) => {
                let index = self.int()?;
                let symbol = usize::try_from(index).ok().and_then(|index| symbols.get(index));
                self.out.extend_from_slice(symbol.ok_or("a symbol that its enum does not have")?);
            }
            Node::Union(branches) => {
                let index = self.long()?;
                let branch = usize::try_from(index).ok().and_then(|index| branches.get(index));
                self.value(*branch.ok_or("a branch that its union does not have")?, depth + 1)?;
            }
            Node::Record(fields) => {
                self.out.push(b'{');
                for (at, (name, node)) in fields.iter().enumerate() {
                    if at > 0 {
                        self.out.push(b',');
                    }
                    self.out.extend_from_slice(name);
                    self.value(*node, depth + 1)?;
                }
                self.out.push(b'}');
            }
            Node::Array(items) if self.is_unsaid(*items) => {}
            Node::Array(items) => {
                self.out.push(b'[');
                self.blocks(|reader| reader.value(*items, depth + 1))?;
                self.out.push(b']');
            }
            Node::Map(values) => {
                self.out.push(b'{');
                self.blocks(|reader| {
                    semantic::string(reader.text()?, reader.out);
                    reader.out.push(b':');
                    reader.value(*values, depth + 1)
                })?;
                self.out.push(b'}');
            }
            Node::Counts(semantic) => {
                let number = self.long()?;
                semantic.write_integer(number, self.out)?;
            }
            Node::DecimalBytes { scale, size, .. } => {
                let unscaled = match size {
                    Some(size) => self.take(*size)?,
                    None => self.bytes()?,
                };
                if unscaled == DEBEZIUM.as_bytes() {
                    semantic::bytes(unscaled, self.out);
                } else {
                    semantic::decimal(unscaled, *scale, self.out)?;
                }
            }
            Node::BigDecimal => {
                let inner = self.bytes()?;
                let mut reader = Reader { plan, bytes: inner, out: &mut Vec::new() };
                let unscaled = reader.bytes()?;
                let scale = reader.int()?;
                semantic::decimal(unscaled, scale, self.out)?;
            }
            Node::UuidBytes => {
                let uuid = uuid::Uuid::from_bytes(self.array()?);
                let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
                semantic::string(uuid.hyphenated().encode_lower(&mut text), self.out);
            }
            Node::Duration => {
                let mut part = || Ok::<_, &'static str>(u32::from_le_bytes(self.array()?));
                let (months, days, ms) = (part()?, part()?, part()?);
                let text = format!("\"{months} mons {days} days {}.{:03} secs\"", ms / 1000, ms % 1000);
                self.out.extend_from_slice(text.as_bytes());
            }
            Node::Text(semantic) => semantic.write_text(self.text()?, self.out)?,
            Node::BytesOf(semantic) => match self.bytes()? {
                bytes if bytes == DEBEZIUM.as_bytes() => semantic::bytes(bytes, self.out),
                bytes => semantic.write_bytes(bytes, self.out)?,
            },
            Node::VariableScale => {
                let scale = self.int()?;
                semantic::decimal(self.bytes()?, scale, self.out)?;
            }
        }
        semantic::within(self.out)
    }

    /// Items come in blocks, each with their number, and the last one without any.
    fn blocks(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), &'static str>,
    ) -> Result<(), &'static str> {
        let mut is_first = true;
        loop {
            let mut count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                // Then its size follows, for those who step over it.
                self.long()?;
                count = count.checked_neg().ok_or("a block of too many items")?;
            }
            for _ in 0..count {
                if !is_first {
                    self.out.push(b',');
                }
                is_first = false;
                item(self)?;
            }
        }
    }

    /// Whether an array of dates or times is none, but Debezium's word for one that has not changed, as numbers: then it is
    /// read, and stands there as that word.
    fn is_unsaid(&mut self, items: usize) -> bool {
        let nodes = &self.plan.nodes;
        let counts = |node: usize| matches!(nodes[node], Node::Counts(_));
        let branch = match &nodes[items] {
            Node::Union(branches) => branches.iter().position(|branch| counts(*branch)).map(Some),
            _ => counts(items).then_some(None),
        };
        let Some(branch) = branch else { return false };
        let mut rest = self.bytes;
        let mut next = || {
            let (number, behind) = varint(rest)?;
            rest = behind;
            Some(number)
        };
        let count = i64::try_from(DEBEZIUM.len()).unwrap_or(i64::MAX);
        let branch = branch.and_then(|branch| i64::try_from(branch).ok());
        let is_word = next() == Some(count)
            && DEBEZIUM.bytes().all(|byte| {
                branch.is_none_or(|branch| next() == Some(branch)) && next() == Some(byte.into())
            })
            && next() == Some(0);
        if is_word {
            self.bytes = rest;
            self.out.push(b'[');
            semantic::string(DEBEZIUM, self.out);
            self.out.push(b']');
        }
        is_word
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(SHORT)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(SHORT)?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn long(&mut self) -> Result<i64, &'static str> {
        let (number, rest) = varint(self.bytes).ok_or("a number that is cut off, or too long")?;
        self.bytes = rest;
        Ok(number)
    }

    fn int(&mut self) -> Result<i32, &'static str> {
        i32::try_from(self.long()?).map_err(|_| "an int that is none")
    }

    fn bytes(&mut self) -> Result<&'a [u8], &'static str> {
        let length = usize::try_from(self.long()?).map_err(|_| "a length that is negative")?;
        self.take(length)
    }

    fn text(&mut self) -> Result<&'a str, &'static str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "text that is not UTF-8")
    }

    fn number(&mut self, number: impl Into<i64>) {
        semantic::integer(number.into(), self.out);
    }
}
