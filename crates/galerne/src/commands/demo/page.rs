//! How the demo looks: on a terminal with colour and rules, elsewhere plain text, 80 columns both.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::story::{End, Story};

/// Columns used.
const WIDTH: usize = 80;
/// Column where the text of a row begins; its label stands before it.
const TEXT: usize = 12;
/// Blanks before a label.
const LABEL: usize = 4;

/// Where and how it is written.
pub struct Page<W> {
    out: W,
    style: Style,
}

/// What the other side can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Plain,
    /// Colour, and ASCII for rules and arrows.
    Colour,
    /// Colour, rules and arrows.
    Full,
}

/// The colour of a piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    Normal,
    Bold,
    Dim,
    Green,
    Yellow,
    Red,
    Cyan,
}

impl Style {
    /// What standard output can show: plain unless it is a terminal and `NO_COLOR` is not set.
    pub fn of_stdout() -> Style {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let terminal = io::stdout().is_terminal() && set("TERM").is_none_or(|term| term != "dumb");
        if !terminal || set("NO_COLOR").is_some() {
            return Style::Plain;
        }
        // A terminal of today speaks UTF-8 unless the locale says otherwise.
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        let is_utf8 = |locale: String| {
            locale
                .to_ascii_uppercase()
                .replace('-', "")
                .contains("UTF8")
        };
        if locale.is_none_or(is_utf8) {
            Style::Full
        } else {
            Style::Colour
        }
    }
}

impl<W: Write> Page<W> {
    pub fn new(out: W, style: Style) -> Self {
        Page { out, style }
    }

    /// A line as it is. What cannot be written is lost: the demo is no reason to fail.
    pub fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{}", text.trim_end());
        let _ = self.out.flush();
    }

    /// A rule across the page.
    pub fn rule(&mut self) {
        let stroke = if self.style == Style::Full {
            "─"
        } else {
            "-"
        };
        let rule = self.paint(Ink::Dim, &stroke.repeat(WIDTH));
        self.line(&rule);
    }

    /// Two texts, the second at the right edge.
    pub fn ends(&mut self, left: (Ink, &str), right: (Ink, &str)) {
        let room = WIDTH.saturating_sub(columns(left.1) + columns(right.1));
        let text = format!(
            "{}{}{}",
            self.paint(left.0, left.1),
            " ".repeat(room.max(1)),
            self.paint(right.0, right.1)
        );
        self.line(&text);
    }

    /// A text that begins where labels begin.
    pub fn indented(&mut self, ink: Ink, text: &str) {
        self.hang(&" ".repeat(LABEL), ink, text, (Ink::Normal, ""));
    }

    /// A label and its text, wrapped; behind the first line, at the right edge, a remark.
    pub fn row(&mut self, label: &str, ink: Ink, text: &str, right: (Ink, &str)) {
        let label = format!("{:LABEL$}{label:<width$}", "", width = TEXT - LABEL);
        self.hang(&label, ink, text, right);
    }

    /// A text behind `head`, which its further lines keep free.
    fn hang(&mut self, head: &str, ink: Ink, text: &str, right: (Ink, &str)) {
        let width = WIDTH - columns(head);
        let taken = if right.1.is_empty() {
            0
        } else {
            columns(right.1) + 2
        };
        for (number, line) in wrap(text, width, taken).iter().enumerate() {
            let (before, end) = match number {
                0 => (self.paint(Ink::Dim, head), right.1),
                _ => (" ".repeat(columns(head)), ""),
            };
            let room = width.saturating_sub(columns(line) + columns(end));
            let gap = if end.is_empty() {
                String::new()
            } else {
                " ".repeat(room)
            };
            let text = format!(
                "{before}{}{gap}{}",
                self.paint(ink, line),
                self.paint(right.0, end)
            );
            self.line(&text);
        }
    }

    /// The way of a message: each hop with what was said there.
    pub fn hops(&mut self, story: &Story) {
        for (number, hop) in story.hops.iter().enumerate() {
            let text = format!(
                "{} {} {} [{}]",
                hop.outbound,
                self.arrow(),
                hop.host,
                hop.remote
            );
            let time = duration(hop.took);
            let label = format!("hop {}", number + 1);
            match &hop.ends[..] {
                [only] => {
                    let end = format!("{time}  {}", only.meaning);
                    self.row(
                        &label,
                        Ink::Normal,
                        &text,
                        (meaning_ink(only.meaning), &end),
                    );
                    self.end(only);
                }
                several => {
                    self.row(&label, Ink::Normal, &text, (Ink::Dim, &time));
                    for end in several {
                        self.row(
                            "",
                            Ink::Normal,
                            &end.recipient,
                            (meaning_ink(end.meaning), end.meaning),
                        );
                        self.end(end);
                    }
                }
            }
        }
    }

    fn end(&mut self, end: &End) {
        let mut head = format!("{:TEXT$}{:<8}", "", end.stage);
        for line in &end.said {
            self.hang(&head, Ink::Normal, line, (Ink::Normal, ""));
            head = " ".repeat(columns(&head));
        }
        if let Some(pattern) = &end.pattern {
            let head = " ".repeat(columns(&head));
            self.hang(&head, Ink::Dim, pattern, (Ink::Normal, ""));
        }
    }

    /// The reply that the client got.
    pub fn reply(&mut self, label: &str, lines: &[String], right: &str) {
        let ink = match lines.first().and_then(|line| line.chars().next()) {
            Some('2') => Ink::Green,
            Some('4') => Ink::Yellow,
            _ => Ink::Red,
        };
        for (number, line) in lines.iter().enumerate() {
            let (label, right) = if number == 0 {
                (label, right)
            } else {
                ("", "")
            };
            self.row(label, ink, line, (Ink::Dim, right));
        }
    }

    pub fn arrow(&self) -> &'static str {
        if self.style == Style::Full {
            "─▶"
        } else {
            "->"
        }
    }

    /// What stands beside a message that came out as it must, and beside one that did not.
    pub fn mark(&self, good: bool) -> (Ink, &'static str) {
        match (good, self.style) {
            (true, Style::Full) => (Ink::Green, "✓"),
            (true, _) => (Ink::Green, "ok"),
            (false, Style::Full) => (Ink::Red, "✗ wrong"),
            (false, _) => (Ink::Red, "WRONG"),
        }
    }

    fn paint(&self, ink: Ink, text: &str) -> String {
        let code = match ink {
            _ if self.style == Style::Plain || text.trim().is_empty() => return text.to_owned(),
            Ink::Normal => return text.to_owned(),
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Green => "1;32",
            Ink::Yellow => "1;33",
            Ink::Red => "1;31",
            Ink::Cyan => "36",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

fn meaning_ink(meaning: &str) -> Ink {
    match meaning {
        "DELIVERED" => Ink::Green,
        "HARD" | "SPAM" => Ink::Red,
        _ => Ink::Yellow,
    }
}

/// Columns on a terminal; all that is shown is ASCII or one column wide.
fn columns(text: &str) -> usize {
    text.chars().count()
}

/// A time as people say it.
pub fn duration(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    match ms {
        ..9.95 => format!("{ms:.1} ms"),
        ..999.5 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1000.0),
    }
}

/// Lines of at most `width` columns, broken at blanks where there are some; the first line leaves
/// `taken` columns free.
fn wrap(text: &str, width: usize, taken: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word = word;
        loop {
            let room = if lines.len() == 1 {
                width.saturating_sub(taken)
            } else {
                width
            };
            let Some(line) = lines.last_mut() else { break };
            let gap = usize::from(!line.is_empty());
            if columns(line) + gap + columns(word) <= room {
                if gap == 1 {
                    line.push(' ');
                }
                line.push_str(word);
                break;
            }
            if line.is_empty() {
                let cut = word
                    .char_indices()
                    .nth(room.max(1))
                    .map_or(word.len(), |(at, _)| at);
                line.push_str(&word[..cut]);
                word = &word[cut..];
            }
            if word.is_empty() {
                break;
            }
            lines.push(String::new());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_at_blanks_and_long_words_are_cut() {
        assert_eq!(wrap("one two three", 7, 0), ["one two", "three"]);
        assert_eq!(wrap("one two three", 7, 4), ["one", "two", "three"]);
        assert_eq!(wrap("abcdefghij", 4, 0), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("", 4, 0), [""]);
    }

    #[test]
    fn if_3_plain_output_has_neither_colour_nor_boxes() {
        let show = |style| {
            let mut out = Vec::new();
            let mut page = Page::new(&mut out, style);
            page.rule();
            page.ends((Ink::Bold, "left"), page.mark(false));
            page.reply("client", &["550 5.1.1 no".into()], "1 ms");
            String::from_utf8(out).unwrap()
        };
        let plain = show(Style::Plain);
        assert!(plain.is_ascii() && !plain.contains('\x1b'), "{plain}");
        assert!(plain.lines().all(|line| line.len() <= WIDTH));
        assert!(
            show(Style::Colour).is_ascii()
                && show(Style::Colour).contains("\x1b[1;31m550 5.1.1 no")
        );
        assert!(show(Style::Full).contains('─'));
    }
}
