//! Cases from the field: small situations, each of which stands for a kind of its own. Named after their numbers.

mod kafka;
mod standing;
