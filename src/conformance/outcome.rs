//! What the suite found, as a table for people and as JSON for programs.
//!
//! Prints nothing.

use serde::Serialize;

use super::reach::OUT_OF_REACH;

/// What came of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// An attack that did not come through.
    Blocked,
    /// An attack that did.
    Leaked,
    /// An ordinary use that went through.
    Works,
    /// One that did not.
    Broke,
    /// What had to come first did not work.
    Untried,
}

impl Fate {
    const fn words(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Leaked => "LEAKED",
            Self::Works => "works",
            Self::Broke => "BROKE",
            Self::Untried => "untried",
        }
    }
}

/// One trial and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Number in the catalogue of attacks; `None`: an ordinary use.
    pub number: Option<u8>,
    /// Its name.
    pub name: &'static str,
    /// In words.
    pub tried: &'static str,
    /// What came of it.
    pub fate: Fate,
    /// What was seen.
    pub seen: String,
    /// Whether it is as expected of this filter.
    pub expected: bool,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The filter's command.
    pub filter: String,
    /// In the order in which they were tried.
    pub rows: Vec<Row>,
}

impl Outcome {
    /// Whether every row is as it should be.
    pub fn as_expected(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.expected)
    }

    /// The rows in columns, what was out of reach, and the sum.
    pub fn table(&self, colour: bool) -> String {
        let (bold, red, green, plain) = if colour { COLOURS } else { ("", "", "", "") };
        let width = |cell: fn(&Row) -> &str| self.rows.iter().map(|row| cell(row).chars().count()).max();
        let (name, tried) = (width(|row| row.name).unwrap_or(0), width(|row| row.tried).unwrap_or(0));
        let mut text = format!("  {bold} #  {:name$}  {:tried$}  outcome{plain}\n", "name", "tried");
        for row in &self.rows {
            let number = row.number.map_or(" -".to_owned(), |number| format!("{number:2}"));
            let (mark, hue) = if row.expected { (' ', "") } else { ('!', red) };
            let end = if row.expected { "" } else { plain };
            let fate = row.fate.words();
            let mut line = format!("{hue}{mark} {number}  {:name$}  {:tried$}  {fate}", row.name, row.tried);
            if !row.seen.is_empty() {
                line.push_str(&format!(": {}", row.seen));
            }
            text.push_str(&format!("{}{end}\n", line.trim_end()));
        }
        text.push_str(&format!("\n  {bold}not tried here{plain}\n"));
        for (number, name, why) in OUT_OF_REACH {
            text.push_str(&format!("  {number:2}  {name:20}  {why}\n"));
        }
        let hue = if self.as_expected() { green } else { red };
        text + &format!("\n{hue}{}{plain}\n", self.sum())
    }

    /// The same as a JSON object, its newline included.
    pub fn json(&self) -> String {
        let out: Vec<_> = OUT_OF_REACH
            .iter()
            .map(|(number, name, why)| serde_json::json!({ "number": number, "name": name, "why": why }))
            .collect();
        let value = serde_json::json!({
            "filter": self.filter,
            "as_expected": self.as_expected(),
            "rows": self.rows,
            "out_of_reach": out,
        });
        format!("{value:#}\n")
    }

    fn sum(&self) -> String {
        let count = |fate| self.rows.iter().filter(|row| row.fate == fate).count();
        let [blocked, leaked, works, broke, untried] =
            [Fate::Blocked, Fate::Leaked, Fate::Works, Fate::Broke, Fate::Untried].map(count);
        let mut sum = format!(
            "attacks: {blocked} blocked, {leaked} leaked; ordinary uses: {works} work, {broke} broke"
        );
        if untried > 0 {
            sum.push_str(&format!("; {untried} could not be tried"));
        }
        sum
    }
}

/// Bold, red, green, plain (ECMA-48 SGR).
const COLOURS: (&str, &str, &str, &str) = ("\u{1b}[1m", "\u{1b}[1;91m", "\u{1b}[1;92m", "\u{1b}[0m");

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        let row = |number, name, tried, fate, seen: &str, expected| Row {
            number,
            name,
            tried,
            fate,
            seen: seen.to_owned(),
            expected,
        };
        Outcome {
            filter: "my-filter".to_owned(),
            rows: vec![
                row(None, "tls", "a page over TLS", Fate::Works, "", true),
                row(
                    Some(2),
                    "sni-spoof",
                    "an allowed name at the attacker's",
                    Fate::Leaked,
                    "517 bytes at 203.0.113.66:443",
                    false,
                ),
                row(Some(19), "record-split", "a denied name in pieces", Fate::Blocked, "", true),
            ],
        }
    }

    #[test]
    fn the_table_marks_what_is_not_as_expected_and_ends_with_the_sum() {
        let table = outcome().table(false);
        let shown: Vec<&str> = table.lines().take(4).chain(table.lines().last()).collect();
        insta::assert_snapshot!(shown.join("\n"), @r"
           #  name          tried                              outcome
           -  tls           a page over TLS                    works
        !  2  sni-spoof     an allowed name at the attacker's  LEAKED: 517 bytes at 203.0.113.66:443
          19  record-split  a denied name in pieces            blocked
        attacks: 1 blocked, 1 leaked; ordinary uses: 1 work, 0 broke
        ");
        assert!(!outcome().as_expected());
    }

    #[test]
    fn the_json_has_every_row_and_what_was_out_of_reach() {
        let value: serde_json::Value = serde_json::from_str(&outcome().json()).unwrap();
        assert_eq!(value["as_expected"], false);
        assert_eq!(value["rows"][1]["fate"], "leaked");
        assert_eq!(value["rows"][0]["number"], serde_json::Value::Null);
        assert_eq!(value["out_of_reach"].as_array().unwrap().len(), OUT_OF_REACH.len());
    }
}
