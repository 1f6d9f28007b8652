//! The flow sections of group and host files (FLOW-12 to FLOW-17, FLOW-32).

use std::time::Duration;

use galerne_core::flow::params::{Section, Sections, Target, target};
use galerne_core::flow::{Control, Set};

use crate::finding::Level;
use crate::registry::set_names;
use crate::sheet::Sheet;
use crate::values;

/// Reads all flow sections of a file. What is wrong in them is an error of the file.
pub fn read(sheet: &mut Sheet) -> Sections {
    let headers = sheet.headers().iter().filter(|h| h.section.contains('#'));
    let mut headers: Vec<_> = headers.map(|h| (h.section.clone(), h.line)).collect();
    headers.dedup_by(|a, b| a.0 == b.0);
    let mut sections = Sections::default();
    for (name, line) in headers {
        match place(&name) {
            Err(why) => sheet.at(Level::Error, line, &name, "-", &why),
            Ok((control, set, key)) => {
                let section = section(sheet, &name);
                if let Some(text) = wrong_way(set, &section) {
                    sheet.at(Level::Warning, line, &name, "-", &text);
                }
                *sections.section(control, set, key.as_deref()) = section;
            }
        }
    }
    sections
}

/// What the name of a section says: `ipflow#warmup@192.0.2.11`.
fn place(name: &str) -> Result<(Control, Set, Option<String>), String> {
    let (control, rest) = name.split_once('#').unwrap_or((name, ""));
    let control = match control {
        "ipflow" => Control::Ip,
        "sdflow" => Control::Sender,
        _ => return Err("expected ipflow#<set> or sdflow#<set>".into()),
    };
    let (set, key) = match rest.split_once('@') {
        Some((set, key)) => (set, Some(key)),
        None => (rest, None),
    };
    let set =
        Set::parse(set).ok_or_else(|| format!("unknown flow set; expected {}", set_names()))?;
    let key = match (control, key) {
        (_, None) => None,
        (Control::Ip, Some(key)) => Some(values::address(key)?.to_string()),
        (Control::Sender, Some(key)) => Some(values::domain(key)?),
    };
    Ok((control, set, key))
}

fn section(sheet: &mut Sheet, name: &str) -> Section {
    let number = |value: &str| {
        let count = values::count(value)?;
        u32::try_from(count).map_err(|_| "expected a smaller number".to_owned())
    };
    let mut time = |key: &str| value(sheet, name, key, values::duration);
    let (sleepttl, waittime) = (time("sleepttl"), time("waittime"));
    let (volttllow, volttlhigh) = (time("volttllow"), time("volttlhigh"));
    let (flowttlup, flowttldown) = (time("flowttlup"), time("flowttldown"));
    let mut many = |key: &str| value(sheet, name, key, values::count);
    let (volmaxlow, volmaxhigh) = (many("volmaxlow"), many("volmaxhigh"));
    let (flowvolup, flowvoldown) = (many("flowvolup"), many("flowvoldown"));
    let mut few = |key: &str| value(sheet, name, key, number);
    let (chainmax, errmax) = (few("chainmax"), few("errmax"));
    // Empty is the default, and that of this one is not 0.
    let threadmax = match few("threadmax") {
        Some(0) if sheet.text(name, "threadmax").is_none() => Some(1),
        threadmax => threadmax,
    };
    let mut set = |key: &str| value(sheet, name, key, read_target);
    let (flowerr, flowup, flowdown) = (set("flowerr"), set("flowup"), set("flowdown"));
    Section {
        sleepttl,
        threadmax,
        chainmax,
        waittime,
        errmax,
        flowerr,
        volttllow,
        volmaxlow,
        volttlhigh,
        volmaxhigh,
        flowttlup,
        flowvolup,
        flowup,
        flowttldown,
        flowvoldown,
        flowdown,
    }
}

/// A present key; an empty one is the built-in default, said so (CONF-16).
fn value<T: Default>(
    sheet: &mut Sheet,
    section: &str,
    key: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Option<T> {
    let key = sheet.key(section, key, read);
    match key.is_present() {
        true => Some(match key {
            galerne_core::settings::Key::Set(value) => value,
            _ => T::default(),
        }),
        false => None,
    }
}

fn read_target(value: &str) -> Result<Target, String> {
    let word = value.strip_prefix('#').unwrap_or(value);
    let is = |other: &str| word.eq_ignore_ascii_case(other);
    if is("0") {
        return Ok(Target::Omitted);
    }
    if is("up") {
        return Ok(Target::Up);
    }
    if is("down") {
        return Ok(Target::Down);
    }
    let set = Set::parse(word).map(Target::Set);
    set.ok_or_else(|| format!("expected {}, up, down or 0", set_names()))
}

/// An up rule that leads down, a down rule that leads up, or one without a period (FLOW-32).
fn wrong_way(set: Set, section: &Section) -> Option<String> {
    let up = target(set, section.flowup.unwrap_or_default(), Target::Up);
    let down = target(set, section.flowdown.unwrap_or_default(), Target::Down);
    let is_on = |volume: Option<u64>| volume.is_some_and(|volume| volume > 0);
    if section.flowup.is_some() && up < set {
        return Some(format!(
            "flowup leads to {}, which is slower than {}; was flowdown meant?",
            up.word(),
            set.word()
        ));
    }
    if section.flowdown.is_some() && down > set {
        return Some(format!(
            "flowdown leads to {}, which is faster than {}; was flowup meant?",
            down.word(),
            set.word()
        ));
    }
    if is_on(section.flowvoldown) && section.flowttldown == Some(Duration::ZERO) {
        return Some("flowttldown is 0, so the down switch is off".to_owned());
    }
    None
}
