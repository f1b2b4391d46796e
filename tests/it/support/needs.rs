//! Programs that a test needs beside the servers, and that a machine may not have.

use std::io::Write;
use std::process::{Command, Stdio};

/// Set by `.ci/run`, which installs them all: then a test that lacks one fails.
const REQUIRE_ALL: &str = "HIGHWATER_TEST_REQUIRE_ALL";

/// Whether the caller must be skipped because `what` is not there; says so where a person sees it, which the output of a
/// test that passes is not.
///
/// # Panics
/// If nothing may be skipped.
pub(crate) fn skipped_without(what: &str, is_there: bool) -> bool {
    if !is_there {
        let required = std::env::var_os(REQUIRE_ALL).is_some_and(|value| !value.is_empty());
        assert!(!required, "{what} is not installed, and {REQUIRE_ALL} is set: no test may be skipped");
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        // Past the capture of the test harness, which is for what goes through the macros.
        let _ = writeln!(std::io::stderr(), "skipped: {what} is not installed ({test})");
    }
    !is_there
}

/// Whether a program of this name can be started and ends well.
pub(crate) fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
