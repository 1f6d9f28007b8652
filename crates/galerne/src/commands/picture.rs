//! The picture of `galerne simulate`: bars of messages per day, coloured by the set in force.

use std::fmt::Write as _;

use galerne_core::flow::Set;
use galerne_core::flow::forecast::{Day, Forecast};

use super::simulate::busy;

const LEFT: usize = 70;
const BAR: usize = 22;
const HEIGHT: u64 = 120;
const TITLE: usize = 30;

/// A colour for each set: red for blocks, then from yellow to green.
fn colour(set: Option<Set>) -> &'static str {
    match set {
        Some(Set::Defcon3) => "#7f1d1d",
        Some(Set::Defcon2) => "#b91c1c",
        Some(Set::Defcon1) => "#ef4444",
        Some(Set::Warmup) => "#f59e0b",
        Some(Set::Low) => "#eab308",
        Some(Set::Mid) => "#84cc16",
        Some(Set::High) => "#22c55e",
        Some(Set::Full) => "#15803d",
        None => "#9ca3af",
    }
}

/// SVG, one row for each group.
pub fn picture(forecast: &Forecast) -> String {
    let longest = forecast.days.values().map(|days| busy(days).len()).max();
    let width = (LEFT + longest.unwrap_or(0) * BAR + 20).max(720);
    let row = TITLE + usize::try_from(HEIGHT).unwrap_or(0) + 30;
    let height = forecast.days.len() * row + 40;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (number, (group, days)) in forecast.days.iter().enumerate() {
        draw(&mut svg, number * row, group, busy(days));
    }
    legend(&mut svg, forecast.days.len() * row + 20);
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, top: usize, group: &str, days: &[Day]) {
    let most = days.iter().map(|day| day.sent).max().unwrap_or(0).max(1);
    let base = top + TITLE + usize::try_from(HEIGHT).unwrap_or(0);
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">@{group}: messages per day</text>",
        top + 18
    );
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{most}</text>",
        LEFT - 6,
        top + TITLE + 8
    );
    for (number, day) in days.iter().enumerate() {
        let height = u128::from(day.sent) * u128::from(HEIGHT) / u128::from(most);
        let height = usize::try_from(height).unwrap_or(0);
        let x = LEFT + number * BAR;
        let set = day.set.map_or("-", Set::word);
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{}\" width=\"{}\" height=\"{height}\" fill=\"{}\"><title>day {}: {} messages, {set}</title></rect>",
            base - height,
            BAR - 4,
            colour(day.set),
            number + 1,
            day.sent,
        );
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            x + (BAR - 4) / 2,
            base + 14,
            number + 1
        );
    }
    let _ = writeln!(
        svg,
        "<line x1=\"{LEFT}\" y1=\"{base}\" x2=\"{}\" y2=\"{base}\" stroke=\"#374151\"/>",
        LEFT + days.len() * BAR
    );
}

fn legend(svg: &mut String, y: usize) {
    for (number, set) in Set::ALL.into_iter().enumerate() {
        let x = LEFT + number * 80;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{}\" width=\"10\" height=\"10\" fill=\"{}\"/><text x=\"{}\" y=\"{y}\">{}</text>",
            y - 9,
            colour(Some(set)),
            x + 14,
            set.word()
        );
    }
}
