//! Promise: the commands that the README shows exist, and its demo does what it says.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_demo_tells_its_story_and_loses_nothing() {
    let output = Command::new(neurath_suite::program())
        .args(["demo", "--keys", "2000", "--seconds", "2", "--json"])
        .current_dir(root())
        .output()
        .expect("the command runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}:\n{stdout}{stderr}",
        output.status
    );
    let last = stdout
        .lines()
        .last()
        .unwrap_or_else(|| panic!("it says nothing: {stderr}"));
    let story: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"));

    assert_eq!(story["keys"], 2000, "{last}");
    assert!(
        story["requests"].as_u64().is_some_and(|count| count > 2000),
        "{last}"
    );
    for never in ["lost", "wrong", "errors"] {
        assert_eq!(story[never], 0, "{never}: {last}");
    }
    let upgrades = story["upgrades"]
        .as_array()
        .unwrap_or_else(|| panic!("no upgrades: {last}"));
    let ways: Vec<(String, String)> = upgrades
        .iter()
        .map(|one| (text(&one["from"]), text(&one["to"])))
        .collect();
    let way = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    assert_eq!(
        ways,
        [
            way("1.0.0", "1.1.0"),
            way("1.1.0", "1.0.0"),
            way("1.0.0", "1.1.0")
        ],
        "{last}"
    );
    for one in upgrades {
        let stop = number(one, "stop_us");
        assert!(stop > 0 && stop <= number(one, "total_us"), "{one}");
        assert!(number(one, "worst_request_us") > 0, "{one}");
        assert!(
            one["steps"]
                .as_array()
                .is_some_and(|steps| !steps.is_empty()),
            "{one}"
        );
    }
    // The two of the release that was left by the way back, and the two that `confirm` let go.
    assert_eq!(number(&story, "unloaded"), 4, "{last}");
}

/// The version in `kv-1.0.0`, `1.0.0` or `{"name", "version"}`.
fn text(release: &Value) -> String {
    match release {
        Value::String(text) => text.trim_start_matches("kv-").to_owned(),
        other => other["version"].as_str().unwrap_or_default().to_owned(),
    }
}

fn number(value: &Value, key: &str) -> u64 {
    value[key]
        .as_u64()
        .unwrap_or_else(|| panic!("no {key}: {value}"))
}

/// The lines of the blocks of a page that are commands of a shell.
fn commands(page: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut fence: Option<bool> = None;
    let mut goes_on = false;
    for line in page.lines() {
        if let Some(kind) = line.trim_start().strip_prefix("```") {
            fence = match fence {
                None => Some(["sh", "bash", "shell", "console"].contains(&kind.trim())),
                Some(_) => None,
            };
            continue;
        }
        if fence != Some(true) {
            continue;
        }
        let line = line.trim().trim_start_matches("$ ");
        let plain = line.split(" #").next().unwrap_or_default().trim();
        let part = plain.trim_end_matches('\\').trim();
        match found.last_mut() {
            Some(last) if goes_on => {
                last.push(' ');
                last.push_str(part);
            }
            _ => found.push(part.to_owned()),
        }
        goes_on = plain.ends_with('\\');
    }
    found
}

/// What follows `neurath` or `cargo xtask` in a line.
fn arguments(line: &str) -> Option<Vec<String>> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let words = match words.as_slice() {
        ["cargo", "xtask", rest @ ..] | ["neurath", rest @ ..] => rest,
        _ => return None,
    };
    let end = words
        .iter()
        .position(|word| ["|", ">", "&", "&&", ";"].contains(word));
    let words = &words[..end.unwrap_or(words.len())];
    Some(
        words
            .iter()
            .map(|word| word.trim_matches(['"', '\'']).to_owned())
            .collect(),
    )
}

#[test]
fn the_blocks_are_read() {
    let page = "a\n```sh\n$ cargo xtask demo --keys 5 # five\nneurath node \\\n  stop | cat\n```\n```text\nneurath x\n```\n";
    let lines = commands(page);
    assert_eq!(
        lines,
        ["cargo xtask demo --keys 5", "neurath node stop | cat"]
    );
    let parsed: Vec<_> = lines.iter().filter_map(|line| arguments(line)).collect();
    assert_eq!(parsed, [vec!["demo", "--keys", "5"], vec!["node", "stop"]]);
}

#[test]
fn the_commands_in_the_readme_are_understood() {
    let page = root().join("README.md");
    let page = std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("README.md: {error}"));
    let all: Vec<Vec<String>> = commands(&page)
        .iter()
        .filter_map(|line| arguments(line))
        .collect();
    assert!(
        all.iter()
            .any(|arguments| arguments.first().is_some_and(|first| first == "demo")),
        "README.md shows no demo: {all:?}"
    );
    for arguments in all {
        use neurath_cli::cli::Cli;
        let line = std::iter::once(String::from("neurath")).chain(arguments.iter().cloned());
        if let Err(error) = <Cli as clap::Parser>::try_parse_from(line) {
            // Help is asked for by what clap calls an error.
            assert!(
                !error.use_stderr(),
                "README.md: {}: {error}",
                arguments.join(" ")
            );
        }
    }
}
