//! The walk over a TOML document: every value is checked against its key's kind, and all problems are kept.

use crate::codes;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::keys::{Key, Kind, Shape, Steps, shapes};
use crate::record::{Record, Val};
use crate::scalar::{
    ScalarError, check_library, check_name, check_size, is_code, parse_duration, parse_size,
};
use crate::source::{Located, Source, Span};
use crate::suggest::nearest;
use semver::{Version, VersionReq};
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

/// No manifest is larger than this.
const TEXT_LIMIT: usize = 4 << 20;

/// More problems than this are only counted: such a file is not a manifest.
const PROBLEM_LIMIT: usize = 1000;

/// Reads a whole document. `build` makes the type of the checked keys, and may find more problems;
/// it returns `None` only when something is missing that was already reported.
pub(crate) fn read<T>(
    file: &str,
    text: &str,
    keys: &'static [Key],
    build: impl FnOnce(&Record, &mut Reader) -> Option<T>,
) -> Result<T, Diagnostics> {
    let mut reader = Reader {
        source: Source::new(file, text),
        problems: Vec::new(),
        more: 0,
    };
    let built = reader
        .document(keys)
        .and_then(|record| build(&record, &mut reader));
    match built {
        Some(value) if reader.problems.is_empty() => Ok(value),
        _ => {
            if reader.problems.is_empty() {
                reader.problems.push(
                    Diagnostic::error(codes::SYNTAX, "the file cannot be read")
                        .in_file(&reader.source),
                );
            }
            reader
                .problems
                .sort_by_key(|one| one.span().map_or(0, |span| span.start));
            if reader.more > 0 {
                let message = format!("there are {} more problems in this file", reader.more);
                let more = Diagnostic::error(codes::TOO_LARGE, message).in_file(&reader.source);
                let help = "check that this is the file that was meant";
                reader.problems.push(more.help(help));
            }
            Err(reader.problems.into())
        }
    }
}

/// The file being read and what is wrong with it.
pub(crate) struct Reader {
    pub(crate) source: Source,
    problems: Vec<Diagnostic>,
    more: usize,
}

impl Reader {
    /// Keeps a problem.
    pub(crate) fn report(
        &mut self,
        code: &'static str,
        span: &Span,
        message: String,
        label: &str,
        help: &str,
    ) {
        if self.problems.len() >= PROBLEM_LIMIT {
            self.more += 1;
            return;
        }
        let mut diagnostic = Diagnostic::error(code, message).at(&self.source, span.clone(), label);
        if !help.is_empty() {
            diagnostic = diagnostic.help(help);
        }
        self.problems.push(diagnostic);
    }

    fn document(&mut self, keys: &'static [Key]) -> Option<Record> {
        let source = self.source.clone();
        if source.text().len() > TEXT_LIMIT {
            self.problems.push(
                Diagnostic::error(
                    codes::TOO_LARGE,
                    format!(
                        "the file has {} bytes, more than 4 MiB",
                        source.text().len()
                    ),
                )
                .in_file(&Source::new(source.file(), ""))
                .help("no manifest needs as much: check that this is the file that was meant"),
            );
            return None;
        }
        let (table, errors) = DeTable::parse_recoverable(source.text());
        let mut usable = true;
        for error in &errors {
            usable &= self.syntax(error);
        }
        if !usable {
            return None;
        }
        let span = 0..source.text().len().min(1);
        Some(self.table(table.get_ref(), keys, &span, "this file"))
    }

    /// Reports an error of the TOML parser; returns whether the rest is still worth a look.
    fn syntax(&mut self, error: &toml::de::Error) -> bool {
        let message = error.message();
        let span = error.span().unwrap_or(0..0);
        if message == "duplicate key" {
            self.report(
                codes::DUPLICATE,
                &span,
                "a key is given twice".into(),
                "given before",
                "remove one of the two",
            );
            return true;
        }
        if message.contains("recurs") {
            let message = "values are nested too deeply".to_string();
            self.report(
                codes::TOO_LARGE,
                &span,
                message,
                "",
                "no manifest needs more than a few levels",
            );
        } else {
            let message = format!("this is not TOML: {message}");
            self.report(
                codes::SYNTAX,
                &span,
                message,
                "here",
                "see https://toml.io for the syntax",
            );
        }
        false
    }

    /// Checks a table against its keys. What is wrong is left out of the record.
    fn table(
        &mut self,
        table: &DeTable<'_>,
        keys: &'static [Key],
        span: &Span,
        what: &str,
    ) -> Record {
        let mut record = Record::default();
        for (name, value) in in_order(table) {
            match keys.iter().find(|key| key.name == name.get_ref().as_ref()) {
                Some(key) => {
                    if let Some(val) = self.value(value, &key.kind, key.name) {
                        record
                            .fields
                            .push((key.name, Located::new(val, value.span())));
                    }
                }
                None => self.unknown_key(name.get_ref(), &name.span(), keys),
            }
        }
        for key in keys.iter().filter(|key| key.required) {
            if !table.keys().any(|name| name.get_ref().as_ref() == key.name) {
                let help = format!("add `{} = {}`: {}", key.name, example(&key.kind), key.doc);
                self.report(
                    codes::MISSING_KEY,
                    span,
                    format!("{what} has no `{}`", key.name),
                    "missing here",
                    &help,
                );
            }
        }
        record
    }

    fn unknown_key(&mut self, name: &str, span: &Span, keys: &[Key]) {
        let help = match nearest(name, keys.iter().map(|key| key.name)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "the keys here are {}",
                list(keys.iter().map(|key| key.name))
            ),
        };
        self.report(
            codes::UNKNOWN_KEY,
            span,
            format!("there is no key {name:?} here"),
            "unknown key",
            &help,
        );
    }

    fn value(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        kind: &'static Kind,
        key: &str,
    ) -> Option<Val> {
        let span = value.span();
        match kind {
            Kind::Text => self.string(value, kind, key).map(Val::Text),
            Kind::Name => self
                .string(value, kind, key)
                .and_then(|text| self.name(&text, check_name(&text), &span, key))
                .map(Val::Text),
            Kind::Library => self
                .string(value, kind, key)
                .and_then(|text| self.name(&text, check_library(&text), &span, key))
                .map(Val::Text),
            Kind::Version => self
                .string(value, kind, key)
                .and_then(|text| self.version(&text, &span))
                .map(Val::Version),
            Kind::Requirement => self
                .string(value, kind, key)
                .and_then(|text| self.requirement(&text, &span))
                .map(Val::Requirement),
            Kind::Duration => {
                let text = self.string(value, kind, key)?;
                match parse_duration(&text) {
                    Ok(duration) => Some(Val::Duration(duration)),
                    Err(error) => {
                        let message = format!("{text:?} is not a duration: {error}");
                        self.report(
                            codes::BAD_DURATION,
                            &span,
                            message,
                            "",
                            "write a whole number and `ms`, `s`, `m` or `h`: \"250ms\", \"5s\"",
                        );
                        None
                    }
                }
            }
            Kind::Size => self.size(value, key).map(Val::Number),
            Kind::Integer { min, max } => {
                let DeValue::Integer(integer) = value.get_ref() else {
                    return self.wrong_type(value, kind, key);
                };
                match parse_integer(integer).and_then(|number| u64::try_from(number).ok()) {
                    Some(number) if (*min..=*max).contains(&number) => Some(Val::Number(number)),
                    _ => {
                        let message = format!("`{key}` must be from {min} to {max}");
                        self.report(codes::OUT_OF_RANGE, &span, message, "out of range", "");
                        None
                    }
                }
            }
            Kind::Bool | Kind::True => match value.get_ref() {
                DeValue::Boolean(true) => Some(Val::Bool(true)),
                DeValue::Boolean(false) if matches!(kind, Kind::Bool) => Some(Val::Bool(false)),
                DeValue::Boolean(_) => {
                    let message = format!("`{key}` can only be true");
                    self.report(
                        codes::NOT_ALLOWED,
                        &span,
                        message,
                        "",
                        "leave the step out if it is not wanted",
                    );
                    None
                }
                _ => self.wrong_type(value, kind, key),
            },
            Kind::OneOf(allowed) => {
                let text = self.string(value, kind, key)?;
                if allowed.contains(&text.as_str()) {
                    return Some(Val::Text(text));
                }
                let help = match nearest(&text, allowed.iter().copied()) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!(
                        "write one of {}",
                        allowed
                            .iter()
                            .map(|one| format!("\"{one}\""))
                            .collect::<Vec<_>>()
                            .join(", ")
                    ),
                };
                self.report(
                    codes::NOT_ALLOWED,
                    &span,
                    format!("`{key}` cannot be {text:?}"),
                    "not a value it can have",
                    &help,
                );
                None
            }
            Kind::Free => match value.get_ref() {
                DeValue::Table(table) => Some(Val::Free(self.free(table))),
                _ => self.wrong_type(value, kind, key),
            },
            Kind::List { of, empty } => {
                let DeValue::Array(array) = value.get_ref() else {
                    return self.wrong_type(value, kind, key);
                };
                if array.is_empty() && !empty {
                    self.report(
                        codes::EMPTY,
                        &span,
                        format!("`{key}` is empty"),
                        "",
                        "name at least one, or leave the whole out",
                    );
                }
                let mut values = Vec::with_capacity(array.len());
                for element in array.iter() {
                    if let Some(val) = self.value(element, of, key) {
                        values.push(Located::new(val, element.span()));
                    }
                }
                Some(Val::List(values))
            }
            Kind::Map { of, empty } => {
                let DeValue::Table(table) = value.get_ref() else {
                    return self.wrong_type(value, kind, key);
                };
                if table.is_empty() && !empty {
                    self.report(
                        codes::EMPTY,
                        &span,
                        format!("`{key}` is empty"),
                        "",
                        "name at least one",
                    );
                }
                let mut values = Vec::with_capacity(table.len());
                for (name, element) in in_order(table) {
                    let checked = self.name(
                        name.get_ref(),
                        check_name(name.get_ref()),
                        &name.span(),
                        key,
                    );
                    let val = self.value(element, of, name.get_ref());
                    if let (Some(text), Some(val)) = (checked, val) {
                        values.push((
                            Located::new(text, name.span()),
                            Located::new(val, element.span()),
                        ));
                    }
                }
                Some(Val::Map(values))
            }
            Kind::Codes(of) => match value.get_ref() {
                DeValue::Table(table) => Some(Val::Map(self.by_code(table, of))),
                _ => self.wrong_type(value, kind, key),
            },
            Kind::Table(keys) => match value.get_ref() {
                DeValue::Table(table) => Some(Val::Table(self.table(
                    table,
                    keys,
                    &span,
                    &format!("`{key}`"),
                ))),
                _ => self.wrong_type(value, kind, key),
            },
            Kind::Either(text, table) => match value.get_ref() {
                DeValue::Table(_) => self.value(value, table, key),
                DeValue::String(_) => self.value(value, text, key),
                _ => self.wrong_type(value, kind, key),
            },
            Kind::Step(steps) => match value.get_ref() {
                DeValue::Table(table) => self.step(table, *steps, &span).map(Val::Table),
                _ => self.wrong_type(value, kind, key),
            },
        }
    }

    /// A table from codes of lints to values.
    fn by_code(
        &mut self,
        table: &DeTable<'_>,
        of: &'static Kind,
    ) -> Vec<(Located<String>, Located<Val>)> {
        let mut values = Vec::with_capacity(table.len());
        for (name, element) in in_order(table) {
            let text = name.get_ref();
            if !is_code(text) {
                let message = format!("{text:?} is not the code of a lint");
                let help = "a code is a capital letter and three digits, as in D101";
                self.report(codes::BAD_CODE, &name.span(), message, "not a code", help);
                continue;
            }
            if let Some(val) = self.value(element, of, text) {
                values.push((
                    Located::new(text.to_string(), name.span()),
                    Located::new(val, element.span()),
                ));
            }
        }
        values
    }

    /// A step has exactly one instruction; which one settles its other keys.
    fn step(&mut self, table: &DeTable<'_>, steps: Steps, span: &Span) -> Option<Record> {
        let has = |key: &str| table.keys().any(|name| name.get_ref().as_ref() == key);
        let mut found: Vec<&'static Shape> = Vec::new();
        for shape in shapes(Steps::All).filter(|shape| has(shape.verb())) {
            let fits = shape.with.is_none_or(has)
                && !found.iter().any(|other| other.verb() == shape.verb());
            if fits {
                found.push(shape);
            }
        }
        let shape = match found.as_slice() {
            [] => {
                self.no_instruction(table, steps, span);
                return None;
            }
            [shape] => *shape,
            [..] => {
                let message = format!(
                    "one step has several instructions: {}",
                    list(found.iter().map(|shape| shape.verb()))
                );
                self.report(
                    codes::SEVERAL_INSTRUCTIONS,
                    span,
                    message,
                    "",
                    "make a step of each, in the order wanted",
                );
                return None;
            }
        };
        if steps == Steps::Low && !shape.low {
            // `load` without its `version` is the low-level one, incomplete; the rest is out of place.
            if let Some(low) = shapes(Steps::Low).find(|low| low.verb() == shape.verb()) {
                self.table(table, low.keys, span, &format!("the step `{}`", low.verb()));
            } else {
                let message = format!(
                    "`{}` is a high-level instruction; a relup has low-level ones only",
                    shape.verb()
                );
                self.report(
                    codes::HIGH_LEVEL,
                    span,
                    message,
                    "",
                    "write it in the component's appup, and generate the relup",
                );
            }
            return None;
        }
        let mut record = self.table(
            table,
            shape.keys,
            span,
            &format!("the step `{}`", shape.verb()),
        );
        record.verb = shape.verb();
        record.low = shape.low;
        Some(record)
    }

    fn no_instruction(&mut self, table: &DeTable<'_>, steps: Steps, span: &Span) {
        let verbs = || shapes(steps).map(Shape::verb);
        for (name, _) in in_order(table) {
            if let Some(near) = nearest(name.get_ref(), verbs()) {
                let message = format!("there is no instruction {:?}", name.get_ref());
                self.report(
                    codes::NO_INSTRUCTION,
                    &name.span(),
                    message,
                    "unknown instruction",
                    &format!("did you mean `{near}`?"),
                );
                return;
            }
        }
        let mut known: Vec<&str> = verbs().collect();
        known.dedup();
        let help = format!("the instructions here are {}", list(known.into_iter()));
        self.report(
            codes::NO_INSTRUCTION,
            span,
            "this step has no instruction that is known".into(),
            "",
            &help,
        );
    }

    fn string(&mut self, value: &Spanned<DeValue<'_>>, kind: &Kind, key: &str) -> Option<String> {
        match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            _ => self.wrong_type(value, kind, key),
        }
    }

    fn wrong_type<T>(&mut self, value: &Spanned<DeValue<'_>>, kind: &Kind, key: &str) -> Option<T> {
        let message = format!("`{key}` must be {}", describe(kind));
        let label = format!("this is {}", type_name(value.get_ref()));
        self.report(
            codes::WRONG_TYPE,
            &value.span(),
            message,
            &label,
            &format!("write `{key} = {}`", example(kind)),
        );
        None
    }

    fn name(
        &mut self,
        text: &str,
        checked: Result<(), ScalarError>,
        span: &Span,
        key: &str,
    ) -> Option<String> {
        match checked {
            Ok(()) => Some(text.to_string()),
            Err(error) => {
                let message = format!("{text:?} is not a name, in `{key}`: {error}");
                self.report(
                    codes::BAD_NAME,
                    span,
                    message,
                    "not a name",
                    "a name is a lower-case letter, then lower-case letters, digits, `-` and `_`",
                );
                None
            }
        }
    }

    fn version(&mut self, text: &str, span: &Span) -> Option<Version> {
        match Version::parse(text) {
            Ok(version) => Some(version),
            Err(error) => {
                let message = format!("{text:?} is not a version: {error}");
                self.report(
                    codes::BAD_VERSION,
                    span,
                    message,
                    "",
                    "write three numbers, as in \"1.1.0\"",
                );
                None
            }
        }
    }

    fn requirement(&mut self, text: &str, span: &Span) -> Option<VersionReq> {
        match VersionReq::parse(text) {
            Ok(requirement) => Some(requirement),
            Err(error) => {
                let message = format!("{text:?} is not a version requirement: {error}");
                self.report(
                    codes::BAD_REQUIREMENT,
                    span,
                    message,
                    "",
                    "write it as in \"^1.1\", \"=1.0.0\" or \">=1.0, <1.1\"",
                );
                None
            }
        }
    }

    fn size(&mut self, value: &Spanned<DeValue<'_>>, key: &str) -> Option<u64> {
        let (shown, size) = match value.get_ref() {
            DeValue::String(text) => (format!("{:?}", text.as_ref()), parse_size(text)),
            DeValue::Integer(integer) => {
                let number = parse_integer(integer).and_then(|number| u64::try_from(number).ok());
                (
                    integer.to_string(),
                    number
                        .ok_or(crate::scalar::ScalarError::Large)
                        .and_then(check_size),
                )
            }
            _ => return self.wrong_type(value, &Kind::Size, key),
        };
        match size {
            Ok(size) => Some(size),
            Err(error) => {
                let message = format!("{shown} is not a size: {error}");
                self.report(
                    codes::BAD_SIZE,
                    &value.span(),
                    message,
                    "",
                    "write a whole number and `B`, `KiB`, `MiB`, `GiB` or `TiB`: \"64MiB\"",
                );
                None
            }
        }
    }

    /// A table of anything, as it stands.
    fn free(&mut self, table: &DeTable<'_>) -> toml::Table {
        let mut free = toml::Table::new();
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
            DeValue::Array(array) => toml::Value::Array(
                array
                    .iter()
                    .filter_map(|element| self.free_value(element))
                    .collect(),
            ),
            DeValue::Table(table) => toml::Value::Table(self.free(table)),
        })
    }
}

/// The entries of a table in the order in which they are written.
fn in_order<'a, 'i>(
    table: &'a DeTable<'i>,
) -> Vec<(
    &'a Spanned<std::borrow::Cow<'i, str>>,
    &'a Spanned<DeValue<'i>>,
)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

fn parse_integer(integer: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok()
}

fn type_name(value: &DeValue<'_>) -> &'static str {
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

fn describe(kind: &Kind) -> &'static str {
    match kind {
        Kind::Text => "a string",
        Kind::Name | Kind::Library => "a name, in quotes",
        Kind::Version => "a version, in quotes",
        Kind::Requirement => "a version requirement, in quotes",
        Kind::Duration => "a duration, in quotes",
        Kind::Size => "a size",
        Kind::Integer { .. } => "a whole number",
        Kind::Bool | Kind::True => "a boolean",
        Kind::OneOf(_) => "a string",
        Kind::Free | Kind::Map { .. } | Kind::Codes(_) | Kind::Table(_) => "a table",
        Kind::List { .. } => "an array",
        Kind::Either(..) => "a string or a table",
        Kind::Step(_) => "a table with one instruction",
    }
}

fn example(kind: &Kind) -> String {
    match kind {
        Kind::Text | Kind::Name | Kind::Library => "\"store\"".into(),
        Kind::Version => "\"1.0.0\"".into(),
        Kind::Requirement => "\"^1.0\"".into(),
        Kind::Duration => "\"5s\"".into(),
        Kind::Size => "\"64MiB\"".into(),
        Kind::Integer { min, .. } => min.to_string(),
        Kind::Bool | Kind::True => "true".into(),
        Kind::OneOf(allowed) => format!("\"{}\"", allowed[0]),
        Kind::Free => "{ }".into(),
        Kind::List { of, .. } => format!("[{}]", example(of)),
        Kind::Map { of, .. } => format!("{{ store = {} }}", example(of)),
        Kind::Codes(of) => format!("{{ D101 = {} }}", example(of)),
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

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
