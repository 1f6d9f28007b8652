//! `galerne queue list` (QUEUE-16): page by page, so that a million lines do not stand in memory.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use galerne_core::queue::shown::Shown;
use galerne_events::without_control as plain;
use jiff::Timestamp;

use super::source::Source;
use crate::cli::QueueListArgs;
use crate::commands::fail;
use crate::control::rows::{self, Row};
use crate::out::Stream;

/// Lines that are asked for at a time.
const PAGE: usize = 1000;
/// Columns of a terminal that does not say.
const COLUMNS: usize = 80;
/// What a recipient gets of them at least.
const RECIPIENT: usize = 20;
/// From so many columns on the last reply is shown.
const REPLY: usize = 30;

/// Prints the deliveries that are meant.
pub fn list(root: &Path, args: &QueueListArgs) -> ExitCode {
    match listed(root, args) {
        Ok(code) => code,
        Err(text) => fail(&text),
    }
}

fn listed(root: &Path, args: &QueueListArgs) -> Result<ExitCode, String> {
    let source = Source::open(root)?;
    let which = args.select.selection(rows::now());
    if !source.is_server() {
        let only_known = [Shown::Active, Shown::Suspended];
        if which.state.is_some_and(|state| only_known.contains(&state)) {
            let state = which.state.map_or("", Shown::word);
            return Err(format!(
                "no server runs: what is {state} only a server knows"
            ));
        }
        eprintln!("no server runs; this is what is stored");
    }
    let limit = if args.limit == 0 {
        u64::MAX
    } else {
        args.limit
    };
    let mut out = match args.json {
        true => Lines::Json(0),
        false => Lines::Table(Box::new(Table::new())),
    };
    let mut stream = Stream::default();
    stream.write(out.begin());
    let (mut after, mut left, mut is_more) = (None, limit, false);
    loop {
        // One more than is shown, to know whether there are more.
        let most = PAGE.min(usize::try_from(left.saturating_add(1)).unwrap_or(PAGE));
        let mut page = source.page(&which, after, most)?;
        let shown = usize::try_from(left).unwrap_or(usize::MAX);
        is_more |= page.rows.len() > shown;
        page.rows.truncate(shown);
        left -= page.rows.len() as u64;
        if !stream.write(&out.lines(&page.rows)) {
            return Ok(stream.end());
        }
        after = page.next;
        if after.is_none() || is_more {
            break;
        }
    }
    stream.write(&out.end(&Rest {
        is_more,
        limit,
        is_server: source.is_server(),
        is_filtered: !args.select.is_empty(),
    }));
    Ok(stream.end())
}

/// What the end of the list says.
struct Rest {
    is_more: bool,
    limit: u64,
    is_server: bool,
    is_filtered: bool,
}

enum Lines {
    /// So many lines were printed.
    Json(u64),
    Table(Box<Table>),
}

impl Lines {
    fn begin(&self) -> &'static str {
        match self {
            Lines::Json(_) => "[",
            Lines::Table(_) => "",
        }
    }

    fn lines(&mut self, rows: &[Row]) -> String {
        match self {
            Lines::Table(table) => table.lines(rows),
            Lines::Json(count) => {
                let mut text = String::new();
                for row in rows {
                    text.push_str(if *count == 0 { "\n" } else { ",\n" });
                    text.push_str(&serde_json::to_string(row).unwrap_or_default());
                    *count += 1;
                }
                text
            }
        }
    }

    fn end(&self, rest: &Rest) -> String {
        match self {
            Lines::Table(table) => table.footer(rest),
            Lines::Json(count) => {
                if rest.is_more {
                    eprintln!(
                        "only the first {} deliveries; --limit 0 gives all",
                        rest.limit
                    );
                }
                let line = if *count == 0 { "" } else { "\n" };
                format!("{line}]\n")
            }
        }
    }
}

/// A table that fits the terminal.
struct Table {
    /// `None`: nobody looks at a terminal, and nothing is cut.
    columns: Option<usize>,
    colour: bool,
    now: Timestamp,
    id: usize,
    has_begun: bool,
    count: u64,
    oldest: Option<u64>,
    /// Messages in a row are counted once.
    messages: u64,
    last: String,
    cut: bool,
}

impl Table {
    fn new() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
        let width = size.map(|size| usize::from(size.ws_col)).filter(|w| *w > 0);
        Table {
            columns: is_terminal.then(|| width.unwrap_or(COLUMNS)),
            colour: is_terminal && std::env::var_os("NO_COLOR").is_none(),
            now: Timestamp::now(),
            id: 2,
            has_begun: false,
            count: 0,
            oldest: None,
            messages: 0,
            last: String::new(),
            cut: false,
        }
    }

    fn lines(&mut self, rows: &[Row]) -> String {
        let mut text = String::new();
        let ids = rows.iter().map(|row| row.id.chars().count());
        self.id = self.id.max(ids.max().unwrap_or(0));
        if !self.has_begun && !rows.is_empty() {
            self.has_begun = true;
            let fixed = self.fixed(&["ID", "STATE", "AGE", "TRIES", "NEXT"]);
            text.push_str(
                self.line(&fixed, None, "RECIPIENT", "LAST REPLY")
                    .trim_end(),
            );
            text.push('\n');
        }
        for row in rows {
            self.count += 1;
            self.oldest = self.oldest.max(Some(row.age));
            if self.last != row.id {
                self.messages += 1;
                self.last.clone_from(&row.id);
            }
            let next = match &row.next {
                None => "-".to_owned(),
                Some(next) => self.until(next),
            };
            let mark = if row.duplicate_possible { "*" } else { "" };
            let state = format!("{}{mark}", row.state.word());
            let tries = row.attempts.to_string();
            let fixed = self.fixed(&[&row.id, &state, &length(row.age), &tries, &next]);
            let line = self.line(
                &fixed,
                Some(row.state),
                &plain(&row.recipient),
                &plain(&row.lastreply),
            );
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn fixed(&self, cells: &[&str; 5]) -> [String; 5] {
        let [id, state, age, tries, next] = cells;
        [
            format!("{id:w$}", w = self.id),
            format!("{state:10}"),
            format!("{age:>4}"),
            format!("{tries:>5}"),
            format!("{next:>5}"),
        ]
    }

    fn line(
        &mut self,
        fixed: &[String; 5],
        state: Option<Shown>,
        recipient: &str,
        reply: &str,
    ) -> String {
        let used: usize = fixed.iter().map(|cell| cell.chars().count() + 2).sum();
        let mut text = String::new();
        for (column, cell) in fixed.iter().enumerate() {
            let coloured = state.filter(|_| self.colour && column == 1);
            match coloured.and_then(shade) {
                Some(code) => {
                    let _ = write!(text, "\x1b[{code}m{cell}\x1b[0m  ");
                }
                None => {
                    let _ = write!(text, "{cell}  ");
                }
            }
        }
        let Some(columns) = self.columns else {
            let _ = write!(text, "{recipient:30}  {reply}");
            return text;
        };
        let room = columns.saturating_sub(used).max(RECIPIENT);
        if room < RECIPIENT + 2 + REPLY {
            self.cut = true;
            text.push_str(&cut(recipient, room));
            return text;
        }
        let width = (room / 2).min(40);
        let recipient = cut(recipient, width);
        let reply = cut(reply, room - width - 2);
        let _ = write!(text, "{recipient:width$}  {reply}");
        text
    }

    /// How long until a moment.
    fn until(&self, moment: &str) -> String {
        let seconds = moment.parse::<Timestamp>().map_or(0, |moment| {
            moment.as_second().saturating_sub(self.now.as_second())
        });
        match u64::try_from(seconds) {
            Ok(0) | Err(_) => "now".to_owned(),
            Ok(seconds) => length(seconds),
        }
    }

    fn footer(&self, rest: &Rest) -> String {
        let touch = galerne_outbound::queue::Touch {
            deliveries: self.count,
            messages: self.messages,
        };
        let Some(oldest) = self.oldest else {
            return match rest.is_filtered {
                true => "nothing in the queue is meant\n".to_owned(),
                false => "the queue is empty\n".to_owned(),
            };
        };
        let mut text = format!("{}, the oldest {}", rows::in_words(touch), length(oldest));
        if rest.is_more {
            let _ = write!(
                text,
                "; there are more than the first {}: --limit 0 shows all",
                rest.limit
            );
        }
        if self.cut {
            text.push_str(
                "; last replies are not shown: a wider terminal, `queue show ID`, --json",
            );
        }
        if !rest.is_server {
            text.push_str("; what is active or suspended only a server knows");
        }
        text.push('\n');
        text
    }
}

/// Red where somebody must act, yellow where something waits, green where it goes on.
fn shade(state: Shown) -> Option<&'static str> {
    match state {
        Shown::Active => Some("32"),
        Shown::Held | Shown::Suspended => Some("33"),
        Shown::Unknown => Some("31"),
        Shown::Waiting | Shown::Deferred => None,
    }
}

/// `45s`, `12m`, `7h`, `3d`.
pub fn length(seconds: u64) -> String {
    match seconds {
        s if s >= 2 * 86_400 => format!("{}d", s / 86_400),
        s if s >= 2 * 3_600 => format!("{}h", s / 3_600),
        s if s >= 120 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// At most so many characters.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, age: u64) -> Row {
        Row {
            id: id.to_owned(),
            reference: "ref".to_owned(),
            user: Some("shop".to_owned()),
            sender: "a@example.com".to_owned(),
            recipient: "a-rather-long-recipient@a-rather-long-domain.example".to_owned(),
            state: Shown::Deferred,
            attempts: 3,
            next: Some("2000-01-01T00:00:00Z".to_owned()),
            age,
            group: String::new(),
            route: "MX".to_owned(),
            outbound: "192.0.2.10".to_owned(),
            lastreply: "451 4.7.1 come back\x1b[2J later, when we know who you are".to_owned(),
            duplicate_possible: false,
            held: false,
        }
    }

    fn table(columns: Option<usize>) -> String {
        let mut table = Table::new();
        table.columns = columns;
        table.colour = false;
        let id = "01JB0000000000000000000000";
        let mut text = table.lines(&[row(id, 9_000), row(id, 9_000), row("01JB", 60)]);
        text += &table.footer(&Rest {
            is_more: true,
            limit: 3,
            is_server: true,
            is_filtered: false,
        });
        text
    }

    #[test]
    fn queue_16_the_table_fits_the_terminal_and_says_what_it_hides() {
        for columns in [80, 100, 132, 200] {
            let text = table(Some(columns));
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines.len(), 5);
            for line in &lines[..4] {
                assert!(line.chars().count() <= columns, "{columns}: {line}");
                assert!(!line.contains('\x1b'), "{line}");
            }
            assert_eq!(lines[0].contains("LAST REPLY"), columns > 100, "{columns}");
            let footer = lines[4];
            assert!(
                footer.starts_with("3 deliveries of 2 messages, the oldest 2h"),
                "{footer}"
            );
            assert!(footer.contains("--limit 0 shows all"), "{footer}");
            assert_eq!(
                footer.contains("last replies are not shown"),
                columns <= 100,
                "{footer}"
            );
        }
        let whole = table(None);
        assert!(whole.contains("when we know who you are"), "{whole}");
    }
}
