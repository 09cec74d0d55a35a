//! Every diagnostic of the planner, as it looks.

mod common;

use common::{add, appup, catalogue, manifest, release, state, version};
use neurath_manifest::{Diagnostics, Relup, Step};
use neurath_plan::{Catalogue, check_relup, codes, plan, prove};

type Files = Vec<(String, String)>;

/// gateway needs store; both change.
fn good() -> Files {
    vec![
        manifest("gateway", "1.0.0", &[("store", "^1.0")]),
        manifest("gateway", "1.1.0", &[("store", "^1.1")]),
        manifest("store", "1.0.0", &[]),
        manifest("store", "1.1.0", &[]),
        appup("gateway", "1.1.0", "~1.0", "{ load = \"gateway\" }"),
        appup(
            "store",
            "1.1.0",
            "~1.0",
            "{ update = \"store\", change = { advanced = {} } }",
        ),
        release("1.0.0", &[("gateway", "1.0.0"), ("store", "1.0.0")]),
        release("1.1.0", &[("gateway", "1.1.0"), ("store", "1.1.0")]),
    ]
}

fn without(file: &str) -> Files {
    good()
        .into_iter()
        .filter(|(name, _)| name != file)
        .collect()
}

fn with(new: (String, String)) -> Files {
    let mut files = without(&new.0);
    files.push(new);
    files
}

fn refused(catalogue: &Catalogue, from: &str, to: &str) -> Diagnostics {
    plan(catalogue, ("app", &version(from)), ("app", &version(to))).expect_err("must be refused")
}

fn up(files: &Files) -> Diagnostics {
    refused(&catalogue(files), "1.0.0", "1.1.0")
}

fn with_instructions(instructions: &str) -> Diagnostics {
    up(&with(appup("store", "1.1.0", "~1.0", instructions)))
}

fn facts(
    catalogue: &mut Catalogue,
    name: &str,
    ver: &str,
    fingerprint: &str,
    migrations: &[(&str, &str)],
) {
    catalogue.add_facts((name, &version(ver)), state(fingerprint, migrations));
}

fn relup_findings(steps: &[&str]) -> Diagnostics {
    relup_text(steps, "")
}

fn relup_text(steps: &[&str], more: &str) -> Diagnostics {
    let steps: String = steps
        .iter()
        .map(|step| format!("    {{ {step} }},\n"))
        .collect();
    let text = format!(
        "name = \"app\"\nversion = \"1.1.0\"\n{more}\n[[up]]\nfrom = \"1.0.0\"\nscript = [\n{steps}]\n"
    );
    let relup = Relup::parse("releases/app/1.1.0.relup.toml", &text)
        .unwrap_or_else(|found| panic!("{found}"));
    check_relup(&catalogue(&good()), &relup)
        .unwrap_or_else(|found| panic!("{found}"))
        .into()
}

const PLANNED: [&str; 10] = [
    "load_object_code = \"store\", version = \"1.1.0\"",
    "load_object_code = \"gateway\", version = \"1.1.0\"",
    "point_of_no_return = true",
    "suspend = [\"gateway\", \"store\"]",
    "load = \"store\", version = \"1.1.0\"",
    "load = \"gateway\", version = \"1.1.0\"",
    "code_change = \"store\", from = \"1.0.0\", to = \"1.1.0\"",
    "resume = [\"store\", \"gateway\"]",
    "purge = \"store\", version = \"1.0.0\", kind = \"soft\"",
    "purge = \"gateway\", version = \"1.0.0\", kind = \"soft\"",
];

fn planned() -> Vec<&'static str> {
    PLANNED.to_vec()
}

fn cases() -> Vec<(&'static str, Diagnostics)> {
    let mismatch = {
        let mut catalogue = catalogue(&good());
        let (file, text) = manifest("store", "1.1.0", &[]);
        add(&mut catalogue, &file.replace("store", "stores"), &text);
        refused(&catalogue, "1.0.0", "1.1.0")
    };
    let duplicate = {
        let mut catalogue = catalogue(&good());
        let (file, text) = manifest("store", "1.1.0", &[]);
        add(&mut catalogue, &file, &text);
        refused(&catalogue, "1.0.0", "1.1.0")
    };
    let not_asked_for = {
        let mut catalogue = catalogue(&good());
        facts(&mut catalogue, "gateway", "1.0.0", "aaaa", &[]);
        facts(&mut catalogue, "gateway", "1.1.0", "bbbb", &[]);
        refused(&catalogue, "1.0.0", "1.1.0")
    };
    let no_migration = {
        let mut catalogue = catalogue(&good());
        facts(&mut catalogue, "store", "1.0.0", "aaaa", &[]);
        facts(
            &mut catalogue,
            "store",
            "1.1.0",
            "bbbb",
            &[("aaaa", "cccc"), ("bbbb", "aaaa")],
        );
        refused(&catalogue, "1.0.0", "1.1.0")
    };
    let mut brutal = planned();
    brutal[8] = "purge = \"store\", version = \"1.0.0\", kind = \"brutal\"";
    let mut swapped = planned();
    swapped.swap(4, 5);
    let apart = {
        let mut steps = planned();
        steps[7] = "resume = [\"gateway\"]";
        steps[4] = "load = \"gateway\", version = \"1.1.0\"";
        steps[3] = "suspend = [\"gateway\"]";
        steps[5] = "resume = [\"gateway\"]";
        steps[6] = "suspend = [\"store\"]";
        steps[7] = "load = \"store\", version = \"1.1.0\"";
        steps.insert(8, "resume = [\"store\"]");
        steps.insert(
            8,
            "code_change = \"store\", from = \"1.0.0\", to = \"1.1.0\"",
        );
        relup_findings(&steps)
    };
    let circle = with(manifest("store", "1.1.0", &[("gateway", "^1")]));
    let hoisted = {
        let mut files = with(appup(
            "store",
            "1.1.0",
            "~1.0",
            "{ update = \"store\" },\n    { apply = { command = [\"true\"] } },\n    { load = \"gateway\" }",
        ));
        files.retain(|(file, _)| file != "manifests/gateway/1.1.0.appup.toml");
        files.push(appup("gateway", "1.1.0", "~1.0", ""));
        up(&files)
    };
    let other = {
        let mut catalogue = catalogue(&good());
        let (file, text) = release("1.1.0", &[("gateway", "1.1.0"), ("store", "1.1.0")]);
        add(
            &mut catalogue,
            &file.replace("app", "web"),
            &text.replace("app", "web"),
        );
        plan(
            &catalogue,
            ("app", &version("1.0.0")),
            ("web", &version("1.1.0")),
        )
        .expect_err("must be refused")
    };
    vec![
        (
            codes::NO_RELEASE,
            refused(&catalogue(&good()), "1.0.0", "2.0.0"),
        ),
        (
            codes::NO_MANIFEST,
            up(&without("manifests/store/1.1.0.toml")),
        ),
        (
            codes::NO_APPUP,
            up(&without("manifests/store/1.1.0.appup.toml")),
        ),
        (
            codes::NOT_COVERED,
            up(&with(appup(
                "store",
                "1.1.0",
                "=0.9.0",
                "{ load = \"store\" }",
            ))),
        ),
        (codes::NAME_MISMATCH, mismatch),
        (codes::DUPLICATE, duplicate),
        (codes::CYCLE, up(&circle)),
        (
            codes::NOT_IN_RELEASE,
            up(&with(manifest("store", "1.1.0", &[("log", "^1")]))),
        ),
        (
            codes::REQUIREMENT,
            up(&with(manifest("gateway", "1.1.0", &[("store", "^2")]))),
        ),
        (codes::NO_INSTRUCTION, with_instructions("")),
        (codes::UNCHANGED, {
            let mut files = with(appup(
                "store",
                "1.1.0",
                "~1.0",
                "{ update = \"store\" },\n    { load = \"log\" }",
            ));
            files.retain(|(file, _)| !file.starts_with("releases"));
            files
                .extend(["1.0.0", "1.1.0"].map(|ver| {
                    release(ver, &[("gateway", ver), ("store", ver), ("log", "1.0.0")])
                }));
            files.push(manifest("log", "1.0.0", &[]));
            up(&files)
        }),
        (
            codes::UNKNOWN_COMPONENT,
            with_instructions("{ update = \"store\", depends_on = [\"stroe\"] }"),
        ),
        (
            codes::SEVERAL_INSTRUCTIONS,
            with_instructions("{ update = \"store\" },\n    { load = \"store\" }"),
        ),
        (codes::STATE_CHANGED, not_asked_for),
        (codes::NO_MIGRATION, no_migration),
        (codes::MIXED_VERSIONS, apart),
        (codes::HOISTED, hoisted),
        (codes::MISPLACED, relup_findings(&planned()[1..])),
        (codes::STALE, relup_findings(&brutal)),
        (codes::WRONG_ORDER, relup_findings(&swapped)),
        (
            codes::WRONG_END,
            relup_findings(&[&planned()[..5], &["resume = [\"store\", \"gateway\"]"]].concat()),
        ),
        (codes::OTHER_RELEASE, other),
        (codes::ANOTHER_FILE, with_another_durability()),
        (codes::VIA_NOT_KEPT, with_another_library()),
    ]
}

const INCREMENTAL: &str =
    "{ update = \"store\", change = { advanced = {} }, strategy = \"incremental\" }";

/// Converted segment by segment, and written in another way from then on.
fn with_another_durability() -> Diagnostics {
    let mut files = with(appup("store", "1.1.0", "~1.0", INCREMENTAL));
    let newer = files
        .iter_mut()
        .find(|(file, _)| file == "manifests/store/1.1.0.toml");
    let (_, text) = newer.expect("a manifest");
    *text = text.replace("\"process\"", "\"power\"");
    up(&files)
}

/// Converted segment by segment, with the library of another component.
fn with_another_library() -> Diagnostics {
    with_instructions(
        &INCREMENTAL.replace("\"incremental\" }", "\"incremental\", via = \"gateway\" }"),
    )
}

#[test]
fn a_state_in_a_move_is_not_converted_while_it_is_served() {
    let moved = "{ move_state = \"counters\", from = [\"store\"], to = [\"gateway\"] }";
    let found = with_instructions(&format!("{moved},\n    {INCREMENTAL}"));
    insta::assert_snapshot!(found.render());
    // The same in a script that somebody has written.
    let mut steps = planned();
    let strategy = format!("{}, strategy = \"incremental\"", steps[6]);
    steps[6] = &strategy;
    let name = "move_state = \"counters\", from = [\"store\"], to = [\"gateway\"]";
    assert!(
        !relup_findings(&steps)
            .codes()
            .contains(&codes::ANOTHER_FILE)
    );
    steps.insert(6, name);
    assert!(
        relup_findings(&steps)
            .codes()
            .contains(&codes::ANOTHER_FILE)
    );
}

/// A script by hand that leads to a release for another node, and leaves the old node in its place.
#[test]
fn a_script_to_another_node_restarts_into_it() {
    let files: Files = good()
        .into_iter()
        .map(|(file, text)| match file.as_str() {
            "releases/app/1.1.0.toml" => {
                (file, text.replace("node = \"0.1.0\"", "node = \"0.2.0\""))
            }
            _ => (file, text),
        })
        .collect();
    let catalogue = catalogue(&files);
    let release = |ver: &str| catalogue.release("app", &version(ver)).expect("a release");
    let (old, new) = (release("1.0.0"), release("1.1.0"));
    let (from, to) = (("app", &version("1.0.0")), ("app", &version("1.1.0")));
    let planned = plan(&catalogue, from, to).expect("a plan").steps;
    assert_eq!(planned.first(), Some(&Step::RestartNewNode));
    assert!(prove(&catalogue, old, new, &planned).is_empty());
    let without = &planned[1..];
    let found = prove(&catalogue, old, new, without);
    assert_eq!(found.codes(), [codes::WRONG_END], "{found}");
    assert!(found.render().contains("`restart_new_node`"), "{found}");
    let at_the_end = [without, &[Step::RestartNode]].concat();
    assert!(prove(&catalogue, old, new, &at_the_end).is_empty());
}

#[test]
fn renderings() {
    let cases = cases();
    for (code, found) in cases {
        assert!(
            found.codes().contains(&code),
            "{code} is not among {:?}",
            found.codes()
        );
        insta::assert_snapshot!(code, found.render());
    }
}

#[test]
fn the_good_catalogue_is_good() {
    let catalogue = catalogue(&good());
    for (from, to) in [("1.0.0", "1.1.0"), ("1.1.0", "1.0.0")] {
        plan(&catalogue, ("app", &version(from)), ("app", &version(to)))
            .unwrap_or_else(|found| panic!("{found}"));
    }
    assert_eq!(relup_findings(&planned()).codes(), Vec::<&str>::new());
}

#[test]
fn several_problems_at_once() {
    let mut files = without("manifests/store/1.1.0.appup.toml");
    files.retain(|(file, _)| file != "manifests/gateway/1.1.0.toml");
    files.retain(|(file, _)| file != "manifests/gateway/1.1.0.appup.toml");
    files.push(appup(
        "gateway",
        "1.1.0",
        "~1.0",
        "{ restart_component = \"gateway\" },\n    { load = \"x\" }",
    ));
    assert_eq!(up(&files).codes(), ["P002", "P003", "P012"]);
}

#[test]
fn a_script_in_low_level_steps_passes_through() {
    let mut files = with(appup(
        "store",
        "1.1.0",
        "~1.0",
        "{ load_object_code = \"store\", version = \"1.1.0\" },\n    { point_of_no_return = true },\n    \
         { suspend = [\"store\"], timeout = \"2s\" },\n    { load = \"store\", version = \"1.1.0\" },\n    { resume = [\"store\"] }",
    ));
    files.retain(|(file, _)| file != "releases/app/1.1.0.toml");
    files.push(release(
        "1.1.0",
        &[("gateway", "1.0.0"), ("store", "1.1.0")],
    ));
    let plan = plan(
        &catalogue(&files),
        ("app", &version("1.0.0")),
        ("app", &version("1.1.0")),
    )
    .unwrap_or_else(|found| panic!("{found}"));
    insta::assert_snapshot!(plan.to_text());
}

#[test]
fn low_level_steps_that_cannot_stand_there() {
    for (steps, code) in [
        (
            "{ suspend = [\"store\"] },\n    { point_of_no_return = true },\n    { update = \"store\" }",
            "P019",
        ),
        (
            "{ point_of_no_return = true },\n    { point_of_no_return = true },\n    { update = \"store\" }",
            "P019",
        ),
        (
            "{ update = \"store\" },\n    { suspend = [\"store\"] }",
            "P031",
        ),
        ("{ load = \"store\", version = \"1.1.0\" }", "P019"),
        (
            "{ load_object_code = \"store\", version = \"1.0.0\" },\n    { update = \"store\" }",
            "P019",
        ),
        (
            "{ suspend = [\"store\"] },\n    { update = \"store\" }",
            "P019",
        ),
    ] {
        let found = with_instructions(steps);
        assert!(found.codes().contains(&code), "{steps}: {found}");
    }
}

#[test]
fn a_handwritten_relup_is_walked_through() {
    let mut steps = planned();
    steps.insert(7, "suspend = [\"store\"]");
    let found = relup_text(&steps, "handwritten = true\n");
    assert_eq!(found.codes(), ["P019", "P021"]);
}

#[test]
fn code_without_state_needs_no_facts_and_a_covered_change_passes() {
    let mut catalogue = catalogue(&good());
    facts(&mut catalogue, "store", "1.0.0", "aaaa", &[]);
    facts(
        &mut catalogue,
        "store",
        "1.1.0",
        "bbbb",
        &[("aaaa", "bbbb")],
    );
    let there = plan(
        &catalogue,
        ("app", &version("1.0.0")),
        ("app", &version("1.1.0")),
    )
    .unwrap_or_else(|found| panic!("{found}"));
    assert!(
        there
            .inputs
            .contains(&("schema of store 1.1.0".into(), "bbbb".into()))
    );
    assert_eq!(refused(&catalogue, "1.1.0", "1.0.0").codes(), ["P015"]);
}
