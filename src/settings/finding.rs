//! Findings: what is wrong or doubtful in a configuration, and where it stands.
//!
//! Collects everything instead of stopping at the first fault. Must not know what any key means.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It is taken; the operator should know.
    Warning,
}

impl Severity {
    /// Returns the lower-case word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A stretch of bytes in one of the sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) source: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// One finding.
#[derive(Debug, Clone)]
pub struct Finding {
    pub(super) severity: Severity,
    pub(super) message: String,
    pub(super) label: Option<String>,
    pub(super) span: Option<Span>,
    pub(super) other: Option<(Span, String)>,
    pub(super) hint: Option<String>,
}

impl Finding {
    pub(super) fn error(span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, Some(span), message)
    }

    pub(super) fn warning(span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, Some(span), message)
    }

    /// A finding about something that is not there.
    pub(super) fn absence(severity: Severity, message: impl Into<String>) -> Self {
        Self::new(severity, None, message)
    }

    fn new(severity: Severity, span: Option<Span>, message: impl Into<String>) -> Self {
        Self { severity, message: message.into(), label: None, span, other: None, hint: None }
    }

    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    pub(super) fn other(mut self, span: Span, label: impl Into<String>) -> Self {
        self.other = Some((span, label.into()));
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Returns how grave it is.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// Returns what is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the next step, where one is known.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// A text that findings point into.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// Byte offset of the start of every line.
    lines: Vec<usize>,
}

impl Source {
    pub(super) fn new(path: &Path, text: String) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(starts).collect();
        Self { path: path.to_owned(), text, lines }
    }

    /// Index of the line that holds this byte, from zero.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// Byte offset at which a line starts; the length of the text for one that does not exist.
    pub(super) fn line_start(&self, line: usize) -> usize {
        self.lines.get(line).copied().unwrap_or(self.text.len())
    }

    fn column_of(&self, offset: usize) -> usize {
        let start = self.line_start(self.line_of(offset));
        self.text.get(start..offset).map_or(1, |before| before.chars().count() + 1)
    }
}

/// Where a finding stands, as people count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The file, or `<arguments>`.
    pub path: &'a Path,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The offending text.
    pub text: &'a str,
}

/// Everything that was found in one configuration, in file order.
#[derive(Debug, Clone)]
pub struct Report {
    pub(super) sources: Vec<Source>,
    findings: Vec<Finding>,
}

impl Report {
    /// Returns the findings: by file, then by position; what is missing altogether comes last.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Counts the findings that refuse the configuration.
    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error).count()
    }

    /// Counts the findings that do not.
    pub fn warnings(&self) -> usize {
        self.findings.len() - self.errors()
    }

    /// Returns where a finding stands; `None` for something that is not there.
    pub fn place(&self, finding: &Finding) -> Option<Place<'_>> {
        let span = finding.span?;
        let source = self.sources.get(span.source)?;
        Some(Place {
            path: &source.path,
            line: source.line_of(span.start) + 1,
            column: source.column_of(span.start),
            text: source.text.get(span.start..span.end).unwrap_or(""),
        })
    }

    /// Returns the first error in one line, `file:line:column: message`, for logs.
    pub fn headline(&self) -> String {
        let first = self.findings.iter().find(|finding| finding.severity == Severity::Error);
        let Some(finding) = first else { return "no errors".to_owned() };
        match self.place(finding) {
            Some(place) => {
                format!("{}:{}:{}: {}", place.path.display(), place.line, place.column, finding.message)
            }
            None => finding.message.clone(),
        }
    }

    /// Returns the files that make up the configuration, the main one first.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.sources.iter().map(|source| source.path.as_path())
    }
}

/// Collects sources and findings while a configuration is read.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    sources: RefCell<Vec<Source>>,
    findings: RefCell<Vec<Finding>>,
}

impl Sheet {
    /// Adds a text to point into; returns its index.
    pub(super) fn add_source(&self, source: Source) -> usize {
        let mut sources = self.sources.borrow_mut();
        sources.push(source);
        sources.len() - 1
    }

    pub(super) fn push(&self, finding: Finding) {
        self.findings.borrow_mut().push(finding);
    }

    /// How many errors there are so far.
    pub(super) fn errors(&self) -> usize {
        self.findings.borrow().iter().filter(|finding| finding.severity == Severity::Error).count()
    }

    pub(super) fn into_report(self) -> Report {
        let mut findings = self.findings.into_inner();
        findings
            .sort_by_key(|finding| finding.span.map_or((usize::MAX, 0), |span| (span.source, span.start)));
        Report { sources: self.sources.into_inner(), findings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let sheet = Sheet::default();
        let source = sheet.add_source(Source::new(Path::new("a.toml"), "x\n\"bü\" = 1\n".to_owned()));
        sheet.push(Finding::absence(Severity::Error, "last"));
        sheet.push(Finding::error(Span { source, start: 10, end: 11 }, "second"));
        sheet.push(Finding::error(Span { source, start: 0, end: 1 }, "first"));
        let report = sheet.into_report();
        let order: Vec<_> = report.findings().iter().map(Finding::message).collect();
        assert_eq!(order, ["first", "second", "last"]);
        let place = report.place(&report.findings()[1]).unwrap();
        assert_eq!((place.line, place.column, place.text), (2, 8, "1"));
        assert_eq!(report.headline(), "a.toml:1:1: first");
    }

    #[test]
    fn a_span_past_the_end_of_the_text_is_still_a_place() {
        let source = Source::new(Path::new("a"), String::new());
        assert_eq!(source.line_of(10), 0);
        assert_eq!(source.line_start(3), 0);
    }
}
