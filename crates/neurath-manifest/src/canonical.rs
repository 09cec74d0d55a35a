//! What a file says, without how it is written.

use crate::reader::{in_order, parse_integer};
use std::fmt::Write as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The canonical form of a manifest, appup, release or relup: the same for two texts that differ in comments, blanks,
/// line ends, the order of keys or the way values are written, and another for two that say something else. The order
/// of `[components]`, which settles ties in plans, counts. `None` if the text is no TOML.
pub fn canonical(text: &str) -> Option<String> {
    let table = DeTable::parse(text).ok()?;
    let mut out = String::new();
    write_table(&mut out, table.get_ref(), false);
    Some(out)
}

fn write_table(out: &mut String, table: &DeTable<'_>, ordered: bool) {
    let mut entries = in_order(table);
    if !ordered {
        entries.sort_by(|(a, _), (b, _)| a.get_ref().cmp(b.get_ref()));
    }
    out.push('{');
    for (name, value) in entries {
        let _ = write!(out, "{:?}:", name.get_ref());
        let inner_order = name.get_ref() == "components";
        write_value(out, value, inner_order);
        out.push(',');
    }
    out.push('}');
}

fn write_value(out: &mut String, value: &Spanned<DeValue<'_>>, ordered: bool) {
    let _ = match value.get_ref() {
        DeValue::String(text) => write!(out, "{text:?}"),
        DeValue::Integer(integer) => match parse_integer(integer) {
            Some(number) => write!(out, "{number}"),
            None => write!(out, "{integer}"),
        },
        DeValue::Float(float) => match float.as_str().replace('_', "").parse::<f64>() {
            Ok(number) => write!(out, "{number:?}"),
            Err(_) => write!(out, "{}", float.as_str()),
        },
        DeValue::Boolean(yes) => write!(out, "{yes}"),
        DeValue::Datetime(when) => write!(out, "@{when}"),
        DeValue::Array(array) => {
            out.push('[');
            for element in array.iter() {
                write_value(out, element, false);
                out.push(',');
            }
            out.push(']');
            Ok(())
        }
        DeValue::Table(table) => {
            write_table(out, table, ordered);
            Ok(())
        }
    };
}

#[cfg(test)]
mod tests {
    use super::canonical;

    const TEXT: &str = "name = \"kv\"\nn = 1000\n[components]\na = { version = \"1.0.0\", x = [1, 2.5] }\nb = {}\n";

    #[test]
    fn how_it_is_written_does_not_count() {
        let same = [
            TEXT.replace('\n', "\r\n"),
            format!("\u{feff}{TEXT}"),
            format!("# a comment\n\n{TEXT}# another\n"),
            TEXT.replace(" = ", "="),
            TEXT.replace("1000", "0x3e8").replace("2.5", "2.50"),
            TEXT.replace("\"kv\"", "'kv'"),
            TEXT.replace("name = \"kv\"\nn = 1000", "n = 1_000\nname = \"kv\""),
            TEXT.replace("b = {}", "[components.b]"),
            TEXT.replace(
                "{ version = \"1.0.0\", x = [1, 2.5] }",
                "{ x = [1, 2.5,], version = \"1.0.0\" }",
            ),
        ];
        for text in same {
            assert_eq!(canonical(&text), canonical(TEXT), "{text}");
        }
    }

    #[test]
    fn what_it_says_counts() {
        let other = [
            TEXT.replace("kv", "kw"),
            TEXT.replace("1000", "1001"),
            TEXT.replace("1000", "\"1000\""),
            TEXT.replace("1000", "1000.0"),
            TEXT.replace("[1, 2.5]", "[2.5, 1]"),
            TEXT.replace("b = {}\n", ""),
            TEXT.replace(
                "a = { version = \"1.0.0\", x = [1, 2.5] }\nb = {}\n",
                "b = {}\na = { version = \"1.0.0\", x = [1, 2.5] }\n",
            ),
        ];
        for text in other {
            assert_ne!(canonical(&text), canonical(TEXT), "{text}");
        }
        assert_eq!(canonical("a = "), None);
    }
}
