//! Values as TOML on one line, and as JSON.

use toml::Value;

/// `{ key = value, … }`, in the given order.
pub(crate) fn inline_table<'a>(pairs: impl Iterator<Item = (&'a str, &'a Value)>) -> String {
    let mut out = String::new();
    write_table(&mut out, pairs);
    out
}

fn write_table<'a>(out: &mut String, pairs: impl Iterator<Item = (&'a str, &'a Value)>) {
    let begun = out.len();
    for (key, value) in pairs {
        out.push_str(if out.len() == begun { "{ " } else { ", " });
        write_key(out, key);
        out.push_str(" = ");
        write_value(out, value);
    }
    out.push_str(if out.len() == begun { "{}" } else { " }" });
}

fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::Table(table) => write_table(out, by_key(table).into_iter()),
        Value::Array(array) => {
            out.push('[');
            for (number, element) in array.iter().enumerate() {
                if number > 0 {
                    out.push_str(", ");
                }
                write_value(out, element);
            }
            out.push(']');
        }
        Value::String(text) => write_quoted(out, text),
        other => out.push_str(&other.to_string()),
    }
}

/// A JSON value as TOML on one line; `null`, which TOML has not, as an empty array, which no key of a step takes.
pub(crate) fn inline_json(value: &serde_json::Value) -> String {
    use serde_json::Value as Json;
    match value {
        Json::Null => "[]".into(),
        Json::Bool(value) => value.to_string(),
        Json::Number(number) if number.is_f64() => {
            Value::Float(number.as_f64().unwrap_or_default()).to_string()
        }
        Json::Number(number) => number.to_string(),
        Json::String(text) => quoted(text),
        Json::Array(array) => {
            let elements: Vec<String> = array.iter().map(inline_json).collect();
            format!("[{}]", elements.join(", "))
        }
        Json::Object(map) => {
            let pairs = map
                .iter()
                .map(|(key, value)| format!("{} = {}", bare_or_quoted(key), inline_json(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Sorted by key, whichever map the toml crate was built with.
fn by_key(table: &toml::Table) -> Vec<(&str, &Value)> {
    let mut entries: Vec<(&str, &Value)> = table
        .iter()
        .map(|(key, value)| (key.as_str(), value))
        .collect();
    entries.sort_by_key(|(key, _)| *key);
    entries
}

fn bare_or_quoted(key: &str) -> String {
    let mut out = String::new();
    write_key(&mut out, key);
    out
}

fn write_key(out: &mut String, key: &str) {
    let bare = !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if bare {
        out.push_str(key);
    } else {
        write_quoted(out, key);
    }
}

/// A basic string: always on one line.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::new();
    write_quoted(&mut out, text);
    out
}

fn write_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The nearest JSON value; dates become strings, and numbers that JSON has not, too.
pub(crate) fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::String(text) => text.as_str().into(),
        Value::Integer(number) => (*number).into(),
        Value::Float(number) => serde_json::Number::from_f64(*number)
            .map_or_else(|| number.to_string().into(), Into::into),
        Value::Boolean(value) => (*value).into(),
        Value::Datetime(datetime) => datetime.to_string().into(),
        Value::Array(array) => array.iter().map(to_json).collect(),
        Value::Table(table) => by_key(table)
            .into_iter()
            .map(|(key, value)| (key.to_string(), to_json(value)))
            .collect(),
    }
}
