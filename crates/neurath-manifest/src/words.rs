//! What messages say of values and kinds.

use crate::keys::{Kind, Steps};
use toml::de::DeValue;

/// Of a text that is not what it must be, a message shows so many characters.
const SHOWN_LIMIT: usize = 80;

/// A text in quotes, without its middle if it is long.
pub(crate) fn shown(text: &str) -> String {
    match cut(text) {
        whole if whole.len() == text.len() => format!("{text:?}"),
        head => format!("{head:?}… ({} bytes)", text.len()),
    }
}

/// The beginning of a text that is long.
pub(crate) fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(SHOWN_LIMIT);
    end.map_or(text, |(end, _)| &text[..end])
}

/// What a value is.
pub(crate) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// What a value must be.
pub(crate) fn describe(kind: &Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Reason => "a string",
        Kind::Name | Kind::Library => "a name, in quotes",
        Kind::Version => "a version, in quotes",
        Kind::Requirement => "a version requirement, in quotes",
        Kind::Duration => "a duration, in quotes",
        Kind::Size => "a size",
        Kind::Integer { .. } => "a whole number",
        Kind::Bool | Kind::True => "a boolean",
        Kind::OneOf(_) => "a string",
        Kind::Free
        | Kind::Map { .. }
        | Kind::Codes(_)
        | Kind::Table(_)
        | Kind::Apply
        | Kind::Check => "a table",
        Kind::List { .. } | Kind::Names { .. } => "an array",
        Kind::Either(..) => "a string or a table",
        Kind::Step(_) => "a table with one instruction",
    }
}

/// A value of a kind, as it could be written.
pub(crate) fn example(kind: &Kind) -> String {
    match kind {
        Kind::Text | Kind::Name | Kind::Library => "\"store\"".into(),
        Kind::Reason => "\"because …\"".into(),
        Kind::Version => "\"1.0.0\"".into(),
        Kind::Requirement => "\"^1.0\"".into(),
        Kind::Duration => "\"5s\"".into(),
        Kind::Size => "\"64MiB\"".into(),
        Kind::Integer { min, .. } => min.to_string(),
        Kind::Bool | Kind::True => "true".into(),
        Kind::OneOf(allowed) => format!("\"{}\"", allowed[0]),
        Kind::Free => "{ }".into(),
        Kind::List { of, .. } => format!("[{}]", example(of)),
        Kind::Names { .. } => "[\"store\"]".into(),
        Kind::Apply => "{ component = \"store\", hook = \"warm\" }".into(),
        Kind::Check => "{ resp = \"127.0.0.1:7379\" }".into(),
        Kind::Codes(of) => format!("{{ D101 = {} }}", example(of)),
        Kind::Map { of, .. } => format!("{{ store = {} }}", example(of)),
        Kind::Table(keys) => {
            let required = keys.iter().filter(|key| key.required);
            let inner: Vec<String> = required
                .map(|key| format!("{} = {}", key.name, example(&key.kind)))
                .collect();
            if inner.is_empty() {
                "{ }".into()
            } else {
                format!("{{ {} }}", inner.join(", "))
            }
        }
        Kind::Either(text, _) => example(text),
        Kind::Step(Steps::All) => "{ update = \"store\" }".into(),
        Kind::Step(Steps::Low) => "{ resume = [\"store\"] }".into(),
    }
}

/// Names, each as code.
pub(crate) fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
