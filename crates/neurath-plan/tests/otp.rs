//! The translation, rule by rule: as OTP has it, and where `docs/otp-differences.md` says otherwise.

mod common;

use common::{catalogue, manifest, release, root, version};
use neurath_manifest::Diagnostics;
use neurath_plan::{Plan, plan};

type Files = Vec<(String, String)>;

/// Manifests in two versions; `needs` are dependant and dependency. All change but those that are `still`.
fn project(names: &[&str], needs: &[(&str, &str)], still: &[&str]) -> Files {
    let mut files = Vec::new();
    for name in names {
        let on: Vec<(&str, &str)> = needs
            .iter()
            .filter(|(dependant, _)| dependant == name)
            .map(|(_, dependency)| (*dependency, "^1"))
            .collect();
        files.extend(["1.0.0", "1.1.0"].map(|ver| manifest(name, ver, &on)));
    }
    for ver in ["1.0.0", "1.1.0"] {
        let parts: Vec<(&str, &str)> = names
            .iter()
            .map(|name| (*name, if still.contains(name) { "1.0.0" } else { ver }))
            .collect();
        files.push(release(ver, &parts));
    }
    files
}

fn appup(name: &str, up: &[&str], down: &[&str]) -> (String, String) {
    let list = |all: &[&str]| -> String { all.iter().map(|one| format!("    {one},\n")).collect() };
    let text = format!(
        "[[up]]\nfrom = \"~1.0\"\ninstructions = [\n{}]\n\n[[down]]\nto = \"~1.0\"\ninstructions = [\n{}]\n",
        list(up),
        list(down)
    );
    (format!("manifests/{name}/1.1.0.appup.toml"), text)
}

fn both(name: &str, instructions: &[&str]) -> (String, String) {
    appup(name, instructions, instructions)
}

fn update(name: &str) -> String {
    format!("{{ update = \"{name}\", change = {{ advanced = {{}} }} }}")
}

fn planned(files: &Files, up: bool) -> Result<Plan, Diagnostics> {
    let (old, new) = (version("1.0.0"), version("1.1.0"));
    let (from, to) = if up { (&old, &new) } else { (&new, &old) };
    plan(&catalogue(files), ("app", from), ("app", to))
}

/// The steps, with each `load_object_code` and `purge` left out: `suspend a b`.
fn steps(files: &Files, up: bool) -> Vec<String> {
    let plan = planned(files, up).unwrap_or_else(|found| panic!("{found}"));
    let shown = plan.steps.iter().map(|step| {
        let names = step.components().join(" ");
        format!("{} {names}", step.verb()).trim().to_string()
    });
    shown
        .filter(|step| !step.starts_with("load_object_code") && !step.starts_with("purge"))
        .collect()
}

#[track_caller]
fn refused(files: &Files, up: bool) -> Vec<&'static str> {
    planned(files, up).expect_err("must be refused").codes()
}

#[test]
fn the_matrix_of_static_and_dynamic_changes() {
    // c needs b, b needs a.
    let mut files = project(&["a", "b", "c"], &[("c", "b"), ("b", "a")], &[]);
    files.push(both("a", &[&update("a")]));
    files.push(both(
        "b",
        &["{ update = \"b\", change = { advanced = {} }, mod_type = \"static\" }"],
    ));
    files.push(both("c", &[&update("c")]));
    assert_eq!(
        steps(&files, true),
        [
            "point_of_no_return",
            "suspend c b a",
            "load a",
            "load b",
            "load c",
            "code_change c",
            "code_change b",
            "code_change a",
            "resume a b c"
        ]
    );
    assert_eq!(
        steps(&files, false),
        [
            "point_of_no_return",
            "suspend c b a",
            "code_change c",
            "code_change a",
            "load c",
            "load b",
            "load a",
            "code_change b",
            "resume a b c"
        ]
    );
}

#[test]
fn a_soft_update_has_no_code_change() {
    let mut files = project(&["a"], &[], &[]);
    files.push(both("a", &["{ update = \"a\" }"]));
    let soft = ["point_of_no_return", "suspend a", "load a", "resume a"];
    assert_eq!(steps(&files, true), soft);
    assert_eq!(steps(&files, false), soft);
}

#[test]
fn a_circle_keeps_its_listing_order_among_dependants_first() {
    let mut files = project(&["a", "b", "c"], &[], &[]);
    for (name, needs) in [("a", "c"), ("b", "a"), ("c", "a")] {
        let update = format!("{{ update = \"{name}\", depends_on = [\"{needs}\"] }}");
        files.push(both(name, &[&update]));
    }
    let steps = steps(&files, true);
    assert_eq!(steps[1], "suspend b a c");
    assert_eq!(steps[2..5], ["load c", "load a", "load b"]);
}

#[test]
fn groups_come_at_their_first_member_and_the_authors_steps_stay_between() {
    // a and c are tied; b is by itself.
    let mut files = project(&["a", "b", "c"], &[("c", "a")], &[]);
    let (a, b, c) = (update("a"), update("b"), update("c"));
    let apply = "{ apply = { command = [\"true\"] } }";
    files.push(both("a", &[&a, apply]));
    files.push(both("b", &[&b]));
    files.push(both("c", &[&c]));
    assert_eq!(
        steps(&files, true),
        [
            "point_of_no_return",
            "suspend c a",
            "load a",
            "load c",
            "code_change c",
            "code_change a",
            "apply",
            "suspend b",
            "load b",
            "code_change b",
            "resume a c b"
        ]
    );
}

#[test]
fn one_commit_for_all_groups() {
    // OTP resumes each group before the next one is suspended.
    let mut files = project(&["a", "b"], &[], &[]);
    files.push(both("a", &[&update("a")]));
    files.push(both("b", &[&update("b")]));
    let steps = steps(&files, true);
    assert_eq!(steps[1], "suspend b a");
    assert_eq!(
        steps
            .iter()
            .filter(|step| step.starts_with("resume"))
            .count(),
        1
    );
    assert_eq!(steps.last().map(String::as_str), Some("resume a b"));
}

#[test]
fn independent_instructions_are_reversed_on_the_way_down() {
    let mut files = project(&["a", "b", "c"], &[], &[]);
    for name in ["a", "b", "c"] {
        files.push(both(name, &[&format!("{{ load = \"{name}\" }}")]));
    }
    let loads = |up| -> Vec<String> {
        let steps = steps(&files, up).into_iter();
        steps.filter(|step| step.starts_with("load")).collect()
    };
    assert_eq!(loads(true), ["load a", "load b", "load c"]);
    assert_eq!(loads(false), ["load c", "load b", "load a"]);
}

#[test]
fn what_would_be_carried_across_an_authors_step_is_refused() {
    let mut files = project(&["a", "b"], &[("b", "a")], &[]);
    let (a, b) = (update("a"), update("b"));
    files.push(both("a", &[&a, "{ apply = { command = [\"true\"] } }", &b]));
    files.push(both("b", &[]));
    assert_eq!(refused(&files, true), ["P018"]);
}

#[test]
fn load_object_code_goes_before_what_the_author_wrote_there() {
    let mut files = project(&["a", "b"], &[], &[]);
    let apply = "{ apply = { command = [\"true\"] } }";
    files.push(both(
        "a",
        &[
            apply,
            "{ sync_nodes = \"all\", nodes = [\"n\"], deadline = \"1s\" }",
            "{ point_of_no_return = true }",
            "{ load = \"a\" }",
        ],
    ));
    files.push(both(
        "b",
        &[
            "{ load_object_code = \"b\", version = \"1.1.0\" }",
            "{ load = \"b\" }",
        ],
    ));
    let plan = planned(&files, true).unwrap_or_else(|found| panic!("{found}"));
    let verbs: Vec<&str> = plan.steps.iter().map(|step| step.verb()).collect();
    assert_eq!(
        verbs[..5],
        [
            "load_object_code",
            "load_object_code",
            "apply",
            "sync_nodes",
            "point_of_no_return"
        ]
    );
    assert_eq!(
        verbs
            .iter()
            .filter(|verb| **verb == "point_of_no_return")
            .count(),
        1
    );
}

#[test]
fn added_components_start_after_those_they_need() {
    // OTP starts x first, before what it needs was upgraded.
    let mut files = project(&["x", "a"], &[("x", "a")], &[]);
    files.retain(|(file, _)| !file.starts_with("releases") && file != "manifests/x/1.0.0.toml");
    files.push(release("1.0.0", &[("a", "1.0.0")]));
    files.push(release("1.1.0", &[("x", "1.1.0"), ("a", "1.1.0")]));
    files.push(both("a", &[&update("a")]));
    assert_eq!(
        steps(&files, true),
        [
            "point_of_no_return",
            "suspend a",
            "load a",
            "load x",
            "code_change a",
            "resume a",
            "start x"
        ]
    );
    // Going back removes it, which is refused until it is allowed.
    assert_eq!(refused(&files, false), ["D101"]);
    allow(&mut files, "D101");
    assert_eq!(
        steps(&files, false),
        [
            "point_of_no_return",
            "stop x",
            "suspend a",
            "code_change a",
            "remove x",
            "load a",
            "resume a"
        ]
    );
}

/// Allows a lint in the newer release.
fn allow(files: &mut Files, code: &str) {
    for (file, text) in files {
        if file == "releases/app/1.1.0.toml" {
            text.push_str(&format!(
                "\n[lints]\n{code} = {{ level = \"allow\", reason = \"a test\" }}\n"
            ));
        }
    }
}

#[test]
fn removed_components_stop_before_what_they_need() {
    let mut files = project(&["a", "b", "top"], &[("top", "b"), ("b", "a")], &[]);
    files.retain(|(file, _)| {
        file != "releases/app/1.1.0.toml" && file != "manifests/top/1.1.0.toml"
    });
    // top does not need b any more.
    files.push(manifest("top", "1.1.0", &[("a", "^1")]));
    files.push(release("1.1.0", &[("a", "1.1.0"), ("top", "1.1.0")]));
    files.push(both("a", &[&update("a")]));
    files.push(appup(
        "top",
        &["{ load = \"top\" }", "{ remove_component = \"b\" }"],
        &["{ load = \"top\" }", "{ add_component = \"b\" }"],
    ));
    allow(&mut files, "D101");
    assert_eq!(
        steps(&files, true),
        [
            "point_of_no_return",
            "suspend top",
            "stop b",
            "suspend a",
            "load a",
            "remove b",
            "load top",
            "code_change a",
            "resume a top"
        ]
    );
    assert_eq!(
        steps(&files, false),
        [
            "point_of_no_return",
            "suspend top a",
            "code_change a",
            "load top",
            "load b",
            "load a",
            "resume a",
            "start b",
            "resume top"
        ]
    );
}

#[test]
fn a_restart_stops_dependants_first_and_starts_them_again() {
    // OTP stops the component under its dependants.
    let mut files = project(
        &["a", "b", "c", "other"],
        &[("b", "a"), ("c", "b")],
        &["b", "c", "other"],
    );
    files.push(both("a", &["{ restart_component = \"a\" }"]));
    assert_eq!(
        steps(&files, true),
        ["point_of_no_return", "stop c b a", "load a", "start a b c"]
    );
}

#[test]
fn start_types() {
    let typed = |start: &str| {
        let mut files = project(&["a"], &[], &[]);
        files.push(both("a", &[&update("a")]));
        files.push(manifest("new", "1.0.0", &[]));
        files.retain(|(file, _)| file != "releases/app/1.1.0.toml");
        let (file, text) = release("1.1.0", &[("a", "1.1.0")]);
        files.push((
            file,
            format!("{text}new = {{ version = \"1.0.0\", start = \"{start}\" }}\n"),
        ));
        let steps = steps(&files, true).into_iter();
        steps
            .filter(|step| step.ends_with("new"))
            .collect::<Vec<_>>()
    };
    for runs in ["permanent", "transient", "temporary"] {
        assert_eq!(typed(runs), ["load new", "start new"], "{runs}");
    }
    assert_eq!(typed("load"), ["load new"]);
    assert_eq!(typed("none"), Vec::<String>::new());
}

#[test]
fn a_new_node_comes_first_on_the_way_up_and_last_on_the_way_down() {
    let mut files = project(&["a"], &[], &[]);
    files.push(both("a", &["{ load = \"a\" }"]));
    for (file, text) in &mut files {
        if file == "releases/app/1.1.0.toml" {
            *text = text.replace("node = \"0.1.0\"", "node = \"0.2.0\"");
        }
    }
    let (up, down) = (steps(&files, true), steps(&files, false));
    assert_eq!(up[0], "restart_new_node");
    assert_eq!(up[1], "point_of_no_return");
    assert_eq!(down[0], "point_of_no_return");
    assert_eq!(down.last().map(String::as_str), Some("restart_node"));
    assert!(!down.contains(&"restart_new_node".to_string()));
}

#[test]
fn restart_node_is_there_once_and_last() {
    let mut files = project(&["a", "b"], &[], &[]);
    files.push(both("a", &["{ restart_node = true }", "{ load = \"a\" }"]));
    files.push(both("b", &["{ load = \"b\" }", "{ restart_node = true }"]));
    let steps = steps(&files, true);
    let places: Vec<usize> = (0..steps.len())
        .filter(|at| steps[*at] == "restart_node")
        .collect();
    assert_eq!(places, [steps.len() - 1]);
}

#[test]
fn a_new_abi_wants_a_new_node() {
    let mut files = project(&["a"], &[], &[]);
    files.push(both("a", &["{ load = \"a\" }"]));
    let mut catalogue = catalogue(&files);
    catalogue.add_abi(("a", &version("1.0.0")), 1);
    catalogue.add_abi(("a", &version("1.1.0")), 2);
    let plan = plan(
        &catalogue,
        ("app", &version("1.0.0")),
        ("app", &version("1.1.0")),
    );
    let plan = plan.unwrap_or_else(|found| panic!("{found}"));
    assert_eq!(plan.steps[0].verb(), "restart_new_node");
}

#[test]
fn state_is_moved_and_thrown_away_while_all_of_it_stands_still() {
    let mut files = project(&["a", "b"], &[], &[]);
    let take = "{ move_state = \"counters\", from = [\"a\"], to = [\"b\"] }";
    let back = "{ move_state = \"counters\", from = [\"b\"], to = [\"a\"] }";
    files.push(appup("a", &[take, &update("a")], &[&update("a"), back]));
    files.push(both("b", &[&update("b")]));
    assert_eq!(
        steps(&files, true),
        [
            "point_of_no_return",
            "suspend b a",
            "move_state a b",
            "load a",
            "load b",
            "code_change b",
            "code_change a",
            "resume a b"
        ]
    );
    let mut files = project(&["a", "b"], &[], &[]);
    files.push(both("a", &["{ reset_node = [\"a\"] }"]));
    files.push(both("b", &["{ load = \"b\" }"]));
    assert_eq!(refused(&files, true), ["D102"]);
    allow(&mut files, "D102");
    assert_eq!(
        steps(&files, true),
        [
            "point_of_no_return",
            "suspend b a",
            "load a",
            "reset_node a",
            "load b",
            "resume a b"
        ]
    );
}

#[test]
fn options_reach_the_steps() {
    let mut files = project(&["a", "changes"], &[], &["changes"]);
    files.push(both(
        "a",
        &["{ update = \"a\", change = { advanced = { n = 1 } }, via = \"changes\", pre_purge = \"soft\", post_purge = \"brutal\", timeout = \"3s\" }"],
    ));
    let plan = planned(&files, true).unwrap_or_else(|found| panic!("{found}"));
    let steps: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        steps,
        [
            "{ load_object_code = \"changes\", version = \"1.0.0\" }",
            "{ load_object_code = \"a\", version = \"1.1.0\", pre_purge = \"soft\" }",
            "{ point_of_no_return = true }",
            "{ suspend = [\"a\"], timeout = \"3s\" }",
            "{ load = \"a\", version = \"1.1.0\" }",
            "{ code_change = \"a\", from = \"1.0.0\", to = \"1.1.0\", extra = { n = 1 }, via = \"changes\" }",
            "{ resume = [\"a\"] }",
            "{ purge = \"a\", version = \"1.0.0\", kind = \"brutal\" }",
        ]
    );
    // A conversion after the upgrade is not another library's.
    files.pop();
    files.push(both(
        "a",
        &["{ update = \"a\", change = { advanced = {} }, strategy = \"incremental\" }"],
    ));
    let plan = planned(&files, true).unwrap_or_else(|found| panic!("{found}"));
    let steps: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    let change =
        "{ code_change = \"a\", from = \"1.0.0\", to = \"1.1.0\", strategy = \"incremental\" }";
    assert!(steps.iter().any(|step| step == change), "{steps:#?}");
}

#[test]
fn a_dependency_on_what_does_not_change_is_allowed() {
    // OTP: undef_module.
    let mut files = project(&["a", "b"], &[], &["b"]);
    files.push(both("a", &["{ update = \"a\", depends_on = [\"b\"] }"]));
    assert_eq!(
        steps(&files, true),
        ["point_of_no_return", "suspend a", "load a", "resume a"]
    );
}

#[test]
fn load_suspends() {
    let mut files = project(&["a"], &[], &[]);
    files.push(both("a", &["{ load = \"a\" }"]));
    assert_eq!(
        steps(&files, true),
        ["point_of_no_return", "suspend a", "load a", "resume a"]
    );
}

#[test]
fn the_release_is_the_only_word_on_start_types() {
    let mut files = project(&["a"], &[], &[]);
    files.push(both(
        "a",
        &["{ restart_component = \"a\", type = \"temporary\" }"],
    ));
    assert_eq!(refused(&files, true), ["P028"]);
}

/// Every difference from OTP names a test that there is.
#[test]
fn every_difference_has_its_test() {
    let text = std::fs::read_to_string(root().join("docs/otp-differences.md")).expect("the page");
    let mut named = 0;
    let row = |line: &str| line.starts_with('|') && line.contains("::");
    let named_by = |line: &&str| line.starts_with("Test: ") || row(line);
    for line in text.lines().filter(named_by) {
        let line = match row(line) {
            true => line.trim_end_matches([' ', '|']).rsplit("| ").next(),
            false => line.strip_prefix("Test: "),
        };
        let line = line.expect("a name");
        for name in line.split(", ") {
            let (file, test) = name
                .trim_matches(['`', '.'])
                .split_once("::")
                .unwrap_or_else(|| panic!("{line}"));
            let source = std::fs::read_to_string(root().join(file))
                .unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(
                source.contains(&format!("fn {test}(")),
                "{file} has no test {test}"
            );
            named += 1;
        }
    }
    let entries = text.lines().filter(|line| line.starts_with("### ")).count();
    let tested = text
        .lines()
        .filter(|line| line.starts_with("Test: "))
        .count();
    assert_eq!(entries, tested, "every entry has its line `Test: `");
    assert!(named >= 15, "{named}");
}
