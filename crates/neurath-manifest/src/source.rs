//! Where a value was read from.

use std::ops::Range;
use std::sync::Arc;

/// A place in a file: byte offsets, end excluded.
pub type Span = Range<usize>;

/// A file that was read: its name, as the caller gave it, and its text.
/// Cheap to clone, so that every diagnostic can carry the text that it underlines.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Source {
    file: Arc<str>,
    text: Arc<str>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({:?})", self.file)
    }
}

impl Source {
    /// A source of this name and text.
    pub fn new(file: &str, text: &str) -> Self {
        Self {
            file: file.into(),
            text: text.into(),
        }
    }

    /// The name of the file, as the caller gave it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Line and column of a byte offset, both counted from one, columns in characters.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        (
            line_of(&self.text, end),
            before[start..].chars().count() + 1,
        )
    }

    /// The whole lines of a span with the number of the first, and the span in them.
    pub(crate) fn lines(&self, span: &Span) -> (&str, usize, Span) {
        let span = self.clamp(span);
        let start = self.text[..span.start].rfind('\n').map_or(0, |at| at + 1);
        let end = self.text[span.end..]
            .find('\n')
            .map_or(self.text.len(), |at| span.end + at);
        let text = &self.text[start..end];
        (
            text,
            line_of(&self.text, start),
            span.start - start..span.end - start,
        )
    }

    /// The span, cut to the text and to character boundaries.
    pub(crate) fn clamp(&self, span: &Span) -> Span {
        let mut start = span.start.min(self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let mut end = span.end.clamp(start, self.text.len());
        while !self.text.is_char_boundary(end) {
            end += 1;
        }
        start..end
    }
}

/// The number of the line that a byte is on, from one.
fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes()[..at].iter();
    before.filter(|byte| **byte == b'\n').count() + 1
}

/// A value together with its place.
#[derive(Debug, Clone)]
pub struct Located<T> {
    /// What was read.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

impl<T> Located<T> {
    /// A value at a place.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}
