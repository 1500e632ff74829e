//! A report as people read it: the file, the line, the offending text under carets, the next step.
//!
//! Must not know what the findings are about, nor where the text goes.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::finding::{Finding, Report, Severity, Source, Span};

impl Report {
    /// Renders every finding, with terminal colours or without.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let mut text = String::new();
        for finding in self.findings() {
            text.push_str(&renderer.render(&[self.group(finding)]));
            text.push_str("\n\n");
        }
        text
    }

    fn group<'a>(&'a self, finding: &'a Finding) -> Group<'a> {
        let level = match finding.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(finding.message.as_str()));
        if let Some(span) = finding.span {
            let other = finding.other.as_ref();
            let same = other.filter(|(other, _)| other.source == span.source);
            if let Some(source) = self.sources.get(span.source) {
                group = group.element(snippet(source, span, finding.label.as_deref(), same));
            }
            let elsewhere = other.filter(|(other, _)| other.source != span.source);
            if let Some((place, label)) = elsewhere
                && let Some(source) = self.sources.get(place.source)
            {
                group = group.element(snippet(source, *place, Some(label), None));
            }
        }
        match &finding.hint {
            Some(hint) => group.element(Level::HELP.with_name("hint").message(hint.as_str())),
            None => group,
        }
    }
}

/// Cuts the lines around the annotated places out of a source. The renderer sees only these, so that
/// many findings in a long file do not cost their product.
fn snippet<'a>(
    source: &'a Source,
    span: Span,
    label: Option<&'a str>,
    other: Option<&'a (Span, String)>,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let starts = [Some(span), other.map(|(span, _)| *span)].into_iter().flatten();
    let first = starts.clone().map(|span| source.line_of(span.start)).min().unwrap_or(0);
    let last = starts.map(|span| source.line_of(span.end.max(span.start + 1) - 1)).max().unwrap_or(0);
    let (from, to) = (source.line_start(first), source.line_start(last + 1));
    let cut = source.text.get(from..to).unwrap_or("");
    let within = |span: Span| {
        let end = span.end.clamp(span.start, to);
        span.start.saturating_sub(from).min(cut.len())..end.saturating_sub(from).min(cut.len())
    };
    let mut snippet = Snippet::source(cut)
        .line_start(first + 1)
        .path(source.path.to_string_lossy())
        .annotation(AnnotationKind::Primary.span(within(span)).label(label));
    if let Some((place, label)) = other {
        snippet = snippet.annotation(AnnotationKind::Context.span(within(*place)).label(label.as_str()));
    }
    snippet
}
