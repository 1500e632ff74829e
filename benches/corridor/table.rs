//! Figures as text, and the picture.

use std::fmt::Write as _;
use std::time::Duration;

use super::contenders::Contender;
use super::dns::Answers;
use super::measure::{Figures, Point};

/// Returns the middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => (values[count / 2 - 1] + values[count / 2]) / 2.0,
    }
}

/// Where and with what it was run. `only`: which parts; none are all.
pub fn head(time: Duration, rounds: usize, only: &[String], present: &[Contender]) -> String {
    let line = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let found = text.lines().find_map(|line| {
            line.strip_prefix(name)?.split_once(':').map(|(_, value)| value.trim().to_owned())
        });
        found.unwrap_or_else(|| "unknown".to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let versions: Vec<String> = present.iter().filter_map(|who| who.version()).collect();
    let only = if only.is_empty() { String::new() } else { format!(" --only {}", only.join(",")) };
    format!(
        "{}, {cores} cores, Linux {}\n{}\ncargo bench --bench corridor -- --seconds {} --rounds {rounds}{only}\n\n",
        line("/proc/cpuinfo", "model name"),
        kernel.trim(),
        versions.join("; "),
        time.as_secs_f64()
    )
}

/// A goal: at most, or at least, so many times HAProxy's figure, or an absolute one.
#[derive(Debug, Clone, Copy)]
enum Goal {
    Most(f64),
    Least(f64),
    MostOf(f64),
    None,
}

const ROWS: [(&str, Goal); 21] = [
    ("connections/s", Goal::Least(1.2)),
    ("connection median, us", Goal::None),
    ("connection 99 %, us", Goal::None),
    ("connections failed", Goal::None),
    ("CPU us a connection", Goal::Most(0.8)),
    ("of it the log's thread, %", Goal::MostOf(5.0)),
    ("one stream down, Gbit/s", Goal::Least(2.0)),
    ("eight streams down, Gbit/s", Goal::None),
    ("one stream up, Gbit/s", Goal::Least(2.0)),
    ("eight streams up, Gbit/s", Goal::None),
    ("CPU s a GB, one down", Goal::Most(0.3)),
    ("CPU s a GB, eight down", Goal::Most(0.3)),
    ("CPU s a GB, one up", Goal::Most(0.3)),
    ("CPU s a GB, eight up", Goal::Most(0.3)),
    ("1 ping-pong, /s", Goal::None),
    ("CPU us a round trip, 1", Goal::None),
    ("16 ping-pongs, /s", Goal::Least(1.15)),
    ("16 ping-pongs median, us", Goal::None),
    ("CPU us a round trip, 16", Goal::Most(0.9)),
    ("kB an idle connection", Goal::MostOf(2.5)),
    ("descriptors an idle connection", Goal::MostOf(2.0)),
];

/// The table: medians, ratios, and whether the goal is met.
pub fn figures(found: &[(Contender, Vec<Figures>)]) -> String {
    let mut text = format!(
        "{:<32}{:>11}{:>11}{:>11}{:>11}{:>11}  goal\n",
        "", "direct", "HAProxy", "namegate", "/HAProxy", "/direct"
    );
    for (name, goal) in ROWS {
        let of = |who: Contender| {
            let rounds = found.iter().find(|(known, _)| *known == who).map(|(_, rounds)| rounds)?;
            let values: Vec<f64> = rounds.iter().filter_map(|figures| figures.get(name)).collect();
            (!values.is_empty()).then(|| median(values))
        };
        let (direct, haproxy, ours) =
            (of(Contender::Direct), of(Contender::Haproxy), of(Contender::Namegate));
        let Some(ours) = ours else { continue };
        let ratio = |other: Option<f64>| other.filter(|other| *other > 0.0).map(|other| ours / other);
        let goal = match goal {
            Goal::None => String::new(),
            Goal::MostOf(most) => verdict(ours <= most, format!("<= {most}")),
            Goal::Most(most) => ratio(haproxy)
                .map_or(String::new(), |ratio| verdict(ratio <= most, format!("<= {most} HAProxy"))),
            Goal::Least(least) => ratio(haproxy)
                .map_or(String::new(), |ratio| verdict(ratio >= least, format!(">= {least} HAProxy"))),
        };
        let _ = writeln!(
            text,
            "{name:<32}{:>11}{:>11}{:>11}{:>11}{:>11}  {goal}",
            shown(direct),
            shown(haproxy),
            shown(Some(ours)),
            shown(ratio(haproxy)),
            shown(ratio(direct))
        );
    }
    text + "\n"
}

fn verdict(met: bool, goal: String) -> String {
    format!("{goal}: {}", if met { "met" } else { "not met" })
}

fn shown(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value >= 1000.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.3}"),
    }
}

/// Questions of the forwarder and of dnsmasq.
pub fn dns(answers: &[Answers]) -> String {
    let mut text = format!("{:<32}{:>16}{:>24}\n", "", "questions/s", "questions/CPU second");
    for Answers { who, rate, per_cpu } in answers {
        let _ = writeln!(text, "{who:<32}{rate:>16.0}{per_cpu:>24.0}");
    }
    text + "\n"
}

/// The curves as numbers.
pub fn growth(points: &[Point]) -> String {
    let mut text = format!(
        "{:>12}{:>10}{:>20}{:>14}{:>22}\n",
        "open", "rules", "CPU us a connection", "memory, MB", "for the open ones, kB"
    );
    for Point { open, rules, cpu, memory, beyond } in points {
        let _ = writeln!(
            text,
            "{open:>12}{rules:>10}{cpu:>20.1}{:>14.1}{:>22.0}",
            *memory as f64 / 1e6,
            *beyond as f64 / 1e3
        );
    }
    text + "\n"
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;

/// CPU of a connection over open connections and over rules: lines that should be flat.
pub fn picture(points: &[Point]) -> String {
    let top = points.iter().map(|point| point.cpu).fold(1.0, f64::max) * 1.25;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <style>text {{ fill: #555 }} @media (prefers-color-scheme: dark) {{ text {{ fill: #bbb }} }}</style>\n\
         <text x=\"20\" y=\"24\" font-size=\"15\">CPU of a new connection, microseconds</text>\n"
    );
    let open: Vec<(usize, f64)> =
        points.iter().filter(|point| point.rules == 1).map(|point| (point.open, point.cpu)).collect();
    let rules: Vec<(usize, f64)> =
        points.iter().filter(|point| point.rules > 1).map(|point| (point.rules, point.cpu)).collect();
    panel(&mut svg, 60.0, "open connections", "#2b7de9", &open, top);
    panel(&mut svg, 440.0, "rules", "#d9662b", &rules, top);
    svg + "</svg>\n"
}

fn panel(svg: &mut String, left: f64, label: &str, colour: &str, points: &[(usize, f64)], top: f64) {
    let (width, bottom, height) = (290.0, HEIGHT - 50.0, HEIGHT - 100.0);
    let last = points.iter().map(|(count, _)| (*count as f64).log10()).fold(1.0, f64::max);
    let x = |count: usize| left + (count as f64).log10() / last * width;
    let y = |cpu: f64| bottom - cpu / top * height;
    for step in 0..=4 {
        let value = top / 4.0 * f64::from(step);
        let _ = writeln!(
            svg,
            "<line x1=\"{left}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#888\" stroke-opacity=\"0.3\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value:.0}</text>",
            left + width,
            left - 8.0,
            y(value) + 4.0,
            at = y(value)
        );
    }
    let line: Vec<String> =
        points.iter().map(|(count, cpu)| format!("{:.1},{:.1}", x(*count), y(*cpu))).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
        line.join(" ")
    );
    for (count, cpu) in points {
        let _ = writeln!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{count}</text>",
            x(*count),
            y(*cpu),
            x(*count),
            bottom + 18.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
        left + width / 2.0,
        bottom + 38.0
    );
}
