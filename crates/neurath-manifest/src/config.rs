//! What the configuration of a component may be: `config_schema` of its manifest.

use crate::component::Component;
use crate::record::{Record, Val};
use std::fmt;

/// The type of a configuration's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigType {
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// A number, whole or not.
    Number,
    /// `true` or `false`.
    Boolean,
    /// An array of anything.
    Array,
    /// A table of anything.
    Table,
}

/// One key that a configuration has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigKey {
    /// The key.
    pub name: String,
    /// The type of its value.
    pub of: ConfigType,
    /// Whether it may be missing.
    pub optional: bool,
}

/// Why a configuration does not fit. No value is told: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigProblem {
    /// The schema has no such key.
    Unknown {
        /// The key.
        key: String,
        /// Whether the release has it, and not the defaults of the manifest.
        in_release: bool,
        /// The keys that there are.
        known: Vec<String>,
    },
    /// The value is of another type.
    Type {
        /// The key.
        key: String,
        /// As for [`ConfigProblem::Unknown`].
        in_release: bool,
        /// What the schema wants.
        expected: ConfigType,
        /// What there is.
        found: &'static str,
    },
    /// A key that must be there is not.
    Missing {
        /// The key.
        key: String,
        /// What the schema wants.
        expected: ConfigType,
    },
}

/// As in the file.
pub(crate) const TYPES: &[&str] = &["string", "integer", "number", "boolean", "array", "table"];

impl ConfigType {
    fn from_key(text: &str) -> Self {
        match text {
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            "array" => Self::Array,
            "table" => Self::Table,
            _ => Self::String,
        }
    }

    fn fits(self, value: &toml::Value) -> bool {
        match self {
            Self::String => value.is_str(),
            Self::Integer => value.is_integer(),
            Self::Number => value.is_integer() || value.is_float(),
            Self::Boolean => value.is_bool(),
            Self::Array => value.is_array(),
            Self::Table => value.is_table(),
        }
    }
}

impl fmt::Display for ConfigType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::String => "a string",
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::Array => "an array",
            Self::Table => "a table",
        })
    }
}

impl ConfigProblem {
    /// Whether the release can be blamed: it has the value, or could have it.
    pub fn in_release(&self) -> bool {
        match self {
            Self::Unknown { in_release, .. } | Self::Type { in_release, .. } => *in_release,
            Self::Missing { .. } => true,
        }
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { key, known, .. } => {
                let known = match known.as_slice() {
                    [] => "there is none".to_owned(),
                    known => format!("there are {}", known.join(", ")),
                };
                write!(f, "the configuration has no key `{key}`: {known}")
            }
            Self::Type {
                key,
                expected,
                found,
                ..
            } => write!(f, "`{key}` is {found}, and must be {expected}"),
            Self::Missing { key, expected } => {
                write!(f, "`{key}` is missing, and must be {expected}")
            }
        }
    }
}

impl Component {
    /// The configuration that a release gives it: its own defaults, and over them what the release sets.
    pub fn configured(&self, set: &toml::Table) -> toml::Table {
        let mut config = self.config.clone();
        config.extend(set.clone());
        config
    }

    /// What does not fit the component's schema, if it has one, by keys. `set` is what the release sets.
    pub fn config_problems(&self, set: &toml::Table) -> Vec<ConfigProblem> {
        let Some(schema) = &self.config_schema else {
            return Vec::new();
        };
        let mut problems = Vec::new();
        let config = self.configured(set);
        for (key, value) in &config {
            let (key, in_release) = (key.clone(), set.contains_key(key));
            match schema.iter().find(|known| known.name == key) {
                None => problems.push(ConfigProblem::Unknown {
                    key,
                    in_release,
                    known: schema.iter().map(|known| known.name.clone()).collect(),
                }),
                Some(known) if !known.of.fits(value) => problems.push(ConfigProblem::Type {
                    key,
                    in_release,
                    expected: known.of,
                    found: found(value),
                }),
                Some(_) => {}
            }
        }
        for known in schema {
            if !known.optional && !config.contains_key(&known.name) {
                problems.push(ConfigProblem::Missing {
                    key: known.name.clone(),
                    expected: known.of,
                });
            }
        }
        problems
    }
}

/// The type of a value, without the value.
fn found(value: &toml::Value) -> &'static str {
    match value {
        toml::Value::String(_) => "a string",
        toml::Value::Integer(_) => "a whole number",
        toml::Value::Float(_) => "a number",
        toml::Value::Boolean(_) => "true or false",
        toml::Value::Datetime(_) => "a date",
        toml::Value::Array(_) => "an array",
        toml::Value::Table(_) => "a table",
    }
}

/// Reads `config_schema`.
pub(crate) fn schema(record: &Record) -> Option<Vec<ConfigKey>> {
    if !record.has("config_schema") {
        return None;
    }
    let keys = record.map("config_schema").iter().map(|(name, value)| {
        let (of, optional) = match &value.value {
            Val::Text(of) => (ConfigType::from_key(of), false),
            Val::Table(table) => {
                let of = table.text("type").unwrap_or_default();
                (
                    ConfigType::from_key(&of),
                    table.bool("optional").unwrap_or(false),
                )
            }
            _ => (ConfigType::String, false),
        };
        ConfigKey {
            name: name.value.clone(),
            of,
            optional,
        }
    });
    Some(keys.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(config: &str) -> Component {
        let text = format!(
            "name = \"store\"\nversion = \"1.0.0\"\nlibrary = \"store\"\n{config}\n\
             [region]\ninitial_size = \"1MiB\"\nlimit = \"1GiB\"\ndurability = \"process\"\n"
        );
        Component::parse("store.toml", &text).unwrap_or_else(|found| panic!("{found}"))
    }

    fn problems(config: &str, set: &str) -> Vec<String> {
        let set: toml::Table = set.parse().unwrap();
        let problems = component(config).config_problems(&set);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_does_not_fit_is_named_by_its_key() {
        let schema = "config = { limit = 5 }\n\
                      config_schema = { limit = \"integer\", path = \"string\", rate = \"number\", \
                      more = { type = \"table\", optional = true } }";
        assert_eq!(problems(schema, "path = \"/\"\nrate = 1"), [""; 0]);
        let set = "path = \"/\"\nrate = 1.5\nlimit = 1\nmore = { a = [] }";
        assert_eq!(problems(schema, set), [""; 0]);
        assert_eq!(
            problems(
                schema,
                "path = 7\nrate = \"a secret\"\nmore = []\nlimits = 3"
            ),
            [
                "the configuration has no key `limits`: there are limit, path, rate, more",
                "`more` is an array, and must be a table",
                "`path` is a whole number, and must be a string",
                "`rate` is a string, and must be a number",
            ]
        );
        let expected = [
            "`path` is missing, and must be a string",
            "`rate` is missing, and must be a number",
        ];
        assert_eq!(problems(schema, ""), expected);
        // Nothing is said of it.
        assert_eq!(problems("config = { limit = 5 }", "x = 1"), [""; 0]);
        assert_eq!(problems("config_schema = {}", "x = 1").len(), 1);
    }

    #[test]
    fn defaults_are_checked_and_told_apart() {
        let wrong = component("config = { a = 1 }\nconfig_schema = { a = \"string\" }");
        let found = wrong.config_problems(&toml::Table::new());
        assert!(
            matches!(&found[..], [one] if !one.in_release()),
            "{found:?}"
        );
        let set: toml::Table = "a = 2".parse().unwrap();
        assert!(wrong.config_problems(&set)[0].in_release());
        let mended: toml::Table = "a = \"b\"".parse().unwrap();
        assert_eq!(wrong.config_problems(&mended), []);
    }
}
