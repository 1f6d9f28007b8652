//! The tables and the example of the manual on flow control, as files beside this one: what they say
//! is what a configuration means.

use galerne_core::flow::params::{Params, Sections, Target, Window, resolve};
use galerne_core::flow::{Control, Set};
use galerne_core::group::detect;
use galerne_core::model::Reply;

use crate::world::World;

/// The value of a key, as the table has it.
fn value(params: &Params, key: &str) -> String {
    let target = |target: Target| match target {
        Target::Omitted => "omitted".to_owned(),
        Target::Up => "up".to_owned(),
        Target::Down => "down".to_owned(),
        Target::Set(set) => set.word().to_owned(),
    };
    let Params {
        low,
        high,
        up,
        down,
        ..
    } = params;
    match key {
        "sleepttl" => params.sleepttl.as_secs().to_string(),
        "threadmax" => params.threadmax.to_string(),
        "chainmax" => params.chainmax.to_string(),
        "waittime" => params.waittime.as_secs().to_string(),
        "errmax" => params.errmax.to_string(),
        "flowerr" => target(params.flowerr),
        "volttllow" => low.ttl.as_secs().to_string(),
        "volmaxlow" => low.max.to_string(),
        "volttlhigh" => high.ttl.as_secs().to_string(),
        "volmaxhigh" => high.max.to_string(),
        "flowttlup" => up.ttl.as_secs().to_string(),
        "flowvolup" => up.volume.to_string(),
        "flowup" => target(up.target),
        "flowttldown" => down.ttl.as_secs().to_string(),
        "flowvoldown" => down.volume.to_string(),
        "flowdown" => target(down.target),
        _ => panic!("{key}"),
    }
}

#[test]
fn flow_17_flow_18_flow_25_the_table_of_parameters() {
    let golden = include_str!("parameters.txt");
    let (table, windows) = golden.split_once("== without any file\n").unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), 16);
    let none = Sections::default();
    let built_in = resolve(&none, &none, Control::Ip, Set::Mid, "x");
    for control in [Control::Ip, Control::Sender] {
        for row in &rows {
            let [key, default, said, meant] = row[..] else {
                panic!("{row:?}");
            };
            assert_eq!(value(&built_in, key), default, "{key}");
            // A file that says it changes this key, in this set and control, and no other.
            let world = World::new();
            let text = format!("[{}#mid]\n{key} = {said}\n", control.word());
            world.write("domains/@isp.ini", &text);
            let settings = world.settings();
            let of = |control, set| resolve(&settings.groups[0].flow, &none, control, set, "x");
            for (other, other_default) in rows.iter().map(|row| (row[0], row[1])) {
                let expected = if other == key { meant } else { other_default };
                let params = of(control, Set::Mid);
                assert_eq!(value(&params, other), expected, "{other} where {text}");
                assert_eq!(value(&of(control, Set::High), other), other_default);
            }
            let others = match control {
                Control::Ip => Control::Sender,
                Control::Sender => Control::Ip,
            };
            assert_eq!(of(others, Set::Mid), built_in, "{text}");
        }
    }
    let shown: String = Set::ALL
        .into_iter()
        .map(|set| {
            let params = resolve(&none, &none, Control::Sender, set, "x");
            assert!(!params.low.is_on());
            match params.high.is_on() {
                false => format!("{} no window\n", set.word()),
                true => {
                    let Window { ttl, max } = params.high;
                    format!("{} high {max} in {} s\n", set.word(), ttl.as_secs())
                }
            }
        })
        .collect();
    assert_eq!(shown, windows);
}

#[test]
fn flow_12_flow_13_flow_30_flow_53_flow_62_flow_66_the_example_of_the_manual() {
    let world = World::new();
    world.write("domains/@isp.ini", include_str!("example_group.ini"));
    let settings = world.settings();
    let group = &settings.groups[0];
    for line in include_str!("example_group.txt").lines() {
        if let Some((reply, expected)) = line.split_once(" => ") {
            let (code, text) = reply.split_at(3);
            let reply = Reply::new(code.parse().unwrap(), text.trim_start());
            let found = group.patterns.qualify(&reply);
            let name = found.pattern.as_deref().unwrap_or("-");
            let description = match name {
                "-" => "-",
                _ => &found.description,
            };
            let shown = format!("{name} {description} {:?}", found.class);
            assert_eq!(shown, expected, "{line}");
        } else if let Some((host, expected)) = line
            .strip_prefix("mx ")
            .and_then(|rest| rest.split_once(' '))
        {
            let hosts = [host];
            let found = detect(
                &settings.groups,
                &settings.catch_all,
                "a.example",
                Some(&hosts),
            );
            assert_eq!(format!("@{}", found.group.name), expected, "{line}");
        } else {
            let ip = line.split_once(' ').unwrap().0;
            let none = Sections::default();
            let Params { low, high, up, .. } =
                resolve(&group.flow, &none, Control::Ip, Set::Warmup, ip);
            let window = |w: Window| format!("{}/{}", w.max, w.ttl.as_secs());
            let shown = format!(
                "{ip} low {} high {} up {} {} {:?}",
                window(low),
                window(high),
                up.ttl.as_secs(),
                up.volume,
                up.target
            );
            assert_eq!(shown, line);
        }
    }
}
