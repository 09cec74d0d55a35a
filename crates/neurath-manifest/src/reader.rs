//! The walk over a TOML document: every value is checked against its key's kind, and all problems are kept.

use crate::codes;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::keys::{ANY_NAMES, APPLY, CHECK, File, Key, Kind, SOME_NAMES, Shape, Steps, shapes};
use crate::record::{Record, Val};
use crate::scalar::{
    REQUIREMENT_LIMIT, ScalarError, VERSION_LIMIT, check_library, check_name, check_size, is_code,
    parse_duration, parse_size,
};
use crate::source::{Located, Source, Span};
use crate::suggest::nearest;
use crate::words::{cut, describe, example, list, shown, type_name};
use semver::{Version, VersionReq};
use std::collections::HashSet;
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

/// No table and no array has more entries.
pub(crate) const ENTRY_LIMIT: usize = 65_536;

/// More problems than this are only counted: such a file is not a manifest.
const PROBLEM_LIMIT: usize = 1000;

/// Reads a whole document. `build` makes the type of the checked keys, and may find more problems;
/// it returns `None` only when something is missing that was already reported.
pub(crate) fn read<T>(
    file: &str,
    text: &str,
    kind: File,
    build: impl FnOnce(&Record, &mut Reader) -> Option<T>,
) -> Result<T, Diagnostics> {
    let mut reader = Reader {
        source: Source::new(file, text),
        problems: Vec::new(),
        more: 0,
    };
    let built = reader
        .document(kind)
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

    fn document(&mut self, kind: File) -> Option<Record> {
        let source = self.source.clone();
        if source.text().len() > kind.text_limit {
            self.problems.push(
                Diagnostic::error(
                    codes::TOO_LARGE,
                    format!(
                        "the file has {} bytes, more than {} MiB",
                        source.text().len(),
                        kind.text_limit >> 20
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
        Some(self.table(table.get_ref(), kind.keys, &span, "this file"))
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
        if !self.few_enough(table.len(), span, what) {
            return record;
        }
        for (name, value) in in_order(table) {
            match keys.iter().find(|key| key.name == name.get_ref().as_ref()) {
                Some(key) => {
                    record.given.push(key.name);
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
            format!("there is no key {} here", shown(name)),
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
            Kind::Reason => {
                let text = self.string(value, kind, key)?;
                if text.trim().is_empty() {
                    let message = format!("`{key}` says nothing");
                    let help = "say why this is right here: whoever reads the file next will ask";
                    self.report(codes::EMPTY, &span, message, "empty", help);
                    return None;
                }
                Some(Val::Text(text))
            }
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
                        let message = format!("{} is not a duration: {error}", shown(&text));
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
                    format!("`{key}` cannot be {}", shown(&text)),
                    "not a value it can have",
                    &help,
                );
                None
            }
            Kind::Free => match value.get_ref() {
                DeValue::Table(table) => Some(Val::Free(self.free(table, &span))),
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
                if !self.few_enough(array.len(), &span, key) {
                    return None;
                }
                let mut values = Vec::with_capacity(array.len());
                for element in array.iter() {
                    if let Some(val) = self.value(element, of, key) {
                        values.push(Located::new(val, element.span()));
                    }
                }
                Some(Val::List(values))
            }
            Kind::Names { empty } => {
                let list = if *empty { &ANY_NAMES } else { &SOME_NAMES };
                let names = self.value(value, list, key)?;
                self.distinct(&names, key);
                Some(names)
            }
            Kind::Apply => self.value(value, &Kind::Table(APPLY), key),
            Kind::Check => self.value(value, &Kind::Table(CHECK), key),
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
                if !self.few_enough(table.len(), &span, key) {
                    return None;
                }
                let mut values = Vec::with_capacity(table.len());
                for (name, element) in in_order(table) {
                    let checked = self.name(
                        name.get_ref(),
                        check_name(name.get_ref()),
                        &name.span(),
                        key,
                    );
                    let val = match checked {
                        Some(_) => self.value(element, of, name.get_ref()),
                        None => None,
                    };
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
                DeValue::Table(table) if !self.few_enough(table.len(), &span, key) => None,
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
                let message = format!("{} is not the code of a lint", shown(text));
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
                let message = format!("there is no instruction {}", shown(name.get_ref()));
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
                let message = format!("{} is not a name, in `{key}`: {error}", shown(text));
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
        let parsed = if text.len() > VERSION_LIMIT {
            Err(format!("it is longer than {VERSION_LIMIT} characters"))
        } else {
            Version::parse(text).map_err(|error| error.to_string())
        };
        match parsed {
            Ok(version) => Some(version),
            Err(error) => {
                let message = format!("{} is not a version: {error}", shown(text));
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
        let parsed = if text.len() > REQUIREMENT_LIMIT {
            Err(format!("it is longer than {REQUIREMENT_LIMIT} characters"))
        } else {
            VersionReq::parse(text).map_err(|error| error.to_string())
        };
        match parsed {
            Ok(requirement) => Some(requirement),
            Err(error) => {
                let message = format!("{} is not a version requirement: {error}", shown(text));
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
            DeValue::String(text) => (shown(text), parse_size(text)),
            DeValue::Integer(integer) => {
                let number = parse_integer(integer).and_then(|number| u64::try_from(number).ok());
                (
                    cut(&integer.to_string()).to_string(),
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

    /// Whether so many entries are read at all.
    pub(crate) fn few_enough(&mut self, entries: usize, span: &Span, what: &str) -> bool {
        let few = entries <= ENTRY_LIMIT;
        if !few {
            let message = format!("{what} has {entries} entries, more than {ENTRY_LIMIT}");
            let help = "check that this is the file that was meant";
            self.report(codes::TOO_LARGE, span, message, "too many", help);
        }
        few
    }

    /// Reports names that are there twice.
    fn distinct(&mut self, names: &Val, key: &str) {
        let Val::List(names) = names else { return };
        let mut seen = HashSet::new();
        for name in names {
            if let Val::Text(text) = &name.value
                && !seen.insert(text.as_str())
            {
                let message = format!("`{text}` is named twice in one `{key}`");
                let help = "remove one of the two";
                self.report(codes::DUPLICATE, &name.span, message, "named before", help);
            }
        }
    }
}

/// The entries of a table in the order in which they are written.
pub(crate) fn in_order<'a, 'i>(
    table: &'a DeTable<'i>,
) -> Vec<(
    &'a Spanned<std::borrow::Cow<'i, str>>,
    &'a Spanned<DeValue<'i>>,
)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

pub(crate) fn parse_integer(integer: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok()
}
