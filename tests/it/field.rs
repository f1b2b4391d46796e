//! Cases from the field, by their numbers.

mod lives;
mod status;
