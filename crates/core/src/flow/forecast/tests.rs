use std::sync::Arc;

use super::*;
use crate::flow::params::{Section, Sections, Target};

const HOUR: Duration = Duration::from_secs(3600);

/// The shipped sets for addresses, nothing for senders.
fn shipped() -> Vec<(String, GroupFlow)> {
    let mut defaults = Sections::default();
    let time = |n| Some(Duration::from_secs(n));
    *defaults.section(Control::Ip, Set::Warmup, None) = Section {
        threadmax: Some(1),
        chainmax: Some(10),
        waittime: time(10),
        volttllow: time(600),
        volmaxlow: Some(60),
        volttlhigh: time(86_400),
        volmaxhigh: Some(3000),
        flowttlup: time(7 * 86_400),
        flowvolup: Some(10_000),
        flowup: Some(Target::Set(Set::Low)),
        ..Section::default()
    };
    *defaults.section(Control::Ip, Set::Low, None) = Section {
        threadmax: Some(2),
        chainmax: Some(20),
        waittime: time(5),
        volttllow: time(600),
        volmaxlow: Some(200),
        volttlhigh: time(86_400),
        volmaxhigh: Some(15_000),
        ..Section::default()
    };
    for set in Set::ALL {
        defaults.section(Control::Sender, set, None).threadmax = Some(0);
    }
    let flow = GroupFlow {
        defaults: Arc::new(defaults),
        ..GroupFlow::default()
    };
    vec![("isp".to_owned(), flow)]
}

fn assumed(outbounds: u8) -> Assumptions {
    Assumptions {
        outbounds: (1..=outbounds)
            .map(|n| IpAddr::from([192, 0, 2, n]))
            .collect(),
        sender: "a.example".into(),
        message_time: Duration::from_millis(200),
        days: 10,
        domains: 1,
    }
}

fn batch(day: u32, messages: u64) -> Batch {
    Batch {
        day,
        group: "isp".into(),
        messages,
    }
}

#[test]
fn flow_30_a_plan_warms_up_and_the_bottleneck_is_named() {
    let plan: Vec<Batch> = (0..10).map(|day| batch(day, 2500)).collect();
    let start = Moment(1_800_000_000_000);
    let forecast = forecast(shipped(), &plan, &assumed(1), start);
    let days = &forecast.days["isp"];
    let sent: u64 = days.iter().map(|day| day.sent).sum();
    assert_eq!(sent, 25_000);
    assert_eq!(days[0].set, Some(Set::Warmup));
    assert_eq!(days[9].set, Some(Set::Low));
    assert_eq!(forecast.switches.len(), 1);
    assert_eq!(forecast.switches[0].change.to, Set::Low);
    // 60 in ten minutes: 2500 take about seven hours.
    let first = forecast.finished[0].after.unwrap();
    assert!(first > 6 * HOUR + HOUR / 2 && first < 7 * HOUR, "{first:?}");
    let (control, limit, _) = days[0].bottleneck.unwrap();
    assert_eq!((control, limit), (Control::Ip, Limit::VolMaxLow));
    let last = forecast.finished[9].after.unwrap();
    assert!(last < 3 * HOUR, "{last:?}");
}

#[test]
fn flow_23_two_outbounds_share_what_one_cannot() {
    let start = Moment(1_800_000_000_000);
    let alone = forecast(shipped(), &[batch(0, 2500)], &assumed(1), start);
    let both = forecast(shipped(), &[batch(0, 2500)], &assumed(2), start);
    let time = |forecast: &Forecast| forecast.finished[0].after.unwrap();
    assert!(time(&both) < time(&alone) * 11 / 20);
}

#[test]
fn flow_29_what_does_not_fit_waits_and_is_counted() {
    let start = Moment(1_800_000_000_000);
    let assumed = Assumptions {
        days: 2,
        ..assumed(1)
    };
    let forecast = forecast(shipped(), &[batch(0, 10_000)], &assumed, start);
    let finished = &forecast.finished[0];
    assert_eq!(finished.after, None);
    let sent: u64 = forecast.days["isp"].iter().map(|day| day.sent).sum();
    assert!((5_999..=6_000).contains(&sent), "{sent}");
    assert!(finished.left >= 4_000 && finished.left <= 4_001);
    let (_, limit, length) = forecast.days["isp"][1].bottleneck.unwrap();
    assert_eq!(limit, Limit::VolMaxHigh);
    assert!(length > 10 * HOUR, "{length:?}");
}
