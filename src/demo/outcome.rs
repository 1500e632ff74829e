//! What the demo found, as a table for people and as JSON for programs.
//!
//! Prints nothing.

use serde_json::{Value, json};

use crate::gate::Reason;

/// One thing that was tried, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What was tried.
    pub tried: &'static str,
    /// What the client heard.
    pub heard: String,
    /// The reason in the audit log; `None`: it has no line.
    pub reason: Option<String>,
    /// The reason that was expected; `None`: the gate is dead and can give none.
    pub expected: Option<Reason>,
    /// The id in the audit line.
    pub id: Option<String>,
    /// Whether it should not have come through.
    pub bypass: bool,
    /// What was not as expected.
    pub fault: Option<String>,
}

impl Row {
    /// Whether client, servers and audit log all say what they should.
    pub fn ok(&self) -> bool {
        self.fault.is_none()
    }

    /// The row as the table shows it, but for the mark.
    fn cells(&self) -> [&str; 4] {
        let (reason, id) = (self.reason.as_deref(), self.id.as_deref());
        [self.tried, &self.heard, reason.unwrap_or("-"), id.unwrap_or("-")]
    }
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// In the order in which they were tried.
    pub rows: Vec<Row>,
}

const HEADER: [&str; 4] = ["tried", "what happened", "reason", "audit line"];

impl Outcome {
    /// Whether every row is as it should be.
    pub fn as_expected(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(Row::ok)
    }

    /// The rows in columns, what was not as expected under each row, and the sum.
    pub fn table(&self, colour: bool) -> String {
        let (bold, red, green, plain) = if colour { COLOURS } else { ("", "", "", "") };
        let mut widths = HEADER.map(str::len);
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row.cells()) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let [tried, heard, reason, _] = widths;
        let line = |cells: [&str; 4]| {
            let [one, two, three, four] = cells;
            format!("{one:tried$}  {two:heard$}  {three:reason$}  {four}")
        };
        let mut text = format!("  {bold}{}{plain}\n", line(HEADER));
        for row in &self.rows {
            let cells = line(row.cells());
            match &row.fault {
                None => text.push_str(&format!("  {cells}\n")),
                Some(fault) => text.push_str(&format!("{red}! {cells}\n  not as expected: {fault}{plain}\n")),
            }
        }
        let hue = if self.as_expected() { green } else { red };
        text + &format!("\n{hue}{}{plain}\n", self.sum())
    }

    /// The same as a JSON object, its newline included.
    pub fn json(&self) -> String {
        let rows: Vec<Value> = self.rows.iter().map(spell).collect();
        let (died, passed) = self.counts();
        let value = json!({
            "as_expected": self.as_expected(),
            "bypasses_died": died,
            "connections_passed": passed,
            "rows": rows,
        });
        format!("{value:#}\n")
    }

    /// Bypasses that died and connections that passed, as they should.
    fn counts(&self) -> (usize, usize) {
        let count = |bypass| self.rows.iter().filter(|row| row.ok() && row.bypass == bypass).count();
        (count(true), count(false))
    }

    fn sum(&self) -> String {
        let (died, passed) = self.counts();
        let bypasses = plural(died, "bypass", "bypasses");
        let connections = plural(passed, "connection", "connections");
        let sum = format!("{bypasses} died, {connections} passed");
        let wrong = self.rows.len() - died - passed;
        if wrong == 0 { sum } else { format!("{sum}, {wrong} not as expected") }
    }
}

/// Bold, red, green, plain (ECMA-48 SGR).
const COLOURS: (&str, &str, &str, &str) = ("\u{1b}[1m", "\u{1b}[1;91m", "\u{1b}[1;92m", "\u{1b}[0m");

fn plural(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn spell(row: &Row) -> Value {
    let mut value = json!({
        "tried": row.tried,
        "heard": row.heard,
        "reason": row.reason,
        "expected": row.expected.map(Reason::code),
        "id": row.id,
        "bypass": row.bypass,
        "ok": row.ok(),
    });
    if let Some(fault) = &row.fault {
        value["fault"] = json!(fault);
    }
    value
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn outcome(fault: Option<&str>) -> Outcome {
        let row = |tried, heard: &str, reason: Option<Reason>, bypass| Row {
            tried,
            heard: heard.to_owned(),
            reason: reason.map(|reason| reason.code().to_owned()),
            expected: reason,
            id: reason.map(|_| "00000000000000ab".to_owned()),
            bypass,
            fault: None,
        };
        let mut rows = vec![
            row("HTTPS to an allowed name", "passed", Some(Reason::Allowed), false),
            row("no SNI", "TLS alert: access denied", Some(Reason::Nameless), true),
            row("the gate is killed", "connection refused", None, true),
        ];
        rows.last_mut().unwrap().fault = fault.map(str::to_owned);
        Outcome { rows }
    }

    #[test]
    fn the_table_is_aligned_and_ends_with_the_sum() {
        insta::assert_snapshot!(outcome(None).table(false), @r"
          tried                     what happened             reason    audit line
          HTTPS to an allowed name  passed                    allowed   00000000000000ab
          no SNI                    TLS alert: access denied  nameless  00000000000000ab
          the gate is killed        connection refused        -         -

        2 bypasses died, 1 connection passed
        ");
    }

    #[test]
    fn what_is_not_as_expected_is_marked_and_counted() {
        let outcome = outcome(Some("a connection arrived at 203.0.113.66:443, with 517 bytes"));
        assert!(!outcome.as_expected());
        insta::assert_snapshot!(outcome.table(false), @r"
          tried                     what happened             reason    audit line
          HTTPS to an allowed name  passed                    allowed   00000000000000ab
          no SNI                    TLS alert: access denied  nameless  00000000000000ab
        ! the gate is killed        connection refused        -         -
          not as expected: a connection arrived at 203.0.113.66:443, with 517 bytes

        1 bypass died, 1 connection passed, 1 not as expected
        ");
        let coloured = outcome.table(true);
        assert!(coloured.contains("\u{1b}[1;91m! the gate is killed"), "{coloured}");
    }

    #[test]
    fn the_json_has_every_row() {
        let value: Value = serde_json::from_str(&outcome(None).json()).unwrap();
        assert_eq!((&value["as_expected"], &value["bypasses_died"]), (&json!(true), &json!(2)));
        assert_eq!(value["rows"][1]["expected"], "nameless");
        assert_eq!(value["rows"][2]["reason"], Value::Null);
    }

    #[test]
    fn nothing_tried_is_not_as_expected() {
        assert!(!Outcome { rows: Vec::new() }.as_expected());
    }
}
