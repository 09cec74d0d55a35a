//! Every rendering of plans and graphs, as it looks.

mod common;

use common::{appup, catalogue, demo, manifest, release, version};
use neurath_manifest::{Relup, Step};
use neurath_plan::{
    Catalogue, ComponentGraph, Consequences, Direction, Plan, Route, WayBack, check_release,
    generate_relup, plan, relup_to_toml,
};

fn demo_plan() -> Plan {
    plan(
        &demo(),
        ("kv", &version("1.0.0")),
        ("kv", &version("1.1.0")),
    )
    .unwrap_or_else(|found| panic!("{found}"))
}

/// A plan with every kind of step, as no planner would make it.
fn everything() -> Plan {
    let script = r#"name = "shop"
version = "2.0.0"
[[up]]
from = "1.0.0"
script = [
    { load_object_code = "cart", version = "1.3.0", pre_purge = "soft" },
    { load_object_code = "front", version = "2.0.0" },
    { load_object_code = "stats", version = "1.0.0" },
    { sync_nodes = "ready", nodes = ["east", "west"], deadline = "30s" },
    { point_of_no_return = true },
    { suspend = ["front", "cart"], timeout = "250ms" },
    { stop = ["mailer", "old-log"] },
    { remove = "old-log", version = "0.9.0" },
    { load = "cart", version = "1.3.0" },
    { code_change = "cart", from = "1.0.0", to = "1.3.0", hops = [{ from = "1.0.0", to = "1.2.0", via = "tools" }, { from = "1.2.0", to = "1.3.0" }] },
    { load = "front", version = "2.0.0" },
    { code_change = "front", from = "1.0.0", to = "2.0.0", strategy = "incremental" },
    { move_state = "counters", from = ["cart"], to = ["stats"] },
    { reset_node = ["cache"], keep_snapshot = false },
    { apply = { component = "cart", hook = "warm" } },
    { apply = { command = ["notify", "--all"] } },
    { start = ["stats", "mailer"] },
    { resume = ["cart", "front"] },
    { purge = "cart", version = "1.0.0", kind = "soft" },
    { purge = "front", version = "1.0.0", kind = "brutal" },
    { restart_node = true },
]
"#;
    let relup = Relup::parse("r", script).unwrap_or_else(|found| panic!("{found}"));
    let route = |component: &str, versions: &[&str]| Route {
        component: component.into(),
        versions: versions.iter().map(|one| version(one)).collect(),
    };
    Plan {
        name: "shop".into(),
        from: version("1.0.0"),
        to: version("2.0.0"),
        direction: Direction::Up,
        routes: vec![
            route("cart", &["1.0.0", "1.2.0", "1.3.0"]),
            route("front", &["1.0.0", "2.0.0"]),
        ],
        steps: relup.up[0].steps().cloned().collect(),
        states: Vec::new(),
        configurations: Vec::new(),
        settings: Vec::new(),
        inputs: vec![
            ("releases/shop/1.0.0.toml".into(), "a1".repeat(32)),
            ("releases/shop/2.0.0.toml".into(), "b2".repeat(32)),
            ("schema of cart 1.0.0".into(), "0123456789abcdef".into()),
            ("schema of cart 1.3.0".into(), "0123456789abcdef".into()),
        ],
    }
}

#[test]
fn a_plan_reads_as_its_consequences() {
    let plan = demo_plan();
    let consequences = Consequences::of(&plan).with(&plan, &demo());
    assert_eq!(consequences.way_back, WayBack::Script);
    insta::assert_snapshot!("demo_text", plan.to_text_with(&consequences));
    insta::assert_snapshot!("everything_text", everything().to_text());
    let json =
        serde_json::to_string_pretty(&Consequences::of(&everything()).to_json()).expect("json");
    insta::assert_snapshot!("everything_consequences", json);
}

/// Releases of one component; `tables` is what follows the line of each.
fn settings(tables: &[(&str, &str, &str)]) -> Catalogue {
    let mut files = vec![manifest("store", "1.0.0", &[])];
    files[0].1 = files[0].1.replace(
        "[region]",
        "config = { max = 5, token = \"s3cret\" }\n\n[region]",
    );
    for (ver, node, more) in tables {
        let (file, text) = release(ver, &[]);
        let text = text.replace("0.1.0", node);
        let table = format!("[components.store]\nversion = \"1.0.0\"\n{more}\n");
        files.push((file, text.replace("[components]\n", &table)));
    }
    catalogue(&files)
}

fn settings_plan(catalogue: &Catalogue, from: &str, to: &str) -> Plan {
    let found = plan(catalogue, ("app", &version(from)), ("app", &version(to)));
    found.unwrap_or_else(|found| panic!("{found}"))
}

#[test]
fn a_configuration_that_changes_is_told_with_its_way_back() {
    let same = "config = { level = 1 }";
    let other = "config = { max = 7, more = true, token = \"other\" }\n[confirm]\nwindow = \"9s\"";
    let catalogue = settings(&[("1.0.0", "0.1.0", same), ("1.0.1", "0.1.0", other)]);
    let plan = settings_plan(&catalogue, "1.0.0", "1.0.1");
    assert_eq!(plan.told().count(), 1);
    assert!(!plan.changes_nothing());
    let consequences = Consequences::of(&plan).with(&plan, &catalogue);
    let text = plan.to_text_with(&consequences);
    assert!(!text.contains("s3cret") && !plan.to_json().to_string().contains("s3cret"));
    insta::assert_snapshot!("configuration_text", text);
    let json = serde_json::to_string_pretty(&consequences.to_json()).expect("json");
    insta::assert_snapshot!("configuration_consequences", json);
    let read = Plan::from_json(&plan.to_json()).expect("it is a plan");
    assert_eq!(read, plan);
    let mut hidden = plan.to_json();
    hidden["configurations"] = serde_json::json!([]);
    assert!(
        Plan::from_json(&hidden).is_err(),
        "it is part of what is reviewed"
    );
}

/// The first release of all is looked at by no plan; and no message shows what a configuration says.
#[test]
fn a_configuration_is_checked_by_itself_and_not_shown() {
    let mut files = vec![manifest("store", "1.0.0", &[])];
    files[0].1 = files[0].1.replace(
        "[region]",
        "config_schema = { max = \"integer\" }\n\n[region]",
    );
    let (file, text) = release("1.0.0", &[]);
    let table = "[components]\nstore = { version = \"1.0.0\", config = { max = \"s3cret\" } }\n";
    files.push((file, text.replace("[components]\n", table)));
    let catalogue = catalogue(&files);
    let app = catalogue
        .release("app", &version("1.0.0"))
        .expect("it is there");
    let found = check_release(&catalogue, app).expect_err("it does not fit");
    assert_eq!(found.codes(), ["P034"]);
    let text = found.render();
    assert!(
        text.contains("`max` is a string") && text.contains("releases/app/1.0.0.toml:6"),
        "{text}"
    );
    for shown in [text, found.render_coloured(), found.to_json().to_string()] {
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}

#[test]
fn a_restart_alone_can_be_undone() {
    let catalogue = settings(&[("1.0.0", "0.1.0", ""), ("1.0.1", "0.2.0", "")]);
    let plan = settings_plan(&catalogue, "1.0.0", "1.0.1");
    let consequences = Consequences::of(&plan).with(&plan, &catalogue);
    insta::assert_snapshot!("restart_text", plan.to_text_with(&consequences));
}

#[test]
fn a_release_that_changes_nothing_is_known_as_one() {
    let config = "config = { max = 5 }";
    let catalogue = settings(&[("1.0.0", "0.1.0", ""), ("1.0.1", "0.1.0", config)]);
    let same = settings_plan(&catalogue, "1.0.0", "1.0.1");
    assert!(same.changes_nothing());
    let text = same.to_text();
    assert!(text.contains("there is nothing to undo"), "{text}");
}

#[test]
fn a_plan_as_pictures() {
    for (name, plan) in [("demo", demo_plan()), ("everything", everything())] {
        insta::assert_snapshot!(format!("{name}_plan.mmd"), plan.to_mermaid());
        insta::assert_snapshot!(format!("{name}_plan.dot"), plan.to_dot());
        insta::assert_snapshot!(format!("{name}_plan.svg"), plan.to_svg());
    }
}

/// A release of which some components change, one comes and one goes.
fn shop() -> ComponentGraph {
    let old = [
        ("front", "1.0.0"),
        ("cart", "1.0.0"),
        ("log", "1.0.0"),
        ("old-log", "0.9.0"),
        ("mailer", "1.0.0"),
    ];
    let new = [
        ("front", "2.0.0"),
        ("cart", "1.3.0"),
        ("log", "1.0.0"),
        ("stats", "1.0.0"),
        ("mailer", "1.0.0"),
    ];
    let needs: &[(&str, &[(&str, &str)])] = &[
        (
            "front",
            &[("cart", "^1.0"), ("stats", ">=1.0, <2.0"), ("mailer", "*")],
        ),
        ("cart", &[("log", "^1.0")]),
        ("stats", &[("log", "^1.0")]),
        ("mailer", &[("log", "^1.0")]),
    ];
    let mut files = vec![release("1.0.0", &old), release("1.1.0", &new)];
    let mut parts: Vec<_> = old.iter().chain(&new).copied().collect();
    parts.sort_unstable();
    parts.dedup();
    for (name, ver) in parts {
        let on = needs
            .iter()
            .find(|(of, _)| *of == name)
            .map_or(&[][..], |(_, on)| on);
        files.push(manifest(name, ver, on));
    }
    ComponentGraph::of(
        &catalogue(&files),
        ("app", &version("1.1.0")),
        Some(&version("1.0.0")),
    )
    .expect("both releases")
}

#[test]
fn a_graph_in_every_form() {
    let graph = shop();
    insta::assert_snapshot!("graph_text", graph.to_text());
    insta::assert_snapshot!("graph.mmd", graph.to_mermaid());
    insta::assert_snapshot!("graph.dot", graph.to_dot());
    insta::assert_snapshot!("graph.svg", graph.to_svg());
    insta::assert_snapshot!(
        "graph_json",
        serde_json::to_string_pretty(&graph.to_json()).expect("json")
    );
    assert_eq!(
        ComponentGraph::of(&demo(), ("kv", &version("9.9.9")), None),
        None
    );
    let alone = ComponentGraph::of(&demo(), ("kv", &version("1.1.0")), None).expect("a release");
    insta::assert_snapshot!("graph_of_one_release", alone.to_text());
}

/// Circles are refused by the planner; they are drawn all the same, to be seen.
#[test]
fn a_circle_is_drawn() {
    let parts = [("a", "1.0.0"), ("b", "1.0.0"), ("c", "1.0.0")];
    let files = [
        release("1.0.0", &parts),
        manifest("a", "1.0.0", &[("b", "*")]),
        manifest("b", "1.0.0", &[("c", "*")]),
        manifest("c", "1.0.0", &[("a", "*")]),
    ];
    let graph = ComponentGraph::of(&catalogue(&files), ("app", &version("1.0.0")), None)
        .expect("a release");
    assert_eq!(graph.nodes.len(), 3);
    assert_eq!(graph.to_svg().matches("marker-end").count(), 3);
    assert_eq!(graph.to_dot().matches(" -> ").count(), 3);
}

#[test]
fn a_relup_is_commented_for_its_reviewer() {
    let relup =
        generate_relup(&demo(), ("kv", &version("1.1.0")), &[version("1.0.0")]).expect("a relup");
    let text = relup_to_toml(&relup);
    insta::assert_snapshot!("relup_commented", text);
    let again = Relup::parse("r", &text).unwrap_or_else(|found| panic!("{found}"));
    assert_eq!(again.to_toml(), relup.to_toml());
    assert_eq!(relup_to_toml(&again), text);
}

/// What looks like markup in a name or a text is shown, and is no markup.
#[test]
fn hostile_texts_are_escaped() {
    let mut plan = everything();
    let hostile = "</text><script>x</script>\"]; \u{1b}[31m`end`\n# --> &amp;";
    plan.name = hostile.into();
    plan.steps.push(Step::Apply {
        target: neurath_manifest::ApplyTarget::Command(vec![hostile.into()]),
        undo: None,
    });
    assert!(!plan.to_svg().contains("<script"));
    assert!(!plan.to_mermaid().contains("<script"));
    for line in plan.to_dot().lines().filter(|line| line.contains("script")) {
        let marks = line.replace("\\\\", "").replace("\\\"", "");
        assert_eq!(marks.matches('"').count() % 2, 0, "{line}");
    }
    assert!(!plan.to_svg().contains('\u{1b}') && !plan.to_dot().contains('\u{1b}'));
}

/// No upgrade is too large to be drawn, and every drawing is well formed.
#[test]
fn drawings_are_well_formed_at_any_size() {
    for count in [1, 7, 60] {
        let names: Vec<String> = (0..count).map(|n| format!("c{n}")).collect();
        let parts = |ver: &'static str| {
            names
                .iter()
                .map(move |name| (name.as_str(), ver))
                .collect::<Vec<_>>()
        };
        let mut files = vec![
            release("1.0.0", &parts("1.0.0")),
            release("1.1.0", &parts("1.1.0")),
        ];
        for (at, name) in names.iter().enumerate() {
            let on = names[..at].last().map(|on| (on.as_str(), "^1.0"));
            for ver in ["1.0.0", "1.1.0"] {
                files.push(manifest(name, ver, on.as_slice()));
            }
            files.push(appup(
                name,
                "1.1.0",
                "~1.0",
                &format!("{{ load = \"{name}\" }}"),
            ));
        }
        let catalogue = catalogue(&files);
        let plan = plan(
            &catalogue,
            ("app", &version("1.0.0")),
            ("app", &version("1.1.0")),
        )
        .expect("a plan");
        let graph =
            ComponentGraph::of(&catalogue, ("app", &version("1.1.0")), None).expect("a release");
        for svg in [plan.to_svg(), graph.to_svg()] {
            well_formed(&svg);
            assert!(svg.matches("<rect").count() > count);
        }
    }
}

/// Every element is closed in its turn.
fn well_formed(svg: &str) {
    let mut open = Vec::new();
    for tag in svg.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').expect("a tag ends");
        let name = tag
            .trim_start_matches('/')
            .split([' ', '/'])
            .next()
            .expect("a name");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}
