//! `galerne demo` (IF-3).

use std::path::Path;
use std::process::ExitCode;

use super::fail;
use crate::cli::DemoArgs;

/// Shows the relay at work.
pub fn demo(_root: Option<&Path>, _args: &DemoArgs) -> ExitCode {
    fail("not yet")
}
