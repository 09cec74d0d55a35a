//! Every code has its page in `docs/lints/`, with a bad and a mended example; both are run.

mod common;

use common::{add_parsed, root, version};
use neurath_manifest::{Diagnostic, Relup, Severity};
use neurath_plan::schema::{CodeChange, FieldDesc, MoveFunction, TypeDesc, TypeKind};
use neurath_plan::{Catalogue, ComponentFacts, Lints, check_relup, codes, plan_with};
use std::collections::BTreeMap;

/// A fenced block: what follows the fence, and its text.
type Block = (String, String);

fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some(info)) => open = Some((info.to_string(), String::new())),
            (Some((_, body)), None) => {
                body.push_str(line);
                body.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    found
}

/// What an example says.
struct Example {
    files: Vec<(String, String)>,
    facts: BTreeMap<(String, String), ComponentFacts>,
    plans: Vec<[String; 4]>,
}

/// `Store: count u64, last u64`
fn type_desc(text: &str) -> TypeDesc {
    let (name, fields) = text.trim().split_once(": ").expect(text);
    let mut offset = 0;
    let fields: Vec<FieldDesc> = fields
        .split(", ")
        .map(|field| {
            let (name, ty) = field.split_once(' ').expect(field);
            let size = ty[1..].parse::<u32>().expect(field) / 8;
            offset += size;
            FieldDesc {
                name: name.into(),
                offset: offset - size,
                ty: TypeDesc {
                    name: ty.into(),
                    size,
                    fingerprint: ty.into(),
                    kind: TypeKind::Primitive,
                },
            }
        })
        .collect();
    TypeDesc {
        name: name.into(),
        size: offset,
        fingerprint: text.trim().into(),
        kind: TypeKind::Struct(fields),
    }
}

/// The state's type, and then a line for each `code_change`, `from 1.0: OLD => NEW`, and for each end of a
/// move, `out counters: STATE => VALUE` or `in counters: STATE => VALUE`.
fn facts(text: &str) -> ComponentFacts {
    let mut lines = text.lines();
    let mut facts = ComponentFacts {
        state: type_desc(lines.next().expect("a type")),
        code_changes: Vec::new(),
        moves: Vec::new(),
    };
    for line in lines {
        let (head, types) = line.split_once(": ").expect(line);
        let (word, name) = head.split_once(' ').expect(line);
        let (from, to) = types.split_once(" => ").expect(line);
        match word {
            "from" | "to" => facts.code_changes.push(CodeChange {
                from: from.into(),
                to: to.into(),
                version: name.into(),
                backward: word == "to",
            }),
            "in" | "out" => facts.moves.push(MoveFunction {
                name: name.into(),
                incoming: word == "in",
                state: from.into(),
                value: to.into(),
            }),
            _ => panic!("{line}"),
        }
    }
    facts
}

/// The base project with the blocks of an example laid over it.
fn example(base: &[Block], own: &[Block]) -> Example {
    let own_files: Vec<&str> = own
        .iter()
        .filter_map(|(info, _)| {
            info.strip_prefix("toml file=")
                .or(info.strip_prefix("text without "))
        })
        .collect();
    let mut found = Example {
        files: Vec::new(),
        facts: BTreeMap::new(),
        plans: Vec::new(),
    };
    for (info, text) in base {
        if let Some(file) = info.strip_prefix("toml file=")
            && !own_files.contains(&file)
        {
            found.files.push((file.into(), text.clone()));
        }
    }
    let mut only_up = false;
    for (info, text) in own {
        if let Some(file) = info.strip_prefix("toml file=") {
            found.files.push((file.into(), text.clone()));
        } else if let Some(of) = info.strip_prefix("text state ") {
            let (name, version) = of.split_once(' ').expect(of);
            found
                .facts
                .insert((name.into(), version.into()), facts(text));
        } else if info == "text plan" {
            let words: Vec<&str> = text.split_whitespace().collect();
            let [from, old, "->", to, new] = words[..] else {
                panic!("{text}")
            };
            found.plans.push([from, old, to, new].map(str::to_string));
        } else {
            assert!(
                info == "text only up" || info.starts_with("text without "),
                "{info}"
            );
            only_up |= info == "text only up";
        }
    }
    if found.plans.is_empty() {
        found
            .plans
            .push(["app", "1.0.0", "app", "1.1.0"].map(str::to_string));
        if !only_up {
            found
                .plans
                .push(["app", "1.1.0", "app", "1.0.0"].map(str::to_string));
        }
    }
    found
}

/// All that is said of an example.
fn run(example: &Example) -> Vec<Diagnostic> {
    let (mut found, mut catalogue, mut relups) = (Vec::new(), Catalogue::new(), Vec::new());
    for (file, text) in &example.files {
        if file.ends_with(".relup.toml") {
            match Relup::parse(file, text) {
                Ok(relup) => relups.push(relup),
                Err(problems) => found.extend(problems),
            }
        } else if let Err(problems) = add_parsed(&mut catalogue, file, text) {
            found.extend(problems);
        }
    }
    if !found.is_empty() {
        return found;
    }
    for ((name, ver), facts) in &example.facts {
        catalogue.add_facts((name, &version(ver)), facts.clone());
    }
    for [from, old, to, new] in &example.plans {
        let (old, new) = (version(old), version(new));
        match plan_with(&catalogue, (from, &old), (to, &new), Lints::Enforce) {
            Ok(planned) => found.extend(planned.findings),
            Err(problems) => found.extend(problems),
        }
    }
    for relup in &relups {
        match check_relup(&catalogue, relup) {
            Ok(findings) => found.extend(findings),
            Err(problems) => found.extend(problems),
        }
    }
    found
}

fn rendered(found: &[Diagnostic]) -> String {
    let texts: Vec<String> = found.iter().map(Diagnostic::render).collect();
    texts.join("\n\n")
}

fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    let all = neurath_manifest::codes::ALL.iter().chain(codes::ALL);
    all.copied()
}

fn read(file: &str) -> String {
    let path = root().join("docs/lints").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_code_is_in_the_index() {
    let index = read("README.md");
    for (code, title) in all() {
        let level = codes::LINTS.iter().find(|(lint, _)| *lint == code);
        let level = level.map_or("error", |(_, level)| level.as_str());
        let row = format!("| [{code}]({code}.md) | {level} | {title} |");
        assert!(index.contains(&row), "the index has no line\n{row}");
    }
}

#[test]
fn the_project_of_the_examples_is_good() {
    let found = run(&example(&blocks(&read("README.md")), &[]));
    assert!(found.is_empty(), "{}", rendered(&found));
}

#[test]
fn every_bad_example_is_found_and_every_mended_one_is_not() {
    let base = blocks(&read("README.md"));
    let mut failures = Vec::new();
    for (code, title) in all() {
        let page = read(&format!("{code}.md"));
        assert!(
            page.starts_with(&format!("# {code}: {title}\n")),
            "{code}.md has another title than the code"
        );
        let (_, rest) = page.split_once("\n## Bad\n").expect(code);
        let (bad, mended) = rest.split_once("\n## Mended\n").expect(code);
        let found = run(&example(&base, &blocks(bad)));
        if !found.iter().any(|one| one.code == code) {
            failures.push(format!(
                "{code}: the bad example gives\n{}",
                rendered(&found)
            ));
        }
        let found = run(&example(&base, &blocks(mended)));
        let wrong = |one: &Diagnostic| one.code == code || one.severity == Severity::Error;
        if found.iter().any(wrong) {
            failures.push(format!(
                "{code}: the mended example gives\n{}",
                rendered(&found)
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
