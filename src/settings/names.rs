//! The names of a rule: patterns in the configuration itself and in files of one pattern a line.
//!
//! Knows files and places. What a pattern means is the gate's matter.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::gate::{Pattern, PatternFault};

use super::finding::{Finding, Source, Span};
use super::scalar::Complaint;
use super::section::{Section, Text};

/// Reads `names` and `names_from`; `None`: there are none, or some are faulty, and it has been said.
pub(super) fn read(section: &mut Section<'_>, wide: bool) -> Option<Vec<Pattern>> {
    let before = section.sheet.errors();
    let mut patterns = Vec::new();
    for text in section.texts("names").unwrap_or_default() {
        add(section, text, wide, &mut patterns);
    }
    if let Some(file) = section.text("names_from") {
        read_file(section, file, wide, &mut patterns);
    }
    if section.sheet.errors() > before {
        return None;
    }
    if patterns.is_empty() {
        section.missing("the rule names nothing", "names = [\"example.com\", \"*.example.com\"]");
        return None;
    }
    Some(patterns)
}

fn add(section: &Section<'_>, text: Text<'_>, wide: bool, patterns: &mut Vec<Pattern>) {
    match Pattern::parse(text.value, wide) {
        Ok(pattern) => patterns.push(pattern),
        Err(fault) => section.complain(text.span, complaint(fault, text.value)),
    }
}

fn read_file(section: &Section<'_>, file: Text<'_>, wide: bool, patterns: &mut Vec<Pattern>) {
    let path = section.base.join(file.value);
    let text = match read_bounded(&path, LARGEST_LIST) {
        Ok(text) => text,
        Err(why) => {
            let finding = Finding::error(file.span, format!("cannot read {}", path.display())).label(why);
            section
                .sheet
                .push(finding.hint("one pattern a line; a relative path starts at this file's directory"));
            return;
        }
    };
    let source = section.sheet.add_source(Source::new(&path, text.clone()));
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let kept = line.split('#').next().unwrap_or("");
        let word = kept.trim();
        if !word.is_empty() {
            let at = start + (kept.len() - kept.trim_start().len());
            let span = Span { source, start: at, end: at + word.len() };
            add(section, Text { value: word, span }, wide, patterns);
        }
        start += line.len();
    }
}

/// Reads a regular file of at most `limit` bytes as text. A pipe or device could block for ever, or never end.
pub(super) fn read_bounded(path: &Path, limit: u64) -> Result<String, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > limit {
        return Err(format!("larger than {} MiB", limit >> 20));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error
            .as_bytes()
            .iter()
            .take(error.utf8_error().valid_up_to())
            .filter(|byte| **byte == b'\n')
            .count();
        format!("not UTF-8 (line {})", line + 1)
    })
}

/// Turns the gate's fault into a complaint; a URL is a slip that deserves a hint of its own.
fn complaint(fault: PatternFault, text: &str) -> Complaint {
    let host = text.split_once("://").map(|(_, rest)| rest.split(['/', ':', '?']).next().unwrap_or(rest));
    match host.filter(|host| Pattern::parse(host, true).is_ok()) {
        Some(host) => Complaint::new("URL in place of a name")
            .hint(format!("names stand without scheme, port and path: \"{host}\"")),
        None => Complaint::new(fault.as_str()).hint(fault.hint()),
    }
}

/// Half a million names of usual length.
const LARGEST_LIST: u64 = 16 << 20;
