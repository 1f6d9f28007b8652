//! The values of keys: lists, durations, flags, sizes, networks, listeners, times.
//!
//! Each function takes the text of a value and gives the typed value or one sentence that says
//! what was expected. It never repeats the text of the value: it may be a secret.

use std::time::Duration;

mod names;
mod net;
mod stamp;
mod words;

pub use names::*;
pub use net::*;
pub use stamp::*;
pub use words::*;

/// The result of reading a value.
pub type Read<T> = Result<T, String>;

/// Items separated by blanks or commas (CONF-15).
pub fn list(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(|c: char| c.is_whitespace() || c == ',')
        .filter(|item| !item.is_empty())
}

/// Double-quoted strings separated by blanks or commas (CONF-15). `""` inside stands for `"`.
pub fn quoted_list(value: &str) -> Read<Vec<String>> {
    let mut items = Vec::new();
    let mut rest = value.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let Some(inside) = rest.strip_prefix('"') else {
            return Err("expected strings in double quotes, separated by blanks".into());
        };
        let (item, after) = quoted(inside)?;
        items.push(item);
        rest = after.trim_start_matches([' ', '\t', ',']);
    }
    Ok(items)
}

fn quoted(inside: &str) -> Read<(String, &str)> {
    let mut item = String::new();
    let mut rest = inside;
    while let Some((part, after)) = rest.split_once('"') {
        item.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                item.push('"');
                rest = after;
            }
            None => return Ok((item, after)),
        }
    }
    Err("a double quote is not closed".into())
}

/// Seconds, or a number with `s`, `m`, `h` or `d` (CONF-17). At most 100 years.
pub fn duration(value: &str) -> Read<Duration> {
    duration_in(value, 1)
}

/// Like [`duration`]; a number without suffix counts units of that many seconds.
pub fn duration_in(value: &str, unit: u64) -> Read<Duration> {
    let bad = || "expected a duration such as 90, 90s, 15m, 12h or 7d".to_string();
    let digits = value.trim_end_matches(|c: char| !c.is_ascii_digit());
    let suffix = value.get(digits.len()..).unwrap_or_default().trim();
    let factor = match suffix.to_ascii_lowercase().as_str() {
        "" => unit,
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    let seconds = number(digits).and_then(|n| n.checked_mul(factor));
    match seconds {
        Some(s) if s <= 100 * 366 * 86_400 => Ok(Duration::from_secs(s)),
        _ => Err(bad()),
    }
}

/// 0/1, true/false, yes/no, without regard to case (CONF-18).
pub fn flag(value: &str) -> Read<bool> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" => Ok(true),
        "0" | "false" | "no" => Ok(false),
        _ => Err("expected a flag: 0/1, true/false or yes/no".into()),
    }
}

/// A whole number in decimal digits.
pub fn count(value: &str) -> Read<u64> {
    number(value).ok_or_else(|| "expected a whole number".into())
}

/// Octets, or a number with `K`, `M`, `G` or `T` (powers of 1024).
pub fn size(value: &str) -> Read<u64> {
    let bad = || "expected a size such as 20971520, 20M or 1G".to_string();
    let digits = value.trim_end_matches(|c: char| !c.is_ascii_digit());
    let suffix = value.get(digits.len()..).unwrap_or_default().trim();
    let suffix = suffix.to_ascii_uppercase();
    let factor = match suffix.strip_suffix('B').unwrap_or(&suffix) {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1 << 40,
        _ => return Err(bad()),
    };
    number(digits)
        .and_then(|n| n.checked_mul(factor))
        .ok_or_else(bad)
}

/// Only digits: no sign, no blanks.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;
