//! What is to be done with a payload, by its schema.

use std::collections::HashMap;

use serde::Deserialize;

use super::super::semantic::Semantic;

/// How a value becomes canonical JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// It is already.
    Raw,
    /// From base64.
    Bytes,
    Meant(Semantic),
    Array(Box<Self>),
    /// By strings: an object.
    Map(Box<Self>),
    /// By anything else: an array of pairs, which becomes an object.
    Pairs(Box<Self>, Box<Self>),
    /// Fields that are not named are as they are.
    Struct(Vec<(Box<str>, Self)>),
}

/// A schema, as far as it says how values are written. Neither `optional` nor `default` does: a null is a null.
#[derive(Deserialize)]
struct Schema {
    r#type: String,
    name: Option<String>,
    parameters: Option<HashMap<String, serde_json::Value>>,
    fields: Option<Vec<Self>>,
    /// Of a struct's field.
    field: Option<String>,
    items: Option<Box<Self>>,
    keys: Option<Box<Self>>,
    values: Option<Box<Self>>,
}

impl Plan {
    /// # Errors
    /// Why it is no schema. (Its nesting is bounded by the JSON parser: 128.)
    pub(super) fn compile(schema: &str) -> Result<Self, String> {
        let schema: Schema = serde_json::from_str(schema).map_err(|error| {
            if error.is_data() {
                "it has no type, or something in it has none".to_owned()
            } else {
                crate::record::json::describe(&error)
            }
        })?;
        Self::of(schema)
    }

    fn of(schema: Schema) -> Result<Self, String> {
        let Schema { r#type, name, parameters, fields, items, keys, values, field: _ } = schema;
        let parameter = |name: &str| {
            let value = parameters.as_ref()?.get(name)?;
            Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        };
        if let Some(semantic) = name.as_deref().and_then(|name| Semantic::of(name, &parameter)) {
            return Ok(match semantic {
                Semantic::Text | Semantic::Year => Self::Raw,
                semantic => Self::Meant(semantic),
            });
        }
        let inner = |schema: Option<Box<Schema>>, what: &str| {
            Self::of(*schema.ok_or_else(|| format!("{} without the type of its {what}", r#type))?)
        };
        Ok(match r#type.as_str() {
            "int8" | "int16" | "int32" | "int64" | "float" | "double" | "float32" | "float64" | "boolean"
            | "string" => Self::Raw,
            "bytes" => Self::Bytes,
            "array" => match inner(items, "items")? {
                Self::Raw => Self::Raw,
                plan => Self::Array(Box::new(plan)),
            },
            "map" => {
                let keys = keys.ok_or("map without the type of its keys")?;
                let kind = keys.r#type.clone();
                let (keys, values) = (Self::of(*keys)?, inner(values, "values")?);
                match (kind.as_str(), keys, values) {
                    ("struct" | "map" | "array", ..) => {
                        Self::Meant(Semantic::Refused("a map whose keys are no plain values"))
                    }
                    ("string", _, Self::Raw) => Self::Raw,
                    ("string", _, values) => Self::Map(Box::new(values)),
                    (_, keys, values) => Self::Pairs(Box::new(keys), Box::new(values)),
                }
            }
            "struct" => {
                let fields = fields.ok_or("struct without its fields")?;
                let mut plans = Vec::with_capacity(fields.len());
                for mut field in fields {
                    let name = field.field.take().ok_or("a field without a name")?;
                    plans.push((name.into_boxed_str(), Self::of(field)?));
                }
                if plans.iter().all(|(_, plan)| *plan == Self::Raw) { Self::Raw } else { Self::Struct(plans) }
            }
            other if other.len() <= 32 && other.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                return Err(format!("there is no type {other}"));
            }
            _ => return Err("a type that there is not".to_owned()),
        })
    }

    /// Whether integers are written as something else.
    pub(super) fn counts(&self) -> bool {
        matches!(self, Self::Meant(semantic) if semantic.counts())
    }
}
