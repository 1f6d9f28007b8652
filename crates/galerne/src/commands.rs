//! The commands that are not the server itself.

mod answers;
mod demo;
mod explain;
mod setup;
mod submit;

pub use answers::{patterns_test, users_list};
pub use demo::demo;
pub use explain::explain;
pub use setup::{check, init};
pub use submit::send;

use std::path::Path;

use galerne_core::settings::Settings;

/// The settings of the root, for commands that work without the server. What is wrong goes to
/// standard error.
fn settings(root: &Path) -> Result<Settings, String> {
    let main = galerne_config::load::MAIN_FILE;
    if !root.join(main).exists() {
        let root = root.display();
        return Err(format!("there is no {main} in {root}; `galerne --root {root} init` writes a sample"));
    }
    let loaded = crate::house::load(root, true, false);
    for finding in loaded.findings.iter().filter(|finding| finding.level == galerne_config::Level::Error) {
        eprintln!("{finding}");
    }
    loaded.settings.ok_or_else(|| "the main file has errors".to_owned())
}

/// Prints an error the way all commands do.
fn fail(text: &str) -> std::process::ExitCode {
    eprintln!("galerne: {text}");
    std::process::ExitCode::FAILURE
}
