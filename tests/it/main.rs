//! The one integration test binary.

mod migrate;
