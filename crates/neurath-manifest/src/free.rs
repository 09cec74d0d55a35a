//! Tables of anything, which are not checked but for what TOML values cannot hold.

use crate::codes;
use crate::reader::{Reader, in_order, parse_integer};
use crate::source::Span;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

impl Reader {
    /// A table of anything, as it stands.
    pub(crate) fn free(&mut self, table: &DeTable<'_>, span: &Span) -> toml::Table {
        let mut free = toml::Table::new();
        if !self.few_enough(table.len(), span, "a table") {
            return free;
        }
        for (name, value) in in_order(table) {
            if let Some(value) = self.free_value(value) {
                free.insert(name.get_ref().to_string(), value);
            }
        }
        free
    }

    fn free_value(&mut self, value: &Spanned<DeValue<'_>>) -> Option<toml::Value> {
        Some(match value.get_ref() {
            DeValue::String(text) => toml::Value::String(text.to_string()),
            DeValue::Integer(integer) => match parse_integer(integer) {
                Some(number) => toml::Value::Integer(number),
                None => {
                    self.report(
                        codes::OUT_OF_RANGE,
                        &value.span(),
                        "the number does not fit into 64 bits".into(),
                        "out of range",
                        "",
                    );
                    return None;
                }
            },
            DeValue::Float(float) => match float.as_str().replace('_', "").parse() {
                Ok(number) => toml::Value::Float(number),
                Err(_) => {
                    self.report(
                        codes::OUT_OF_RANGE,
                        &value.span(),
                        "the number cannot be held".into(),
                        "out of range",
                        "",
                    );
                    return None;
                }
            },
            DeValue::Boolean(value) => toml::Value::Boolean(*value),
            DeValue::Datetime(datetime) => toml::Value::Datetime(*datetime),
            DeValue::Array(array) => {
                if !self.few_enough(array.len(), &value.span(), "an array") {
                    return None;
                }
                let elements = array.iter();
                toml::Value::Array(elements.filter_map(|one| self.free_value(one)).collect())
            }
            DeValue::Table(table) => toml::Value::Table(self.free(table, &value.span())),
        })
    }
}
