//! Pattern lines: `name = FUNCTION(arguments) pattern` (FLOW-62, FLOW-63, FLOW-72).

use std::time::Duration;

use super::Pattern;
use crate::model::{Class, FlowSetName};

/// Most characters of a name and of a description (FLOW-63).
const SHORT: usize = 16;
/// GREY without a time (FLOW-70).
const GREY_DEFAULT: Duration = Duration::from_secs(600);
/// The longest time GREY may name.
const GREY_LIMIT: Duration = Duration::from_secs(30 * 86_400);

/// Reads one line of a `[pattern]` section. `source` is its `file:line`.
///
/// Returns the pattern and warnings: what was cut. Errors say what was found and what was expected;
/// the caller reports them with the place and leaves the line out.
pub fn parse_line(
    name: &str,
    value: &str,
    source: String,
) -> Result<(Pattern, Vec<String>), String> {
    let mut warnings = Vec::new();
    let name = pattern_name(name, &mut warnings)?;
    let value = value.trim();
    let (word, rest) = value
        .split_once('(')
        .ok_or_else(|| format!("expected FUNCTION(arguments) pattern, found {value:?}"))?;
    let (arguments, text) =
        split_closing(rest).ok_or("the closing parenthesis of the arguments is missing")?;
    let text = text.trim();
    if text.is_empty() {
        return Err("the pattern behind the arguments is missing".into());
    }
    let arguments = split_arguments(arguments);
    let (description, arguments) = match arguments.split_first() {
        Some((first, rest)) => (*first, rest),
        None => ("", &[][..]),
    };
    let class = class(word.trim(), arguments)?;
    let description = cut(description, "description", &mut warnings);
    Ok((
        Pattern {
            name,
            class,
            description,
            text: text.to_owned(),
            source,
        },
        warnings,
    ))
}

fn pattern_name(name: &str, warnings: &mut Vec<String>) -> Result<String, String> {
    let name = name.trim().to_ascii_lowercase();
    if name.is_empty() {
        return Err("the name of the pattern is missing".into());
    }
    if let Some(c) = name
        .chars()
        .find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-'))
    {
        return Err(format!(
            "pattern name {name:?} has {c:?}, allowed are a-z, 0-9 and hyphen"
        ));
    }
    Ok(cut(&name, "name", warnings))
}

fn cut(text: &str, what: &str, warnings: &mut Vec<String>) -> String {
    let Some((end, _)) = text.char_indices().nth(SHORT) else {
        return text.to_owned();
    };
    let short = text.get(..end).unwrap_or(text).trim_end().to_owned();
    warnings.push(format!(
        "{what} {text:?} is longer than {SHORT} characters, cut to {short:?}"
    ));
    short
}

/// The arguments up to their closing parenthesis, and what follows. Stray extra closing
/// parentheses belong to neither: no reply begins with one.
fn split_closing(text: &str) -> Option<(&str, &str)> {
    let mut depth = 1u32;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let rest = text.get(at..)?.trim_start_matches([')', ' ', '\t']);
            return Some((text.get(..at)?, rest));
        }
    }
    None
}

/// The arguments, trimmed; commas within parentheses do not separate.
fn split_arguments(text: &str) -> Vec<&str> {
    let mut depth = 0i32;
    text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
    .collect()
}

/// The class a function and its arguments (without the description) name.
fn class(word: &str, arguments: &[&str]) -> Result<Class, String> {
    let word = word.to_ascii_uppercase();
    match word.as_str() {
        "SOFT" => none(&word, arguments).map(|()| Class::Soft),
        "HARD" => none(&word, arguments).map(|()| Class::Hard),
        "SPAM" => none(&word, arguments).map(|()| Class::Spam),
        "GREY" => grey(arguments),
        "FLOW" => flow(arguments),
        _ => Err(format!(
            "function {word:?} is not known, expected SOFT, HARD, SPAM, GREY or FLOW"
        )),
    }
}

fn none(word: &str, arguments: &[&str]) -> Result<(), String> {
    match arguments.iter().find(|a| !a.is_empty()) {
        Some(extra) => Err(format!(
            "{word}(description) takes no further argument, found {extra:?}"
        )),
        None => Ok(()),
    }
}

fn grey(arguments: &[&str]) -> Result<Class, String> {
    let (time, more) = arguments
        .split_first()
        .map_or(("", &[][..]), |(t, m)| (*t, m));
    none("GREY", more).map_err(|_| "GREY(description, time) takes two arguments".to_owned())?;
    if time.is_empty() {
        return Ok(Class::Grey(GREY_DEFAULT));
    }
    let delay = duration(time).filter(|d| !d.is_zero() && *d <= GREY_LIMIT);
    delay.map(Class::Grey).ok_or_else(|| {
        format!(
            "time {time:?} of GREY: expected seconds, or a number with s, m, h or d, from 1s to 30d"
        )
    })
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = match text.char_indices().next_back()? {
        (at, c) if c.is_ascii_alphabetic() => (text.get(..at)?, c),
        _ => (text, 's'),
    };
    let factor = match unit.to_ascii_lowercase() {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let number = number.trim_end();
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(factor)
        .map(Duration::from_secs)
}

/// The sets of FLOW, by place (IP, then sender) or by wrapper.
fn flow(arguments: &[&str]) -> Result<Class, String> {
    let (mut ipset, mut sdset) = (None, None);
    for (place, argument) in arguments.iter().enumerate() {
        let (target, word) = if let Some(word) = wrapped(argument, "ipflow") {
            (&mut ipset, word)
        } else if let Some(word) = wrapped(argument, "sdflow") {
            (&mut sdset, word)
        } else {
            match place {
                0 => (&mut ipset, *argument),
                1 => (&mut sdset, *argument),
                _ if argument.is_empty() => continue,
                _ => {
                    return Err(format!(
                        "FLOW names at most two sets, found also {argument:?}"
                    ));
                }
            }
        };
        let word = word.trim().trim_start_matches('#').trim();
        if word.is_empty() {
            continue;
        }
        let set = FlowSetName::parse(word).ok_or_else(|| unknown_set(word))?;
        if target.replace(set).is_some() {
            return Err(format!(
                "FLOW names two sets for the same control, the second is {word:?}"
            ));
        }
    }
    Ok(Class::Flow { ipset, sdset })
}

/// `x` of `name(x)`.
fn wrapped<'a>(argument: &'a str, name: &str) -> Option<&'a str> {
    let head = argument
        .get(..name.len())
        .filter(|h| h.eq_ignore_ascii_case(name))?;
    let rest = argument.get(head.len()..)?.trim_start();
    rest.strip_prefix('(')?.strip_suffix(')')
}

fn unknown_set(word: &str) -> String {
    let known: Vec<&str> = FlowSetName::ALL
        .into_iter()
        .map(FlowSetName::word)
        .collect();
    format!(
        "set {word:?} is not known, expected one of {}",
        known.join(", ")
    )
}
