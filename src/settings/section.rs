//! Reads one table key by key: typed values with their places, and in the end whatever nobody asked for.
//!
//! Must not know what the keys mean. Every fault goes to the sheet and reading goes on.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::finding::{Finding, Severity, Sheet, Span};
use super::scalar::{Complaint, duration, spell_duration};
use super::suggest::nearest;

/// A string value and where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) value: &'a str,
    pub(super) span: Span,
}

/// A value of any kind and where it stands.
pub(super) type Value<'a> = &'a Spanned<DeValue<'a>>;

/// One table under reading.
pub(super) struct Section<'a> {
    pub(super) sheet: &'a Sheet,
    /// The directory that relative paths start at.
    pub(super) base: &'a Path,
    /// Where the table's header stands; `None`: the table is not there, all defaults hold.
    pub(super) at: Option<Span>,
    name: &'static str,
    table: Option<&'a DeTable<'a>>,
    source: usize,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// Starts reading the document's own table.
    pub(super) fn document(sheet: &'a Sheet, base: &'a Path, source: usize, table: &'a DeTable<'a>) -> Self {
        Self { sheet, base, at: None, name: "", table: Some(table), source, known: Vec::new() }
    }

    /// Takes a table out of this one.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'a> {
        let mut child = Self {
            sheet: self.sheet,
            base: self.base,
            at: None,
            name: key,
            table: None,
            source: self.source,
            known: Vec::new(),
        };
        if let Some(value) = self.value(key) {
            child.at = Some(self.span(value.span()));
            child.table = value.get_ref().as_table();
            if child.table.is_none() {
                self.mistyped(value, key, "a table")
                    .hint(format!("write it under a [{key}] header"))
                    .tell(self);
            }
        }
        child
    }

    /// Takes an array of tables out of this one.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<Section<'a>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let hint = format!("start each with a [[{key}]] header");
        let Some(items) = value.get_ref().as_array() else {
            self.mistyped(value, key, "a list of tables").hint(hint).tell(self);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in items.iter() {
            let Some(table) = item.get_ref().as_table() else {
                self.mistyped(item, key, "a list of tables").hint(hint.as_str()).tell(self);
                continue;
            };
            sections.push(Section {
                sheet: self.sheet,
                base: self.base,
                at: Some(self.span(item.span())),
                name: key,
                table: Some(table),
                source: self.source,
                known: Vec::new(),
            });
        }
        sections
    }

    /// Takes any value.
    pub(super) fn value(&mut self, key: &'static str) -> Option<Value<'a>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table?.get(key)
    }

    /// Takes a string.
    pub(super) fn text(&mut self, key: &'static str) -> Option<Text<'a>> {
        let value = self.value(key)?;
        let text = self.as_text(value);
        if text.is_none() {
            self.mistyped(value, key, "a string").tell(self);
        }
        text
    }

    /// Takes a list of strings; one string alone counts as a list of one.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<Text<'a>>> {
        let value = self.value(key)?;
        if let Some(text) = self.as_text(value) {
            return Some(vec![text]);
        }
        let Some(items) = value.get_ref().as_array() else {
            self.mistyped(value, key, "a list of strings").tell(self);
            return None;
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items.iter() {
            match self.as_text(item) {
                Some(text) => texts.push(text),
                None => self.mistyped(item, key, "a list of strings").tell(self),
            }
        }
        Some(texts)
    }

    /// Takes a list of strings and parses each; `None`: the key is not there.
    pub(super) fn parsed_list<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Complaint>,
    ) -> Option<Vec<T>> {
        let texts = self.texts(key)?;
        Some(texts.into_iter().filter_map(|text| self.parse(text, &parse)).collect())
    }

    /// Takes a string and parses it.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Complaint>,
    ) -> Option<T> {
        let text = self.text(key)?;
        self.parse(text, &parse)
    }

    fn parse<T>(&self, text: Text<'_>, parse: &impl Fn(&str) -> Result<T, Complaint>) -> Option<T> {
        parse(text.value).map_err(|complaint| self.complain(text.span, complaint)).ok()
    }

    /// Takes one of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
    ) -> Option<(T, Span)> {
        let text = self.text(key)?;
        choose(text.value, words)
            .map_err(|complaint| self.complain(text.span, complaint))
            .ok()
            .map(|value| (value, text.span))
    }

    /// Takes `true` or `false`; absent is `false`.
    pub(super) fn flag(&mut self, key: &'static str) -> (bool, Option<Span>) {
        let Some(value) = self.value(key) else { return (false, None) };
        let Some(flag) = value.get_ref().as_bool() else {
            self.mistyped(value, key, "true or false").hint("without quotes").tell(self);
            return (false, None);
        };
        (flag, Some(self.span(value.span())))
    }

    /// Takes a whole number within bounds.
    pub(super) fn number<T>(&mut self, key: &'static str, bounds: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + Display + Copy,
    {
        let value = self.value(key)?;
        let Some(number) = integer(value) else {
            self.mistyped(value, key, "a whole number").tell(self);
            return None;
        };
        let fits =
            number.and_then(|number| T::try_from(number).ok()).filter(|number| bounds.contains(number));
        if fits.is_none() {
            let finding = Finding::error(self.span(value.span()), format!("`{key}` is out of bounds"))
                .hint(format!("{} to {}", bounds.start(), bounds.end()));
            self.sheet.push(finding);
        }
        fits
    }

    /// Takes a duration within bounds.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        bounds: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(value) = self.value(key) else { return default };
        let span = self.span(value.span());
        let Some(text) = value.get_ref().as_str() else {
            let example = spell_duration(default.max(Duration::from_secs(1)));
            self.mistyped(value, key, "a duration")
                .hint(format!("with a unit, in quotes: \"{example}\""))
                .tell(self);
            return default;
        };
        match duration(text) {
            Ok(parsed) if bounds.contains(&parsed) => return parsed,
            Ok(_) => {
                let (low, high) = (spell_duration(*bounds.start()), spell_duration(*bounds.end()));
                let finding = Finding::error(span, format!("`{key}` is out of bounds"));
                self.sheet.push(finding.hint(format!("{low} to {high}")));
            }
            Err(complaint) => self.complain(span, complaint),
        }
        default
    }

    /// Refuses a key that other versions have.
    pub(super) fn unavailable(&mut self, key: &'static str, instead: &str) {
        let Some(value) = self.value(key) else { return };
        let message = format!("`{}.{key}` is not available in this version", self.name);
        self.sheet.push(Finding::error(self.span(value.span()), message).hint(instead));
    }

    /// Refuses keys that would change nothing where they stand.
    pub(super) fn without_effect(&mut self, keys: &[&'static str], because: &str, hint: &str) {
        for key in keys {
            if let Some(value) = self.value(key) {
                let message = format!("`{key}` has no effect {because}");
                self.sheet.push(Finding::error(self.span(value.span()), message).hint(hint));
            }
        }
    }

    /// Reports something that should be in this table and is not.
    pub(super) fn missing(&self, message: &str, hint: &str) {
        let finding = match self.at {
            Some(span) => Finding::error(span, message),
            None => Finding::absence(Severity::Error, message),
        };
        self.sheet.push(finding.hint(hint));
    }

    /// Reports a complaint about the text at a place.
    pub(super) fn complain(&self, span: Span, complaint: Complaint) {
        let finding = Finding::error(span, complaint.what);
        self.sheet.push(match complaint.hint {
            Some(hint) => finding.hint(hint),
            None => finding,
        });
    }

    /// Ends the reading: every key that nobody asked for is unknown.
    pub(super) fn finish(self) {
        let Some(table) = self.table else { return };
        for (key, _) in table.iter() {
            let word: &str = key.get_ref();
            if self.known.contains(&word) {
                continue;
            }
            let message = match self.name {
                "" => format!("unknown key `{word}`"),
                name => format!("unknown key `{word}` in [{name}]"),
            };
            let hint = match nearest(word, self.known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            self.sheet.push(Finding::error(self.span(key.span()), message).hint(hint));
        }
    }

    /// Places a range of bytes in this table's source.
    pub(super) fn span(&self, range: Range<usize>) -> Span {
        Span { source: self.source, start: range.start, end: range.end }
    }

    pub(super) fn as_text(&self, value: Value<'a>) -> Option<Text<'a>> {
        value.get_ref().as_str().map(|text| Text { value: text, span: self.span(value.span()) })
    }

    pub(super) fn mistyped(&self, value: Value<'_>, key: &str, wanted: &str) -> Finding {
        let found = value.get_ref().type_str();
        Finding::error(self.span(value.span()), format!("`{key}` must be {wanted}"))
            .label(format!("found {found}"))
    }
}

impl Finding {
    fn tell(self, section: &Section<'_>) {
        section.sheet.push(self);
    }
}

/// Reads an integer; `Some(None)`: an integer too big to count with.
pub(super) fn integer(value: Value<'_>) -> Option<Option<i64>> {
    let number = value.get_ref().as_integer()?;
    Some(i64::from_str_radix(number.as_str(), number.radix()).ok())
}

/// Finds a word among a few.
pub(super) fn choose<T: Copy>(text: &str, words: &[(&'static str, T)]) -> Result<T, Complaint> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let list = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let hint = match nearest(text, words.iter().map(|(word, _)| *word)) {
        Some(near) => format!("did you mean \"{near}\"? Known here: {list}"),
        None => format!("one of {list}"),
    };
    Err(Complaint::new(format!("unknown value \"{}\"", text.escape_debug())).hint(hint))
}
