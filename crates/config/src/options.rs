//! `galerne.opts`: general start parameters, one command-line option per line (CONF-9).

use crate::finding::{Finding, Level};

/// Name of the file.
pub const OPTIONS_FILE: &str = "galerne.opts";

/// The options of the file as arguments: `--name`, `--name=value` or `--name value` on a line of
/// its own; `#` begins a comment line. The command line itself comes after them and wins.
pub fn parse_options(text: &str) -> Result<Vec<String>, Finding> {
    let mut arguments = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if !line.starts_with('-') {
            return Err(bad(number));
        }
        match line.split_once(char::is_whitespace) {
            Some((name, value)) if !name.contains('=') => {
                arguments.push(name.to_string());
                arguments.push(value.trim().to_string());
            }
            _ => arguments.push(line.to_string()),
        }
    }
    Ok(arguments)
}

fn bad(line: usize) -> Finding {
    Finding {
        file: OPTIONS_FILE.into(),
        line,
        level: Level::Error,
        section: "-".into(),
        key: "-".into(),
        text: "expected one command-line option, such as --no-bind-check".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conf_9_one_option_per_line() {
        let text = "# start parameters\r\n--no-bind-check\r\n\r\n--smtp 127.0.0.1:2525\n  --log=json\n--text=a b\n";
        let arguments = parse_options(text).unwrap();
        assert_eq!(
            arguments,
            [
                "--no-bind-check",
                "--smtp",
                "127.0.0.1:2525",
                "--log=json",
                "--text=a b"
            ]
        );
    }

    #[test]
    fn conf_9_anything_else_is_named_by_line() {
        let finding = parse_options("--a\nrun\n").unwrap_err();
        assert_eq!(finding.line, 2);
        assert!(
            finding
                .to_string()
                .starts_with("galerne.opts:2: error: [-] -: expected")
        );
    }
}
