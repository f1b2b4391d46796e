//! Cases from the field: small situations that people with other tools have reported, each standing for a kind. The kinds
//! are covered by the judge's own tests (`src/verdict/tests.rs`); here is what a worker makes of them.

mod found;
mod guard;
mod kafka;
mod lane;
mod lives;
pub(crate) mod secrets;
mod silent;
mod sink;
mod sink_values;
mod standing;
mod status;
mod surroundings;
mod told;
