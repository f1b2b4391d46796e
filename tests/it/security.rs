//! Kafka behind locked doors: TLS and SASL on a real broker, right and wrong, and rotated or revoked while records flow.

mod broker;
mod fence;
mod issuer;
mod matrix;
mod revocation;
mod rights;
mod rotation;
mod secrets;
mod servers;
mod tokens;
