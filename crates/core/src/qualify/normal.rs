//! Replies as patterns see them (FLOW-65).

use galerne_smtp::Reply;

/// Most octets of a reply's text that are looked at.
const LIMIT: usize = 8 * 1024;

/// The normalised reply: code, blank, the texts of all lines joined with blanks, without the
/// codes that later lines repeat; runs of blanks collapsed, trailing blanks cut.
///
/// An enhanced code that every line repeats (RFC 2034 §4) counts as a repeated code. Octets that
/// are not UTF-8 become U+FFFD. What lies behind the first 8 KiB is not looked at.
pub fn normalise(reply: &Reply) -> String {
    let mut text = format!("{:03}", reply.code());
    let mut room = LIMIT;
    let mut first: Option<String> = None;
    for line in reply.lines() {
        let line = line.get(..room.min(line.len())).unwrap_or_default();
        room -= line.len();
        let line = String::from_utf8_lossy(line);
        let mut rest: &str = &line;
        if let Some(enhanced) = &first {
            rest = without_code(rest, &text);
            rest = strip_word(rest, enhanced);
        }
        append_words(&mut text, rest);
        first.get_or_insert_with(|| leading_enhanced(&line).to_owned());
        if room == 0 {
            break;
        }
    }
    text
}

/// A reply from text as people and logs write it: `550 5.1.1 no such user`, or several lines
/// separated by line breaks (real ones or `\n`), each with or without the code.
///
/// `None` if it does not begin with a code from 200 to 599.
pub fn reply_from_text(text: &str) -> Option<Reply> {
    let text = text
        .replace("\\r", "")
        .replace("\\n", "\n")
        .replace('\r', "");
    let text = text.trim();
    let digits = text
        .get(..3)
        .filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
    let code: u16 = digits.parse().ok().filter(|c| (200..600).contains(c))?;
    if text
        .as_bytes()
        .get(3)
        .is_some_and(u8::is_ascii_alphanumeric)
    {
        return None;
    }
    let lines: Vec<&str> = text
        .lines()
        .map(|line| without_code(line.trim(), digits))
        .collect();
    Some(Reply::new(code, lines.join("\n")))
}

/// `line` without the basic code in front, if it is the one that `known` begins with.
fn without_code<'a>(line: &'a str, known: &str) -> &'a str {
    let Some(rest) = known.get(..3).and_then(|code| line.strip_prefix(code)) else {
        return line;
    };
    match rest.as_bytes().first() {
        None => rest,
        Some(b' ' | b'-' | b'\t') => rest.get(1..).unwrap_or(""),
        Some(_) => line,
    }
}

/// The enhanced code at the start of a text, or nothing.
fn leading_enhanced(text: &str) -> &str {
    let word = text.split_ascii_whitespace().next().unwrap_or("");
    let mut numbers = 0;
    let all = word.split('.').all(|n| {
        numbers += 1;
        (1..=3).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit())
    });
    if all && numbers == 3 { word } else { "" }
}

/// `text` without its first word, if that is `word`.
fn strip_word<'a>(text: &'a str, word: &str) -> &'a str {
    if word.is_empty() {
        return text;
    }
    match text.trim_start().strip_prefix(word) {
        Some(rest) if rest.is_empty() || rest.starts_with([' ', '\t']) => rest,
        _ => text,
    }
}

/// Adds the words of `text`, each after one blank.
pub(super) fn append_words(to: &mut String, text: &str) {
    for word in text.split([' ', '\t']).filter(|w| !w.is_empty()) {
        to.push(' ');
        to.push_str(word);
    }
}
