//! Diagnostics as text.

use crate::diagnostic::{Diagnostic, Place, Severity};
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// Lines with more bytes are named, and not shown.
const SHOWN_LIMIT: usize = 16 << 10;

pub(crate) fn render(diagnostic: &Diagnostic, colour: bool) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level
        .primary_title(diagnostic.message.as_str())
        .id(diagnostic.code);
    let mut group = Group::with_title(title);
    if let Some(place) = &diagnostic.place {
        group = add(group, place, AnnotationKind::Primary);
    }
    for place in &diagnostic.related {
        group = add(group, place, AnnotationKind::Context);
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    let renderer = if colour {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    renderer.render(&[group]).trim_end().to_string()
}

fn add<'a>(group: Group<'a>, place: &'a Place, kind: AnnotationKind) -> Group<'a> {
    let source = &place.source;
    let Some(span) = place.span.as_ref().filter(|_| !source.text().is_empty()) else {
        return group.element(Origin::path(source.file()));
    };
    // Only the lines that are shown: a large file with many problems would take long otherwise.
    let (text, first, within) = source.lines(span);
    if text.len() > SHOWN_LIMIT || !place.shown {
        let (line, column) = source.line_column(span.start);
        let origin = Origin::path(source.file()).line(line).char_column(column);
        return group.element(origin);
    }
    let mut annotation = kind.span(within);
    if !place.label.is_empty() {
        annotation = annotation.label(place.label.as_str());
    }
    group.element(
        Snippet::source(text)
            .line_start(first)
            .path(source.file())
            .annotation(annotation),
    )
}
