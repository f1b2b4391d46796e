//! A schema, compiled.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::super::file::Unit;
use super::super::semantic::{self, Semantic};

/// How values of a schema are read. Nodes name each other by number, since schemas may be recursive.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(super) nodes: Vec<Node>,
    pub(super) root: usize,
}

/// A field: its name as JSON, with a colon, and its type.
pub(super) type NamedNode = (Box<[u8]>, usize);

#[derive(Debug)]
pub(super) enum Node {
    /// Of a type that is named before it is known.
    Pending,
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    /// Its symbols, as JSON.
    Enum(Vec<Box<[u8]>>),
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    Record(Vec<NamedNode>),
    /// A whole number, int or long, that counts something.
    Counts(Semantic),
    /// Bytes, of this many if they are fixed.
    DecimalBytes {
        scale: i32,
        size: Option<usize>,
        precision: Option<u32>,
    },
    /// Digits and scale, each value its own (`big-decimal`).
    BigDecimal,
    /// Text.
    Uuid,
    UuidBytes,
    /// Months, days and milliseconds.
    Duration,
    /// Text, or bytes, that stand for something.
    Text(Semantic),
    BytesOf(Semantic),
    /// Connect's record of a scale and digits.
    VariableScale,
}

/// More is no schema that somebody wrote.
const MAX_NODES: usize = 20_000;
const DEEPEST: usize = 100;

const PRIMITIVES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

impl Plan {
    /// Compiles a schema. `references`: schemas of named types that it uses, each before those that use it.
    ///
    /// # Errors
    /// What is wrong with it, in words that complete "the schema ".
    pub(crate) fn new(schema: &str, references: &[String]) -> Result<Self, String> {
        let mut compiler = Compiler { nodes: Vec::new(), named: HashMap::new(), aliases: HashMap::new() };
        for reference in references {
            compiler.document(reference)?;
        }
        let root = compiler.document(schema)?;
        Ok(Self { nodes: compiler.nodes, root })
    }
}

struct Compiler {
    nodes: Vec<Node>,
    named: HashMap<String, usize>,
    /// Of types that have another name of their own: these go behind.
    aliases: HashMap<String, usize>,
}

impl Compiler {
    fn document(&mut self, text: &str) -> Result<usize, String> {
        // A bare name of a type is one, too, as registries have it.
        let schema = match serde_json::from_str(text) {
            Ok(schema) => schema,
            Err(_) if PRIMITIVES.contains(&text.trim()) => Value::from(text.trim()),
            Err(error) => {
                return Err(format!(
                    "is no JSON: {} at line {}",
                    crate::record::json::describe(&error),
                    error.line()
                ));
            }
        };
        self.schema(&schema, "", 0)
    }

    fn add(&mut self, node: Node) -> Result<usize, String> {
        if self.nodes.len() >= MAX_NODES {
            return Err(format!("has more than {MAX_NODES} types"));
        }
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    fn schema(&mut self, schema: &Value, namespace: &str, depth: usize) -> Result<usize, String> {
        if depth > DEEPEST {
            return Err(format!("is nested more than {DEEPEST} deep"));
        }
        match schema {
            Value::String(name) => self.by_name(name, namespace),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.schema(branch, namespace, depth + 1));
                let branches = branches.collect::<Result<_, _>>()?;
                self.add(Node::Union(branches))
            }
            Value::Object(schema) => self.object(schema, namespace, depth),
            _ => Err("has something that is no type".to_owned()),
        }
    }

    fn by_name(&mut self, name: &str, namespace: &str) -> Result<usize, String> {
        if let Some(node) = primitive(name) {
            return self.add(node);
        }
        let within = (!name.contains('.') && !namespace.is_empty()).then(|| format!("{namespace}.{name}"));
        // Names of no namespace are taken, too, as Java's parser does.
        let known = |known: &HashMap<String, usize>| {
            within.as_ref().and_then(|full| known.get(full)).or_else(|| known.get(name)).copied()
        };
        let found = known(&self.named).or_else(|| known(&self.aliases));
        found.ok_or_else(|| format!("names a type {} that it does not have", shown(name)))
    }

    fn object(
        &mut self,
        schema: &Map<String, Value>,
        namespace: &str,
        depth: usize,
    ) -> Result<usize, String> {
        let kind = match schema.get("type") {
            Some(Value::String(kind)) => kind.as_str(),
            // {"type": {"type": …}}
            Some(inner) => return self.schema(inner, namespace, depth + 1),
            None => return Err("has a type without `type`".to_owned()),
        };
        match kind {
            "array" => {
                let items = schema.get("items").ok_or("has an array without `items`")?;
                let items = self.schema(items, namespace, depth + 1)?;
                self.add(Node::Array(items))
            }
            "map" => {
                let values = schema.get("values").ok_or("has a map without `values`")?;
                let values = self.schema(values, namespace, depth + 1)?;
                self.add(Node::Map(values))
            }
            "record" | "error" | "enum" | "fixed" => self.named(kind, schema, namespace, depth),
            _ => match primitive(kind) {
                Some(node) => {
                    let node = meant(node, schema);
                    self.add(node)
                }
                None => self.by_name(kind, namespace),
            },
        }
    }

    fn named(
        &mut self,
        kind: &str,
        schema: &Map<String, Value>,
        namespace: &str,
        depth: usize,
    ) -> Result<usize, String> {
        let name = schema.get("name").and_then(Value::as_str).ok_or("has a named type without `name`")?;
        let namespace = match (name.rsplit_once('.'), schema.get("namespace").and_then(Value::as_str)) {
            (Some((within, _)), _) => within,
            (None, Some(said)) => said,
            (None, None) => namespace,
        };
        let full = match (name.contains('.'), namespace.is_empty()) {
            (true, _) | (_, true) => name.to_owned(),
            (false, false) => format!("{namespace}.{name}"),
        };
        let at = self.add(Node::Pending)?;
        self.named.entry(full).or_insert(at);
        for alias in schema.get("aliases").and_then(Value::as_array).into_iter().flatten() {
            let alias = alias.as_str().unwrap_or_default();
            let bare = alias.contains('.') || namespace.is_empty();
            let alias = if bare { alias.to_owned() } else { format!("{namespace}.{alias}") };
            self.aliases.entry(alias).or_insert(at);
        }
        self.nodes[at] = match kind {
            "enum" => {
                let symbols = schema.get("symbols").and_then(Value::as_array);
                let symbols = symbols.ok_or("has an enum without `symbols`")?.iter();
                Node::Enum(symbols.map(|symbol| json(symbol.as_str().unwrap_or_default(), b"")).collect())
            }
            "fixed" => {
                let size = schema.get("size").and_then(Value::as_u64);
                let size = size.and_then(|size| usize::try_from(size).ok());
                meant(Node::Fixed(size.ok_or("has a fixed type without `size`")?), schema)
            }
            _ => {
                let fields = schema.get("fields").and_then(Value::as_array);
                let mut compiled = Vec::new();
                for field in fields.ok_or("has a record without `fields`")? {
                    let name = field.get("name").and_then(Value::as_str);
                    let name = name.ok_or("has a field without `name`")?;
                    let kind = field.get("type").ok_or("has a field without `type`")?;
                    // Attributes of a type stand beside it by mistake, often enough.
                    compiled.push((json(name, b":"), self.schema(kind, namespace, depth + 1)?));
                }
                if semantic_of(schema) == Some(Semantic::VariableScaleDecimal) {
                    Node::VariableScale
                } else {
                    Node::Record(compiled)
                }
            }
        };
        Ok(at)
    }
}

fn primitive(name: &str) -> Option<Node> {
    Some(match name {
        "null" => Node::Null,
        "boolean" => Node::Boolean,
        "int" => Node::Int,
        "long" => Node::Long,
        "float" => Node::Float,
        "double" => Node::Double,
        "bytes" => Node::Bytes,
        "string" => Node::String,
        _ => return None,
    })
}

/// What a type stands for, by Avro's logical type, or by the name that Kafka Connect's converters give it. What is neither,
/// or does not fit, is the type alone (specification, "Logical Types").
fn meant(node: Node, schema: &Map<String, Value>) -> Node {
    let semantic = semantic_of(schema);
    match (node, semantic, schema.get("logicalType").and_then(Value::as_str)) {
        // Debezium's go first: its converters may leave Avro's beside them.
        (Node::Int | Node::Long, Some(counts), _) if counts.counts() => Node::Counts(counts),
        (Node::String, Some(text @ (Semantic::Json | Semantic::EnumSet | Semantic::TextBeforeZ)), _) => {
            Node::Text(text)
        }
        (Node::Bytes, Some(bits @ Semantic::Bits(_)), _) => Node::BytesOf(bits),
        (Node::Bytes, Some(Semantic::Decimal(scale)), _) => {
            // Connect's converter says 64 where nobody knows.
            Node::DecimalBytes {
                scale,
                size: None,
                precision: precision(schema).filter(|digits| *digits != 64),
            }
        }
        (Node::Int, _, Some("date")) => Node::Counts(Semantic::Date),
        (Node::Int, _, Some("time-millis")) => Node::Counts(Semantic::Time(Unit::Milliseconds)),
        (Node::Long, _, Some("time-micros")) => Node::Counts(Semantic::Time(Unit::Microseconds)),
        (Node::Long, _, Some(logical)) => {
            let unit = match logical.rsplit('-').next() {
                Some("millis") => Unit::Milliseconds,
                Some("micros") => Unit::Microseconds,
                _ => Unit::Nanoseconds,
            };
            match logical {
                "timestamp-millis" | "timestamp-micros" | "timestamp-nanos" => {
                    Node::Counts(Semantic::Instant(unit))
                }
                "local-timestamp-millis" | "local-timestamp-micros" | "local-timestamp-nanos" => {
                    Node::Counts(Semantic::Timestamp(unit))
                }
                _ => Node::Long,
            }
        }
        (node @ (Node::Bytes | Node::Fixed(_)), _, Some("decimal")) => {
            let scale = schema.get("scale").map_or(Some(0), Value::as_i64);
            let scale = scale.and_then(|scale| i32::try_from(scale).ok());
            match (scale, node) {
                (Some(scale), Node::Fixed(size)) => {
                    Node::DecimalBytes { scale, size: Some(size), precision: precision(schema) }
                }
                (Some(scale), _) => Node::DecimalBytes { scale, size: None, precision: precision(schema) },
                (None, node) => node,
            }
        }
        (Node::Bytes, _, Some("big-decimal")) => Node::BigDecimal,
        (Node::String, _, Some("uuid")) => Node::Uuid,
        (Node::Fixed(16), _, Some("uuid")) => Node::UuidBytes,
        (Node::Fixed(12), _, Some("duration")) => Node::Duration,
        (node, ..) => node,
    }
}

fn precision(schema: &Map<String, Value>) -> Option<u32> {
    schema.get("precision").and_then(Value::as_u64).and_then(|digits| u32::try_from(digits).ok())
}

fn semantic_of(schema: &Map<String, Value>) -> Option<Semantic> {
    let name = schema.get("connect.name").and_then(Value::as_str)?;
    let parameters = schema.get("connect.parameters");
    Semantic::of(name, &|key| {
        let value = parameters?.get(key)?;
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    })
}

/// As JSON, with what follows.
fn json(text: &str, then: &[u8]) -> Box<[u8]> {
    let mut out = Vec::new();
    semantic::string(text, &mut out);
    out.extend_from_slice(then);
    out.into()
}

/// A name in a message: not all of what a stranger may have written.
fn shown(name: &str) -> String {
    name.chars().filter(|char| char.is_ascii_graphic()).take(80).collect()
}
