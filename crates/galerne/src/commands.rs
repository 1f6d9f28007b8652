//! The commands that are not the server itself.

mod answers;
mod demo;
pub(crate) mod doctor;
mod explain;
mod flow;
mod fsck;
mod keygen;
mod lane;
mod passwd;
mod picture;
mod queue;
mod replay;
mod routes;
mod sendmail;
mod setup;
mod simulate;
mod submit;
mod zone;

pub use answers::{patterns_test, users_list};
pub use demo::demo;
pub use doctor::doctor;
pub use explain::explain;
pub use flow::{flow_list, flow_set};
pub use fsck::fsck;
pub use keygen::keygen;
pub use lane::lane;
pub use passwd::users_passwd;
pub use queue::queue;
pub use replay::patterns_replay;
pub use routes::routes;
pub use sendmail::{called_as_another, sendmail, usual_root};
pub use setup::{check, init};
pub use simulate::simulate;
pub use submit::send;
pub use zone::dns;

use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

use galerne_core::settings::Settings;

/// The settings of the root, for commands that work without the server. What is wrong goes to
/// standard error.
fn settings(root: &Path) -> Result<Settings, String> {
    is_root_of_a_tree(root)?;
    let loaded = crate::house::load(root, true, false);
    for finding in loaded
        .findings
        .iter()
        .filter(|finding| finding.level == galerne_config::Level::Error)
    {
        eprintln!("{finding}");
    }
    loaded
        .settings
        .ok_or_else(|| "the main file has errors".to_owned())
}

/// An error in words if there is no main file in `root`.
pub fn is_root_of_a_tree(root: &Path) -> Result<(), String> {
    let main = galerne_config::load::MAIN_FILE;
    if root.join(main).exists() {
        return Ok(());
    }
    let root = root.display();
    Err(format!(
        "there is no {main} in {root}; `galerne --root {root} init` writes a sample"
    ))
}

/// A result as JSON: one document on standard output (IF-7).
fn print_json(document: &impl serde::Serialize, code: ExitCode) -> ExitCode {
    match serde_json::to_string(document) {
        Ok(text) => crate::out::print(&text, code),
        Err(error) => fail(&error.to_string()),
    }
}

/// The octets of a file that the operator named; what is wrong with it in plain words.
fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| {
        let shown = file.display();
        match error.kind() {
            ErrorKind::NotFound => format!("{shown}: there is no such file"),
            ErrorKind::PermissionDenied => format!("{shown}: may not be read by this user"),
            ErrorKind::IsADirectory => format!("{shown}: is a directory, expected a file"),
            _ => format!("{shown}: {error}"),
        }
    })
}

/// Prints an error the way all commands do.
fn fail(text: &str) -> ExitCode {
    eprintln!("galerne: {text}");
    ExitCode::FAILURE
}
