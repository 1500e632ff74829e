//! A JSON object written straight into a byte buffer, one line, no tree in between.
//!
//! Text that a stranger chose cannot end the string, the line, or steer a terminal. It knows no events.

use std::fmt::{self, Display, Write};
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;

/// An open object. What is never filled in leaves no trace.
#[derive(Debug)]
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    /// Writes one object and a newline.
    pub(super) fn line(out: &'a mut Vec<u8>, fill: impl FnOnce(&mut Object<'_>)) {
        out.push(b'{');
        fill(&mut Object { out, empty: true });
        out.extend_from_slice(b"}\n");
    }

    /// Writes a text.
    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        quoted(self.out, value);
    }

    /// Writes a text where there is one.
    pub(super) fn maybe(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    /// Writes a text under a key that a stranger chose.
    pub(super) fn pair(&mut self, key: &str, value: &str) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        quoted(self.out, key);
        self.out.push(b':');
        quoted(self.out, value);
    }

    /// Writes the text form of a value.
    pub(super) fn shown(&mut self, key: &str, value: impl Display) {
        self.key(key);
        shown(self.out, value);
    }

    /// Writes a number.
    pub(super) fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        plain(self.out, value);
    }

    /// Writes `true`.
    pub(super) fn truth(&mut self, key: &str) {
        self.key(key);
        self.out.extend_from_slice(b"true");
    }

    /// Writes an instant as RFC 3339 in UTC with microseconds; one that no calendar has is brought to the
    /// nearest that it has.
    pub(super) fn time(&mut self, key: &str, value: SystemTime) {
        self.key(key);
        self.out.push(b'"');
        let stamp = Timestamp::try_from(value).unwrap_or(if value < SystemTime::UNIX_EPOCH {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        });
        // Writing to memory cannot fail.
        let _ = MICROS.print_timestamp(&stamp, &mut *self.out);
        self.out.push(b'"');
    }

    /// Writes an object, unless nothing is put into it.
    pub(super) fn object(&mut self, key: &str, fill: impl FnOnce(&mut Object<'_>)) {
        let (start, empty) = (self.out.len(), self.empty);
        self.key(key);
        self.out.push(b'{');
        let mut inner = Object { out: self.out, empty: true };
        fill(&mut inner);
        if inner.empty {
            self.out.truncate(start);
            self.empty = empty;
        } else {
            self.out.push(b'}');
        }
    }

    /// Writes a list of text forms, unless there are none.
    pub(super) fn list<T: Display>(&mut self, key: &str, values: impl IntoIterator<Item = T>) {
        self.each(key, values, |out, value| shown(out, value));
    }

    /// Writes a list of objects, unless there are none.
    pub(super) fn objects<T>(
        &mut self,
        key: &str,
        values: impl IntoIterator<Item = T>,
        mut fill: impl FnMut(&mut Object<'_>, T),
    ) {
        self.each(key, values, |out, value| {
            out.push(b'{');
            fill(&mut Object { out, empty: true }, value);
            out.push(b'}');
        });
    }

    fn each<T>(
        &mut self,
        key: &str,
        values: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Vec<u8>, T),
    ) {
        let mut values = values.into_iter().peekable();
        if values.peek().is_none() {
            return;
        }
        self.key(key);
        let mut separator = b'[';
        for value in values {
            self.out.push(separator);
            write(self.out, value);
            separator = b',';
        }
        self.out.push(b']');
    }

    /// Keys are ours and need no escape.
    fn key(&mut self, key: &str) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }
}

const MICROS: DateTimePrinter = DateTimePrinter::new().precision(Some(6));

fn quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    escaped(out, text);
    out.push(b'"');
}

fn shown(out: &mut Vec<u8>, value: impl Display) {
    out.push(b'"');
    // Writing to memory cannot fail.
    let _ = write!(Escaping(out), "{value}");
    out.push(b'"');
}

fn plain(out: &mut Vec<u8>, mut value: u64) {
    let start = out.len();
    loop {
        out.push(b'0' + u8::try_from(value % 10).unwrap_or(0));
        value /= 10;
        if value == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
}

/// RFC 8259 section 7, and more than it asks: whatever some reader takes for the end of a line, and
/// whatever turns text around on a screen.
fn escaped(out: &mut Vec<u8>, text: &str) {
    let mut rest = text;
    // Nearly all that is ever written.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        return out.extend_from_slice(text.as_bytes());
    }
    while let Some(at) = rest.find(is_unsafe) {
        let (clean, from) = rest.split_at(at);
        out.extend_from_slice(clean.as_bytes());
        let mut chars = from.chars();
        match chars.next() {
            Some('"') => out.extend_from_slice(b"\\\""),
            Some('\\') => out.extend_from_slice(b"\\\\"),
            // Every other unsafe character is in the Basic Multilingual Plane: four digits do.
            Some(other) => out.extend_from_slice(format!("\\u{:04x}", u32::from(other)).as_bytes()),
            None => {}
        }
        rest = chars.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
}

fn is_unsafe(char: char) -> bool {
    match char {
        '"' | '\\' => true,
        ' '..='~' => false,
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => true,
        other => other.is_control(),
    }
}

struct Escaping<'a>(&'a mut Vec<u8>);

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escaped(self.0, text);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(fill: impl FnOnce(&mut Object<'_>)) -> String {
        let mut out = Vec::new();
        Object::line(&mut out, fill);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn objects_that_stay_empty_leave_no_trace() {
        let text = line(|root| {
            root.object("a", |_| {});
            root.number("b", 1);
            root.object("c", |inner| inner.object("d", |_| {}));
            root.list("e", [0_u8; 0]);
            root.list("f", ["x", "y"]);
        });
        assert_eq!(text, "{\"b\":1,\"f\":[\"x\",\"y\"]}\n");
    }

    #[test]
    fn instants_outside_the_calendar_are_brought_inside() {
        use std::time::Duration;
        let text = line(|root| {
            root.time("early", SystemTime::UNIX_EPOCH - Duration::from_micros(1));
            root.time("late", SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 60));
        });
        assert_eq!(
            text,
            "{\"early\":\"1969-12-31T23:59:59.999999Z\",\"late\":\"9999-12-30T22:00:00.999999Z\"}\n"
        );
    }

    proptest! {
        #[test]
        fn any_text_comes_back_whole_and_stays_on_its_line(text in any::<String>()) {
            let written = line(|root| { root.text("key", &text); root.shown("shown", &text); });
            let body = written.strip_suffix('\n').unwrap();
            let ends = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202e}');
            prop_assert!(!body.chars().any(ends));
            let parsed: serde_json::Value = serde_json::from_str(body).unwrap();
            prop_assert_eq!(parsed["key"].as_str(), Some(text.as_str()));
            prop_assert_eq!(parsed["shown"].as_str(), Some(text.as_str()));
        }
    }
}
