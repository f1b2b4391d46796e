//! Avro's binary form into JSON text, by a plan that is compiled once per schema.
//!
//! <https://avro.apache.org/docs/1.12.0/specification/>. Values come out as the other formats have them: numbers with every
//! digit, times and dates as text, bytes as `\x…`. Not by the crate `apache-avro`, for reasons that
//! docs/adr/0023-schemas.md has; the tests compare with it.

mod plan;
mod read;
mod shape;

pub(crate) use plan::Plan;

#[cfg(test)]
mod tests;
