//! The machinery behind the one table of settings: from each row of `settings!` come a field of [`Config`], a layer's
//! optional field and its setter, the names in environment and file, the default, the checks, and the docs.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::parse::Raw;
use crate::error::Error;

/// What a setting is when nobody sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DefaultValue {
    /// There is none: it must be set.
    Required,
    /// This text, read as any other source's.
    Text(&'static str),
    /// Made at run time, or absent; described for the docs.
    Described(&'static str),
}

/// Where a value was given: errors name it, so that people know which file or manifest to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// Nowhere.
    Default,
    Builder,
    Flag,
    Environment,
    File(Arc<Path>),
}

/// A value with its origin.
#[derive(Debug, Clone)]
pub(super) struct Given<T> {
    pub(super) value: T,
    pub(super) origin: Origin,
}

/// One row of the table, as text; `Layer` is what it is read into.
pub(super) struct Setting<Layer> {
    /// The key in the file, and the name of the field.
    pub(super) name: &'static str,
    /// The environment variable.
    pub(super) env: &'static str,
    pub(super) default: DefaultValue,
    /// What to write.
    pub(super) unit: fn() -> &'static str,
    /// The allowed range; empty when there is none.
    pub(super) range: fn() -> String,
    pub(super) doc: &'static str,
    /// When to change it.
    pub(super) when: &'static str,
    /// Reads a value into a layer.
    pub(super) set: fn(&mut Layer, &Raw, Origin) -> Result<(), String>,
}

impl<Layer> Setting<Layer> {
    /// Where `origin` spells this setting.
    pub(super) fn place(&self, origin: &Origin) -> Place<'_> {
        Place { name: self.name, env: self.env, origin: origin.clone() }
    }
}

impl<Layer> fmt::Debug for Setting<Layer> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setting").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A setting as its origin spells it, for errors.
pub(super) struct Place<'a> {
    pub(super) name: &'a str,
    pub(super) env: &'a str,
    pub(super) origin: Origin,
}

impl Place<'_> {
    /// The error for a value given here.
    pub(super) fn error(&self, defect: &str) -> Error {
        Error::configuration(format!("setting {self}: {defect}"))
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name;
        match &self.origin {
            Origin::Default => write!(f, "`{name}` (default)"),
            Origin::Builder => write!(f, "`{name}` (set in the program)"),
            Origin::Flag => write!(f, "`{name}` (flag `--{}`)", name.replace('_', "-")),
            Origin::Environment => write!(f, "`{name}` (environment variable `{}`)", self.env),
            Origin::File(path) => write!(f, "`{name}` (file {})", path.display()),
        }
    }
}

macro_rules! settings {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident: $type:ty {
            env: $env:literal,
            kind: $kind:expr,
            default: $default:expr,
            change: $when:literal,
        }
    )+) => {
        /// Everything a worker needs to know, complete and checked: what [`PartialConfig::finish`] returns.
        ///
        /// `Debug` shows neither the Postgres password nor secrets among the Kafka properties.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub struct Config {
            $( $(#[doc = $doc])+ pub $name: $type, )+
            /// librdkafka properties that are passed through. Those that would break a guarantee are refused.
            pub kafka: KafkaProperties,
        }

        impl Default for Config {
            /// The documented defaults. The required settings (`brokers`, `postgres_url`, `group`, `topics`) are
            /// empty, which [`PartialConfig::finish`] would refuse.
            fn default() -> Self {
                PartialConfig::default().fill()
            }
        }

        /// Some of the settings: one layer of the configuration, such as the file, the environment or the builder.
        ///
        /// Each setting has a setter of its name. Layers are put on top of each other with [`or`](Self::or) and
        /// become a [`Config`] with [`finish`](Self::finish).
        #[derive(Debug, Clone, Default)]
        #[must_use]
        pub struct PartialConfig {
            $( pub(super) $name: Option<Given<$type>>, )+
            pub(super) kafka: BTreeMap<String, Given<Secret>>,
        }

        impl PartialConfig {
            $(
                #[doc = concat!("Sets [`Config::", stringify!($name), "`].")]
                pub fn $name(mut self, value: impl Into<$type>) -> Self {
                    self.$name = Some(Given { value: value.into(), origin: Origin::Builder });
                    self
                }
            )+

            /// Puts this layer on top of another: its own values win, setting by setting and, among the Kafka
            /// properties, property by property.
            pub fn or(mut self, lower: Self) -> Self {
                $( self.$name = self.$name.or(lower.$name); )+
                for (property, given) in lower.kafka {
                    self.kafka.entry(property).or_insert(given);
                }
                self
            }

            /// Checks every value that was given, alone.
            pub(super) fn check_values(&self) -> Result<()> {
                $(
                    if let Some(given) = &self.$name {
                        let kind: Kind<$type> = $kind;
                        kind.validate(&given.value).map_err(|defect| {
                            self.place(stringify!($name), $env).error(&defect)
                        })?;
                    }
                )+
                Ok(())
            }

            /// Where a setting was given.
            pub(super) fn place<'a>(&self, name: &'a str, env: &'a str) -> Place<'a> {
                let origin = match name {
                    $( stringify!($name) => self.$name.as_ref().map(|given| given.origin.clone()), )+
                    _ => None,
                };
                Place { name, env, origin: origin.unwrap_or(Origin::Default) }
            }

            /// Takes the defaults for what was not given. Checks nothing.
            pub(super) fn fill(self) -> Config {
                Config {
                    $( $name: self.$name.map_or_else(
                        || match $default {
                            DefaultValue::Text(text) => {
                                let kind: Kind<$type> = $kind;
                                (kind.parse)(&Raw::Text(text.to_owned())).expect("defaults are read by a test")
                            }
                            DefaultValue::Required | DefaultValue::Described(_) => <$type>::default(),
                        },
                        |given| given.value,
                    ), )+
                    kafka: self
                        .kafka
                        .into_iter()
                        .map(|(property, given)| (property, given.value.0))
                        .collect(),
                }
            }
        }

        /// The table.
        pub(super) static SETTINGS: &[Setting<PartialConfig>] = &[$(
            Setting {
                name: stringify!($name),
                env: $env,
                default: $default,
                unit: || { let kind: Kind<$type> = $kind; kind.unit },
                range: || { let kind: Kind<$type> = $kind; kind.range_text() },
                doc: concat!($($doc, "\n"),+),
                when: $when,
                set: |layer, raw, origin| {
                    let kind: Kind<$type> = $kind;
                    let value = (kind.parse)(raw)?;
                    layer.$name = Some(Given { value, origin });
                    Ok(())
                },
            },
        )+];
    };
}

pub(super) use settings;
