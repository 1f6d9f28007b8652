//! The reference manual of all keys, printed from the registry.

use std::fmt::Write;

use crate::registry::{File, KeySpec, Part};

/// The text of `docs/configuration.md`.
pub fn manual() -> String {
    let mut text = String::from(HEAD);
    for file in File::ALL {
        // The keys of a host file are those of a group file.
        if file != File::Host {
            chapter(&mut text, file);
        }
    }
    text.push_str(TAIL);
    text
}

const HEAD: &str = "\
# Configuration

This file is generated from the registry of keys; do not edit it by hand.

Everything lies under one root directory. `galerne init` writes a sample tree, `galerne check`
reads the tree and prints one line per finding, `file:line: level: [section] key: text`.

| file | what it holds |
|---|---|
| `galerne.ini` | addresses, listeners, limits |
| `galerne.opts` | command-line options, one per line |
| `users/<name>.ini` | one account; name: A-Z, 0-9, hyphen, at most 20 characters, not beginning with `rf` |
| `domains/@<name>.ini` | one group of destinations; name: a-z, 0-9, hyphen, at most 30 characters |
| `domains/@.ini` | the group of all other domains |
| `domains/.defflow.ini` | reply patterns and flow parameters for all groups |
| `domains/@<name>_alias.csv` | domains of the group, columns `date` and `domain` |
| `hosts/@<name>.ini` | one relay host, with the keys of a group and `relay = 1` implied |
| `lists/<name>.csv` | one list of addresses that get no mail, column `email` |

**Syntax.** `[section]`, `key = value`, comments from `;` or `#` at the start of a line, UTF-8,
names without regard to case. A section may be split; the last of two equal keys counts, with a
warning. A key with an empty value is present: in a user file it beats what a message asks for.

**Values.** A list is separated by blanks or commas. A duration is a number of seconds, or a number
with `s`, `m`, `h` or `d`. A flag is 0/1, true/false or yes/no. A size is a number of octets, or a
number with `K`, `M` or `G` (powers of 1024). In user files `%user%` stands for the user name.

**Errors.** A value outside its kind or range is an error. An error in the main file stops the
start; one in a file of users/, domains/ or hosts/ disables that file. On a reload any error keeps
the old settings. Unknown sections and keys are warnings.

A key marked † is read and checked, but the part it belongs to is not built yet; it gives a warning.
";

const TAIL: &str = "
## `hosts/@<name>.ini`

The keys of `domains/@<name>.ini`. `relay` is always 1; `mx` is the one name or address of the
host, without wildcards.
";

fn chapter(text: &mut String, file: File) {
    let title = match file {
        File::Main => "`galerne.ini`",
        File::User => "`users/<name>.ini`",
        File::Group => "`domains/@<name>.ini`",
        File::Host => "`hosts/@<name>.ini`",
    };
    let _ = writeln!(text, "\n## {title}");
    for sections in sections(file) {
        let names: Vec<_> = sections.iter().map(|s| section_name(s)).collect();
        let _ = writeln!(text, "\n### {}\n", names.join(", "));
        text.push_str("| key | value | default | meaning | source |\n|---|---|---|---|---|\n");
        for key in file.keys().filter(|k| k.sections == sections) {
            row(text, key);
        }
    }
}

/// Groups of sections in the order of the registry.
fn sections(file: File) -> Vec<&'static [&'static str]> {
    let mut all: Vec<&'static [&'static str]> = Vec::new();
    for key in file.keys() {
        if !all.contains(&key.sections) {
            all.push(key.sections);
        }
    }
    all
}

fn section_name(section: &str) -> String {
    match section {
        "ip" => "`[IP]`".into(),
        "galerne" => "`[galerne]` (or `[rafale]`)".into(),
        "routing@" => "`[routing@<group>]`".into(),
        "relay@" => "`[relay@<sender domain>]`".into(),
        "returns@" => "`[returns@<sender domain>]`".into(),
        "ipflow#" => "`[ipflow#<set>]`, `[ipflow#<set>@<address>]`".into(),
        "sdflow#" => "`[sdflow#<set>]`, `[sdflow#<set>@<sender>]`".into(),
        plain => format!("`[{plain}]`"),
    }
}

fn row(text: &mut String, key: &KeySpec) {
    let name = match key.key {
        "*" => "*any*".to_string(),
        name => format!("`{name}`"),
    };
    let aliases: Vec<_> = key.aliases.iter().map(|a| format!("`{a}`")).collect();
    let name = match aliases.is_empty() {
        true => name,
        false => format!("{name} (also {})", aliases.join(", ")),
    };
    let later = if key.part == Part::Built { "" } else { " †" };
    let default = match key.default {
        "" => "–".to_string(),
        default => format!("`{default}`"),
    };
    let (value, meaning, id) = (key.kind.describe(), key.text, key.id);
    let _ = writeln!(
        text,
        "| {name}{later} | {value} | {default} | {meaning} | {id} |"
    );
}
