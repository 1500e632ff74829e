//! The table at the end of a run, for people.
//!
//! Must not know how the rows were counted.

use crate::gate::Reason;
use crate::record::{Outcome, Row, Summary};

/// Spells a summary as a table with aligned columns.
pub(super) fn table(summary: &Summary) -> String {
    let rows = summary.rows();
    let mut text = String::from("\n");
    if rows.is_empty() {
        text.push_str("namegate: no connections, and no question refused\n");
    } else {
        let lines: Vec<[String; COLUMNS]> =
            std::iter::once(TITLES.map(str::to_owned)).chain(rows.iter().map(cells)).collect();
        let widths: [usize; COLUMNS] =
            std::array::from_fn(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0));
        for line in &lines {
            text.push_str(spell(line, &widths).trim_end());
            text.push('\n');
        }
    }
    if summary.beyond() > 0 {
        text.push_str(&format!("and {} more, of more kinds than are kept\n", summary.beyond()));
    }
    if summary.lost() > 0 {
        text.push_str(&format!("{} events were lost and are not counted\n", summary.lost()));
    }
    text
}

/// Words to the left, numbers to the right.
fn spell(line: &[String; COLUMNS], widths: &[usize; COLUMNS]) -> String {
    let mut text = String::new();
    for (column, (cell, &width)) in line.iter().zip(widths).enumerate() {
        if column > 0 {
            text.push_str("  ");
        }
        if matches!(column, 0 | 2) {
            text.push_str(&format!("{cell:<width$}"));
        } else {
            text.push_str(&format!("{cell:>width$}"));
        }
    }
    text
}

fn cells(row: &Row) -> [String; COLUMNS] {
    let verdict = match (row.outcome, row.reason) {
        (Outcome::Allowed, Reason::Allowed) => "allowed".to_owned(),
        (Outcome::Allowed, reason) => format!("allowed: {reason}"),
        (Outcome::Observed, reason) => format!("would be denied: {reason}"),
        (Outcome::Denied, reason) => format!("denied: {reason}"),
        (Outcome::Failed, reason) => format!("failed: {reason}"),
    };
    let carried = match row.outcome {
        Outcome::Allowed | Outcome::Observed => [bytes(row.sent), bytes(row.received)],
        Outcome::Denied | Outcome::Failed => ["-", "-"].map(str::to_owned),
    };
    let [sent, received] = carried;
    let port = row.port.map_or("dns".to_owned(), |port| port.to_string());
    [row.subject.to_string(), port, verdict, row.times.to_string(), sent, received]
}

/// Spells a number of bytes with three digits or so; k is a thousand.
fn bytes(number: u64) -> String {
    let mut unit = 1;
    for (name, next) in ["B", "kB", "MB", "GB", "TB"].into_iter().zip(1_u32..) {
        let limit = 1_000_u64.pow(next);
        if number < limit || name == "TB" {
            let (whole, tenth) = (number / unit, number % unit * 10 / unit);
            return if unit > 1 && whole < 10 {
                format!("{whole}.{tenth} {name}")
            } else {
                format!("{whole} {name}")
            };
        }
        unit = limit;
    }
    String::new()
}

const COLUMNS: usize = 6;
const TITLES: [&str; COLUMNS] = ["NAME", "PORT", "VERDICT", "TIMES", "SENT", "RECEIVED"];

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::facts::{Flow, FlowId, Moment, Name, Tick, Transport};
    use crate::record::{Closed, Decided, Ending, Event, Origin};

    fn hear(
        summary: &mut Summary,
        number: u64,
        name: Option<&str>,
        to: &str,
        verdict: (Reason, Option<Reason>),
    ) {
        let at = Moment { tick: Tick::default(), wall: SystemTime::UNIX_EPOCH };
        let source: SocketAddr = "10.111.0.2:40000".parse().unwrap();
        let flow = Flow::new(FlowId(number), source, to.parse().unwrap(), Transport::Tcp, at.tick);
        let name = name.map(|name| Name::parse(name).unwrap());
        summary.hear(&Event::Decided(Decided {
            flow,
            origin: Origin::default(),
            at,
            name: name.clone(),
            protocol: None,
            via: None,
            ech: false,
            fault: None,
            reason: verdict.0,
            would: verdict.1,
            rule: None,
            evidence: None,
            held: Duration::ZERO,
            over: None,
            later: false,
        }));
        let (ending, sent, received) = (Ending::Closed, 999 * number, 1_234_567 * number);
        summary.hear(&Event::Closed(Closed {
            flow,
            origin: Origin::default(),
            name,
            at,
            ending,
            sent,
            received,
            error: None,
        }));
    }

    #[test]
    fn a_run_is_a_table_with_the_denials_on_top() {
        let mut summary = Summary::default();
        hear(&mut summary, 1, Some("www.example.com"), "203.0.113.10:443", (Reason::Allowed, None));
        hear(&mut summary, 2, Some("www.example.com"), "203.0.113.10:443", (Reason::Allowed, None));
        hear(
            &mut summary,
            3,
            Some("a-rather-long.name.example.org"),
            "203.0.113.11:80",
            (Reason::NameNotAllowed, None),
        );
        hear(&mut summary, 4, None, "[2001:db8::5]:22", (Reason::Silent, None));
        let would = Some(Reason::PrivateAddress);
        hear(&mut summary, 5, Some("in.example.net"), "10.0.0.1:8443", (Reason::ObservedOnly, would));
        insta::assert_snapshot!(table(&summary));
        assert!(table(&Summary::default()).contains("no connections"));
    }

    #[test]
    fn bytes_are_told_in_few_digits() {
        for (number, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (9_999, "9.9 kB"),
            (12_345, "12 kB"),
            (1_234_567, "1.2 MB"),
            (5_000_000_000, "5.0 GB"),
            (u64::MAX, "18446744 TB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }
}
