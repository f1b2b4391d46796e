//! Named places where tests kill or freeze a worker. Nothing at all without the feature `testing`.

/// `failpoint!("name")`: what a test has configured for it, if anything. The names are listed in
/// `docs/testing.md`.
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(feature = "testing")]
        fail::fail_point!($name);
    };
}

pub(crate) use failpoint;
