//! Promise: the parts of the project depend on each other in one direction only, unsafe code is
//! in few places and says why it is sound, and the documents tell of what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below a folder with this ending; no build output.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = folder.read_dir() else {
        return found;
    };
    for entry in entries {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                found.extend(files(&path, ending));
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The path from the root, with `/`.
fn short(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

fn sources() -> Vec<PathBuf> {
    let mut all = Vec::new();
    for folder in ["crates", "src", "tests", "xtask"] {
        all.extend(files(&root().join(folder), ".rs"));
    }
    // This file is about the marks that it looks for.
    all.retain(|path| !path.ends_with("tests/architecture.rs"));
    assert!(all.len() > 80, "the sources were not found");
    all
}

fn manifests() -> Vec<PathBuf> {
    let mut all = files(&root().join("crates"), "Cargo.toml");
    all.push(root().join("xtask/Cargo.toml"));
    assert!(all.len() > 15, "the packages were not found");
    all
}

/// A line without what is after `//`, and with its texts emptied.
fn code(line: &str) -> String {
    let mut out = String::new();
    let mut chars = line.chars().peekable();
    let mut in_text = false;
    while let Some(char) = chars.next() {
        match char {
            '\\' if in_text => {
                chars.next();
            }
            // A quotation mark as a character.
            '\'' if !in_text && chars.peek() == Some(&'"') => {
                chars.next();
                chars.next();
            }
            '"' => {
                in_text = !in_text;
                out.push('"');
            }
            '/' if !in_text && chars.peek() == Some(&'/') => break,
            _ if !in_text => out.push(char),
            _ => {}
        }
    }
    out
}

/// Whether `word` is in `text`, not as a part of a longer name.
fn has_word(text: &str, word: &str) -> bool {
    let part = |char: char| char.is_alphanumeric() || char == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

#[test]
fn the_helpers_of_this_test_see() {
    assert_eq!(
        code(r#"let a = "unsafe // \" x"; // todo"#),
        r#"let a = ""; "#
    );
    assert_eq!(code(r#"b'"' => unsafe {"#), "b => unsafe {");
    assert!(has_word("= unsafe {", "unsafe") && !has_word("unsafe_code", "unsafe"));
    assert_eq!(
        links("see [a](b.md) and [c](d/e.md#f) `[x](y)`"),
        ["b.md", "d/e.md#f"]
    );
}

/// What each package of the project depends on, tests and build scripts left out.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::new();
    for path in manifests() {
        let text = read(&path);
        let (mut section, mut name, mut found) = (String::new(), String::new(), BTreeSet::new());
        for line in text.lines() {
            let line = line.trim();
            if line.starts_with('[') {
                section = line.trim_matches(['[', ']']).to_owned();
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            let key = key.trim();
            if section == "package" && key == "name" {
                name = value.trim().trim_matches('"').to_owned();
            }
            if section == "dependencies" {
                let key = key.split('.').next().unwrap_or(key).trim_matches('"');
                found.insert(key.to_owned());
            }
        }
        assert!(!name.is_empty(), "{} names no package", path.display());
        all.insert(name, found);
    }
    let names: BTreeSet<String> = all.keys().cloned().collect();
    for found in all.values_mut() {
        found.retain(|name| names.contains(name));
    }
    all
}

#[test]
fn packages_depend_in_one_direction() {
    let all = dependencies();
    let allowed: &[(&str, &[&str])] = &[
        ("neurath-abi", &[]),
        ("neurath-pmem-derive", &[]),
        ("neurath-macros", &[]),
        ("neurath-manifest", &[]),
        ("neurath-plan", &["neurath-manifest"]),
        ("neurath-pmem", &["neurath-abi", "neurath-pmem-derive"]),
        (
            "neurath",
            &["neurath-abi", "neurath-macros", "neurath-pmem"],
        ),
        (
            "neurath-node",
            &[
                "neurath-abi",
                "neurath-manifest",
                "neurath-plan",
                "neurath-pmem",
            ],
        ),
        ("kv-resp", &[]),
        ("kv-commands", &["kv-resp"]),
        ("neurath-verify", &["kv-resp"]),
        (
            "neurath-cli",
            &[
                "neurath-manifest",
                "neurath-plan",
                "neurath-pmem",
                "neurath-node",
                "neurath-verify",
                "kv-resp",
            ],
        ),
        ("xtask", &["neurath-cli"]),
        // A node of its own, for a release that brings one.
        ("kv-node", &["neurath-cli"]),
    ];
    for (name, allowed) in allowed {
        let found = all
            .get(*name)
            .unwrap_or_else(|| panic!("there is no package {name}"));
        let allowed: BTreeSet<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        let more: Vec<_> = found.difference(&allowed).collect();
        assert!(more.is_empty(), "{name} must not depend on {more:?}");
    }
    // What runs on a node knows the SDK alone.
    for (name, found) in &all {
        if allowed.iter().any(|(known, _)| known == name) || name == "kv-testing" {
            continue;
        }
        for other in [
            "neurath-node",
            "neurath-plan",
            "neurath-manifest",
            "neurath-cli",
        ] {
            assert!(!found.contains(other), "{name} must not depend on {other}");
        }
        // A component's crate needs `neurath`, and none of what that stands on.
        if !name.starts_with("kv-") && name != "neurath-test-components" {
            continue;
        }
        for other in ["neurath-abi", "neurath-pmem", "neurath-macros"] {
            assert!(
                !found.contains(other),
                "{name} must not depend on {other}: what it needs is in `neurath`"
            );
        }
    }
}

fn may_be_unsafe(path: &str) -> bool {
    let places = [
        "crates/neurath-abi/src/",
        "crates/neurath-pmem/",
        "crates/neurath/src/",
        // What the macros put out.
        "crates/neurath-macros/src/",
        "crates/neurath-pmem-derive/src/",
        "crates/neurath-node/src/loader/",
        "crates/neurath-node/src/mapping.rs",
        "crates/demo/testing/",
    ];
    // Libraries that are wrong on purpose, and the test that loads them.
    let tests = [
        "crates/testing/",
        "crates/neurath-node/tests/loading.rs",
        "crates/neurath-node/fixtures/",
    ];
    places
        .iter()
        .chain(&tests)
        .any(|place| path.starts_with(place))
}

#[test]
fn unsafe_code_is_where_it_belongs() {
    let mut seen = 0;
    for path in sources() {
        let name = short(&path);
        for (number, line) in read(&path).lines().enumerate() {
            if has_word(&code(line), "unsafe") && !line.contains("unsafe(no_mangle)") {
                seen += 1;
                assert!(
                    may_be_unsafe(&name),
                    "{name}:{}: {}",
                    number + 1,
                    line.trim()
                );
            }
        }
    }
    assert!(seen > 20, "only {seen} lines with unsafe code were found");
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    let mut seen = 0;
    let mut silent = Vec::new();
    for path in sources() {
        // Libraries that are wrong on purpose.
        if short(&path).starts_with("crates/testing/loader-fixtures/") {
            continue;
        }
        let text = read(&path);
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let code = code(line);
            if !has_word(&code, "unsafe")
                || !(code.contains("unsafe {") || code.contains("unsafe impl"))
            {
                continue;
            }
            seen += 1;
            // Above it, in the same statement or in the comment before that.
            let before = lines[..number].iter().rev().take(12);
            let mut said = line.contains("SAFETY:");
            for above in before {
                let above = above.trim();
                if above.contains("SAFETY:") || above.contains("# Safety") {
                    said = true;
                    break;
                }
                let ends = above.ends_with(';') || above.ends_with('}') || above.is_empty();
                if ends && !above.starts_with("//") {
                    break;
                }
            }
            if !said {
                silent.push(format!("{}:{}: {}", short(&path), number + 1, line.trim()));
            }
        }
    }
    assert!(seen > 20, "only {seen} unsafe blocks were found");
    assert!(
        silent.is_empty(),
        "without `// SAFETY:`:\n{}",
        silent.join("\n")
    );
}

#[test]
fn manifests_and_plans_are_pure() {
    for package in ["neurath-manifest", "neurath-plan"] {
        let folder = root().join("crates").join(package).join("src");
        let sources = files(&folder, ".rs");
        assert!(!sources.is_empty(), "{package} has no sources");
        for path in sources {
            for (number, line) in read(&path).lines().enumerate() {
                let code = code(line);
                for word in [
                    "std::fs",
                    "std::thread",
                    "std::net",
                    "std::process",
                    "std::env",
                ] {
                    let at = format!("{}:{}", short(&path), number + 1);
                    assert!(!code.contains(word), "{at}: {word}");
                }
                for word in ["Instant", "SystemTime", "async", "await"] {
                    let at = format!("{}:{}", short(&path), number + 1);
                    assert!(!has_word(&code, word), "{at}: {word}");
                }
            }
        }
    }
}

#[test]
fn nothing_is_left_to_do() {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
    ];
    let calls = [concat!("to", "do!"), concat!("unimple", "mented!")];
    for path in sources() {
        for (number, line) in read(&path).lines().enumerate() {
            let at = format!("{}:{}: {}", short(&path), number + 1, line.trim());
            assert!(!marks.iter().any(|mark| has_word(line, mark)), "{at}");
            assert!(!calls.iter().any(|call| code(line).contains(call)), "{at}");
        }
    }
}

#[test]
fn every_package_says_what_it_is() {
    for manifest in manifests() {
        let folder = manifest.parent().expect("a folder").join("src");
        let source = [folder.join("lib.rs"), folder.join("main.rs")]
            .into_iter()
            .find(|path| path.exists());
        let Some(source) = source else {
            panic!("{} has no sources", short(&manifest));
        };
        assert!(
            read(&source).starts_with("//!"),
            "{} does not begin with //!",
            short(&source)
        );
    }
}

#[test]
fn every_format_has_a_page_with_its_version() {
    // The page, its first line up to the version, the source, and its constant likewise.
    let formats = [
        (
            "on-media-format.md",
            "format ",
            "neurath-pmem/src/region/format.rs",
            "pub const FORMAT: u32 = ",
        ),
        (
            "catalog-format.md",
            "format ",
            "neurath-node/src/catalog/slot.rs",
            "pub const FORMAT: u32 = ",
        ),
        (
            "journal-format.md",
            "format ",
            "neurath-node/src/journal.rs",
            "b\"neurath journal ",
        ),
        (
            "handover-format.md",
            "format ",
            "neurath-node/src/handover/record.rs",
            "pub const FORMAT: u32 = ",
        ),
        (
            "control-protocol.md",
            "version ",
            "neurath-node/src/protocol/frame.rs",
            "pub const VERSION: u32 = ",
        ),
        (
            "schema.md",
            "version ",
            "neurath-pmem/src/schema/encode.rs",
            "const VERSION: u8 = ",
        ),
        (
            "package-format.md",
            "\"format\": ",
            "neurath-node/src/release.rs",
            "pub const FORMAT: u32 = ",
        ),
        (
            "package-format.md",
            "\"neurath_package\": ",
            "neurath-node/src/package/mod.rs",
            "pub const FORMAT: u32 = ",
        ),
    ];
    for (page, before, source, constant) in formats {
        let number = |text: &str, before: &str, place: &str| -> String {
            let Some((_, after)) = text.split_once(before) else {
                panic!("{place} has no `{before}`");
            };
            after.chars().take_while(char::is_ascii_digit).collect()
        };
        let text = read(&root().join("docs").join(page));
        let place = if before.starts_with('"') {
            text.as_str()
        } else {
            text.lines().next().unwrap_or_default()
        };
        let told = number(place, before, page);
        let is = number(&read(&root().join("crates").join(source)), constant, source);
        assert!(!is.is_empty(), "{source}: no number after {constant}");
        assert_eq!(
            told, is,
            "docs/{page} tells of another version than {source} has"
        );
    }
}

/// Where the links of a page point.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        // Every second part is in backticks.
        for plain in line.split('`').step_by(2) {
            let mut rest = plain;
            while let Some((_, after)) = rest.split_once("](") {
                let Some((link, after)) = after.split_once(')') else {
                    break;
                };
                found.push(link.to_owned());
                rest = after;
            }
        }
    }
    found
}

#[test]
fn links_point_at_files() {
    let mut broken = Vec::new();
    let pages = files(&root(), ".md");
    assert!(pages.len() >= 9, "the pages were not found");
    for page in pages {
        for link in links(&read(&page)) {
            if link.contains("://") || link.starts_with("mailto:") || link.starts_with('#') {
                continue;
            }
            let file = link.split('#').next().unwrap_or_default();
            if !page.parent().expect("a folder").join(file).exists() {
                broken.push(format!("{}: {link}", short(&page)));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "links to nowhere:\n{}",
        broken.join("\n")
    );
}

/// Every promise of docs/promises.md has a test of its name, and what is said to hold it is there and
/// is not ignored.
#[test]
fn every_promise_has_a_test() {
    let text = read(&root().join("docs/promises.md"));
    let files: Vec<String> = std::fs::read_dir(root().join("tests"))
        .expect("the tests")
        .map(|file| {
            file.expect("a file")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    for number in 1..=16 {
        let row = text
            .lines()
            .find(|line| line.starts_with(&format!("| P{number} |")))
            .unwrap_or_else(|| panic!("docs/promises.md has no P{number}"));
        let own: Vec<&String> = files
            .iter()
            .filter(|name| name.starts_with(&format!("p{number}_")) && name.ends_with(".rs"))
            .collect();
        assert!(!own.is_empty(), "P{number} has no tests/p{number}_….rs");
        for name in own {
            assert!(
                row.contains(name.as_str()),
                "P{number} does not name tests/{name}"
            );
            let source = read(&root().join("tests").join(name));
            assert!(source.contains("#[test]"), "tests/{name} has no test");
            let ignored = source.contains("#[ignore") || source.contains("cfg(any())");
            assert!(!ignored, "tests/{name} is ignored in part");
        }
        // Every file that is named is there.
        for named in row.split('`').filter(|word| word.ends_with(".rs")) {
            assert!(
                root().join(named).is_file(),
                "P{number} names {named}, which is not there"
            );
        }
    }
}
