//! Diagnostics as text.

use crate::diagnostic::{Diagnostic, Place, Severity};
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

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
    match &place.span {
        Some(span) if !source.text().is_empty() => {
            let mut annotation = kind.span(source.clamp(span));
            if !place.label.is_empty() {
                annotation = annotation.label(place.label.as_str());
            }
            group.element(
                Snippet::source(source.text())
                    .path(source.file())
                    .annotation(annotation),
            )
        }
        _ => group.element(Origin::path(source.file())),
    }
}
