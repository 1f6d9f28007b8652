//! The reference manual is the registry.

use std::path::Path;

use galerne_config::reference::manual;

#[test]
fn the_manual_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let text = manual();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let file = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        file == text,
        "docs/configuration.md differs from the registry; regenerate it with\n\
         UPDATE_DOCS=1 cargo nextest run -p galerne-config"
    );
}

#[test]
fn the_manual_names_every_key_once_per_table() {
    let text = manual();
    for wanted in [
        "| `maxsize` | octets or K M G",
        "`[galerne]` (or `[rafale]`)",
        "| `listen` † |",
        "`softptrn`",
    ] {
        assert!(text.contains(wanted), "{wanted}");
    }
}
