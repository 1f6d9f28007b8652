//! Texts of others, made safe for a log: cut, and without anything that could forge a line or
//! speak to a terminal.

use std::fmt::Write;

/// Octets kept of one value.
pub(crate) const LONGEST: usize = 4096;

/// Appends `text` for a line of a `.txt` log: every control character is escaped.
pub(crate) fn escape_line(text: &str, out: &mut String) {
    escape(text, out, |_| false);
}

/// The same for a line on a terminal.
pub fn without_control(text: &str) -> String {
    let mut line = String::new();
    escape_line(text, &mut line);
    line
}

/// Appends `text` for a value of a `.csv` log: line breaks and tabs stay (CONF-71), other control
/// characters are escaped. A line break is one `\n`.
pub(crate) fn escape_value(text: &str, out: &mut String) {
    escape(text, out, |c| matches!(c, '\n' | '\t'));
}

fn escape(text: &str, out: &mut String, keep: impl Fn(char) -> bool) {
    if text.len() <= LONGEST && text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return out.push_str(text);
    }
    let cut = cut(text, LONGEST);
    if !cut.chars().any(dangerous) {
        out.push_str(cut);
    } else {
        for c in cut.chars() {
            match c {
                c if !dangerous(c) || keep(c) => out.push(c),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                // Writing to a String cannot fail.
                c => _ = write!(out, "\\u{{{:x}}}", u32::from(c)),
            }
        }
    }
    if cut.len() < text.len() {
        out.push('…');
    }
}

/// Control characters, line and paragraph separators, and those that turn the direction of text.
fn dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The first `most` octets, ending at a character.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// Octets that need neither quotes nor an escape. A table, since every octet of every log line is
/// looked up in it.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut octet = b' ';
    while octet <= b'~' {
        plain[octet as usize] = !matches!(octet, b',' | b';' | b'"');
        octet += 1;
    }
    plain
};

/// Appends a text of others as one value of a CSV line: escaped, cut, quoted.
pub(crate) fn text_value(text: &str, out: &mut String) {
    let plain = |b: u8| PLAIN[usize::from(b)];
    let blank = |octet: Option<&u8>| octet == Some(&b' ');
    let ends = text.as_bytes();
    if text.len() <= LONGEST
        && text.bytes().all(plain)
        && !blank(ends.first())
        && !blank(ends.last())
    {
        return out.push_str(text);
    }
    let mut escaped = String::with_capacity(text.len().min(LONGEST) + 8);
    escape_value(text, &mut escaped);
    csv_value(&escaped, out);
}

/// Appends one value of a CSV line, quoted where RFC 4180 wants it.
pub(crate) fn csv_value(value: &str, out: &mut String) {
    let blank = |octet: Option<&u8>| matches!(octet, Some(b' ' | b'\t'));
    let odd_ends = blank(value.as_bytes().first()) || blank(value.as_bytes().last());
    if !odd_ends && !value.contains([',', ';', '"', '\n', '\r', '\t']) {
        out.push_str(value);
        return;
    }
    out.push('"');
    for (n, part) in value.split('"').enumerate() {
        if n > 0 {
            out.push_str("\"\"");
        }
        out.push_str(part);
    }
    out.push('"');
}

/// One line of CSV.
pub(crate) fn csv_line<'a>(values: impl IntoIterator<Item = &'a str>, out: &mut Vec<u8>) {
    let mut line = String::new();
    for (n, value) in values.into_iter().enumerate() {
        if n > 0 {
            line.push(',');
        }
        csv_value(value, &mut line);
    }
    line.push('\n');
    out.extend_from_slice(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> String {
        let mut out = String::new();
        escape_line(text, &mut out);
        out
    }

    #[test]
    fn conf_87_remote_text_cannot_forge_a_line_or_speak_to_a_terminal() {
        assert_eq!(
            line("550 no\r\n2026-01-01 forged\x1b[2J\0é"),
            "550 no\\r\\n2026-01-01 forged\\u{1b}[2J\\u{0}é"
        );
        assert_eq!(
            line("a\u{2028}b\u{202e}c\u{9b}"),
            "a\\u{2028}b\\u{202e}c\\u{9b}"
        );
        let long = line(&"é".repeat(5000));
        assert!(long.len() <= LONGEST + '…'.len_utf8() && long.ends_with("é…"));
    }

    #[test]
    fn conf_71_csv_values_keep_line_breaks_and_read_back() {
        let values = [
            "plain",
            "",
            " blank ",
            "a,b",
            "say \"hi\"",
            "550-one\n550 two",
            "semi;colon",
            "é",
        ];
        let mut out = b"a,b,c,d,e,f,g,h\n".to_vec();
        csv_line(values, &mut out);
        let mut reader = csv::Reader::from_reader(&out[..]);
        let row = reader.records().next().unwrap().unwrap();
        assert_eq!(row.iter().collect::<Vec<_>>(), values);
        let mut value = String::new();
        escape_value("550-one\r\n550 two\x07", &mut value);
        assert_eq!(value, "550-one\\r\n550 two\\u{7}");
    }
}
